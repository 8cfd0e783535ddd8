//! The `NetworkPolicy`: it follows the spec, is set back, and never is somebody else's. Who gets through it is in `tests/network_policy.rs`.

use k8s_openapi::api::networking::v1::NetworkPolicy;

use super::*;

/// Until the operator has set back what a person changed.
const SET_BACK_WITHIN: Duration = Duration::from_secs(5);

async fn patch_spec(lab: &Lab, network_policy: Value) {
    let patch = Patch::Merge(json!({"spec": {"networkPolicy": network_policy}}));
    lab.sets.patch("redis", &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the operator has looked at the spec as it is now.
async fn look_again(lab: &Lab) {
    until("the spec is seen", PATIENCE, async || {
        let set = lab.sets.get("redis").await.unwrap();
        (set.status?.observed_generation == set.metadata.generation).then_some(())
    })
    .await;
}

/// The rules of the set's policy, as JSON.
async fn rules(policies: &Api<NetworkPolicy>) -> Option<Value> {
    let policy = policies.get_opt("redis").await.unwrap()?;
    Some(serde_json::to_value(policy.spec).unwrap())
}

/// Also of a set that was there before its operator knew of policies: that one has none, and running pods.
#[tokio::test(flavor = "multi_thread")]
async fn the_policy_follows_the_spec_and_no_pod_restarts() {
    let lab = Lab::new("policy").await;
    lab.up("redis", json!({"replicas": 2})).await;
    let (policies, pods) = (lab.api::<NetworkPolicy>(), lab.api::<Pod>());
    let running = uids(&pods).await;
    let open = rules(&policies).await.unwrap();
    let port = json!([{"port": 6379, "protocol": "TCP"}]);
    assert_eq!(open["ingress"], json!([{"ports": port}]), "everybody, and this port alone");
    assert_eq!(open["policyTypes"], json!(["Ingress"]));

    policies.delete("redis", &DeleteParams::default()).await.unwrap();
    until("it is made again", SET_BACK_WITHIN, async || {
        (rules(&policies).await.as_ref() == Some(&open)).then_some(())
    })
    .await;

    let clients =
        json!([{"podSelector": {"matchLabels": {"app": "shop"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}]);
    patch_spec(&lab, json!({"clients": clients})).await;
    let narrow = until("the clients are named", PATIENCE, async || {
        let rules = rules(&policies).await?;
        (rules["ingress"][0]["from"].as_array()?.len() == 4).then_some(rules)
    })
    .await;
    let from = narrow["ingress"][0]["from"].as_array().unwrap();
    assert_eq!(from[0]["podSelector"], narrow["podSelector"], "the set's own pods");
    let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": lab.namespace}});
    assert_eq!(from[1]["namespaceSelector"], namespace, "the operator's pods");
    assert_eq!(from[2..], clients.as_array().unwrap()[..]);

    // By hand: wider, narrower, and about other pods.
    for change in [
        json!({"ingress": [{"ports": port}]}),
        json!({"ingress": [narrow["ingress"][0], {"ports": [{"port": 22, "protocol": "TCP"}]}]}),
        json!({"ingress": [{"from": from, "ports": [port[0], {"port": 22, "protocol": "TCP"}]}]}),
        json!({"ingress": null}),
        json!({"podSelector": {"matchLabels": {"of": "nobody"}}}),
    ] {
        let patch = Patch::Merge(json!({"spec": change}));
        policies.patch("redis", &PatchParams::default(), &patch).await.unwrap();
        assert_ne!(rules(&policies).await.unwrap(), narrow, "{change} changed nothing");
        until(&format!("{change} is set back"), SET_BACK_WITHIN, async || {
            (rules(&policies).await.as_ref() == Some(&narrow)).then_some(())
        })
        .await;
    }

    // A merge leaves what it does not name.
    patch_spec(&lab, json!({"enabled": false})).await;
    until("it is deleted", PATIENCE, async || rules(&policies).await.is_none().then_some(())).await;
    // As for an upgrade beside a policy of a person's own.
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    lab.sets.patch("redis", &PatchParams::default(), &pause(true)).await.unwrap();
    patch_spec(&lab, json!({"enabled": true})).await;
    wait_for(&lab.sets, "redis", "Progressing=False Paused").await;
    look_again(&lab).await;
    assert_eq!(rules(&policies).await, None, "made while the set is paused");
    lab.sets.patch("redis", &PatchParams::default(), &pause(false)).await.unwrap();
    until("it is made with its clients", PATIENCE, async || {
        (rules(&policies).await.as_ref() == Some(&narrow)).then_some(())
    })
    .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_eq!(uids(&pods).await, running, "no pod was replaced");
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_somebody_elses_is_left_alone_and_told_of() {
    let lab = Lab::new("own-policy").await;
    let policies = lab.api::<NetworkPolicy>();
    let own = json!({"metadata": {"name": "redis"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let own = policies.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secret = serde_json::from_value(secret).unwrap();
    lab.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    apply(&lab.sets, "redis", json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
    wait_for(&lab.sets, "redis", "Degraded=True NameTaken").await;
    let said = lab.message("Degraded").await;
    for words in ["NetworkPolicy own-policy/redis", "spec.networkPolicy.enabled: false"] {
        assert!(said.contains(words), "{said}");
    }
    // It keeps nothing else from being done.
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    patch_spec(&lab, json!({"enabled": false})).await;
    wait_for(&lab.sets, "redis", "Degraded=False AsExpected").await;
    assert_eq!(policies.get("redis").await.unwrap(), own);
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// What the API server refuses of a policy comes from the spec: the condition about the spec says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_api_server_refuses_is_told_of_the_spec() {
    let lab = Lab::new("refused-client").await;
    lab.up("redis", json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
    patch_spec(&lab, json!({"clients": [{"podSelector": {"matchLabels": {"not a label": "x"}}}]})).await;
    wait_for(&lab.sets, "redis", "SpecValid=False InvalidSpec").await;
    let said = lab.message("SpecValid").await;
    assert!(said.contains("NetworkPolicy") && said.contains("not a label"), "{said}");
    wait_for(&lab.sets, "redis", "Available=True PrimaryServes").await;
    patch_spec(&lab, json!({"clients": null})).await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
}
