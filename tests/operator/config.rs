//! Directives of redis.conf: live, or by a roll.

use super::*;

/// What Redis can change while it runs is changed there; the rest rolls the pods, and what a server refuses leaves
/// them alone.
#[tokio::test(flavor = "multi_thread")]
async fn directives_are_changed_live_or_by_a_roll() {
    const PASSWORD: &str = "correct-horse-battery";
    rustls_provider();
    // Its own: the controllers of another test must not run twice.
    let plane = ControlPlane::start();
    let client = plane.client().await;
    install_crd(&client).await;
    create_namespace(&client, "config").await;
    let user = plane.user();
    let user = user.as_str();
    grant(&client, user, "config").await;
    let _controllers = plane.controllers("statefulset-controller,garbage-collector-controller");
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "config");
    let pods = Api::<Pod>::namespaced(client.clone(), "config");
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), "config");
    let operator = Operator::start(&plane, user, "config", "only");
    until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
    let secret = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    let secrets = Api::<Secret>::namespaced(client.clone(), "config");
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let kubelet = Kubelet::start(client.clone(), "config", PASSWORD);
    let reading = |pod: &str, name: &str| -> String {
        let answer: Vec<String> = kubelet.command(pod, &["CONFIG", "GET", name]).unwrap();
        answer[1].clone()
    };
    let all_read = |name: &str, value: &str| {
        ["redis-0", "redis-1"].iter().all(|pod| reading(pod, name) == value).then_some(())
    };
    let file = async || config_maps.get("redis-config").await.unwrap().data.unwrap()["redis.conf"].clone();
    let look_again = async |mark: &str| {
        let patch = json!({"metadata": {"labels": {"look": mark}}});
        sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    };
    let spec = |config: Value| json!({"replicas": 2, "config": config});

    apply(&sets, "redis", spec(json!({"maxmemory": "100mb"}))).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    until("it is in effect", PATIENCE, async || all_read("maxmemory", "104857600")).await;
    let first = uids(&pods).await;

    let live = json!({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"});
    let changed = Instant::now();
    apply(&sets, "redis", spec(live.clone())).await;
    until("all have it", PATIENCE, async || all_read("maxmemory", "1073741824")).await;
    until("all have it", PATIENCE, async || all_read("maxmemory-policy", "allkeys-lru")).await;
    let until_live = changed.elapsed();
    until("the next start has it", PATIENCE, async || file().await.contains("maxmemory 1gb\n").then_some(()))
        .await;

    // Somebody changes it by hand.
    let () = kubelet.command("redis-1", &["CONFIG", "SET", "maxmemory", "5mb"]).unwrap();
    look_again("1").await;
    until("it is set back", PATIENCE, async || all_read("maxmemory", "1073741824")).await;
    let events = Api::<Event>::namespaced(client.clone(), "config");
    let note = until("an Event tells of it", PATIENCE, async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().find(|event| event.reason.as_deref() == Some("ConfigDrift"))?.note
    })
    .await;
    assert!(note.contains("maxmemory had been changed on redis-1 to \"5242880\""), "{note}");

    // What the spec does not name and the operator owns. Its file would outlive it: the next start takes the newer one.
    let () = kubelet.command("redis-1", &["CONFIG", "SET", "appendonly", "yes"]).unwrap();
    look_again("2").await;
    until("it is set back", PATIENCE, async || (reading("redis-1", "appendonly") == "no").then_some(()))
        .await;

    // A value that no server takes: said so, kept out of the file, and everything else is done.
    apply(&sets, "redis", spec(json!({"maxmemory": "1gb", "maxmemory-policy": "all-lru", "hz": "20"}))).await;
    wait_for(&sets, "redis", "SpecValid=False DirectiveRefused").await;
    until("the other directive is in effect", PATIENCE, async || all_read("hz", "20")).await;
    until("and in the file", PATIENCE, async || file().await.contains("hz 20\n").then_some(())).await;
    assert!(file().await.contains("maxmemory-policy allkeys-lru\n"), "the file keeps what the servers have");
    let conditions = conditions_of(&sets, "redis").await;
    for condition in ["Available=True PrimaryServes", "Ready=False DirectiveRefused"] {
        assert!(conditions.contains(&condition.to_owned()), "{conditions:?}");
    }
    // Taking hz away again would roll the pods.
    let live = json!({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru", "hz": "20"});
    apply(&sets, "redis", spec(live.clone())).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;

    // An image that could not take over the data.
    let mut older = spec(live.clone());
    older["image"] = json!("docker.io/library/redis:6.2");
    apply(&sets, "redis", older).await;
    wait_for(&sets, "redis", "SpecValid=False InvalidSpec").await;
    let status = sets.get("redis").await.unwrap().status.unwrap();
    let why = &status.conditions.iter().find(|c| c.type_ == "SpecValid").unwrap().message;
    assert!(why.contains("spec.image") && why.contains("an older server cannot read"), "{why}");
    apply(&sets, "redis", spec(live.clone())).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    assert_eq!(uids(&pods).await, first, "no pod was replaced so far");

    // What Redis reads only at its start, and a directive that is taken away.
    let rolled = async |before: &BTreeSet<String>| {
        until("every pod is another one, and Ready", Duration::from_secs(60), async || {
            let now = uids(&pods).await;
            let ready = conditions_of(&sets, "redis").await.contains(&"Ready=True Verified".to_owned());
            (now.len() == 2 && now.is_disjoint(before) && ready).then_some(now)
        })
        .await
    };
    let mut config = live;
    config["databases"] = json!("32");
    apply(&sets, "redis", spec(config)).await;
    let second = rolled(&first).await;
    apply(&sets, "redis", spec(json!({"maxmemory": "1gb", "hz": "20", "databases": "32"}))).await;
    rolled(&second).await;
    until("new pods are told too", PATIENCE, async || all_read("maxmemory", "1073741824")).await;
    println!("a live change reached both servers after {until_live:.1?}");
    assert_nothing_was_forbidden(&plane, user);
}
