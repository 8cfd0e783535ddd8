//! The whole life of a set, by kubectl alone.

use std::time::{Duration, Instant};

use operator_core::api::status::InstanceState;
use serde_json::{Value, json};

use crate::support::{
    Namespace, Says, Set, Watch, field, get, get_opt, is_ready, kubectl, kubectl_in, kubectl_refused,
    kubectl_with, list, text,
};

/// Bar for a bad image that was reverted (and for no other wait).
const REVERTED_WITHIN: Duration = Duration::from_secs(30);

/// Bar for a change of a child that somebody made.
const REPAIRED_WITHIN: Duration = Duration::from_secs(10);

/// A set named `redis` in a fresh namespace.
fn fresh(namespace: &str) -> (Namespace, Set) {
    let namespace = Namespace::new(namespace);
    let set = Set::new(&namespace.0, "redis");
    (namespace, set)
}

fn volumes() -> Value {
    json!({"size": "64Mi"})
}

#[test]
fn create_get_describe_explain_wait() {
    let (_namespace, set) = fresh("life-create");
    let began = Instant::now();
    set.apply(json!({}));
    kubectl_in(&set.namespace, &["wait", "--for=condition=Ready", "rrs/redis", "--timeout=120s"]);
    println!("apply to Ready, ephemeral: {:.1} s", began.elapsed().as_secs_f64());

    let table = kubectl_in(&set.namespace, &["get", "rrs"]);
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["NAME", "READY", "REPLICAS", "PRIMARY", "SYNCED", "REASON", "AGE"]);
    let row = lines.next().unwrap();
    assert_eq!(row[..6], ["redis", "True", "3/3", "redis-0", "2/2", "Verified"]);
    let wide = kubectl_in(&set.namespace, &["get", "redisreplicaset", "redis", "-o", "wide"]);
    for text in ["VERSION", "7.0.15", "localhost/redis:7.0.15", "redis-0 serves"] {
        assert!(wide.contains(text), "no {text} in {wide}");
    }

    let described = set.until("describe shows the Ready event", || {
        let described = kubectl_in(&set.namespace, &["describe", "rrs", "redis"]);
        let events = described.split_once("\nEvents:")?.1.to_owned();
        events.contains("redis-operator").then_some(events)
    });
    assert!(described.contains("redis-0 serves; 2 of 2 replicas verified in sync"), "{described}");

    for (path, words) in [
        ("rrs.spec.replicas", "one primary, the others replicas"),
        ("rrs.spec.storage.retention.whenDeleted", "RedisReplicaSet"),
        ("rrs.status.instances.state", "evidence"),
        ("rrs.status.masterHost", "every replica must report"),
    ] {
        let explained = kubectl(&["explain", path]);
        let explained = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(explained.contains(words), "{path} is explained without {words:?}: {explained}");
    }

    let generation = set.get().metadata.generation;
    let status = set.status();
    assert_eq!(status.observed_generation, generation);
    for type_ in ["Ready", "Available", "Replicated", "Progressing", "Degraded", "SpecValid"] {
        assert!(!status.why(type_).is_empty(), "no condition {type_}");
    }
}

#[test]
fn scale_by_spec_and_by_kubectl_scale() {
    let (_namespace, set) = fresh("life-scale");
    set.up(json!({"replicas": 3}));
    set.write_keys(100);
    for replicas in [5, 2, 3] {
        let (count, resource) = (format!("--replicas={replicas}"), format!("rrs/{}", set.name));
        match replicas {
            5 => set.patch(&json!({ "replicas": replicas })),
            _ => _ = kubectl_in(&set.namespace, &["scale", &resource, &count]),
        }
        let took = set.wait_ready();
        println!("to {replicas} pods: {:.1} s", took.as_secs_f64());
        let names: Vec<String> = set.pods().iter().map(|pod| text(pod, "/metadata/name")).collect();
        let wanted: Vec<String> = (0..replicas).map(|n| set.pod(n)).collect();
        assert_eq!(names, wanted);
        let status = set.status();
        assert_eq!((status.replicas, status.ready_replicas), (replicas, replicas));
        assert_eq!(status.synced_replicas, replicas - 1);
        assert_eq!(status.summary.replicas, format!("{replicas}/{replicas}"));
        let info = set.info(&set.primary());
        assert_eq!(field(&info, "connected_slaves"), (replicas - 1).to_string());
    }
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 100);
    }
}

/// A `StatefulSet` never replaces a pod that cannot start; the operator does, and nobody deletes a pod by hand.
#[test]
fn a_bad_image_stops_at_one_pod_and_its_revert_heals() {
    let (_namespace, set) = fresh("life-image");
    set.up(json!({}));
    set.write_keys(100);
    let bad = "localhost/redis:no-such-tag";
    let began = Instant::now();
    set.patch(&json!({ "image": bad }));
    let (status, took) = set.wait("the status says that a pod is stuck", began, |status| {
        status.is("Ready", "False") && status.why("Degraded").starts_with("PodStuck: ")
    });
    println!("bad image named: {:.1} s: {}", took.as_secs_f64(), status.why("Degraded"));
    assert!(status.is("Available", "True"), "the others go on: {}", status.why("Available"));
    let stuck: Vec<String> = set
        .pods()
        .iter()
        .filter(|pod| text(pod, "/spec/containers/0/image") == bad)
        .map(|pod| text(pod, "/metadata/name"))
        .collect();
    assert_eq!(stuck, ["redis-2"], "the roll must stop at the first pod");
    for words in ["redis-2", "ImagePull"] {
        assert!(status.why("Degraded").contains(words), "{}", status.why("Degraded"));
    }

    let began = Instant::now();
    set.apply(json!({}));
    set.wait_ready();
    println!("bad image reverted to Ready: {:.1} s", began.elapsed().as_secs_f64());
    assert!(began.elapsed() <= REVERTED_WITHIN, "took {:?}", began.elapsed());
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 100);
    }
}

#[test]
fn a_bad_image_from_the_start_is_named_and_its_correction_heals() {
    let (_namespace, set) = fresh("life-image-first");
    let began = Instant::now();
    set.apply(json!({"image": "localhost/redis:no-such-tag"}));
    let (status, took) = set.wait("the status says that redis-0 is stuck", began, |status| {
        status.why("Degraded").starts_with("PodStuck: redis-0")
    });
    println!("bad first image named: {:.1} s: {}", took.as_secs_f64(), status.why("Ready"));
    assert!(!status.is("Ready", "True"));
    let began = Instant::now();
    set.apply(json!({}));
    set.wait_ready();
    println!("corrected to Ready: {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_what_to_do() {
    let (_namespace, set) = fresh("life-refused");
    for (spec, words) in [
        (json!({"config": {"replicaof": "elsewhere 6379"}}), vec!["replicaof", "status.primary"]),
        (json!({"config": {"requirepass": "x"}}), vec!["requirepass", "Secret <name>-auth"]),
        (json!({"config": {"cluster-enabled": "yes"}}), vec!["cluster-", "Redis Cluster"]),
        (json!({"config": {"save": "900 1\nreplicaof a 1"}}), vec!["one line"]),
        (json!({"replicas": 0}), vec!["spec.replicas", "greater than or equal to 1"]),
        (
            json!({"storage": {"size": "1Gi", "ephemeral": {}}}),
            vec!["storage must have either size", "ephemeral"],
        ),
    ] {
        let said = kubectl_refused(&["apply", "-f", "-"], &set.manifest(spec));
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
    }
    assert!(get_opt(&set.namespace, &["rrs", "redis"]).is_none());

    set.apply(json!({"storage": volumes()}));
    for (storage, word) in [
        (json!({"size": "1Mi"}), "storage.size cannot shrink"),
        (json!({"ephemeral": {}}), "storage cannot change"),
    ] {
        let said = kubectl_refused(&["apply", "-f", "-"], &set.manifest(json!({ "storage": storage })));
        assert!(
            said.contains(word) && said.to_lowercase().contains("create a new redisreplicaset"),
            "{said}"
        );
    }
    // A strict apply names a field that does not exist.
    let said = kubectl_refused(&["apply", "-f", "-"], &set.manifest(json!({"replica": 3})));
    assert!(said.contains("unknown field \"spec.replica\""), "{said}");
}

/// The cluster's class cannot grow a volume.
#[test]
fn a_volume_that_cannot_grow_is_said_and_the_size_can_go_back() {
    let (_namespace, set) = fresh("life-growth");
    set.up(json!({"replicas": 2, "storage": volumes()}));
    let began = Instant::now();
    set.apply(json!({"replicas": 2, "storage": {"size": "128Mi"}}));
    let (status, took) = set.wait("the status says that the growth was refused", began, |status| {
        status.why("SpecValid").starts_with("VolumeGrowthRefused: ")
    });
    println!("refused growth named: {:.1} s: {}", took.as_secs_f64(), status.why("SpecValid"));
    for words in ["spec.storage.size", "data-redis-0", "allowVolumeExpansion"] {
        assert!(status.why("SpecValid").contains(words), "{}", status.why("SpecValid"));
    }
    assert!(status.is("Available", "True"), "the servers go on: {}", status.why("Available"));
    set.apply(json!({"replicas": 2, "storage": volumes()}));
    set.wait_ready();
}

#[test]
fn paused_changes_nothing_and_resumed_goes_on() {
    let (_namespace, set) = fresh("life-paused");
    set.up(json!({"replicas": 2}));
    let began = Instant::now();
    set.apply(json!({"replicas": 3, "paused": true}));
    let (status, _) = set.wait("the status says Paused", began, |status| {
        status.observed_generation == Some(2) && status.why("Progressing").starts_with("Paused: ")
    });
    assert!(status.is("Ready", "False") || status.is("Ready", "True"), "the servers are still asked");
    let stateful_set = get(&set.namespace, &["statefulset", "redis"]);
    assert_eq!(stateful_set["spec"]["replicas"], 2);
    // Still watched: a server that goes is reported.
    kubectl_in(&set.namespace, &["delete", "pod", "redis-1"]);
    set.wait("a deleted pod is reported while paused", Instant::now(), |status| {
        status.instance("redis-1").is_none_or(|i| i.state != InstanceState::InSync)
    });
    assert_eq!(get(&set.namespace, &["statefulset", "redis"])["spec"]["replicas"], 2);
    set.apply(json!({"replicas": 3}));
    set.wait_ready();
    assert_eq!(get(&set.namespace, &["statefulset", "redis"])["spec"]["replicas"], 3);
}

#[test]
fn a_changed_directive_rolls_pod_by_pod_and_the_data_stays() {
    let (_namespace, set) = fresh("life-config");
    set.up(json!({}));
    set.write_keys(100);

    let statuses = set.watch();
    let pods: Watch<Value> = Watch::new(&set.namespace, &["pods", "-l", "app.kubernetes.io/instance=redis"]);
    let began = Instant::now();
    // Redis reads it at its start only.
    set.apply(json!({"config": {"databases": "32"}}));
    set.wait_ready();
    println!("rolling change of three pods: {:.1} s", began.elapsed().as_secs_f64());

    let gone: Vec<String> = pods
        .seen()
        .iter()
        .filter(|event| event.type_ == "DELETED")
        .map(|event| text(&event.object, "/metadata/name"))
        .collect();
    assert_eq!(gone, ["redis-2", "redis-1", "redis-0"], "replicas from above, each once, the primary last");
    for status in statuses.seen().into_iter().filter_map(|event| event.object.status) {
        let away: Vec<&str> = status
            .instances
            .iter()
            .filter(|i| !matches!(i.state, InstanceState::Primary | InstanceState::InSync))
            .map(|i| i.pod.as_str())
            .collect();
        // Once the primary moves, the others have to follow it first.
        let moves = status.primary.is_none_or(|p| p.pod != "redis-0") || away.contains(&"redis-0");
        assert!(moves || away.len() <= 1, "away at once: {away:?}");
    }
    for pod in 0..3 {
        let answer = set.redis(&set.pod(pod), "CONFIG GET databases");
        assert_eq!(answer, "databases\n32");
        set.assert_keys(&set.pod(pod), 100);
    }
}

#[test]
fn deleted_and_created_again_over_its_volumes_it_has_every_key() {
    let (_namespace, set) = fresh("life-again");
    let took = set.up(json!({"storage": volumes()}));
    println!("apply to Ready, volumes: {:.1} s", took.as_secs_f64());
    set.write_keys(100);
    kubectl_in(&set.namespace, &["delete", "rrs", "redis"]);
    set.until("the pods are gone", || set.pods().is_empty().then_some(()));
    assert_eq!(list(&set.namespace, &["pvc"]).len(), 3, "volumes are kept");

    // At once, as `kubectl replace --force` would: the former pods may still be ending.
    let took = set.up(json!({"storage": volumes()}));
    println!("created again to Ready: {:.1} s", took.as_secs_f64());
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 100);
    }
    set.write_keys(200);
    kubectl_in(&set.namespace, &["delete", "rrs", "redis", "--wait=false"]);
    set.until("the set is gone", || get_opt(&set.namespace, &["rrs", "redis"]).is_none().then_some(()));
    set.up(json!({"storage": volumes()}));
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 200);
    }
}

/// Waits until the operator has repaired what the test broke just now.
fn repaired(set: &Set, what: &str, mut is_repaired: impl FnMut() -> bool) {
    let began = Instant::now();
    set.until(what, || is_repaired().then_some(()));
    println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    assert!(began.elapsed() <= REPAIRED_WITHIN, "{what}: took {:?}", began.elapsed());
}

#[test]
fn drift_is_repaired_and_what_others_added_stays() {
    let (_namespace, set) = fresh("life-drift");
    set.up(json!({}));
    let ns = set.namespace.as_str();
    kubectl_in(ns, &["label", "service", "redis-headless", "team=blue"]);
    kubectl_in(ns, &["annotate", "statefulset", "redis", "example.com/note=ours"]);
    kubectl_in(ns, &["annotate", "rrs", "redis", "example.com/note=ours"]);
    let uids = || -> Vec<String> { set.pods().iter().map(|pod| text(pod, "/metadata/uid")).collect() };
    let pods_before = uids();

    let budget = text(&get(ns, &["pdb", "redis"]), "/metadata/uid");
    kubectl_in(ns, &["delete", "pdb", "redis"]);
    repaired(&set, "the deleted PodDisruptionBudget is back", || {
        get_opt(ns, &["pdb", "redis"]).is_some_and(|new| text(&new, "/metadata/uid") != budget)
    });

    kubectl_in(ns, &["label", "service", "redis-headless", "app.kubernetes.io/managed-by-"]);
    repaired(&set, "the removed label is back", || {
        let found = get(ns, &["service", "redis-headless"]);
        found["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "redis-operator"
    });

    kubectl_in(ns, &["scale", "statefulset", "redis", "--replicas=2"]);
    repaired(&set, "the StatefulSet has its size again", || {
        get(ns, &["statefulset", "redis"])["spec"]["replicas"] == 3
    });
    set.wait_ready();

    kubectl_in(ns, &["delete", "service", "redis-headless"]);
    repaired(&set, "the deleted headless Service is back", || {
        get_opt(ns, &["service", "redis-headless"]).is_some()
    });
    // The new Service has none of what was put onto the old one; the others do.
    assert_eq!(get(ns, &["statefulset", "redis"])["metadata"]["annotations"]["example.com/note"], "ours");
    assert_eq!(get(ns, &["rrs", "redis"])["metadata"]["annotations"]["example.com/note"], "ours");
    set.wait_ready();
    assert_eq!(uids()[..2], pods_before[..2], "no repair restarts a pod");
}

/// Each of these edits leaves an object that the operator's own apply has to be merged with.
#[test]
fn an_edited_port_of_the_headless_service_is_repaired() {
    let (_namespace, set) = fresh("life-drift-port");
    set.up(json!({"replicas": 2}));
    let ns = set.namespace.as_str();
    let ports = || -> Vec<(Value, Value)> {
        let found = get(ns, &["service", "redis-headless"]);
        let ports = found["spec"]["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().map(|port| (port["name"].clone(), port["port"].clone())).collect()
    };
    for (what, patch) in [
        ("another name", r#"[{"op": "replace", "path": "/spec/ports/0/name", "value": "other"}]"#),
        ("another number", r#"[{"op": "replace", "path": "/spec/ports/0/port", "value": 7777}]"#),
    ] {
        kubectl_in(ns, &["patch", "service", "redis-headless", "--type=json", "-p", patch]);
        repaired(&set, &format!("a port with {what} is repaired"), || {
            ports() == [(json!("redis"), json!(6379))]
        });
    }
    set.wait_ready();
}

#[test]
fn labels_and_annotations_of_others_survive_an_apply() {
    let (_namespace, set) = fresh("life-foreign");
    set.up(json!({"replicas": 2}));
    let ns = set.namespace.as_str();
    let children = [
        "service/redis-headless",
        "service/redis",
        "service/redis-replicas",
        "configmap/redis-config",
        "statefulset/redis",
        "pdb/redis",
    ];
    for child in children {
        kubectl_in(ns, &["label", child, "team=blue"]);
        kubectl_in(ns, &["annotate", child, "example.com/note=ours"]);
    }
    set.up(json!({"replicas": 2, "config": {"databases": "32"}}));
    for child in children {
        let found = get(ns, &[child]);
        assert_eq!(found["metadata"]["labels"]["team"], "blue", "{child}");
        assert_eq!(found["metadata"]["annotations"]["example.com/note"], "ours", "{child}");
    }
}

#[test]
fn a_deleted_secret_is_named_with_the_remedy_and_its_return_heals() {
    let (_namespace, set) = fresh("life-secret");
    set.up(json!({"replicas": 2}));
    assert_eq!(set.redis("redis-0", "PING"), "PONG");
    let began = Instant::now();
    kubectl_in(&set.namespace, &["delete", "secret", "redis-auth"]);
    let (status, took) = set.wait("the status names the missing Secret", began, |status| {
        status.why("Degraded").starts_with("SecretMissing: ") && !status.is("Ready", "True")
    });
    println!("missing Secret named: {:.1} s: {}", took.as_secs_f64(), status.why("Ready"));
    for words in ["redis-auth", "Create it again"] {
        assert!(status.why("Degraded").contains(words), "{}", status.why("Degraded"));
    }

    // A pod that is made meanwhile starts all the same, and clients come in with what they have.
    kubectl_in(&set.namespace, &["delete", "pod", "redis-1"]);
    set.wait("the replica is back", began, |status| status.is("Replicated", "True"));
    assert_eq!(set.redis("redis-1", "PING"), "PONG");
    // As the remedy says; another value is as good, and reaches every server.
    kubectl_in(
        &set.namespace,
        &["create", "secret", "generic", "redis-auth", "--from-literal=password=next"],
    );
    let began = Instant::now();
    set.wait_ready();
    println!("Secret made again to Ready: {:.1} s", began.elapsed().as_secs_f64());
    let script = "REDISCLI_AUTH=next redis-cli --no-auth-warning ping";
    set.until("both passwords are taken", || {
        let answer =
            kubectl_in(&set.namespace, &["exec", "redis-0", "-c", "redis", "--", "sh", "-c", script]);
        let former = set.try_redis("redis-0", "PING");
        (answer.trim() == "PONG" && former.is_ok_and(|said| said == "PONG")).then_some(())
    });
}

#[test]
fn a_secret_that_was_there_before_is_used_and_left_alone() {
    let (_namespace, set) = fresh("life-own-secret");
    let literal = "--from-literal=password=chosen by a person";
    kubectl_in(&set.namespace, &["create", "secret", "generic", "redis-auth", literal]);
    let before = get(&set.namespace, &["secret", "redis-auth"]);
    set.up(json!({"replicas": 2}));
    let script = "REDISCLI_AUTH='chosen by a person' redis-cli --no-auth-warning ping";
    let answer = kubectl_in(&set.namespace, &["exec", "redis-0", "-c", "redis", "--", "sh", "-c", script]);
    assert_eq!(answer.trim(), "PONG");
    let refused = kubectl_in(&set.namespace, &["exec", "redis-0", "-c", "redis", "--", "redis-cli", "ping"]);
    assert!(refused.contains("NOAUTH"), "{refused}");
    let after = get(&set.namespace, &["secret", "redis-auth"]);
    assert_eq!(after, before, "nothing of it was changed");
    kubectl_in(&set.namespace, &["delete", "rrs", "redis"]);
    set.until("the pods are gone", || set.pods().is_empty().then_some(()));
    assert!(get_opt(&set.namespace, &["secret", "redis-auth"]).is_some(), "it belongs to the person");
}

#[test]
fn a_name_that_is_taken_is_said_and_served_once_it_is_free() {
    let (_namespace, set) = fresh("life-taken");
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "redis-headless", "namespace": set.namespace},
        "spec": {"selector": {"app": "other"}, "ports": [{"port": 80}]},
    });
    kubectl_with(&["apply", "-f", "-"], &foreign.to_string()).unwrap();
    let before = get(&set.namespace, &["service", "redis-headless"]);
    let began = Instant::now();
    set.apply(json!({}));
    let (status, took) = set.wait("the status says that the name is taken", began, |status| {
        status.is("Ready", "False") && status.why("Ready").starts_with("NameTaken: ")
    });
    println!("taken name named: {:.1} s: {}", took.as_secs_f64(), status.why("Ready"));
    assert!(status.why("Ready").contains("redis-headless"), "{}", status.why("Ready"));
    assert!(status.is("SpecValid", "False"));
    let after = get(&set.namespace, &["service", "redis-headless"]);
    assert_eq!(after, before, "the operator leaves it alone");
    assert!(get_opt(&set.namespace, &["statefulset", "redis"]).is_none());

    kubectl_in(&set.namespace, &["delete", "service", "redis-headless"]);
    let began = Instant::now();
    set.wait_ready();
    println!("name free to Ready: {:.1} s", began.elapsed().as_secs_f64());
}

/// One set's trouble is not another's: same names, two namespaces.
#[test]
fn two_sets_of_one_name_do_not_touch_each_other() {
    let (_one, first) = fresh("life-twin-a");
    let (_two, second) = fresh("life-twin-b");
    first.apply(json!({"replicas": 2}));
    second.apply(json!({"replicas": 1, "image": "localhost/redis:no-such-tag"}));
    first.wait_ready();
    second.wait("the other is stuck", Instant::now(), |s| s.why("Degraded").starts_with("PodStuck"));
    assert!(is_ready(&first.get()));
    kubectl_in(&second.namespace, &["delete", "rrs", "redis"]);
    second.until("the other's pods are gone", || second.pods().is_empty().then_some(()));
    assert_eq!(first.pods().len(), 2);
    assert!(is_ready(&first.get()));
}
