//! A pod that ended on a lost node and stays Terminating, and a `StatefulSet` of before that cannot go round it.

use super::*;

/// Keeps the object of a pod: what a kubelet does that cannot tell of its pod's end.
const KEPT: &str = "example.com/kept";

/// From the silence of a replica until no Service leads there.
const READ_IN_VAIN: Duration = Duration::from_secs(12);

async fn finalizers(pods: &Api<Pod>, pod: &str, finalizers: Value) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    pods.patch(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn policy(lab: &Lab) -> Option<String> {
    lab.api::<StatefulSet>().get_opt("redis").await.unwrap()?.spec?.pod_management_policy
}

/// Regression: with `OrderedReady` no pod was made again while redis-0 stayed Terminating, and each further drain lost a copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_stays_terminating_keeps_no_other_from_coming_back() {
    let lab = Lab::new("lost-pod").await;
    lab.up("redis", json!({"replicas": 3, "primary": {"failback": false}})).await;
    assert_eq!(policy(&lab).await.as_deref(), Some("Parallel"));
    lab.write(0..3, "before", 2).await;
    until("all have votes", PATIENCE, async || lab.has_votes().await.then_some(())).await;
    let pods = lab.api::<Pod>();
    finalizers(&pods, "redis-0", json!([KEPT])).await;
    pods.delete("redis-0", &DeleteParams::default()).await.unwrap();
    until("another one is the primary", PATIENCE, async || {
        (lab.primary().await.1 != "redis-0").then_some(())
    })
    .await;

    let (_, primary) = lab.primary().await;
    let other = if primary == "redis-1" { "redis-2" } else { "redis-1" };
    let before = pods.get(other).await.unwrap().uid();
    pods.delete(other, &DeleteParams::default()).await.unwrap();
    let deleted = Instant::now();
    until(&format!("{other} is back"), PATIENCE, async || {
        let pod = pods.get_opt(other).await.unwrap()?;
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            Some(conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        (pod.uid() != before && is_ready(&pod)?).then_some(())
    })
    .await;
    println!("{other} was back {:.1?} after it was deleted", deleted.elapsed());
    until("the primary has its copy again", PATIENCE, async || {
        let status = lab.sets.get("redis").await.unwrap().status?;
        (status.summary.synced == "1/2").then_some(())
    })
    .await;
    assert!(pods.get("redis-0").await.unwrap().metadata.deletion_timestamp.is_some());

    finalizers(&pods, "redis-0", Value::Null).await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    lab.assert_keys(3, 3, "before").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: readers met a lost pod for as long as Kubernetes called it Ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_replica_is_not_read_while_another_can_be() {
    let lab = Lab::new("silent-replica").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let pods = lab.api::<Pod>();
    let silent = Instant::now();
    lab.kubelet.freeze("redis-2");
    until("redis-2 is not read", READ_IN_VAIN, async || {
        (by_role(&pods, "replica").await == ["redis-1"]).then_some(())
    })
    .await;
    println!("a silent replica was read for {:.1?}", silent.elapsed());

    // Nobody else is left: whoever comes finds what is there once it answers again.
    lab.kubelet.freeze("redis-1");
    tokio::time::sleep(READ_IN_VAIN).await;
    assert_eq!(by_role(&pods, "replica").await, ["redis-1"]);

    let answers = Instant::now();
    lab.kubelet.thaw("redis-1");
    lab.kubelet.thaw("redis-2");
    until("both are read again", PATIENCE, async || {
        (by_role(&pods, "replica").await == ["redis-1", "redis-2"]).then_some(())
    })
    .await;
    println!("it was read again {:.1?} after it answered", answers.elapsed());
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// Regression: a replica looks for its lost primary once a second, and answers nobody while DNS is silent.
#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_a_lost_primary_is_parked_and_follows_it_again() {
    let lab = Lab::new("lost-primary").await;
    lab.up("redis", json!({"replicas": 2})).await;
    lab.write(0..3, "before", 1).await;
    let upstream = || -> Option<String> {
        let info: String = lab.kubelet.command("redis-1", &["INFO", "replication"]).ok()?;
        let found =
            |name: &str| info.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        Some(format!("{} {}", found("master_host:")?, found("master_link_status:")?))
    };
    lab.kubelet.freeze("redis-0");
    wait_for(&lab.sets, "redis", "Available=Unknown PrimaryUnreachable").await;
    // It is left with its link for as long as it has one.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let host = format!("redis-0.redis-headless.{}.svc.cluster.local", lab.namespace);
    assert_eq!(upstream(), Some(format!("{host} up")));

    let () = lab.kubelet.command("redis-1", &["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    let cut = Instant::now();
    until("it is parked", PATIENCE, async || {
        upstream().filter(|upstream| upstream.starts_with("127.0.0.1 "))
    })
    .await;
    println!("parked {:.1?} after the end of its link", cut.elapsed());
    assert!(cut.elapsed() > Duration::from_secs(4), "a link that broke for a moment is left alone");
    lab.kubelet.thaw("redis-0");
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    assert_eq!(upstream(), Some(format!("{host} up")));
    lab.assert_keys(2, 3, "before").await;
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// A set of before keeps its policy, which cannot change, without a word; a person gets the other one without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_set_keeps_its_order_until_a_person_deletes_its_stateful_set() {
    let lab = Lab::new("older-set").await;
    lab.up("redis", json!({"replicas": 3})).await;
    let (sets, pods) = (lab.api::<StatefulSet>(), lab.api::<Pod>());
    let servers = uids(&pods).await;
    let pause = |paused: bool| Patch::Merge(json!({"spec": {"paused": paused}}));
    lab.sets.patch("redis", &PatchParams::default(), &pause(true)).await.unwrap();
    wait_for(&lab.sets, "redis", "Progressing=False Paused").await;
    let made = sets.get("redis").await.unwrap();
    delete_alone(&sets).await;
    let mut older = StatefulSet { status: None, ..made.clone() };
    older.metadata = ObjectMeta {
        name: made.metadata.name,
        labels: made.metadata.labels,
        annotations: made.metadata.annotations,
        owner_references: made.metadata.owner_references,
        ..ObjectMeta::default()
    };
    older.spec.as_mut().unwrap().pod_management_policy = Some("OrderedReady".to_owned());
    sets.create(&PostParams::default(), &older).await.unwrap();
    lab.sets.patch("redis", &PatchParams::default(), &pause(false)).await.unwrap();
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    // Something else about it is changed.
    let more = json!({"replicas": 4});
    let generation = lab.generation("redis").await;
    apply(&lab.sets, "redis", more).await;
    lab.ready("redis", generation).await;
    assert_eq!(policy(&lab).await.as_deref(), Some("OrderedReady"));

    delete_alone(&sets).await;
    until("the operator made it anew", PATIENCE, async || policy(&lab).await.filter(|p| p == "Parallel"))
        .await;
    wait_for(&lab.sets, "redis", "Ready=True Verified").await;
    let now = uids(&pods).await;
    assert!(now.len() == 4 && now.is_superset(&servers), "no server was restarted");
    assert_nothing_was_forbidden(lab.plane, &lab.user);
}

/// `kubectl delete statefulset --cascade=orphan`.
async fn delete_alone(sets: &Api<StatefulSet>) {
    let before = sets.get("redis").await.unwrap().uid();
    let orphan =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    sets.delete("redis", &orphan).await.unwrap();
    until("it is gone", PATIENCE, async || {
        let found = sets.get_opt("redis").await.unwrap();
        (found.is_none_or(|found| found.uid() != before)).then_some(())
    })
    .await;
}
