//! Pods that the API server refuses to the `StatefulSet` controller.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::ObjectMeta;

use super::*;

/// From the refusal until its words stand in the status.
const AT_MOST: Duration = Duration::from_secs(15);

/// Events about the set with this reason.
async fn told(lab: &Lab, reason: &str) -> usize {
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
    let is_told = |event: &&Event| {
        let kind = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
        kind == Some("RedisReplicaSet") && event.reason.as_deref() == Some(reason)
    };
    events.iter().filter(is_told).count()
}

/// How often the operator has listed Events.
fn lists(lab: &Lab) -> usize {
    let sent = requests(lab.plane, &lab.user);
    sent.iter().filter(|(verb, of, _)| verb == "list" && of == "/events").count()
}

/// The condition Degraded with its times.
async fn degraded(lab: &Lab) -> Value {
    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
    serde_json::to_value(status.conditions.iter().find(|c| c.type_ == "Degraded").unwrap()).unwrap()
}

/// Waits until the status has the words, and returns for how long.
async fn until_told(lab: &Lab, pod: &str, begun: Instant) -> Duration {
    wait_for(&lab.sets, "redis", "Degraded=True PodRefused").await;
    let after = begun.elapsed();
    for condition in ["Degraded", "Ready"] {
        let message = lab.message(condition).await;
        let words = format!(
            "refuses the pod {pod}: pods \"{pod}\" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, \
             limited: pods=0"
        );
        assert!(message.contains(&words), "{condition}: {message}");
    }
    after
}

/// Regression: a set whose pods were refused said that it waits for them, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pod_is_told_of_in_the_words_of_the_api_server() {
    let mut lab = Lab::new("refused").await;
    lab.refuse_pods().await;
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secrets = lab.api::<Secret>();
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let begun = Instant::now();
    apply(&lab.sets, "redis", json!({"replicas": 3})).await;
    let of_new_set = until_told(&lab, "redis-0", begun).await;
    wait_for(&lab.sets, "redis", "Progressing=True Bootstrapping").await;
    assert!(lab.message("Progressing").await.contains("waiting for redis-0, which the API server refuses"));
    until("an Event", PATIENCE, async || (told(&lab, "PodRefused").await == 1).then_some(())).await;

    lab.take_pods("redis").await;
    let begun = Instant::now();
    until("the pod is there", PATIENCE, async || lab.api::<Pod>().get_opt("redis-0").await.unwrap()).await;
    wait_for(&lab.sets, "redis", "Degraded=False AsExpected").await;
    let of_its_end = begun.elapsed();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;

    // The quota is lowered below what runs, and a pod is replaced.
    lab.write(0..10, "before", 2).await;
    lab.refuse_pods().await;
    let (epoch, listed) = (lab.epoch("redis").await, lists(&lab));
    lab.api::<Pod>().delete("redis-2", &DeleteParams::default()).await.unwrap();
    let begun = Instant::now();
    let of_replica = until_told(&lab, "redis-2", begun).await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;

    // Another operator does not call it right for a moment.
    let before = degraded(&lab).await;
    lab.operator.terminate();
    until("it ends", PATIENCE, async || lab.operator.ended()).await;
    lab.operator = Operator::start(lab.plane, &lab.user, lab.namespace, "another");
    let known = lists(&lab);
    until("another has looked twice", PATIENCE, async || (lists(&lab) >= known + 2).then_some(())).await;
    assert_eq!(degraded(&lab).await, before);

    // The missing member may have the newest data, so nobody is elected without it; the status says why, and why it is missing.
    lab.kubelet.kill_redis("redis-0");
    wait_for(&lab.sets, "redis", "Available=False NoPrimary").await;
    wait_for(&lab.sets, "redis", "Progressing=False Held").await;
    until_told(&lab, "redis-2", begun).await;
    assert!(lab.message("Degraded").await.contains(&lab.message("Progressing").await), "both truths");
    let asked = lists(&lab) - listed;
    let may = usize::try_from(begun.elapsed().as_secs() / 5).unwrap() + 2;

    lab.take_pods("redis").await;
    until("another epoch", PATIENCE, async || (lab.epoch("redis").await > epoch).then_some(())).await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    lab.assert_keys(3, 10, "before").await;
    println!(
        "a new set's refusal was told after {of_new_set:.1?}, its end after {of_its_end:.1?}, a replica's after {of_replica:.1?}; \
         Events were listed {asked} times"
    );
    for after in [of_new_set, of_its_end, of_replica] {
        assert!(after <= AT_MOST, "{after:?}");
    }
    assert!(asked <= may, "{asked} lists, {may} are allowed");
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Binds the operator's role as an older install has it, without the right to list Events, in the place of today's.
async fn grant_older(lab: &Lab) {
    let roles = Api::<ClusterRole>::all(lab.client.clone());
    let bindings = Api::<ClusterRoleBinding>::all(lab.client.clone());
    let mut role = roles.get("redis-operator").await.unwrap();
    role.rules.as_mut().unwrap().retain(|rule| {
        let groups = rule.api_groups.as_deref().unwrap_or_default();
        let resources = rule.resources.as_deref().unwrap_or_default();
        !(groups.contains(&String::new()) && resources.contains(&"events".to_owned()))
    });
    role.metadata = ObjectMeta { name: Some("redis-operator-older".into()), ..ObjectMeta::default() };
    roles.create(&PostParams::default(), &role).await.unwrap();
    bindings.delete(&lab.user, &DeleteParams::default()).await.unwrap();
    let binding = json!({
        "metadata": {"name": lab.user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "redis-operator-older"},
        "subjects": [{"kind": "User", "name": lab.user, "apiGroup": "rbac.authorization.k8s.io"}],
    });
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_list_events_everything_else_goes_on() {
    let lab = Lab::new("unheard").await;
    grant_older(&lab).await;
    lab.refuse_pods().await;
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secrets = lab.api::<Secret>();
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    apply(&lab.sets, "redis", json!({"replicas": 2})).await;
    let refused = || {
        let sent = requests(lab.plane, &lab.user);
        sent.iter().filter(|(verb, of, code)| verb == "list" && of == "/events" && *code == 403).count()
    };
    until("it has asked twice", PATIENCE, async || (refused() >= 2).then_some(())).await;
    wait_for(&lab.sets, "redis", "Progressing=True Bootstrapping").await;
    wait_for(&lab.sets, "redis", "Degraded=False AsExpected").await;
    let told = lab.operator.log().matches("cannot list the Events of the StatefulSet").count();
    assert_eq!(told, 1, "in the log");
    lab.take_pods("redis").await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
}
