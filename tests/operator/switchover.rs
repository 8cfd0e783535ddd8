//! Switchovers whose primary cannot reach its successor.

use super::*;

/// Asks for the primary to move, by the annotation.
async fn ask(lab: &Lab, pod: &str) {
    let wish = json!({"metadata": {"annotations": {"replication.redis/switchover-to": pod}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&wish)).await.unwrap();
}

async fn primary(lab: &Lab) -> String {
    lab.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod
}

/// Regression: a password that somebody had changed on the primary ended all writes at the next switchover, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_handover_that_cannot_end_is_taken_back() {
    let lab = Lab::that_asks_no_dns("handover").await;
    lab.up("redis", json!({"replicas": 2})).await;
    lab.write(0..10, "before", 1).await;
    let () = lab.kubelet.command("redis-0", &["CONFIG", "SET", "masterauth", "wrong"]).unwrap();
    let () = lab.kubelet.command("redis-0", &["CONFIG", "SET", "masteruser", "nobody"]).unwrap();
    ask(&lab, "redis-1").await;
    until("redis-1 is the primary", PATIENCE, async || (primary(&lab).await == "redis-1").then_some(()))
        .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;

    // What is between the two cannot be set right by the operator.
    lab.kubelet.mislead("redis-0");
    let epoch = lab.epoch("redis").await;
    ask(&lab, "redis-0").await;
    let events = Api::<Event>::namespaced(lab.client.clone(), "handover");
    let begun = Instant::now();
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    let note = until("it is taken back", Duration::from_secs(40), async || {
        if lab.kubelet.command::<()>("redis-1", &["SET", "written", "meanwhile"]).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().find(|event| event.reason.as_deref() == Some("SwitchoverFailed"))?.note
    })
    .await;
    let told = begun.elapsed();
    assert!(note.contains("redis-1 did not reach redis-0"), "{note}");
    let () = lab.kubelet.command("redis-1", &["SET", "written", "after"]).unwrap();
    longest = longest.max(last.elapsed());
    assert!(longest < Duration::from_secs(10), "writes waited for {longest:?}");
    assert_eq!((lab.epoch("redis").await, primary(&lab).await.as_str()), (epoch, "redis-1"));
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    wait_for(&lab.sets, "redis", "Progressing=True SwitchoverPending").await;
    assert_eq!(lab.value(1, "key-9"), "before");
    println!("taken back {told:.1?} after it was asked for; writes waited for {longest:.1?}");
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: set while a switchover was under way, `paused` left the primary without writes until it was taken away.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_set_ends_its_switchover_first() {
    let lab = Lab::new("paused").await;
    lab.up("redis", json!({"replicas": 2})).await;
    // What an operator leaves behind that ended in the middle of a switchover.
    let pause = json!({"spec": {"paused": true}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&pause)).await.unwrap();
    wait_for(&lab.sets, "redis", "Progressing=False Paused").await;
    let epoch = lab.epoch("redis").await;
    let records = Api::<ConfigMap>::namespaced(lab.client.clone(), "paused");
    let mut record = records.get("redis-record").await.unwrap();
    let text = record.data.as_ref().unwrap()["record.json"].clone();
    let mut open: Value = serde_json::from_str(&text).unwrap();
    let pods = Api::<Pod>::namespaced(lab.client.clone(), "paused");
    let info: String = lab.kubelet.command("redis-1", &["INFO", "server"]).unwrap();
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
    open["switchTo"] = json!({
        "target": "redis-1", "replid": open["seenServing"]["replid"],
        "process": {"podUid": pods.get("redis-1").await.unwrap().uid(), "runId": run_id, "replid": open["seenServing"]["replid"]},
    });
    record.data.as_mut().unwrap().insert("record.json".to_owned(), open.to_string());
    records.replace("redis-record", &PostParams::default(), &record).await.unwrap();
    let host = "redis-1.redis-headless.paused.svc.cluster.local";
    let () = lab.kubelet.command("redis-0", &["FAILOVER", "TO", host, "6379", "TIMEOUT", "1000"]).unwrap();

    until("it has ended", PATIENCE, async || (lab.epoch("redis").await > epoch).then_some(())).await;
    until("the Service leads there", PATIENCE, async || {
        (by_role(&pods, "primary").await == ["redis-1"]).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "Progressing=False Paused").await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    let () = lab.kubelet.command("redis-1", &["SET", "a", "1"]).unwrap();
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
