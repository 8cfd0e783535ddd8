//! The operator's own binary against a real kube-apiserver, with the rights of `config/rbac` and no more.
//!
//! There are no nodes: what stands in for the kubelets runs real redis-servers (`support/operator.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a step that fails is the test's failure"
)]

#[path = "support/control_plane.rs"]
mod control_plane;
#[path = "operator/divergence.rs"]
mod divergence;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/plane.rs"]
mod plane;
#[allow(dead_code, reason = "only its addresses are used here")]
#[path = "support/redis_server.rs"]
mod redis_server;
#[path = "operator/requests.rs"]
mod requests;
#[path = "support/sets.rs"]
mod sets;
#[path = "operator/storage.rs"]
mod storage;
#[path = "operator/switchover.rs"]
mod switchover;
#[path = "operator/told.rs"]
mod told;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use control_plane::{ControlPlane, USERS};
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Pod, Secret, Service},
        events::v1::Event,
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operator::{Kubelet, Operator, grant, until};
use operator_core::{api::RedisReplicaSet, crd};
use plane::{PATIENCE, assert_nothing_was_forbidden, controllers, plane, requests, wait_for, writes};
use serde_json::{Value, json};
use sets::{apply, conditions_of, create_namespace, install_crd, rustls_provider};

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_leads_and_another_takes_over() {
    let user = USERS[0];
    let (plane, client) = plane("election", user).await;
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
    let user = USERS[1];
    rustls_provider();
    let plane = ControlPlane::start();
    let client = plane.client().await;
    create_namespace(&client, "own").await;
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
    // Not for ever anew: each status would be the cause of the next.
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

/// What the life of a set in this test does not need, and why it is granted all the same.
const UNUSED: [(&str, &str); 1] =
    [("get /nodes", "asked only when the pod that served is gone and nobody saw its end")];

/// One life of a set, from nothing to its deletion, with real redis-servers.
#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_set() {
    const PASSWORD: &str = "correct-horse-battery";
    let user = USERS[2];
    let (plane, client) = plane("life", user).await;
    controllers(plane);
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), "life");
    let secrets = Api::<Secret>::namespaced(client.clone(), "life");
    let pods = Api::<Pod>::namespaced(client.clone(), "life");
    let services = Api::<Service>::namespaced(client.clone(), "life");
    let stateful_sets = Api::<StatefulSet>::namespaced(client.clone(), "life");
    let operator = Operator::start(plane, user, "life", "only");
    until("it leads", PATIENCE, async || operator.leads().then_some(())).await;

    // A Secret that is there is used, and never overwritten.
    let own = json!({"metadata": {"name": "redis-auth", "labels": {"mine": "yes"}}, "stringData": {"password": PASSWORD}});
    let own = secrets.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    let kubelet = Kubelet::start(client.clone(), "life", PASSWORD);
    let applied = Instant::now();
    apply(&sets, "redis", json!({"replicas": 3})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let until_ready = applied.elapsed();
    let spent = writes(plane, user);
    assert!(spent.len() <= 15, "{} writes from apply to Ready: {spent:#?}", spent.len());
    let status = sets.get("redis").await.unwrap().status.unwrap();
    assert_eq!((status.summary.replicas.as_str(), status.summary.synced.as_str()), ("3/3", "2/2"));
    assert_eq!(status.primary.as_ref().unwrap().pod, "redis-0");
    let untouched = secrets.get("redis-auth").await.unwrap();
    assert_eq!(untouched.resource_version(), own.resource_version());
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), "life");
    assert!(budgets.get_opt("redis").await.unwrap().is_some());
    let record = Api::<ConfigMap>::namespaced(client.clone(), "life").get("redis-record").await.unwrap();
    assert_eq!(record.data.unwrap()["members"], "redis-0\nredis-1\nredis-2");

    // Each Service by role leads to the pods that have the role.
    let addresses = |role: &'static str| by_role(&pods, role);
    assert_eq!(addresses("primary").await, ["redis-0"]);
    assert_eq!(addresses("replica").await, ["redis-1", "redis-2"]);
    for (name, role) in [("redis", "primary"), ("redis-replicas", "replica")] {
        let spec = services.get(name).await.unwrap().spec.unwrap();
        assert_eq!(spec.selector.unwrap()["replication.redis/role"], role);
        assert!(spec.cluster_ip.is_some_and(|address| address != "None"));
    }

    // Another set gets a password of its own, in its own words only in the Secret.
    apply(&sets, "other", json!({"replicas": 2, "storage": {"ephemeral": {}}})).await;
    let other = until("a Secret", PATIENCE, async || secrets.get_opt("other-auth").await.unwrap()).await;
    let random = String::from_utf8(other.data.clone().unwrap()["password"].0.clone()).unwrap();
    assert!(
        random.len() >= 32 && random.chars().all(|c| c.is_ascii_hexdigit()),
        "{} characters",
        random.len()
    );
    assert_eq!(other.owner_references().len(), 1);

    until("a budget for two pods", PATIENCE, async || budgets.get_opt("other").await.unwrap()).await;

    let at_rest = async {
        // Its own pods are run with another password, so this set stays as it is.
        apply(&sets, "other", json!({"replicas": 1, "storage": {"ephemeral": {}}})).await;
        until("one pod needs no budget", PATIENCE, async || {
            budgets.get_opt("other").await.unwrap().is_none().then_some(())
        })
        .await;
        sets.delete("other", &DeleteParams::default()).await.unwrap();
        until("the deleted set's children go", PATIENCE, async || {
            let gone = stateful_sets.get_opt("other").await.unwrap().is_none()
                && secrets.get_opt("other-auth").await.unwrap().is_none();
            gone.then_some(())
        })
        .await;
        until("figures of the deleted set go", PATIENCE, async || {
            operator
                .metric(r#"redis_operator_set_ready{namespace="life",name="other"}"#)
                .is_none()
                .then_some(())
        })
        .await;
        // Votes are noted a few seconds after all replicas are in sync.
        until("all replicas have their votes", PATIENCE, async || {
            let record =
                Api::<ConfigMap>::namespaced(client.clone(), "life").get("redis-record").await.unwrap();
            let record: Value = serde_json::from_str(&record.data.unwrap()["record.json"]).unwrap();
            (record["voters"].as_array().is_some_and(|voters| voters.len() == 2)).then_some(())
        })
        .await;
        let before = writes(plane, user).len();
        // The one wait for nothing to happen.
        tokio::time::sleep(Duration::from_secs(30)).await;
        let after = writes(plane, user);
        assert_eq!(after[before..], Vec::<String>::new(), "writes at rest");
    };
    at_rest.await;
    let lease = requests(plane, user)
        .iter()
        .filter(|(verb, resource, _)| verb == "update" && resource.ends_with("/leases"))
        .count();
    assert!(lease > 10, "the Lease alone is renewed: {lease}");

    // Drift is repaired, and what others added stays.
    let patch = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"publishNotReadyAddresses": false}});
    services.patch("redis-headless", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let service = until("drift is repaired", Duration::from_secs(5), async || {
        let service = services.get("redis-headless").await.unwrap();
        (service.spec.as_ref()?.publish_not_ready_addresses == Some(true)).then_some(service)
    })
    .await;
    assert_eq!(service.labels()["team"], "a");

    // A copy is missing although its pod is ready, and back: a drain is kept from the others meanwhile.
    let allowed = async || budgets.get("redis").await.unwrap().spec.unwrap().max_unavailable.unwrap();
    let budget_writes = || {
        let written = requests(plane, user);
        written
            .iter()
            .filter(|(verb, to, _)| verb == "patch" && to.ends_with("/poddisruptionbudgets"))
            .count()
    };
    let ordinary = budget_writes();
    assert_eq!(allowed().await, IntOrString::Int(1));
    // What the operator cannot set right; it sets back what it owns.
    kubelet.mislead("redis-0");
    let _: i64 = kubelet.command("redis-2", &["CLIENT", "KILL", "TYPE", "master"]).unwrap();
    let broken = Instant::now();
    until("no pod may be drained", PATIENCE, async || (allowed().await == IntOrString::Int(0)).then_some(()))
        .await;
    assert!(broken.elapsed() >= Duration::from_secs(9), "{:?}: times have whole seconds", broken.elapsed());
    kubelet.lead_back("redis-0");
    until("a pod may be drained again", PATIENCE, async || {
        (allowed().await == IntOrString::Int(1)).then_some(())
    })
    .await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    assert_eq!(budget_writes(), ordinary + 2);

    // Data, then the primary's process is killed: its replicas hold what it had.
    let () = kubelet.command("redis-0", &["SET", "key", "value"]).unwrap();
    let copies: i64 = kubelet.command("redis-0", &["WAIT", "2", "5000"]).unwrap();
    assert_eq!(copies, 2);
    kubelet.kill_redis("redis-0");
    let killed = Instant::now();
    until("another epoch, and Ready again", PATIENCE, async || {
        let status = sets.get("redis").await.unwrap().status.unwrap();
        (status.primary?.epoch == 2 && status.conditions[0].status == "True").then_some(())
    })
    .await;
    let until_mended = killed.elapsed();
    assert_key(&kubelet, &sets).await;
    let until_labelled = labels_follow(&sets, &pods).await;
    println!("after an election the labels were right {until_labelled:.1?} after the status");
    former_clients_are_cut(&kubelet, &sets, &pods).await;

    // A new template: pods are replaced one by one, and the data survives all of them.
    let before: BTreeSet<String> = uids(&pods).await;
    apply(&sets, "redis", json!({"replicas": 3, "podAnnotations": {"example.com/restarted": "1"}})).await;
    until("every pod is another one, and Ready", Duration::from_secs(60), async || {
        let now = uids(&pods).await;
        let ready = conditions_of(&sets, "redis").await.contains(&"Ready=True Verified".to_owned());
        (now.len() == 3 && now.is_disjoint(&before) && ready).then_some(())
    })
    .await;
    assert_key(&kubelet, &sets).await;
    assert_eq!(budget_writes(), ordinary + 2, "neither a failover nor a roll writes the budget");
    labels_follow(&sets, &pods).await;

    // The password's Secret vanishes: nobody can be asked, and nothing is claimed.
    secrets.delete("redis-auth", &DeleteParams::default()).await.unwrap();
    let patch = json!({"metadata": {"labels": {"look": "again"}}});
    sets.patch("redis", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    wait_for(&sets, "redis", "Ready=Unknown SecretMissing").await;
    let back = json!({"metadata": {"name": "redis-auth"}, "stringData": {"password": PASSWORD}});
    secrets.create(&PostParams::default(), &serde_json::from_value(back).unwrap()).await.unwrap();
    wait_for(&sets, "redis", "Ready=True Verified").await;

    // Events tell of the transitions.
    let events = Api::<Event>::namespaced(client.clone(), "life").list(&ListParams::default()).await.unwrap();
    let reasons: BTreeSet<String> = events.iter().filter_map(|event| event.reason.clone()).collect();
    for reason in ["Ready", "NotReady", "PrimaryChanged", "SecretMissing"] {
        assert!(reasons.contains(reason), "{reason} is not among {reasons:?}");
    }

    // The figures of a pass come after its status.
    let (mut seen, mut expected) = (BTreeSet::new(), BTreeSet::new());
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        (seen, expected) = metrics_seen_and_documented(&operator);
        if seen == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(seen, expected);
    let log = operator.log();
    for password in [PASSWORD, random.as_str()] {
        assert!(!log.contains(password), "the log holds a password");
        for event in events.iter() {
            assert!(!event.note.as_deref().unwrap_or_default().contains(password));
        }
    }
    println!(
        "{} writes and {until_ready:.1?} from apply to Ready, {until_mended:.1?} from kill -9 of the primary to Ready",
        spent.len()
    );
    assert_nothing_was_forbidden(plane, user);
    assert_granted_is_used(plane, user);
}

/// What Redis can change while it runs is changed there; the rest rolls the pods, and what a server refuses leaves
/// them alone.
#[tokio::test(flavor = "multi_thread")]
async fn directives_are_changed_live_or_by_a_roll() {
    const PASSWORD: &str = "correct-horse-battery";
    let user = USERS[0];
    rustls_provider();
    // Its own: the controllers of another test must not run twice.
    let plane = ControlPlane::start();
    let client = plane.client().await;
    install_crd(&client).await;
    create_namespace(&client, "config").await;
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
    apply(&sets, "redis", spec(json!({"maxmemory": "1gx", "maxmemory-policy": "allkeys-lru", "hz": "20"})))
        .await;
    wait_for(&sets, "redis", "SpecValid=False DirectiveRefused").await;
    until("the other directive is in effect", PATIENCE, async || all_read("hz", "20")).await;
    until("and in the file", PATIENCE, async || file().await.contains("hz 20\n").then_some(())).await;
    assert!(file().await.contains("maxmemory 1gb\n"), "the file keeps what the servers have");
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

/// Pods of the set `redis` that are labelled with a role, by name.
async fn by_role(pods: &Api<Pod>, role: &str) -> Vec<String> {
    let selector = format!("app.kubernetes.io/instance=redis,replication.redis/role={role}");
    let found = pods.list(&ListParams::default().labels(&selector)).await.unwrap();
    found.iter().map(ResourceExt::name_any).collect()
}

/// Waits until the primary of record is labelled as that, it alone, and all others as replicas.
async fn labels_follow(sets: &Api<RedisReplicaSet>, pods: &Api<Pod>) -> Duration {
    let begun = Instant::now();
    until("the labels follow the status", PATIENCE, async || {
        let status = sets.get("redis").await.unwrap().status?;
        let replicas: Vec<String> = (0..3)
            .map(|n| format!("redis-{n}"))
            .filter(|pod| *pod != status.primary.as_ref().unwrap().pod)
            .collect();
        (by_role(pods, "primary").await == [status.primary?.pod]
            && by_role(pods, "replica").await == replicas)
            .then_some(())
    })
    .await;
    begun.elapsed()
}

/// A pod that is labelled as the primary and is not loses the label, and its clients: at once, and again when nobody
/// is led to it any more.
async fn former_clients_are_cut(kubelet: &Kubelet, sets: &Api<RedisReplicaSet>, pods: &Api<Pod>) {
    let primary = sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let replica = by_role(pods, "replica").await.into_iter().find(|pod| *pod != primary).unwrap();
    let is_cut = |client: &mut redis::Connection| {
        redis::cmd("PING").query::<()>(client).is_err_and(|error| error.is_connection_dropped())
    };
    let (mut early, mut of_primary) = (kubelet.client(&replica).unwrap(), kubelet.client(&primary).unwrap());
    let mark = json!({"metadata": {"labels": {"replication.redis/role": "primary"}}});
    pods.patch(&replica, &PatchParams::default(), &Patch::Merge(&mark)).await.unwrap();
    let begun = Instant::now();
    until("its clients are cut", PATIENCE, async || is_cut(&mut early).then_some(())).await;
    let first = begun.elapsed();
    labels_follow(sets, pods).await;

    // One that came back before the Service led it elsewhere.
    let mut late = kubelet.client(&replica).unwrap();
    until("who came back is cut too", PATIENCE, async || is_cut(&mut late).then_some(())).await;
    let second = begun.elapsed();
    until("the mark is gone", PATIENCE, async || {
        let pod = pods.get(&replica).await.unwrap();
        (!pod.annotations().contains_key("replication.redis/demoted-at")).then_some(())
    })
    .await;
    labels_follow(sets, pods).await;
    assert!(!is_cut(&mut of_primary), "the primary's clients stay");
    println!("clients of a demoted pod were cut after {first:.1?}, and again after {second:.1?}");
}

async fn uids(pods: &Api<Pod>) -> BTreeSet<String> {
    pods.list(&ListParams::default()).await.unwrap().iter().filter_map(ResourceExt::uid).collect()
}

async fn assert_key(kubelet: &Kubelet, sets: &Api<RedisReplicaSet>) {
    let primary = sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let value: String = kubelet.command(&primary, &["GET", "key"]).unwrap();
    assert_eq!(value, "value", "{primary} lost it");
}

/// The families of samples that are there, each of which `docs/use/metrics.md` names, and those that it says are there.
fn metrics_seen_and_documented(operator: &Operator) -> (BTreeSet<String>, BTreeSet<String>) {
    let (code, text) = operator.get("/metrics").unwrap();
    assert_eq!(code, 200);
    // A body in chunks carries their lengths; samples have no line that is one word.
    assert!(text.contains("# EOF"), "{text}");
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/use/metrics.md")).unwrap();
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("redis_operator_"))
        .collect();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("redis_operator_")) {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        let name = sample.split('{').next().unwrap();
        let family =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(documented.contains(family), "docs/use/metrics.md does not name {family}");
        seen.insert(family.to_owned());
    }
    // No pass of a good life ends early.
    let expected: BTreeSet<String> = documented
        .iter()
        .filter(|name| **name != "redis_operator_errors_total")
        .map(|&name| name.to_owned())
        .collect();
    seen.remove("redis_operator_errors_total");
    (seen, expected)
}

/// Every right that the roles grant was used, or is in [`UNUSED`] with the reason.
fn assert_granted_is_used(plane: &ControlPlane, user: &str) {
    let mut exercised: BTreeSet<String> = BTreeSet::new();
    for (verb, resource, code) in requests(plane, user) {
        // An apply that creates needs the right to create too.
        if verb == "patch" && code == 201 {
            exercised.insert(format!("create {resource}"));
        }
        exercised.insert(format!("{verb} {resource}"));
    }
    let mut granted = BTreeSet::new();
    for path in ["config/rbac/role.yaml", "config/rbac/lease_role.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let words = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
        };
        for rule in documents.iter().filter_map(|object| object["rules"].as_array()).flatten() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    granted.extend(
                        words(&rule["verbs"]).iter().map(|verb| format!("{verb} {group}/{resource}")),
                    );
                }
            }
        }
    }
    let excused: BTreeSet<String> = UNUSED.iter().map(|(right, _)| (*right).to_owned()).collect();
    let idle: BTreeSet<String> = granted.difference(&exercised).cloned().collect();
    assert_eq!(idle, excused, "rights that are granted and not used, against those with a reason");
}
