//! One operator leads; another takes over; a cluster that is not ready is waited for.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_leads_and_another_takes_over() {
    let (plane, client, user) = plane("election").await;
    let user = user.as_str();
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "election");
    let mut first = Operator::start(plane, user, "election", "first");
    until("the first leads", PATIENCE, async || first.leads().then_some(())).await;
    let second = Operator::start(plane, user, "election", "second");
    until("the second stands by", PATIENCE, async || second.stands_by().then_some(())).await;
    assert!(first.leads(), "a second operator changes nothing");

    first.kill();
    let killed = Instant::now();
    until("the second leads after the first was killed", Duration::from_secs(15), async || {
        second.leads().then_some(())
    })
    .await;
    let after_kill = killed.elapsed();
    assert!(
        after_kill > Duration::from_secs(7),
        "a claim that was just renewed was not waited for: {after_kill:?}"
    );
    // It does act.
    apply(&sets, "redis", json!({})).await;
    wait_for(&sets, "redis", "Progressing=True Bootstrapping").await;

    let mut second = second;
    let mut third = Operator::start(plane, user, "election", "third");
    until("the third stands by", PATIENCE, async || third.stands_by().then_some(())).await;
    second.terminate();
    let terminated = Instant::now();
    until("the third leads after the second was told to end", Duration::from_secs(5), async || {
        third.leads().then_some(())
    })
    .await;
    let after_term = terminated.elapsed();
    let ended = until("the second ends", Duration::from_secs(5), async || second.ended()).await;
    assert_eq!(ended.code(), Some(0));

    // A container that the kubelet restarts in place has its predecessor's name and nothing of what that one saw.
    let fourth = Operator::start(plane, user, "election", "fourth");
    until("the fourth stands by", PATIENCE, async || fourth.stands_by().then_some(())).await;
    third.kill();
    let restarted = Instant::now();
    let third = Operator::start(plane, user, "election", "third");
    until("the standby leads, not the restarted leader", Duration::from_secs(5), async || {
        assert!(!third.leads(), "it knows less than the standby");
        fourth.leads().then_some(())
    })
    .await;
    let after_restart = restarted.elapsed();
    println!(
        "another operator led {after_kill:.1?} after kill -9, {after_term:.1?} after SIGTERM, {after_restart:.1?} after \
         a restart in place"
    );
    assert_nothing_was_forbidden(plane, user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_ready_or_goes_away() {
    rustls_provider();
    let plane = ControlPlane::start();
    let client = plane.client().await;
    create_namespace(&client, "own").await;
    let user = plane.user();
    let user = user.as_str();
    grant(&client, user, "own").await;

    // The operator before its CRD.
    let mut first = Operator::start(&plane, user, "own", "first");
    let (code, text) = until("an answer", PATIENCE, async || first.get("/readyz")).await;
    assert_eq!((code, text.contains("install the CRD")), (503, true), "{text}");
    assert_eq!(first.get("/livez"), Some((200, "ok\n".to_owned())));
    install_crd(&client).await;
    until("it leads once the CRD is there", PATIENCE, async || first.leads().then_some(())).await;

    // An object that another CRD admitted.
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let mut loose = serde_json::to_value(crd::definition()).unwrap();
    loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    loose["apiVersion"] = json!("apiextensions.k8s.io/v1");
    loose["kind"] = json!("CustomResourceDefinition");
    let params = PatchParams::apply("test").force();
    let name = crd::definition().name_any();
    definitions.patch(&name, &params, &Patch::Apply(&loose)).await.unwrap();
    let malformed = json!({"apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
                           "metadata": {"name": "malformed", "namespace": "own"}, "spec": {"image": 7}});
    until("the loose definition admits anything", PATIENCE, async || {
        let output = plane.kubectl(&["create", "--validate=false", "-f", "-"], &malformed.to_string());
        output.status.success().then_some(())
    })
    .await;
    install_crd(&client).await;
    until("it says which object it cannot read", PATIENCE, async || {
        first
            .log()
            .lines()
            .any(|line| line.contains("cannot be read") && line.contains("malformed"))
            .then_some(())
    })
    .await;
    assert!(first.metric(r#"redis_operator_errors_total{category="Unreadable"}"#) >= Some(1.0));
    // Its spec is beyond this operator; its status is not.
    until("the status says so", PATIENCE, async || {
        let output = plane.kubectl(&["-n", "own", "get", "redisreplicasets", "malformed", "-o", "json"], "");
        let object: Value = serde_json::from_slice(&output.stdout).ok()?;
        let told = object["status"]["conditions"].as_array()?.iter().any(|condition| {
            condition["type"] == "SpecValid"
                && condition["status"] == "False"
                && condition["reason"] == "Unreadable"
        });
        told.then_some(())
    })
    .await;
    // Not for ever again: each status would be the cause of the next.
    let told = writes(&plane, user).len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(writes(&plane, user).len() - told <= 1, "{:?}", &writes(&plane, user)[told..]);
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "own");
    apply(&sets, "redis", json!({})).await;
    wait_for(&sets, "redis", "Progressing=True Bootstrapping").await;

    // The API server stops answering. Passes are under way all the time: the set waits for its first pod.
    let second = Operator::start(&plane, user, "own", "second");
    until("the second stands by", PATIENCE, async || second.stands_by().then_some(())).await;
    plane.freeze_api_server();
    let frozen = Instant::now();
    // Ten seconds after the last renewal another operator may act.
    let ended = until("the leader ends by itself", Duration::from_secs(10), async || first.ended()).await;
    let after_freeze = frozen.elapsed();
    assert_eq!(ended.code(), Some(1), "it ended because it could not act");
    assert!(first.log().contains("could not be renewed"), "{}", first.log());
    assert!(second.stands_by(), "whoever stands by goes on to");
    plane.thaw_api_server();
    // The kubelet's restart.
    let again = Operator::start(&plane, user, "own", "first");
    until("one of them leads again", PATIENCE, async || (second.leads() || again.leads()).then_some(()))
        .await;
    apply(&sets, "later", json!({})).await;
    wait_for(&sets, "later", "Progressing=True Bootstrapping").await;
    println!("the leader ended {after_freeze:.1?} after the API server froze");
    assert_nothing_was_forbidden(&plane, user);
}
