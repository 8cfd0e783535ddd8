//! The definition and the apply on a real API server: what is refused and how it is said, what is filled in, and
//! that nothing is written at rest.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering},
    },
    task,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Namespace, Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    client::ClientBuilder,
    runtime::{conditions, wait},
};
use operator_core::{
    api::{Reason, RedisReplicaSet, RedisReplicaSetStatus, directives},
    crd,
    desired::{Stage, desired},
    names::SetName,
    plan::{Plan, plan},
    role_labels::{Change, To},
    settings::Settings,
};
use redis_operator::{
    act,
    kubernetes::{
        children::{Applied, ApplyError, Live, Why, apply, fetch},
        set::{Presence, presence},
        status::{Patched, patch},
    },
    observe::Connections,
};
use rig::local::control_plane::ControlPlane;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;
use tower::{Layer, Service as TowerService};

/// The control plane with the definition established.
async fn plane() -> (&'static ControlPlane, Client) {
    rustls_provider();
    let plane = ControlPlane::shared();
    let client = plane.client().await;
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let definition = crd::definition();
    let name = definition.name_any();
    definitions.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await.unwrap();
    let established = wait::await_condition(definitions, &name, conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    (plane, client)
}

fn rustls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
}

/// A namespace of the test's own.
async fn namespace(client: &Client, name: &str) -> Api<RedisReplicaSet> {
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
    Api::namespaced(client.clone(), name)
}

/// As a user's manifest: the typed resource would already hold every default.
async fn create(sets: &Api<RedisReplicaSet>, name: &str, spec: Value) -> Result<RedisReplicaSet, String> {
    create_with(sets, name, spec, PatchParams::apply("user").force()).await
}

/// Whether the API server would take it.
async fn try_out(sets: &Api<RedisReplicaSet>, spec: Value) -> Result<(), String> {
    create_with(sets, "redis", spec, PatchParams::apply("user").force().dry_run()).await.map(drop)
}

async fn create_with(
    sets: &Api<RedisReplicaSet>,
    name: &str,
    spec: Value,
    params: PatchParams,
) -> Result<RedisReplicaSet, String> {
    let manifest = json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet", "metadata": {"name": name}, "spec": spec,
    });
    sets.patch(name, &params, &Patch::Apply(&manifest)).await.map_err(|refusal| match refusal {
        kube::Error::Api(status) if status.is_invalid() => status.message,
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn an_empty_spec_shows_what_it_means() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "defaults").await;
    let set = create(&sets, "redis", json!({})).await.unwrap();
    assert_eq!(
        serde_json::to_value(&set.spec).unwrap(),
        json!({
            "replicas": 3,
            "image": "docker.io/library/redis:8.0",
            "imagePullPolicy": "IfNotPresent",
            "storage": {"size": "1Gi", "retention": {"whenDeleted": "Retain", "whenScaled": "Retain"}},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            "terminationGracePeriodSeconds": 120,
            "startupTimeoutSeconds": 600,
            "primary": {"failback": true},
            "networkPolicy": {"enabled": true},
            "auth": {"disabled": false, "grace": 300},
            "paused": false,
        })
    );
    assert_eq!(set.spec, operator_core::api::RedisReplicaSetSpec::default());
    let retained =
        create(&sets, "partly", json!({"storage": {"size": "2Gi", "retention": {"whenScaled": "Delete"}}}));
    let retention = serde_json::to_value(retained.await.unwrap().spec.storage.retention).unwrap();
    assert_eq!(retention, json!({"whenDeleted": "Retain", "whenScaled": "Delete"}));
    let nulls = json!({"replicas": null, "storage": null, "resources": null, "image": null, "paused": null});
    let nulls = create(&sets, "nulls", nulls).await.unwrap();
    assert_eq!(nulls.spec, set.spec, "null is the same as absent where there is a default");
}

#[tokio::test]
async fn what_can_be_meant_is_taken() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "taken").await;
    for (index, spec) in [
        json!({"replicas": 1}),
        json!({"replicas": 9}),
        json!({"storage": {"ephemeral": {}}}),
        json!({"storage": {"size": 1_073_741_824, "storageClassName": "fast"}}),
        json!({"storage": {"size": "1.5Gi"}}),
        json!({"resources": {}}),
        json!({"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}),
        json!({"config": {"save": "", "maxmemory": "1gb", "repl-diskless-load": "on-empty-db",
                          "proc-title-template": r#""{title} 'x' \"y\"""#}}),
        json!({"config": {"appendonly": "yes", "repl-ping-replica-period": "10", "portable": "1"}}),
        json!({"failover": {}}),
        json!({"failover": {"mode": "Fenced", "after": 3600, "alone": "RefuseWrites"}, "replicas": 1}),
        json!({"failover": {"mode": "Quorum", "after": 5}, "replicas": 3}),
        json!({"networkPolicy": {"enabled": false}}),
        json!({"networkPolicy": {"clients": [
            {"podSelector": {}},
            {"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchExpressions": [
                {"key": "app", "operator": "In", "values": ["b"]}, {"key": "old", "operator": "DoesNotExist"},
            ]}},
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}},
            {"ipBlock": {"cidr": "2001:db8::/32"}},
        ]}}),
        json!({"podLabels": {"team": "a", "example.com/x": ""}, "podAnnotations": {"example.com/y": "any text"}}),
    ]
    .into_iter()
    .enumerate()
    {
        let set = create(&sets, &format!("set-{index}"), spec.clone()).await;
        let set = set.unwrap_or_else(|refusal| panic!("{spec}: {refusal}"));
        plan(&set, &settings()).unwrap_or_else(|refusal| panic!("{spec}: {refusal}"));
    }
    create(&sets, &"a".repeat(52), json!({})).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_reason() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "refused").await;
    let eleven_letters_too_long = "x".repeat(directives::MAX_VALUE_LENGTH + 11);
    for (spec, said) in [
        (json!({"replicas": 0}), vec!["spec.replicas", "greater than or equal to 1"]),
        (json!({"replicas": 10}), vec!["spec.replicas", "less than or equal to 9"]),
        (json!({"image": ""}), vec!["spec.image"]),
        (json!({"image": "redis :8"}), vec!["spec.image", "registry/repository:tag"]),
        (json!({"imagePullPolicy": "Sometimes"}), vec!["spec.imagePullPolicy", "IfNotPresent"]),
        (json!({"storage": {"storageClassName": "x"}}), vec!["spec.storage", "either size", "ephemeral: {}"]),
        (json!({"storage": {"size": "1Gi", "ephemeral": {}}}), vec!["spec.storage", "either size"]),
        (
            json!({"storage": {"ephemeral": {}, "retention": {}}}),
            vec!["spec.storage", "storageClassName and retention", "remove them"],
        ),
        (json!({"storage": {"size": "1Gib"}}), vec!["spec.storage.size", "quantity above zero", "10Gi"]),
        (json!({"storage": {"size": "-1Gi"}}), vec!["spec.storage.size", "quantity above zero"]),
        (json!({"resources": {"limits": {"memory": "much"}}}), vec!["spec.resources.limits", "memory: 1Gi"]),
        (json!({"resources": {"requests": {"cpu": "1 core"}}}), vec!["spec.resources.requests", "cpu: 100m"]),
        (
            json!({"failover": {"mode": "Quorum"}, "replicas": 2}),
            vec!["failover.mode Quorum", "at least 3", "Fenced"],
        ),
        (
            json!({"failover": {"mode": "Quorum"}, "config": {"min-replicas-to-write": "1"}}),
            vec!["config.min-replicas-to-write", "the operator's", "Fenced"],
        ),
        (json!({"failover": {"after": 4}}), vec!["spec.failover.after", "greater than or equal to 5"]),
        (json!({"failover": {"mode": "Always"}}), vec!["spec.failover.mode", "Quorum"]),
        (json!({"podLabels": {"app.kubernetes.io/name": "x"}}), vec!["spec.podLabels", "prefix of your own"]),
        (json!({"podLabels": {"replication.redis/role": "x"}}), vec!["spec.podLabels", "prefix of your own"]),
        (json!({"podLabels": {"a b": "x"}}), vec!["spec.podLabels", "[prefix/]name"]),
        (json!({"podLabels": {"a": "x y"}}), vec!["spec.podLabels", "podAnnotations"]),
        (
            json!({"podAnnotations": {"app.kubernetes.io/x": ""}}),
            vec!["spec.podAnnotations", "prefix of your own"],
        ),
        (json!({"config": {"maxmemory": eleven_letters_too_long}}), vec!["spec.config.maxmemory", "1024"]),
        (json!({"config": {"MaxMemory": "1gb"}}), vec!["spec.config", "lower-case"]),
        (json!({"config": {"max memory": "1gb"}}), vec!["spec.config", "lower-case"]),
        (json!({"config": {"save": "1 1\nreplicaof x 1"}}), vec!["spec.config", "one line"]),
        (json!({"config": {"save": "1\u{1}"}}), vec!["spec.config", "one line"]),
        (json!({"config": {"save": "\"900 1"}}), vec!["spec.config", "quotes"]),
        (json!({"config": {"save": "'a'b"}}), vec!["spec.config", "quotes"]),
        (json!({"config": {"repl-diskless-load": "swapdb"}}), vec!["spec.config", "on-empty-db"]),
        (json!({"config": {"appendonly": "maybe"}}), vec!["spec.config", "appendonly must be yes or no"]),
        (json!({"config": {"repl-ping-replica-period": "60"}}), vec!["spec.config", "1 to 10 seconds"]),
        (json!({"config": {"repl-ping-slave-period": "60"}}), vec!["spec.config", "1 to 10 seconds"]),
    ] {
        assert_refused(&sets, &spec, &said).await;
    }
}

async fn assert_refused(sets: &Api<RedisReplicaSet>, spec: &Value, said: &[&str]) {
    let Err(refusal) = create(sets, "redis", spec.clone()).await else { panic!("{spec} was taken") };
    for words in said {
        assert!(refusal.contains(words), "{spec}: {words:?} is not in: {refusal}");
    }
}

#[tokio::test]
async fn clients_that_cannot_be_meant_are_refused_with_the_reason() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "clients").await;
    let clients = |client: Value| json!({"networkPolicy": {"clients": [client]}});
    for (spec, said) in [
        (json!({"networkPolicy": {"clients": []}}), vec!["spec.networkPolicy.clients", "at least 1 item"]),
        (
            clients(json!({})),
            vec!["spec.networkPolicy.clients[0]", "podSelector, namespaceSelector, both, or ipBlock"],
        ),
        (
            clients(json!({"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}})),
            vec!["spec.networkPolicy.clients[0]", "write two clients"],
        ),
        (clients(json!({"ipBlock": {"cidr": "192.0.2.0"}})), vec!["ipBlock.cidr", "192.0.2.0/24"]),
        (
            clients(json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["198.51.100.0/24"]}})),
            vec!["ipBlock.except", "within cidr"],
        ),
        (
            clients(json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/24"]}})),
            vec!["ipBlock.except", "smaller"],
        ),
    ] {
        assert_refused(&sets, &spec, &said).await;
    }
}

#[tokio::test]
async fn every_refused_directive_is_refused_by_name() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "directives").await;
    for group in directives::Group::iter() {
        let names = group.names().map(|name| (name.to_owned(), name.to_owned()));
        let prefixes = group.prefixes().iter().map(|prefix| (format!("{prefix}x"), format!("{prefix}*")));
        for (directive, named) in names.chain(prefixes) {
            let refusal = create(&sets, "redis", json!({"config": {directive: "1"}})).await.unwrap_err();
            assert!(
                refusal.contains(&format!("{named} cannot be set: {}", group.why())),
                "{named}: {refusal}"
            );
        }
    }
    let both = create(&sets, "redis", json!({"config": {"dir": "/", "enable-debug-command": "yes"}})).await;
    assert!(both.unwrap_err().contains("dir enable-* cannot be set"));
}

/// Values at and around the bounds.
const VALUES: [&str; 65] = [
    "0",
    "1",
    "2",
    "8",
    "9",
    "10",
    "11",
    "29",
    "30",
    "60",
    "61",
    "63",
    "64",
    "1024",
    "1025",
    "3600",
    "3601",
    "5000",
    "5001",
    "16777216",
    "16777217",
    "1000000000",
    "064",
    "",
    "-1",
    "\"64\"",
    " 64",
    "1023kb",
    "1MB",
    "3mb",
    "4mb",
    "15mb",
    "16mb",
    "63mb",
    "64MB",
    "17m",
    "1g",
    "0kb",
    "1tb",
    "4%",
    "5%",
    "100%",
    "101%",
    "yes",
    "no",
    "Yes",
    "disabled",
    "swapdb",
    "on-empty-db",
    "default",
    "save",
    "nosave",
    "save force",
    "ignore",
    "panic",
    "eu-1/a:2_b.c",
    "replica 16mb 16mb 1",
    "replica 15mb 16mb 1",
    "REPLICA 0 16MB 0 pubsub 1kb 1 1  normal 0 0 0",
    "replica 256mb 64mb 60normal 0 0 0",
    "normal 16777215 0 0",
    "slave 1g 16777216 60 ",
    "pubsub 1kb 1kb 1 slave 1kb 0 0",
    "master 0 0 0",
    "replica 16mb 16mb",
];

/// Each of these values for every bounded directive: the API server's rules and the plan agree.
#[tokio::test]
async fn bounds_hold_at_both_guards() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "bounds").await;
    let mut refused = 0;
    for bound in directives::Bound::iter() {
        for name in directives::names(directives::Verdict::Bounded(bound)) {
            for value in VALUES {
                let config = json!({"config": {name: value}});
                let by_plan = directives::check(&[(name.to_owned(), value.to_owned())].into());
                let by_api_server = try_out(&sets, config).await;
                match (by_plan, by_api_server) {
                    (Ok(()), Ok(())) => {}
                    (Err(problem), Err(refusal)) => {
                        let said = refusal.contains(bound.why()) && problem.contains(bound.why());
                        assert!(said, "{name} {value:?}: {problem} {refusal}");
                        refused += 1;
                    }
                    (by_plan, by_api_server) => panic!("{name} {value:?}: {by_plan:?} {by_api_server:?}"),
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[tokio::test]
async fn names_that_children_cannot_bear_are_refused() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "names").await;
    for (name, said) in
        [("a".repeat(53), "at most 52"), ("1redis".into(), "a letter first"), ("re.dis".into(), "no dots")]
    {
        let refusal = create(&sets, &name, json!({})).await.expect_err(&name);
        assert!(refusal.contains(said), "{name}: {refusal}");
    }
}

#[tokio::test]
async fn what_would_lose_data_cannot_change() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "transitions").await;
    let volume = |size: &str| json!({"storage": {"size": size}});
    let classed = |class: &str| json!({"storage": {"size": "1Gi", "storageClassName": class}});
    let append = |on: &str| json!({"config": {"appendonly": on}});
    let ephemeral = json!({"storage": {"ephemeral": {}}});
    for (index, (before, after, said)) in [
        (volume("2Gi"), volume("1Gi"), Some("storage.size cannot shrink")),
        (volume("2Gi"), json!({}), Some("storage.size cannot shrink")),
        (volume("1Gi"), volume("2Gi"), None),
        (volume("1Gi"), volume("1024Mi"), None),
        (json!({}), classed("fast"), Some("storage.storageClassName cannot change")),
        (classed("fast"), classed("slow"), Some("storage.storageClassName cannot change")),
        (classed("fast"), volume("1Gi"), Some("storage.storageClassName cannot change")),
        (json!({}), ephemeral.clone(), Some("between volumes and ephemeral")),
        (ephemeral.clone(), json!({}), Some("between volumes and ephemeral")),
        (append("no"), append("yes"), Some("empty dataset")),
        (append("yes"), append("no"), Some("empty dataset")),
        (json!({}), append("yes"), Some("empty dataset")),
        (append("yes"), json!({}), Some("empty dataset")),
        (append("yes"), json!({"config": {"maxmemory": "1gb"}}), Some("empty dataset")),
        (json!({}), append("no"), None),
        (append("no"), json!({}), None),
        (append("yes"), json!({"config": {"appendonly": "yes", "maxmemory": "1gb"}}), None),
        (json!({}), json!({"storage": {"size": "1Gi", "retention": {"whenDeleted": "Delete"}}}), None),
        (json!({}), json!({"replicas": 5, "image": "x:1", "paused": true, "podLabels": {"a": "b"}}), None),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("set-{index}");
        create(&sets, &name, before.clone()).await.unwrap();
        let change = create(&sets, &name, after.clone()).await;
        match (said, change) {
            (None, Ok(_)) => {}
            (Some(said), Err(refusal)) if refusal.contains(said) => {
                let remedy = ["Create a new RedisReplicaSet", "create a new RedisReplicaSet"];
                assert!(remedy.iter().any(|words| refusal.contains(words)), "no remedy: {refusal}");
            }
            (said, change) => panic!("{before} to {after}: wanted {said:?}, got {change:?}"),
        }
    }
}

/// A growth that was refused can be taken back: no volume became larger than the smaller size.
#[tokio::test]
async fn a_size_can_go_back_once_its_growth_was_refused() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "size").await;
    let volume = |size: &str| json!({"storage": {"size": size}});
    create(&sets, "redis", volume("1Gi")).await.unwrap();
    create(&sets, "redis", volume("2Gi")).await.unwrap();
    let condition = |reason: &str| {
        json!({"status": {"conditions": [{"type": "SpecValid", "status": "False", "reason": reason, "message": "",
                                           "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    for reason in ["InvalidSpec", "VolumeGrowthRefused"] {
        let patch = Patch::Merge(condition(reason));
        sets.patch_status("redis", &PatchParams::default(), &patch).await.unwrap();
        let back = create(&sets, "redis", volume("1Gi")).await;
        assert_eq!(back.is_ok(), reason == "VolumeGrowthRefused", "{reason}: {back:?}");
    }
}

/// A successor of the same name is told apart by its UID. A patch of the status cannot do that, as the API server takes all
/// metadata from the stored object, but for the version that it must have.
#[tokio::test]
async fn a_set_that_is_gone_is_told_from_its_successor() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "successor").await;
    let name = SetName::new("successor".to_owned(), "redis".to_owned());
    let uid = create(&sets, "redis", json!({})).await.unwrap().metadata.uid;
    let status = RedisReplicaSetStatus { ready_replicas: 3, ..RedisReplicaSetStatus::default() };
    assert_eq!(presence(&client, &name, uid.as_deref()).await.unwrap(), Presence::There);
    let old = sets.get("redis").await.unwrap().metadata.resource_version;
    let written = patch(&client, &name, old.as_deref(), &status).await.unwrap();
    let set = sets.get("redis").await.unwrap();
    assert_eq!(set.status, Some(status.clone()));
    assert_eq!(written, Patched::Written(set.metadata.resource_version.clone()));
    let newer = RedisReplicaSetStatus { ready_replicas: 2, ..RedisReplicaSetStatus::default() };
    assert_eq!(patch(&client, &name, old.as_deref(), &newer).await.unwrap(), Patched::Outdated);
    assert_eq!(
        sets.get("redis").await.unwrap().status,
        Some(status.clone()),
        "an outdated patch changes nothing"
    );
    assert!(matches!(patch(&client, &name, None, &newer).await.unwrap(), Patched::Written(_)));
    assert_eq!(sets.get("redis").await.unwrap().status, Some(newer), "whatever its version is");

    sets.delete("redis", &DeleteParams::default()).await.unwrap();
    assert_eq!(presence(&client, &name, uid.as_deref()).await.unwrap(), Presence::Gone, "it is gone");
    assert_eq!(patch(&client, &name, None, &status).await.unwrap(), Patched::Gone);
    let known = set.metadata.resource_version;
    let successor = create(&sets, "redis", json!({})).await.unwrap().metadata.uid;
    assert_eq!(patch(&client, &name, known.as_deref(), &status).await.unwrap(), Patched::Outdated);
    assert_eq!(sets.get("redis").await.unwrap().status, None, "what was learned of another set");
    assert_eq!(
        presence(&client, &name, uid.as_deref()).await.unwrap(),
        Presence::Gone,
        "another one is there"
    );
    assert_eq!(presence(&client, &name, successor.as_deref()).await.unwrap(), Presence::There);
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[tokio::test]
async fn kubectl_lives_with_it() {
    let (plane, client) = plane().await;
    let sets = namespace(&client, "kubectl").await;
    for sample in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples")).unwrap() {
        let manifest = fs::read_to_string(sample.unwrap().path()).unwrap();
        let output = plane.kubectl(&["apply", "-n", "kubectl", "-f", "-"], &manifest);
        assert!(output.status.success(), "{}", text(&output));
    }
    let shown = text(&plane.kubectl(&["get", "rrs", "redis", "-n", "kubectl"], ""));
    let columns: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "READY", "REPLICAS", "PRIMARY", "SYNCED", "REASON", "AGE"]);
    let shown = text(&plane.kubectl(&["get", "rrs", "redis", "-n", "kubectl", "-o", "wide"], ""));
    let columns: Vec<&str> = shown.lines().next().unwrap().split_whitespace().skip(7).collect();
    assert_eq!(columns, ["VERSION", "IMAGE", "MESSAGE"]);

    let twice = json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet", "metadata": {"name": "twice"},
        "spec": {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]},
    });
    let output = plane.kubectl(&["create", "-n", "kubectl", "-f", "-"], &twice.to_string());
    assert!(text(&output).contains("spec.imagePullSecrets[1]: Duplicate value"), "{}", text(&output));

    let output = plane.kubectl(&["scale", "rrs/redis", "-n", "kubectl", "--replicas=5"], "");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(sets.get("redis").await.unwrap().spec.replicas, 5);
    let output = plane.kubectl(&["scale", "rrs/redis", "-n", "kubectl", "--replicas=0"], "");
    assert!(!output.status.success() && text(&output).contains("spec.replicas"), "{}", text(&output));
    let status = json!({"status": {"replicas": 2, "selector": "a=b"}});
    sets.patch_status("redis", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let scale = serde_json::to_value(sets.get_scale("redis").await.unwrap()).unwrap();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(5), &json!({"replicas": 2, "selector": "a=b"}))
    );

    for (path, words) in [
        ("rrs", "Replicated Redis"),
        ("rrs.spec.storage.retention.whenScaled", "When `replicas` is lowered"),
        ("rrs.spec.config", "redis.conf directives"),
        ("rrs.status.instances.masterHost", "verbatim"),
        ("rrs.spec.affinity.podAntiAffinity", "anti-affinity"),
    ] {
        let explained = text(&plane.kubectl(&["explain", path], ""));
        assert!(
            explained.split_whitespace().collect::<Vec<_>>().join(" ").contains(words),
            "{path}: {explained}"
        );
    }
}

fn settings() -> Settings {
    Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "localhost/redis-operator:1".into(),
        operator_namespace: "ops".into(),
    }
}

/// Counts every request that is not a read.
#[derive(Clone, Default)]
struct Mutations(Arc<AtomicUsize>);

impl Mutations {
    async fn client(&self, plane: &ControlPlane) -> Client {
        ClientBuilder::try_from(plane.config().await).unwrap().with_layer(self).build()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl<S> Layer<S> for Mutations {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, mutations: self.clone() }
    }
}

#[derive(Clone)]
struct Counted<S> {
    inner: S,
    mutations: Mutations,
}

impl<S: TowerService<http::Request<B>>, B> TowerService<http::Request<B>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        if request.method() != http::Method::GET {
            self.mutations.0.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.call(request)
    }
}

async fn pass(client: &Client, plan: &Plan, pods: i32) -> Result<Applied, ApplyError> {
    let live = fetch(client, &plan.subject.set).await?;
    apply(client, plan, desired(plan, Stage { pods, disruptions: 1 }), live).await
}

fn why(applied: &Applied) -> Vec<String> {
    applied.writes.iter().map(|write| format!("{} {:?}", write.object, write.why)).collect()
}

fn versions(live: &Live) -> Vec<Option<String>> {
    vec![
        live.headless.as_ref().and_then(ResourceExt::resource_version),
        live.primary.as_ref().and_then(ResourceExt::resource_version),
        live.replicas.as_ref().and_then(ResourceExt::resource_version),
        live.config_map.as_ref().and_then(ResourceExt::resource_version),
        live.stateful_set.as_ref().and_then(ResourceExt::resource_version),
        live.disruption_budget.as_ref().and_then(ResourceExt::resource_version),
        live.network_policy.as_ref().and_then(ResourceExt::resource_version),
    ]
}

#[tokio::test]
async fn what_is_applied_is_applied_once() {
    let (plane, client) = plane().await;
    namespace(&client, "rest").await;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
    for sample in fs::read_dir(samples).unwrap().map(|entry| entry.unwrap().path()) {
        let manifest = fs::read_to_string(&sample).unwrap();
        if !manifest.contains("kind: RedisReplicaSet") {
            continue;
        }
        let output = plane.kubectl(&["apply", "-n", "rest", "-f", "-", "-o", "json"], &manifest);
        let set: RedisReplicaSet = serde_json::from_slice(&output.stdout).unwrap();
        let plan = plan(&set, &settings()).unwrap();

        let mutations = Mutations::default();
        let counted = mutations.client(plane).await;
        let first = pass(&counted, &plan, 1).await.unwrap();
        assert_eq!(mutations.count(), 7, "{sample:?}: {:?}", why(&first));
        assert!(first.writes.iter().all(|write| write.why == Why::Missing), "{:?}", why(&first));
        assert_eq!(first.writes.last().unwrap().object.kind, "StatefulSet");
        let before = versions(&fetch(&client, &plan.subject.set).await.unwrap());
        assert!(before.iter().all(Option::is_some));

        // A restarted operator has no memory; it must not need any.
        let second = pass(&counted, &plan, 1).await.unwrap();
        assert_eq!(why(&second), Vec::<String>::new(), "{sample:?}");
        assert_eq!(mutations.count(), 7, "{sample:?}");
        assert_eq!(versions(&fetch(&client, &plan.subject.set).await.unwrap()), before);

        // One pod more is one write.
        let third = pass(&counted, &plan, 2).await.unwrap();
        assert_eq!(why(&third), [format!("StatefulSet {} Differs(\"spec.replicas\")", plan.subject.set)]);
        assert_eq!(third.stateful_set.spec.unwrap().replicas, Some(2));
        assert_eq!(mutations.count(), 8);
    }
}

#[tokio::test]
async fn drift_is_repaired_and_what_others_added_survives() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "drift").await;
    let spec = json!({"nodeSelector": {"a": "b"}, "config": {"maxmemory": "1gb"}});
    let set = create(&sets, "redis", spec).await.unwrap();
    let before = plan(&set, &settings()).unwrap();
    pass(&client, &before, 3).await.unwrap();

    let services = Api::<Service>::namespaced(client.clone(), "drift");
    let stateful_sets = Api::<StatefulSet>::namespaced(client.clone(), "drift");
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), "drift");
    let user = PatchParams::default();
    let patch = json!({
        "metadata": {"labels": {"team": "a", "app.kubernetes.io/name": "other"}, "annotations": {"note": "b"}},
        "spec": {"publishNotReadyAddresses": false},
    });
    services.patch("redis-headless", &user, &Patch::Merge(&patch)).await.unwrap();
    let patch = json!({"data": {"redis.conf": "replicaof evil 6379\n"}});
    config_maps.patch("redis-config", &user, &Patch::Merge(&patch)).await.unwrap();
    let patch = json!({"spec": {"updateStrategy": {"type": "RollingUpdate"},
                                "template": {"metadata": {"annotations": {"injected": "yes"}}}}});
    stateful_sets.patch("redis", &user, &Patch::Merge(&patch)).await.unwrap();

    let repaired = pass(&client, &before, 3).await.unwrap();
    assert_eq!(repaired.writes.len(), 3, "{:?}", why(&repaired));
    let service = services.get("redis-headless").await.unwrap();
    assert_eq!(service.spec.as_ref().unwrap().publish_not_ready_addresses, Some(true));
    assert_eq!((service.labels()["team"].as_str(), service.annotations()["note"].as_str()), ("a", "b"));
    assert_eq!(service.labels()["app.kubernetes.io/name"], "redis");
    let redis_conf = config_maps.get("redis-config").await.unwrap().data.unwrap()["redis.conf"].clone();
    assert!(redis_conf.contains("maxmemory 1gb\n") && !redis_conf.contains("evil"), "{redis_conf}");
    let stateful_set = serde_json::to_value(stateful_sets.get("redis").await.unwrap()).unwrap();
    assert_eq!(stateful_set["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
    assert_eq!(stateful_set["spec"]["template"]["metadata"]["annotations"]["injected"], "yes");
    assert_eq!(why(&pass(&client, &before, 3).await.unwrap()), Vec::<String>::new());

    // A field that is taken out of the spec goes, although nothing that is left differs.
    let set = create(&sets, "redis", json!({"config": {"maxmemory": "1gb"}})).await.unwrap();
    let after = plan(&set, &settings()).unwrap();
    let removed = pass(&client, &after, 3).await.unwrap();
    assert_eq!(why(&removed), ["StatefulSet drift/redis NoLongerDesired"]);
    assert_eq!(
        stateful_sets.get("redis").await.unwrap().spec.unwrap().template.spec.unwrap().node_selector,
        None
    );
    assert_eq!(why(&pass(&client, &after, 3).await.unwrap()), Vec::<String>::new());

    // A new operator restarts no Redis.
    let newer = Settings { agent_image: "localhost/redis-operator:2".into(), ..settings() };
    let upgraded = pass(&client, &plan(&set, &newer).unwrap(), 3).await.unwrap();
    assert_eq!(why(&upgraded), Vec::<String>::new());
}

#[tokio::test]
async fn one_pod_needs_no_budget() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "budget").await;
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), "budget");
    let set = create(&sets, "redis", json!({"replicas": 2})).await.unwrap();
    pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap();
    assert!(budgets.get_opt("redis").await.unwrap().is_some());
    let set = create(&sets, "redis", json!({"replicas": 1})).await.unwrap();
    let single = plan(&set, &settings()).unwrap();
    let applied = pass(&client, &single, 1).await.unwrap();
    assert_eq!(why(&applied), ["PodDisruptionBudget budget/redis Deleted"]);
    assert_eq!(budgets.get_opt("redis").await.unwrap(), None);

    // Somebody's own budget is in nobody's way.
    let own: PodDisruptionBudget =
        serde_json::from_value(json!({"metadata": {"name": "redis"}, "spec": {"minAvailable": 1}})).unwrap();
    budgets.create(&PostParams::default(), &own).await.unwrap();
    assert_eq!(why(&pass(&client, &single, 1).await.unwrap()), Vec::<String>::new());
    assert!(budgets.get_opt("redis").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_not_ours_is_not_taken_over() {
    let (plane, client) = plane().await;
    let sets = namespace(&client, "foreign").await;
    let services = Api::<Service>::namespaced(client.clone(), "foreign");
    let set = create(&sets, "redis", json!({})).await.unwrap();
    for name in ["redis-headless", "redis", "redis-replicas"] {
        let own = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        let own: Service = serde_json::from_value(own).unwrap();
        let own = services.create(&PostParams::default(), &own).await.unwrap();
        let mutations = Mutations::default();
        let counted = mutations.client(plane).await;
        let refusal = pass(&counted, &plan(&set, &settings()).unwrap(), 1).await.unwrap_err();
        assert_eq!(refusal.reason(), Reason::NameTaken);
        let said = refusal.to_string();
        for words in [&format!("Service foreign/{name} "), "no owner", "Delete it", "another name"] {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(mutations.count(), 0);
        assert_eq!(services.get(name).await.unwrap(), own);
        services.delete(name, &DeleteParams::default()).await.unwrap();
    }

    // A set whose own name is that of another set's child: whoever comes second is refused.
    pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap();
    for name in ["redis-replicas", "redis-headless"] {
        let second = create(&sets, name, json!({})).await.unwrap();
        let said = pass(&client, &plan(&second, &settings()).unwrap(), 1).await.unwrap_err().to_string();
        assert!(said.contains(&format!("Service foreign/{name} ")), "{said}");
        assert!(said.contains("belongs to RedisReplicaSet redis."), "{said}");
    }

    // Children of an earlier set of the same name: nobody collects garbage here, so they stay.
    let set = create(&sets, "again", json!({})).await.unwrap();
    pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap();
    sets.delete("again", &DeleteParams::default()).await.unwrap();
    let set = create(&sets, "again", json!({})).await.unwrap();
    let said = pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap_err().to_string();
    assert!(said.contains("earlier RedisReplicaSet") && said.contains("garbage collector"), "{said}");
}

/// Regression: after `kubectl delete --cascade=orphan` and an apply, `NameTaken` for ever over three servers in sync.
#[tokio::test]
async fn what_was_left_without_an_owner_is_adopted_as_it_is() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "adopted").await;
    let set = create(&sets, "redis", json!({})).await.unwrap();
    let before = pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap().stateful_set;
    let orphan = DeleteParams {
        propagation_policy: Some(kube::api::PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    sets.delete("redis", &orphan).await.unwrap();
    // What the garbage collector does with the objects of such a set.
    let stateful_sets = Api::<StatefulSet>::namespaced(client.clone(), "adopted");
    let services = Api::<Service>::namespaced(client.clone(), "adopted");
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), "adopted");
    let budgets = Api::<PodDisruptionBudget>::namespaced(client.clone(), "adopted");
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), "adopted");
    let (none, params) =
        (Patch::Merge(json!({"metadata": {"ownerReferences": null}})), PatchParams::default());
    stateful_sets.patch("redis", &params, &none).await.unwrap();
    for name in ["redis-headless", "redis", "redis-replicas"] {
        services.patch(name, &params, &none).await.unwrap();
    }
    config_maps.patch("redis-config", &params, &none).await.unwrap();
    budgets.patch("redis", &params, &none).await.unwrap();
    policies.patch("redis", &params, &none).await.unwrap();
    let gone = json!({"metadata": {"finalizers": null}});
    let _ = sets.patch("redis", &params, &Patch::Merge(gone)).await;

    let set = create(&sets, "redis", json!({})).await.unwrap();
    let applied = pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap();
    assert!(applied.failures.is_empty(), "{:?}", applied.failures);
    let after = &applied.stateful_set;
    assert_eq!(after.owner_references()[0].uid, set.uid().unwrap());
    assert_eq!(
        (after.uid(), after.metadata.generation),
        (before.uid(), before.metadata.generation),
        "no roll"
    );
    assert_eq!(services.get("redis").await.unwrap().owner_references()[0].uid, set.uid().unwrap());
    assert_eq!(
        why(&pass(&client, &plan(&set, &settings()).unwrap(), 1).await.unwrap()),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn what_kubernetes_would_refuse_is_not_sent() {
    let (plane, client) = plane().await;
    let sets = namespace(&client, "blocked").await;
    let set = create(&sets, "redis", json!({})).await.unwrap();
    let first = plan(&set, &settings()).unwrap();
    pass(&client, &first, 1).await.unwrap();

    let mut other = set.clone();
    other.spec.storage.storage_class_name = Some("other".into());
    other.spec.config.insert("maxmemory".into(), "1gb".into());
    let other = plan(&other, &settings()).unwrap();
    let mutations = Mutations::default();
    let applied = pass(&mutations.client(plane).await, &other, 1).await.unwrap();
    let refusal = &applied.failures[0];
    assert_eq!((refusal.reason(), applied.failures.len()), (Reason::ImmutableFieldChanged, 1));
    // What can be carried out is, and once.
    assert_eq!(why(&applied), ["ConfigMap blocked/redis-config Differs(\"data.redis.conf\")"]);
    assert_eq!(mutations.count(), 1);
    let said = refusal.to_string();
    for words in ["StatefulSet blocked/redis", "spec.volumeClaimTemplates", "set spec.storage back"] {
        assert!(said.contains(words), "{said}");
    }

    // The API server does refuse it: the classifier is not over-careful.
    let body = serde_json::to_value(desired(&other, Stage { pods: 1, disruptions: 1 }).stateful_set).unwrap();
    let params = PatchParams::apply(operator_core::names::CHILDREN_MANAGER).force();
    let stateful_sets = Api::<StatefulSet>::namespaced(client.clone(), "blocked");
    let refused = stateful_sets.patch("redis", &params, &Patch::Apply(&body)).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_invalid()), "{refused}");
}

/// The Pod Security Standard `restricted`, as the API server itself checks it.
#[tokio::test]
async fn pods_pass_the_restricted_standard() {
    let (_, client) = plane().await;
    let sets = namespace(&client, "restricted").await;
    let enforce = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.patch("restricted", &PatchParams::default(), &Patch::Merge(&enforce)).await.unwrap();
    let set = create(&sets, "redis", json!({"storage": {"ephemeral": {}}})).await.unwrap();
    let stateful_set =
        desired(&plan(&set, &settings()).unwrap(), Stage { pods: 1, disruptions: 1 }).stateful_set;
    let template = serde_json::to_value(stateful_set.spec.unwrap().template).unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), "restricted");
    let pod = |spec: &Value| {
        serde_json::from_value(json!({"metadata": {"name": "redis-0"}, "spec": spec})).unwrap()
    };

    let mut lax = template["spec"].clone();
    lax["containers"][0]["securityContext"] = json!({});
    let refused = pods.create(&PostParams::default(), &pod(&lax)).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_forbidden()), "{refused}");
    pods.create(&PostParams::default(), &pod(&template["spec"])).await.unwrap();
}

/// No field of the spec makes a pod that the standard would refuse; nor do the pods of the lab fall short of it.
#[tokio::test]
async fn pods_with_every_field_and_those_of_the_lab_pass_the_restricted_standard() {
    let (plane, client) = plane().await;
    namespace(&client, "every-field").await;
    let enforce = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces.patch("every-field", &PatchParams::default(), &Patch::Merge(&enforce)).await.unwrap();
    let sample =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples/redis-full.yaml"));
    let output = plane.kubectl(&["apply", "-n", "every-field", "-f", "-", "-o", "json"], &sample.unwrap());
    let set: RedisReplicaSet = serde_json::from_slice(&output.stdout).unwrap();
    let stateful_set =
        desired(&plan(&set, &settings()).unwrap(), Stage { pods: 1, disruptions: 1 }).stateful_set;
    let mut templates = vec![serde_json::to_value(stateful_set).unwrap()];
    // As the controller of StatefulSets does for each pod.
    let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-orders-0"}});
    templates[0]["spec"]["template"]["spec"]["volumes"].as_array_mut().unwrap().push(claim);
    for file in ["multitool.yaml", "nginx-clusterip.yaml"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/lab").join(file));
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text.unwrap()).unwrap();
        templates.extend(objects.into_iter().filter(|object| object["spec"]["template"].is_object()));
    }
    assert_eq!(templates.len(), 3);
    let pods = Api::<Pod>::namespaced(client.clone(), "every-field");
    for (index, object) in templates.iter().enumerate() {
        let mut spec = object["spec"]["template"]["spec"].clone();
        // There is no such class here; which one it is does not matter to the standard.
        spec.as_object_mut().unwrap().remove("priorityClassName");
        let pod = json!({"metadata": {"name": format!("pod-{index}")}, "spec": spec});
        let made = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await;
        let made = made.unwrap_or_else(|refusal| panic!("{}: {refusal}", object["metadata"]["name"]));
        let spec = made.spec.unwrap();
        assert_eq!((spec.host_network, spec.host_pid, spec.host_ipc), (None, None, None));
        if index == 0 {
            assert_eq!(spec.automount_service_account_token, Some(false), "no token of the API server");
            let account = spec.service_account_name.unwrap_or_default();
            assert!(["", "default"].contains(&account.as_str()), "an account of somebody's: {account}");
        }
    }
}

/// The role label moves on the pod that was seen, and on no namesake.
#[tokio::test]
async fn pods_are_labelled_by_uid() {
    let (plane, client) = plane().await;
    let sets = namespace(&client, "labels").await;
    let set = create(&sets, "redis", json!({"storage": {"ephemeral": {}}})).await.unwrap();
    let plan = plan(&set, &settings()).unwrap();
    let template = desired(&plan, Stage { pods: 1, disruptions: 1 }).stateful_set.spec.unwrap().template;
    let pods = Api::<Pod>::namespaced(client.clone(), "labels");
    let mut pod = Pod { metadata: template.metadata.unwrap(), spec: template.spec, status: None };
    pod.metadata.name = Some("redis-0".into());
    let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
    let role = |pod: &Pod| pod.labels().get("replication.redis/role").cloned();
    assert_eq!(role(&pod).as_deref(), Some("replica"), "a new pod can be read without an operator");

    let now: Timestamp = "2026-11-23T04:00:00Z".parse().unwrap();
    let mutations = Mutations::default();
    let counted = mutations.client(plane).await;
    let relabel = async |pod: &str, uid: &str, to: To| {
        let change = Change { pod: pod.into(), uid: uid.into(), version: String::new(), to };
        act::role_labels::relabel(&counted, &plan.subject, &mut Connections::default(), vec![change], now)
            .await
            .unwrap();
        pods.get("redis-0").await.unwrap()
    };
    let uid = pod.uid().unwrap();
    for (to, wanted, mark) in [
        (To::Primary, Some("primary"), None),
        (To::Demoted, Some("replica"), Some("2026-11-23T04:00:00Z")),
        // Its clients could not be cut yet: it is silent.
        (To::Withdrawn, None, Some("2026-11-23T04:00:00Z")),
        (To::Readable, Some("replica"), Some("2026-11-23T04:00:00Z")),
    ] {
        let labelled = relabel("redis-0", &uid, to).await;
        assert_eq!(role(&labelled).as_deref(), wanted, "{to:?}");
        let marked = labelled.annotations().get("replication.redis/demoted-at").map(String::as_str);
        assert_eq!(marked, mark, "{to:?}");
        assert_eq!(labelled.labels()["app.kubernetes.io/instance"], "redis");
    }
    assert_eq!(mutations.count(), 4);
    let before = pods.get("redis-0").await.unwrap();
    assert_eq!(relabel("redis-0", "of-another-pod", To::Primary).await, before);
    assert_eq!(relabel("redis-7", "gone", To::Primary).await, before);
    // A mark that nobody could be cut for stays for the next look.
    assert_eq!(relabel("redis-0", &uid, To::Settled).await, before);
}
