//! The objects that a set consists of: they go with it, drift is repaired, and the budget follows what is seen.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_set_consists_of_goes_with_it() {
    let lab = Lab::new("goes").await;
    lab.up("redis", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    let budgets = lab.api::<PodDisruptionBudget>();
    assert!(budgets.get_opt("redis").await.unwrap().is_some());
    apply(&lab.sets, "redis", json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
    until("one pod needs no budget", PATIENCE, async || {
        budgets.get_opt("redis").await.unwrap().is_none().then_some(())
    })
    .await;
    lab.sets.delete("redis", &DeleteParams::default()).await.unwrap();
    let stateful_sets = lab.api::<StatefulSet>();
    until("the deleted set's children go", PATIENCE, async || {
        stateful_sets.get_opt("redis").await.unwrap().is_none().then_some(())
    })
    .await;
    until("figures of the deleted set go", PATIENCE, async || {
        let ready = r#"redis_operator_set_ready{namespace="goes",name="redis"}"#;
        lab.operator.metric(ready).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_and_what_others_added_stays() {
    let lab = Lab::new("drift").await;
    lab.up("redis", json!({"replicas": 2})).await;
    let services = lab.api::<Service>();
    let patch = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"publishNotReadyAddresses": false}});
    services.patch("redis-headless", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let service = until("drift is repaired", Duration::from_secs(5), async || {
        let service = services.get("redis-headless").await.unwrap();
        (service.spec.as_ref()?.publish_not_ready_addresses == Some(true)).then_some(service)
    })
    .await;
    assert_eq!(service.labels()["team"], "a");
}

/// A copy is missing although its pod is ready, and back: a drain is kept from the others in between.
#[tokio::test(flavor = "multi_thread")]
async fn the_budget_allows_no_drain_while_a_copy_is_missing() {
    let lab = Lab::new("budget").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let budgets = lab.api::<PodDisruptionBudget>();
    let allowed = async || budgets.get("redis").await.unwrap().spec.unwrap().max_unavailable.unwrap();
    assert_eq!(allowed().await, IntOrString::Int(1));
    let ordinary = budget_writes(&lab);
    // What the operator cannot set right; it sets back what it owns.
    lab.kubelet.mislead("redis-0");
    let _: i64 = lab.kubelet.command("redis-2", &["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    let broken = Instant::now();
    until("no pod may be drained", PATIENCE, async || (allowed().await == IntOrString::Int(0)).then_some(()))
        .await;
    assert!(broken.elapsed() >= Duration::from_secs(9), "{:?}: times have whole seconds", broken.elapsed());
    lab.kubelet.lead_back("redis-0");
    until("a pod may be drained again", PATIENCE, async || {
        (allowed().await == IntOrString::Int(1)).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_eq!(budget_writes(&lab), ordinary + 2);
}
