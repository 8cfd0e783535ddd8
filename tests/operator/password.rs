//! The Secret with the password: a person's is used and left alone, a missing one is made, and its loss is told.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_there_is_used_and_never_written() {
    let lab = Lab::new("secret").await;
    let secrets = lab.api::<Secret>();
    let own = json!({"metadata": {"name": "redis-auth", "labels": {"mine": "yes"}}, "stringData": {"password": PASSWORD}});
    let own = secrets.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    lab.up("redis", json!({"replicas": 2})).await;
    let untouched = secrets.get("redis-auth").await.unwrap();
    assert_eq!(untouched.resource_version(), own.resource_version());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_made_with_a_random_password() {
    let lab = Lab::new("random").await;
    apply(&lab.sets, "other", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    let secrets = lab.api::<Secret>();
    let made = until("a Secret", PATIENCE, async || secrets.get_opt("other-auth").await.unwrap()).await;
    let random = String::from_utf8(made.data.clone().unwrap()["password"].0.clone()).unwrap();
    let hexadecimal = random.chars().all(|c| c.is_ascii_hexdigit());
    assert!(random.len() >= 32 && hexadecimal, "{} characters", random.len());
    assert_eq!(made.owner_references().len(), 1);
    assert!(!lab.operator.log().contains(&random), "the log holds the password");
}

/// The servers still take its value, and the operator goes on with that, and says what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_vanishes_is_told() {
    let lab = Lab::new("vanishes").await;
    lab.up("redis", json!({"replicas": 2})).await;
    let secrets = lab.api::<Secret>();
    secrets.delete("redis-auth", &DeleteParams::default()).await.unwrap();
    let patch = json!({"metadata": {"labels": {"look": "again"}}});
    lab.sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=False SecretMissing").await;
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    let events = async || {
        let events = lab.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.items.into_iter().filter_map(|event| event.reason).collect::<BTreeSet<String>>()
    };
    until("an Event", PATIENCE, async || events().await.contains("SecretMissing").then_some(())).await;
    let back = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    secrets.create(&PostParams::default(), &serde_json::from_value(back).unwrap()).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
}
