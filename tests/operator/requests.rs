//! What the operator asks of the API server.

use super::*;

/// Watches list their kind once, or when they were away for too long.
const LISTS: [&str; 7] = [
    "list redisreplicasets ",
    "list pods ",
    "list statefulsets ",
    "list services ",
    "list configmaps ",
    "list poddisruptionbudgets ",
    "list networkpolicies ",
];

/// Requests of the operator about objects of this namespace, but for its Lease and its watches: `verb resource`.
fn in_namespace(plane: &ControlPlane, user: &str, namespace: &str) -> Vec<String> {
    plane
        .audit()
        .iter()
        .filter(|entry| entry["user"]["username"] == user && entry["objectRef"]["namespace"] == namespace)
        .map(|entry| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let subresource = text(&entry["objectRef"]["subresource"]);
            format!("{} {} {subresource}", text(&entry["verb"]), text(&entry["objectRef"]["resource"]))
        })
        .filter(|request| !request.starts_with("watch ") && !request.contains(" leases "))
        .filter(|request| !LISTS.contains(&request.as_str()))
        .collect()
}

/// Regression: eight reads a reconcile, and 130 requests of a start.
#[tokio::test(flavor = "multi_thread")]
async fn at_rest_only_the_secrets_are_asked_for() {
    let lab = Lab::new("requests").await;
    lab.up("redis", json!({"replicas": 3})).await;
    // Votes, the history on the volumes, the budget.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let begun = in_namespace(lab.plane, &lab.user, "requests");
    println!("a start: {} requests: {begun:#?}", begun.len());
    assert!(begun.len() <= 44, "{begun:#?}");

    // Longer than between two scheduled reconciles.
    tokio::time::sleep(Duration::from_secs(65)).await;
    let after = in_namespace(lab.plane, &lab.user, "requests");
    let (secrets, others): (Vec<&String>, Vec<&String>) =
        after[begun.len()..].iter().partition(|request| request.starts_with("get secrets"));
    assert_eq!(others, Vec::<&String>::new());
    let renewed = requests(lab.plane, &lab.user);
    let renewed = renewed.iter().filter(|(verb, of, _)| verb == "update" && of.ends_with("/leases")).count();
    assert!(renewed > 20, "the Lease alone is renewed: {renewed}");
    // Two, by name, since the operator may watch none: once in each scheduled reconcile.
    assert!((2..=4).contains(&secrets.len()), "{secrets:?}");
}
