//! What a person writes into a resource makes nothing else of what the operator says, and stops it from nothing.

use operator_core::api::directives;
use rig::hostile_text::{closed_text, has_controls, sample, text};

use super::*;

/// A set that nobody keeps: only what admission says of it counts.
async fn is_admitted(sets: &Api<RedisReplicaSet>, spec: &Value) -> Result<RedisReplicaSet, String> {
    let manifest = json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {"name": "tried"}, "spec": spec,
    });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    match sets.create(&dry, &serde_json::from_value(manifest).unwrap()).await {
        Ok(set) => Ok(set),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// By the API server's own CEL: the other form of the plan's check.
#[tokio::test(flavor = "multi_thread")]
async fn admission_and_plan_take_the_same_hostile_values() {
    const VALUES: usize = 600;
    let (_, client, _) = plane("injection-admission").await;
    let sets = Api::<RedisReplicaSet>::namespaced(client, "injection-admission");
    let begun = Instant::now();
    let mut admitted = 0;
    let hostile = sample(text(), VALUES / 2).into_iter().chain(sample(closed_text(), VALUES / 2));
    for value in hostile {
        let said = is_admitted(&sets, &json!({"config": {"a-new-one": value}})).await;
        let planned = directives::check(&[("a-new-one".to_owned(), value.clone())].into());
        assert_eq!(said.is_ok(), planned.is_ok(), "{value:?}: admission {said:?}, plan {planned:?}");
        admitted += usize::from(said.is_ok());
    }
    println!("{VALUES} values, {admitted} admitted: {:.1?}", begun.elapsed());
    assert!((VALUES / 3..VALUES).contains(&admitted));
}

/// All that the operator has said of a set: in its status, in Events and in its log.
async fn said(lab: &Lab) -> Vec<String> {
    let status = lab.sets.get("redis").await.unwrap().status.unwrap();
    let conditions = status.conditions.into_iter().map(|condition| condition.message);
    let instances = status.instances.into_iter().filter_map(|instance| instance.message);
    let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
    let events = events
        .items
        .into_iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("redis-operator"));
    let log: Vec<String> = lab.operator.log().lines().map(str::to_owned).collect();
    conditions.chain(instances).chain(events.filter_map(|event| event.note)).chain(log).collect()
}

/// What a person may write that reaches the operator's words: they stay on their line, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_a_resource_is_told_on_one_line_and_stops_nothing() {
    const LINE: &str = "\n2026-01-01T00:00:00Z  INFO all is well\u{1b}[2J\u{202e}\r\0";
    let lab = Lab::new("injection-told").await;
    lab.up("redis", json!({"replicas": 2, "primary": {"failback": false}})).await;
    let first = lab.primary().await;
    let annotate = async |name: &str, value: Value| {
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {format!("replication.redis/{name}"): value}}}));
        lab.sets.patch("redis", &PatchParams::default(), &patch).await.unwrap();
    };
    let message = async |reason: &str| {
        until(reason, PATIENCE, async || {
            let status = lab.sets.get("redis").await.unwrap().status?;
            status
                .conditions
                .into_iter()
                .find(|condition| condition.reason == reason)
                .map(|found| found.message)
        })
        .await
    };

    // Longer than the API server takes as the message of a condition.
    annotate("switchover-to", json!(format!("redis-1{LINE}{}", "x".repeat(100_000)))).await;
    let refusal = message("SwitchoverPending").await;
    assert!(
        refusal.starts_with("there is no pod of this set to become the primary under the name"),
        "{refusal}"
    );
    assert!(refusal.chars().count() <= 1024);
    for hostile in [
        format!("redis-1@1{LINE}"),
        format!("redis-1{LINE}@1"),
        "@".repeat(1000),
        format!("{LINE}@99999999999999999999"),
    ] {
        annotate("accept-data-loss", json!(hostile)).await;
    }
    // A name of a resource is any text to the schema; what becomes of it the API server says.
    let spec = |requests: Value| json!({"replicas": 2, "primary": {"failback": false}, "resources": {"requests": requests}});
    apply(&lab.sets, "redis", spec(json!({format!("cpu{LINE}"): "1"}))).await;
    let refusal = message("InvalidSpec").await;
    println!("{refusal:?}");
    // And of the rest of the set everything goes on.
    lab.kubelet.kill_redis("redis-0");
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    apply(&lab.sets, "redis", spec(json!({"cpu": "1m"}))).await;
    annotate("switchover-to", Value::Null).await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_eq!(lab.primary().await.1, first.1, "nobody was promoted by any of it");

    let said = said(&lab).await;
    assert!(said.iter().any(|line| line.contains("all is well")), "it was told of");
    for line in said {
        assert!(!has_controls(&line), "{line:?}");
        assert!(!line.starts_with("2026-01-01"), "a line of somebody else: {line}");
    }
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}
