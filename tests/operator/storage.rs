//! Volumes: they grow, they outlive pods and sets, and the newest of them is found again.

use std::collections::BTreeMap;

use k8s_openapi::api::storage::v1::StorageClass;
use operator_core::names::HISTORY;

use super::*;

async fn storage_class(client: &Client, name: &str, grows: bool) {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": grows,
    }))
    .unwrap();
    Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &class).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_grow_where_their_class_allows_it() {
    let lab = Lab::new("growth").await;
    storage_class(&lab.client, "grows", true).await;
    storage_class(&lab.client, "rigid", false).await;
    let spec = |replicas: i32, size: &str, class: &str| json!({"replicas": replicas, "storage": {"size": size, "storageClassName": class}});
    let expect = |claims: &[(&str, &str)]| -> BTreeMap<String, String> {
        claims.iter().map(|(claim, size)| ((*claim).to_owned(), (*size).to_owned())).collect()
    };
    lab.up("redis", spec(2, "1Gi", "grows")).await;
    lab.provide_volumes().await;
    let pods = Api::<Pod>::namespaced(lab.client.clone(), "growth");
    let before = uids(&pods).await;

    apply(&lab.sets, "redis", spec(2, "2Gi", "grows")).await;
    wait_for(&lab.sets, "redis", "Progressing=True VolumesGrowing").await;
    assert!(conditions_of(&lab.sets, "redis").await.contains(&"Ready=True Verified".to_owned()));
    assert_eq!(lab.sizes().await, expect(&[("data-redis-0", "2Gi"), ("data-redis-1", "2Gi")]));
    lab.provide_volumes().await;
    wait_for(&lab.sets, "redis", "Progressing=False UpToDate").await;
    assert_eq!(uids(&pods).await, before, "no pod was restarted");

    // A claim that comes from the old template is grown too.
    apply(&lab.sets, "redis", spec(3, "2Gi", "grows")).await;
    let made =
        until("a third claim", PATIENCE, async || lab.sizes().await.get("data-redis-2").cloned()).await;
    assert_eq!(made, "1Gi", "the template cannot change");
    lab.provide_volumes().await;
    until("it grows", PATIENCE, async || (lab.sizes().await["data-redis-2"] == "2Gi").then_some(())).await;
    lab.provide_volumes().await;
    lab.ready("redis", 0).await;
    wait_for(&lab.sets, "redis", "Progressing=False UpToDate").await;

    // By this answer the operator knows that a claim was replaced since it looked.
    let another = Patch::Merge(json!({"metadata": {"uid": "of-another-claim"}}));
    let refused = lab.claims.patch("data-redis-0", &PatchParams::default(), &another).await.unwrap_err();
    let says_so =
        |status: &kube::core::Status| status.is_invalid() && status.message.contains("metadata.uid");
    assert!(matches!(&refused, kube::Error::Api(status) if says_so(status)), "{refused}");

    // Where the class does not allow it, that is said, and all else goes on.
    lab.up("rigid", spec(1, "1Gi", "rigid")).await;
    lab.provide_volumes().await;
    apply(&lab.sets, "rigid", spec(2, "3Gi", "rigid")).await;
    wait_for(&lab.sets, "rigid", "SpecValid=False VolumeGrowthRefused").await;
    wait_for(&lab.sets, "rigid", "Replicated=True AllInSync").await;
    let status = lab.sets.get("rigid").await.unwrap().status.unwrap();
    let message = status.conditions.iter().find(|c| c.type_ == "SpecValid").unwrap().message.clone();
    for words in ["spec.storage.size", "data-rigid-0", "storageclass", "allowVolumeExpansion", "3Gi"] {
        assert!(message.contains(words), "{message}");
    }
    lab.up("rigid", spec(2, "1Gi", "rigid")).await;
    let tried: Vec<_> = requests(lab.plane, &lab.user)
        .into_iter()
        .filter(|(.., code)| *code == 403)
        .map(|(verb, what, _)| verb + &what)
        .collect();
    // Both claims, after one was made too; and again at most once a minute.
    assert!(tried.iter().all(|what| what == "patch/persistentvolumeclaims") && tried.len() <= 6, "{tried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scaled_down_and_up_again_the_set_keeps_its_data() {
    let lab = Lab::new("scaling").await;
    let spec = |replicas: i32, policy: &str| json!({"replicas": replicas, "storage": {"size": "1Gi", "retention": {"whenScaled": policy, "whenDeleted": policy}}});
    lab.up("redis", spec(1, "Retain")).await;
    lab.write(0..20, "one", 0).await;
    lab.up("redis", spec(3, "Retain")).await;
    lab.write(20..40, "one", 2).await;
    lab.assert_keys(3, 40, "one").await;
    let first = lab.uids().await;

    lab.up("redis", spec(1, "Retain")).await;
    assert_eq!(lab.uids().await, first, "the volumes stay");
    lab.write(0..50, "two", 0).await;
    lab.up("redis", spec(3, "Retain")).await;
    assert_eq!(lab.uids().await, first, "and are used again");
    lab.assert_keys(3, 50, "two").await;

    lab.up("redis", spec(3, "Delete")).await;
    lab.up("redis", spec(1, "Delete")).await;
    until("the volumes of the pods that went are gone", PATIENCE, async || {
        (lab.uids().await.len() == 1).then_some(())
    })
    .await;
    lab.write(0..60, "three", 0).await;
    lab.up("redis", spec(3, "Delete")).await;
    let second = lab.uids().await;
    assert_eq!(second["data-redis-0"], first["data-redis-0"]);
    assert!(
        second["data-redis-1"] != first["data-redis-1"] && second["data-redis-2"] != first["data-redis-2"]
    );
    lab.assert_keys(3, 60, "three").await;
    assert_eq!(lab.epoch("redis").await, 1, "the primary never moved");
    lab.sets.delete("redis", &DeleteParams::default()).await.unwrap();
    until("the volumes go with the set", PATIENCE, async || lab.uids().await.is_empty().then_some(())).await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// What the annotations of these claims say, once they say it of this epoch.
async fn wait_for_history(lab: &Lab, claims: &[&str], epoch: i64) {
    until(&format!("epoch {epoch} stands on {claims:?}"), PATIENCE, async || {
        let list = lab.claims.list(&ListParams::default()).await.unwrap();
        let tells = |claim: &PersistentVolumeClaim| {
            let text = claim.annotations().get(HISTORY)?;
            serde_json::from_str::<Value>(text).unwrap()["epoch"].as_i64()
        };
        let told: Vec<String> =
            list.iter().filter(|claim| tells(claim) == Some(epoch)).map(ResourceExt::name_any).collect();
        (told == claims).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn created_again_over_its_volumes_the_set_adopts_the_newest_data_and_says_so() {
    let mut lab = Lab::new("again").await;
    let sized = |replicas: i32, size: &str| json!({"replicas": replicas, "primary": {"failback": false}, "storage": {"size": size, "storageClassName": "resizes"}});
    let spec = |replicas| sized(replicas, "1Gi");
    storage_class(&lab.client, "resizes", true).await;
    lab.up("redis", spec(3)).await;
    lab.write(0..20, "one", 2).await;
    // The third volume is left behind, in a history that an election ends afterwards.
    lab.up("redis", spec(2)).await;
    lab.kubelet.kill_redis("redis-0");
    until("a second epoch", PATIENCE, async || (lab.epoch("redis").await == 2).then_some(())).await;
    lab.ready("redis", 0).await;
    lab.write(0..30, "two", 1).await;
    wait_for_history(&lab, &["data-redis-0", "data-redis-1"], 2).await;
    assert!(lab.adopted().await.is_empty());
    let volumes = lab.uids().await;
    lab.provide_volumes().await;

    lab.delete().await;
    lab.up("redis", sized(3, "2Gi")).await;
    lab.assert_keys(3, 30, "two").await;
    assert_eq!((lab.uids().await, lab.epoch("redis").await), (volumes, 3));
    let notes = until("an Event says so", PATIENCE, async || {
        Some(lab.adopted().await).filter(|notes| notes.len() == 1)
    })
    .await;
    assert!(notes.iter().all(|note| note.contains("is the primary from epoch 3 on")), "{notes:?}");
    wait_for_history(&lab, &["data-redis-0", "data-redis-1", "data-redis-2"], 3).await;
    until("the volumes of before grow to the new size", PATIENCE, async || {
        lab.sizes().await.values().all(|size| size == "2Gi").then_some(())
    })
    .await;

    // Only the record is lost, and with it the operator that knew it: the one who serves is adopted, and the epochs go on.
    let primary = lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let records = Api::<ConfigMap>::namespaced(lab.client.clone(), "again");
    lab.operator.kill();
    records.delete("redis-record", &DeleteParams::default()).await.unwrap();
    lab.operator = Operator::start(lab.plane, &lab.user, lab.namespace, "another");
    until("a fourth epoch", PATIENCE, async || (lab.epoch("redis").await == 4).then_some(())).await;
    lab.ready("redis", 0).await;
    assert_eq!(lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod, primary);
    lab.assert_keys(3, 30, "two").await;
    until("an Event says so", PATIENCE, async || (lab.adopted().await.len() == 2).then_some(())).await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
