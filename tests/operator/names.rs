//! The cluster's DNS leads names elsewhere, or nowhere: what is planned waits and says so, what cannot wait goes on.

use super::*;

async fn message(lab: &Lab, reason: &str) -> Option<String> {
    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
    status.conditions.into_iter().find(|condition| condition.reason == reason).map(|found| found.message)
}

/// Waits until a role is not handed over for the names of these pods.
async fn waits_for(lab: &Lab, pods: &[&str]) {
    until("it says which names it waits for", PATIENCE, async || {
        let said = message(lab, "SwitchoverPending").await?;
        let name = |pod: &&&str| said.contains(&format!("{pod}.redis-headless.{}", lab.namespace));
        pods.iter().all(|pod| name(&pod)).then_some(())
    })
    .await;
}

/// Writes at this pod for a while; the longest time in which none was taken.
async fn longest_gap(lab: &Lab, pod: &str, time: Duration) -> Duration {
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        if lab.kubelet.command::<()>(pod, &["SET", "written", "meanwhile"]).is_ok() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    longest.max(last.elapsed())
}

/// Regression: the primary paused its writes, looked for its successor by a name that led nowhere, and it was taken back
/// only after 5 s, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_move_waits_until_its_targets_name_leads_there() {
    let lab = Lab::new("planned-move").await;
    lab.up("redis", json!({"replicas": 2})).await;
    // What an address needs to be old enough in these tests.
    tokio::time::sleep(Duration::from_secs(3)).await;
    lab.kubelet.mislead("redis-1");
    let wish = json!({"metadata": {"annotations": {"replication.redis/switchover-to": "redis-1"}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&wish)).await.unwrap();
    waits_for(&lab, &["redis-1"]).await;
    let longest = longest_gap(&lab, "redis-0", Duration::from_secs(8)).await;
    assert!(longest < Duration::from_secs(1), "writes waited for {longest:?}");
    waits_for(&lab, &["redis-1"]).await;
    assert_eq!(lab.primary().await, (1, "redis-0".to_owned()));
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
    let failed = |event: &Event| event.reason.as_deref() == Some("SwitchoverFailed");
    assert!(!events.items.iter().any(failed), "no role was offered");

    lab.kubelet.lead_back("redis-1");
    let back = Instant::now();
    until("redis-1 is the primary", PATIENCE, async || (lab.primary().await.1 == "redis-1").then_some(()))
        .await;
    println!(
        "writes waited for {longest:.1?} at most; the move came {:.1?} after the name was right",
        back.elapsed()
    );
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_drained_serves_until_a_successor_is_found() {
    let lab = Lab::new("drained").await;
    lab.up("redis", json!({"replicas": 3, "primary": {"failback": false}})).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    lab.kubelet.let_hooks_wait(true);
    for pod in ["redis-1", "redis-2"] {
        lab.kubelet.mislead(pod);
    }
    lab.api::<Pod>().delete("redis-0", &DeleteParams::default()).await.unwrap();
    waits_for(&lab, &["redis-1", "redis-2"]).await;
    let longest = longest_gap(&lab, "redis-0", Duration::from_secs(8)).await;
    assert!(longest < Duration::from_secs(1), "writes waited for {longest:?}");
    assert_eq!(lab.primary().await, (1, "redis-0".to_owned()));
    // One of the two is found again.
    lab.kubelet.lead_back("redis-2");
    until("redis-2 is the primary", PATIENCE, async || (lab.primary().await.1 == "redis-2").then_some(()))
        .await;
    lab.kubelet.let_hooks_wait(false);
    lab.kubelet.lead_back("redis-1");
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: writes stopped for 61 s when the pod of the primary was deleted while DNS gave no answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_primary_is_succeeded_without_names() {
    let lab = Lab::new("without-names").await;
    lab.up("redis", json!({"replicas": 3, "primary": {"failback": false}})).await;
    lab.write(0..3, "before", 2).await;
    until("all have votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    for pod in ["redis-0", "redis-1", "redis-2"] {
        lab.kubelet.mislead(pod);
    }
    // Its hook has ended: it could not hand over.
    lab.api::<Pod>().delete("redis-0", &DeleteParams::default()).await.unwrap();
    let ended = Instant::now();
    until("another one takes writes", PATIENCE, async || {
        ["redis-1", "redis-2"]
            .iter()
            .any(|pod| lab.kubelet.command::<()>(pod, &["SET", "last", "after"]).is_ok())
            .then_some(())
    })
    .await;
    let gap = ended.elapsed();
    assert!(gap < Duration::from_secs(4), "writes waited for {gap:?}");
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    println!("another one took writes {gap:.1?} after the end of the primary");

    let (_, primary) = lab.primary().await;
    lab.kubelet.lead_back(&primary);
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    lab.assert_keys(3, 3, "before").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
