//! Volumes: they grow, they outlive pods and sets, and the newest of them is found again.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::{
    core::v1::{ConfigMap, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use operator_core::names::HISTORY;

use super::*;

#[path = "append_only.rs"]
mod append_only;

const PASSWORD: &str = "correct-horse-battery";

/// A namespace with an operator and kubelets, and its sets.
pub struct Lab {
    pub plane: &'static ControlPlane,
    pub client: Client,
    namespace: &'static str,
    pub sets: Api<RedisReplicaSet>,
    claims: Api<PersistentVolumeClaim>,
    pub kubelet: Kubelet,
    pub operator: Operator,
}

impl Lab {
    pub async fn new(namespace: &'static str, user: &str) -> Self {
        Self::with_config(namespace, user, "").await
    }

    /// With more lines of redis.conf.
    pub async fn with_config(namespace: &'static str, user: &str, config: &str) -> Self {
        let (plane, client) = plane(namespace, user).await;
        controllers(plane);
        let operator = Operator::start(plane, user, namespace, "only");
        until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
        let kubelet = Kubelet::start_with(client.clone(), namespace, PASSWORD, config);
        let sets = Api::namespaced(client.clone(), namespace);
        let claims = Api::namespaced(client.clone(), namespace);
        Self { plane, client, namespace, sets, claims, kubelet, operator }
    }

    /// Applies a set whose password is the one that the kubelets run their servers with, and waits until it is Ready.
    pub async fn up(&self, name: &str, spec: Value) {
        let secrets = Api::<Secret>::namespaced(self.client.clone(), self.namespace);
        let secret =
            json!({"metadata": {"name": format!("{name}-auth")}, "stringData": {"password": PASSWORD}});
        // It is a person's, and stays when the set goes.
        let _ = secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await;
        let generation = self.generation(name).await;
        apply(&self.sets, name, spec).await;
        self.ready(name, generation).await;
    }

    async fn generation(&self, name: &str) -> i64 {
        self.sets.get_opt(name).await.unwrap().and_then(|set| set.metadata.generation).unwrap_or(0)
    }

    /// Waits until a later spec than that of this generation is carried out.
    async fn ready(&self, name: &str, after: i64) {
        until(&format!("{name} is Ready as wanted"), Duration::from_secs(60), async || {
            let set = self.sets.get(name).await.unwrap();
            let status = set.status.unwrap_or_default();
            let wanted = status.observed_generation > Some(after) && status.replicas == set.spec.replicas;
            let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            (wanted && ready).then_some(())
        })
        .await;
    }

    pub async fn epoch(&self, name: &str) -> i64 {
        self.sets.get(name).await.unwrap().status.unwrap().primary.unwrap().epoch
    }

    /// Each claim with what it asks for.
    async fn sizes(&self) -> BTreeMap<String, String> {
        let size = |claim: &PersistentVolumeClaim| {
            claim
                .spec
                .as_ref()?
                .resources
                .as_ref()?
                .requests
                .as_ref()?
                .get("storage")
                .map(|size| size.0.clone())
        };
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        claims.iter().map(|claim| (claim.name_any(), size(claim).unwrap())).collect()
    }

    /// What a driver does: every claim gets a volume of the size that it asks for.
    async fn provide_volumes(&self) {
        for (claim, size) in self.sizes().await {
            let status = json!({"status": {"phase": "Bound", "capacity": {"storage": size}}});
            self.claims.patch_status(&claim, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// What Events say of data of before.
    async fn adopted(&self) -> BTreeSet<String> {
        let events = Api::<Event>::namespaced(self.client.clone(), self.namespace);
        let events = events.list(&ListParams::default()).await.unwrap();
        let notes = events.items.into_iter().filter(|event| event.reason.as_deref() == Some("DataAdopted"));
        notes.filter_map(|event| event.note).collect()
    }

    /// Deletes a set and waits until its pods have ended.
    async fn delete(&self) {
        self.sets.delete("redis", &DeleteParams::default()).await.unwrap();
        let pods = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        until("the pods are gone", PATIENCE, async || uids(&pods).await.is_empty().then_some(())).await;
    }

    async fn uids(&self) -> BTreeMap<String, String> {
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        claims.iter().map(|claim| (claim.name_any(), claim.uid().unwrap())).collect()
    }

    /// Writes keys at the primary, and waits until every replica has them.
    pub async fn write(&self, keys: std::ops::Range<u32>, value: &str, replicas: usize) {
        // Never the same again: a replica that has it has all that was written before.
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let primary = self.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
        for key in keys {
            let () = self.kubelet.command(&primary, &["SET", &format!("key-{key}"), value]).unwrap();
        }
        let mark = MARKS.fetch_add(1, Ordering::Relaxed).to_string();
        let () = self.kubelet.command(&primary, &["SET", "last", &mark]).unwrap();
        until("every replica has it", PATIENCE, async || {
            (0..=replicas).all(|n| self.value(n, "last") == mark).then_some(())
        })
        .await;
    }

    pub fn value(&self, pod: usize, key: &str) -> String {
        self.kubelet.command(&format!("redis-{pod}"), &["GET", key]).unwrap_or_default()
    }

    /// Every key has this value in every pod, and there is no other.
    ///
    /// A replica that resyncs partially is in sync when it has the history, with the last bytes still on their way; they
    /// are waited for.
    async fn assert_keys(&self, pods: usize, keys: u32, value: &str) {
        self.write(0..0, value, pods - 1).await;
        for pod in 0..pods {
            let size: u32 = self.kubelet.command(&format!("redis-{pod}"), &["DBSIZE"]).unwrap();
            assert_eq!(size, keys + 1, "redis-{pod}");
            for key in 0..keys {
                assert_eq!(self.value(pod, &format!("key-{key}")), value, "redis-{pod} key-{key}");
            }
        }
    }
}

async fn storage_class(client: &Client, name: &str, grows: bool) {
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": name}, "provisioner": "example.com/none", "allowVolumeExpansion": grows,
    }))
    .unwrap();
    Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &class).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_grow_where_their_class_allows_it() {
    let user = USERS[3];
    let lab = Lab::new("growth", user).await;
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
    let tried: Vec<_> = requests(lab.plane, user)
        .into_iter()
        .filter(|(.., code)| *code == 403)
        .map(|(verb, what, _)| verb + &what)
        .collect();
    // Both claims, after one was made too; and again at most once a minute.
    assert!(tried.iter().all(|what| what == "patch/persistentvolumeclaims") && tried.len() <= 6, "{tried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scaled_down_and_up_again_the_set_keeps_its_data() {
    let user = USERS[4];
    let lab = Lab::new("scaling", user).await;
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
    assert_nothing_was_forbidden(lab.plane, user);
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
    let user = USERS[5];
    let lab = Lab::new("again", user).await;
    let sized = |replicas: i32, size: &str| json!({"replicas": replicas, "primary": {"failback": false}, "storage": {"size": size, "storageClassName": "resizes"}});
    let spec = |replicas| sized(replicas, "1Gi");
    storage_class(&lab.client, "resizes", true).await;
    let adopted = async || lab.adopted().await;
    lab.up("redis", spec(3)).await;
    lab.write(0..20, "one", 2).await;
    // The third volume is left behind, in a history that an election ends afterwards.
    lab.up("redis", spec(2)).await;
    lab.kubelet.kill_redis("redis-0");
    until("a second epoch", PATIENCE, async || (lab.epoch("redis").await == 2).then_some(())).await;
    lab.ready("redis", 0).await;
    lab.write(0..30, "two", 1).await;
    wait_for_history(&lab, &["data-redis-0", "data-redis-1"], 2).await;
    assert!(adopted().await.is_empty());
    let volumes = lab.uids().await;
    lab.provide_volumes().await;

    lab.delete().await;
    lab.up("redis", sized(3, "2Gi")).await;
    lab.assert_keys(3, 30, "two").await;
    assert_eq!((lab.uids().await, lab.epoch("redis").await), (volumes, 3));
    let notes =
        until("an Event says so", PATIENCE, async || Some(adopted().await).filter(|notes| notes.len() == 1))
            .await;
    assert!(notes.iter().all(|note| note.contains("is the primary from epoch 3 on")), "{notes:?}");
    wait_for_history(&lab, &["data-redis-0", "data-redis-1", "data-redis-2"], 3).await;
    until("the volumes of before grow to the new size", PATIENCE, async || {
        lab.sizes().await.values().all(|size| size == "2Gi").then_some(())
    })
    .await;

    // Only the record is lost: the one who serves is adopted, and the epochs go on.
    let primary = lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let records = Api::<ConfigMap>::namespaced(lab.client.clone(), "again");
    records.delete("redis-record", &DeleteParams::default()).await.unwrap();
    until("a fourth epoch", PATIENCE, async || (lab.epoch("redis").await == 4).then_some(())).await;
    lab.ready("redis", 0).await;
    assert_eq!(lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod, primary);
    lab.assert_keys(3, 30, "two").await;
    until("an Event says so", PATIENCE, async || (adopted().await.len() == 2).then_some(())).await;
    assert_nothing_was_forbidden(lab.plane, user);
}
