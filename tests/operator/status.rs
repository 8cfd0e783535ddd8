//! Sets about which a status stayed at its last True.

use super::*;

/// Until this condition stands in the status.
async fn until_told(lab: &Lab, condition: &str) -> Duration {
    let begun = Instant::now();
    wait_for(&lab.sets, "redis", condition).await;
    begun.elapsed()
}

/// Regression: with a foreign finalizer nobody looked at it any more, and its primary was not replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_set_that_waits_for_a_finalizer_is_looked_after() {
    let lab = Lab::new("finalizer").await;
    lab.up("redis", json!({"replicas": 3})).await;
    lab.write(0..10, "before", 2).await;
    let epoch = lab.epoch("redis").await;
    let finalizers = |value: Value| Patch::Merge(json!({"metadata": {"finalizers": value}}));
    lab.sets
        .patch("redis", &PatchParams::default(), &finalizers(json!(["example.com/backup"])))
        .await
        .unwrap();
    lab.sets.delete("redis", &DeleteParams::default()).await.unwrap();
    wait_for(&lab.sets, "redis", "Progressing=True Deleting").await;
    wait_for(&lab.sets, "redis", "Ready=False Deleting").await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;

    lab.kubelet.kill_redis("redis-0");
    until("another is the primary", PATIENCE, async || (lab.epoch("redis").await > epoch).then_some(()))
        .await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;

    lab.sets.patch("redis", &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    until("it is gone", PATIENCE, async || lab.sets.get_opt("redis").await.unwrap().is_none().then_some(()))
        .await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: with a memory request above its limit nobody was asked, elected or told about until a person corrected it.
#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_cannot_be_carried_out_stops_no_election() {
    let lab = Lab::new("impossible").await;
    lab.up("redis", json!({"replicas": 3})).await;
    lab.write(0..10, "before", 2).await;
    let epoch = lab.epoch("redis").await;
    let resources = |resources: Value| Patch::Merge(json!({"spec": {"resources": resources}}));
    let impossible = json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}});
    lab.sets.patch("redis", &PatchParams::default(), &resources(impossible)).await.unwrap();
    wait_for(&lab.sets, "redis", "SpecValid=False InvalidSpec").await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    wait_for(&lab.sets, "redis", "Replicated=True AllInSync").await;

    lab.kubelet.kill_redis("redis-0");
    until("another is the primary", PATIENCE, async || (lab.epoch("redis").await > epoch).then_some(()))
        .await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    wait_for(&lab.sets, "redis", "Replicated=True AllInSync").await;

    // Nor does it stop the record from being made again.
    let records: Api<ConfigMap> = Api::namespaced(lab.client.clone(), "impossible");
    records.delete("redis-record", &DeleteParams::default()).await.unwrap();
    until("the record is there again", PATIENCE, async || {
        records.get_opt("redis-record").await.unwrap().map(|_| ())
    })
    .await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;

    lab.sets.patch("redis", &PatchParams::default(), &resources(Value::Null)).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: a set in sync was Ready for as long as its every write was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_refuses_writes_is_told_about_within_six_seconds() {
    const AT_MOST: Duration = Duration::from_secs(6);
    let lab = Lab::new("refuses").await;
    lab.up("redis", json!({"replicas": 2})).await;
    let config = |name: &str, value: &str| {
        let () = lab.kubelet.command("redis-0", &["CONFIG", "SET", name, value]).unwrap();
    };
    config("min-replicas-to-write", "3");
    let few = until_told(&lab, "Available=False TooFewReplicas").await;
    wait_for(&lab.sets, "redis", "Ready=False TooFewReplicas").await;
    config("min-replicas-to-write", "0");
    let enough = until_told(&lab, "Ready=True Verified").await;
    config("maxmemory", "1000000");
    let full = until_told(&lab, "Available=False MemoryFull").await;
    config("maxmemory", "0");
    let room = until_told(&lab, "Ready=True Verified").await;
    let () = lab.kubelet.command("redis-0", &["CLIENT", "PAUSE", "60000", "WRITE"]).unwrap();
    let paused = until_told(&lab, "Available=False ClientsPaused").await;
    wait_for(&lab.sets, "redis", "Degraded=True ClientsPaused").await;
    let () = lab.kubelet.command("redis-0", &["CLIENT", "UNPAUSE"]).unwrap();
    let goes_on = until_told(&lab, "Ready=True Verified").await;
    println!(
        "told after {few:.1?} (too few replicas), {full:.1?} (full memory), {paused:.1?} (paused); of the end after \
         {enough:.1?}, {room:.1?}, {goes_on:.1?}"
    );
    for told in [few, enough, full, room, paused, goes_on] {
        assert!(told <= AT_MOST, "{told:?}");
    }
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
