//! The primary's process ends: another one serves, with all data, and clients are led to it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_is_replaced_and_clients_follow() {
    let lab = Lab::new("failover").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let (sets, pods, kubelet) = (&lab.sets, lab.api::<Pod>(), &lab.kubelet);
    // Votes are noted a few seconds after all replicas are in sync.
    until("all replicas have their votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    let () = kubelet.command("redis-0", &["SET", "key", "value"]).unwrap();
    let copies: i64 = kubelet.command("redis-0", &["WAIT", "2", "5000"]).unwrap();
    assert_eq!(copies, 2);
    let budgets = budget_writes(&lab);
    kubelet.kill_redis("redis-0");
    let killed = Instant::now();
    until("another epoch, and Ready again", PATIENCE, async || {
        let status = sets.get("redis").await.unwrap().status.unwrap();
        (status.primary?.epoch == 2 && status.conditions[0].status == "True").then_some(())
    })
    .await;
    let until_mended = killed.elapsed();
    assert_key(kubelet, sets).await;
    let until_labelled = labels_follow(sets, &pods).await;
    println!(
        "{until_mended:.1?} from kill -9 to Ready; the labels were right {until_labelled:.1?} after that"
    );
    former_clients_are_cut(kubelet, sets, &pods).await;
    assert_eq!(budget_writes(&lab), budgets, "a failover does not write the budget");
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
    let reasons: BTreeSet<String> = events.iter().filter_map(|event| event.reason.clone()).collect();
    for reason in ["Ready", "NotReady", "PrimaryChanged"] {
        assert!(reasons.contains(reason), "{reason} is not among {reasons:?}");
    }
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
