//! A set with append-only files is deleted and made again over its volumes: such files do not say how old they are, so
//! the record, which the volumes keep, has to tell who was the primary.

use super::*;

/// Claims that the record speaks of, once it speaks of as many.
async fn kept_by(lab: &Lab, count: usize) -> Vec<String> {
    let records = Api::<ConfigMap>::namespaced(lab.client.clone(), lab.namespace);
    until(&format!("{count} claims keep the record"), PATIENCE, async || {
        let record = records.get_opt("redis-record").await.unwrap()?;
        let owners = record.owner_references().iter().filter(|owner| owner.kind == "PersistentVolumeClaim");
        let names: Vec<String> = owners.map(|owner| owner.name.clone()).collect();
        (names.len() == count).then_some(names)
    })
    .await
}

async fn primary(lab: &Lab) -> String {
    lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod
}

#[tokio::test(flavor = "multi_thread")]
async fn made_again_over_append_only_files_the_last_primary_of_record_goes_on() {
    let lab = Lab::with_config("append-only", "appendonly yes\nappendfsync always\n").await;
    let config = json!({"appendonly": "yes", "appendfsync": "always"});
    let spec = |replicas: i32| json!({"replicas": replicas, "config": config, "primary": {"failback": false}, "storage": {"size": "1Gi"}});
    lab.up("redis", spec(3)).await;
    lab.write(0..20, "one", 2).await;
    // The third volume is left behind.
    lab.up("redis", spec(2)).await;
    let moved = json!({"metadata": {"annotations": {"replication.redis/switchover-to": "redis-1"}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&moved)).await.unwrap();
    until("redis-1 is the primary", Duration::from_secs(60), async || {
        (primary(&lab).await == "redis-1").then_some(())
    })
    .await;
    lab.ready("redis", 0).await;
    lab.write(0..30, "two", 1).await;
    assert_eq!(kept_by(&lab, 3).await, ["data-redis-0", "data-redis-1", "data-redis-2"]);
    let (volumes, epoch) = (lab.uids().await, lab.epoch("redis").await);

    lab.delete().await;
    lab.up("redis", spec(3)).await;
    assert_eq!((primary(&lab).await.as_str(), lab.epoch("redis").await), ("redis-1", epoch + 1));
    assert_eq!(lab.uids().await, volumes);
    lab.assert_keys(3, 30, "two").await;
    let says_so = format!("redis-1 has all of it and is the primary from epoch {} on", epoch + 1);
    until("an Event says so", PATIENCE, async || {
        lab.adopted().await.iter().any(|note| note.contains(&says_so)).then_some(())
    })
    .await;
    kept_by(&lab, 3).await;

    // A volume that the record does not know, in the place of one that it knows: a person has to decide.
    lab.delete().await;
    let before = lab.claims.get("data-redis-0").await.unwrap();
    lab.claims.delete("data-redis-0", &DeleteParams::default()).await.unwrap();
    until("it is gone", PATIENCE, async || {
        lab.claims.get_opt("data-redis-0").await.unwrap().is_none().then_some(())
    })
    .await;
    let another: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "data-redis-0", "labels": before.labels()},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap();
    lab.claims.create(&PostParams::default(), &another).await.unwrap();
    apply(&lab.sets, "redis", spec(3)).await;
    wait_for(&lab.sets, "redis", "Degraded=True HistoriesDiffer").await;
    let consent = format!("redis-1@{}", epoch + 1);
    let consent = json!({"metadata": {"annotations": {"replication.redis/accept-data-loss": consent}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&consent)).await.unwrap();
    lab.ready("redis", 0).await;
    assert_eq!((primary(&lab).await.as_str(), lab.epoch("redis").await), ("redis-1", epoch + 2));
    lab.assert_keys(3, 30, "two").await;

    // With its last volume the record goes too.
    lab.delete().await;
    lab.claims.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let records = Api::<ConfigMap>::namespaced(lab.client.clone(), lab.namespace);
    until("nothing is left", PATIENCE, async || {
        records.get_opt("redis-record").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
