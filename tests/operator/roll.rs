//! A new template: pods are replaced one by one, and the data survives all of them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn every_pod_is_replaced_and_no_data_lost() {
    let lab = Lab::new("roll").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let pods = lab.api::<Pod>();
    let () = lab.kubelet.command("redis-0", &["SET", "key", "value"]).unwrap();
    let (before, budgets) = (uids(&pods).await, budget_writes(&lab));
    apply(&lab.sets, "redis", json!({"replicas": 3, "podAnnotations": {"example.com/restarted": "1"}})).await;
    until("every pod is another one, and Ready", Duration::from_secs(60), async || {
        let now = uids(&pods).await;
        let ready = conditions_of(&lab.sets, "redis").await.contains(&"Ready=True Verified".to_owned());
        (now.len() == 3 && now.is_disjoint(&before) && ready).then_some(())
    })
    .await;
    assert_key(&lab.kubelet, &lab.sets).await;
    assert_eq!(budget_writes(&lab), budgets, "a roll does not write the budget");
    labels_follow(&lab.sets, &pods).await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
