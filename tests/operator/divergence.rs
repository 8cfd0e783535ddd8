//! A former primary comes back over data that its successor never had.

use super::*;

/// The offset of a history, or another number of `INFO replication`.
fn number(lab: &Lab, pod: &str, field: &str) -> i64 {
    let info: String = lab.kubelet.command(pod, &["INFO", "replication"]).unwrap();
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("{pod} says no {field}: {info}")).trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_given_up_stands_in_the_status_before_it_goes() {
    let lab = Lab::new("divergence").await;
    lab.up("redis", json!({"replicas": 2})).await;
    lab.write(0..10, "both", 1).await;

    // The operator looks on while the replica is cut off and the primary goes on alone.
    lab.sets
        .patch("redis", &PatchParams::default(), &Patch::Merge(json!({"spec": {"paused": true}})))
        .await
        .unwrap();
    wait_for(&lab.sets, "redis", "Progressing=False Paused").await;
    let () = lab.kubelet.command("redis-1", &["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let shared = number(&lab, "redis-1", "master_repl_offset");
    for key in 0..10 {
        let () = lab.kubelet.command("redis-0", &["SET", &format!("alone-{key}"), "value"]).unwrap();
    }
    let () = lab.kubelet.command("redis-0", &["SAVE"]).unwrap();
    let end = number(&lab, "redis-0", "master_repl_offset");
    // Parked once more, and a person says that the replica is to serve, whatever it lacks.
    let run = lab.kubelet.command::<String>("redis-0", &["INFO", "server"]).unwrap();
    lab.kubelet.kill_redis("redis-0");
    until("redis-0 is back", PATIENCE, async || {
        let again = lab.kubelet.command::<String>("redis-0", &["INFO", "server"]).ok()?;
        (run_id(&again) != run_id(&run)).then_some(())
    })
    .await;
    // What the status says from now on is about what comes of the consent.
    wait_for(&lab.sets, "redis", "Available=False NoPrimary").await;
    let consent = json!({
        "metadata": {"annotations": {"replication.redis/accept-data-loss": "redis-1@1"}},
        "spec": {"paused": false},
    });
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&consent)).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;

    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
    assert_eq!(status.primary.as_ref().unwrap().pod, "redis-1");
    let [lost] = status.divergences.as_slice() else { panic!("{:?}", status.divergences) };
    assert_eq!((lost.pod.as_str(), lost.epoch), ("redis-0", 2));
    assert_eq!(lost.bytes, end - shared, "what redis-0 had saved beyond what redis-1 had");
    assert_eq!(lab.value(0, "alone-0"), "", "it follows now, and has what the primary has");
    assert_eq!(lab.value(0, "key-9"), "both");

    // It stood in the status before the server was told: in the operator's own words, in that order.
    let log = lab.operator.log();
    let at = |part: &str| log.find(part).unwrap_or_else(|| panic!("no {part:?} in the log"));
    let told = log.rfind("\"repoint\"").expect("redis-0 was told to follow");
    assert!(at("DataDiverged") < told, "{log}");
    let events = Api::<Event>::namespaced(lab.client.clone(), "divergence");
    let told_of = events.list(&ListParams::default()).await.unwrap();
    let of = |event: &&Event| event.reason.as_deref() == Some("DataDiverged");
    assert_eq!(told_of.items.iter().filter(of).count(), 1, "{:?}", told_of.items);
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

fn run_id(info: &str) -> Option<&str> {
    info.lines().find_map(|line| line.strip_prefix("run_id:"))
}
