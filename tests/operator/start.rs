//! From apply to Ready.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_set_becomes_ready_with_few_writes() {
    let lab = Lab::new("start").await;
    let applied = Instant::now();
    lab.up("redis", json!({"replicas": 3})).await;
    let until_ready = applied.elapsed();
    let spent = writes(lab.plane, &lab.user);
    // Two of them raise the StatefulSet by one pod: its order is the operator's. One makes the NetworkPolicy, one the operator's own Secret.
    assert!(spent.len() <= 15 + 2 + 2, "{} writes from apply to Ready: {spent:#?}", spent.len());
    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
    assert_eq!((status.summary.replicas.as_str(), status.summary.synced.as_str()), ("3/3", "2/2"));
    assert_eq!(status.primary.as_ref().unwrap().pod, "redis-0");
    assert_eq!(lab.record().await["members"], "redis-0\nredis-1\nredis-2");
    println!("{} writes and {until_ready:.1?} from apply to Ready", spent.len());
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_by_role_leads_to_the_pods_that_have_the_role() {
    let lab = Lab::new("services").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let (services, pods) = (lab.api::<Service>(), lab.api::<Pod>());
    assert_eq!(by_role(&pods, "primary").await, ["redis-0"]);
    assert_eq!(by_role(&pods, "replica").await, ["redis-1", "redis-2"]);
    for (name, role) in [("redis", "primary"), ("redis-replicas", "replica")] {
        let spec = services.get(name).await.unwrap().spec.unwrap();
        assert_eq!(spec.selector.unwrap()["replication.redis/role"], role);
        assert!(spec.cluster_ip.is_some_and(|address| address != "None"));
    }
}
