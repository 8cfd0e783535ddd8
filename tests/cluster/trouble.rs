//! Whatever a person writes, deletes, takes away or exhausts: the operator goes on looking, electing and telling.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use operator_core::api::RedisReplicaSetStatus;
use serde_json::{Value, json};

use crate::{
    support::{OPERATOR_NAMESPACE, Says, Set, get, get_opt, kill_redis, kubectl, kubectl_in, kubectl_with},
    truth::{ASTRAY_WITHIN, ephemeral, fresh, seconds},
};

/// From `kill -9` of the primary until the status names another that takes writes (`docs/evidence/figures.md` has the bar of a
/// healthy set: 4 s).
const REPLACED_WITHIN: Duration = Duration::from_secs(8);

/// Names a cause.
fn degraded_by(status: &RedisReplicaSetStatus, reason: &str) -> bool {
    status.is("Degraded", "True") && status.why("Degraded").starts_with(&format!("{reason}:"))
}

/// How often the pod's Redis was started again, and whether the kubelet calls it ready.
fn restarts(set: &Set, pod: &str) -> (u64, bool) {
    let status = &get(&set.namespace, &["pod", pod])["status"]["containerStatuses"][0];
    (status["restartCount"].as_u64().unwrap(), status["ready"].as_bool().unwrap())
}

/// Kills the primary, and waits until another one serves and the status says so.
fn replaces_its_primary(set: &Set, what: &str) -> String {
    let before = set.status().primary.unwrap();
    let killed = kill_redis(set, &before.pod);
    let (_, took) = set.wait(&format!("{what}: another primary"), killed, |status| {
        let elected = status.primary.as_ref().is_some_and(|p| p.epoch > before.epoch && p.pod != before.pod);
        elected && status.is("Available", "True")
    });
    println!("{what}: the killed primary was replaced after {:.2} s", seconds(took));
    assert!(took <= REPLACED_WITHIN, "{what}: took {took:?}");
    before.pod
}

/// Waits until every replica has its vote: without it the operator waits for the silent primary.
fn has_votes(set: &Set, what: &str) {
    set.until(&format!("{what}: votes"), || {
        let text = get_opt(&set.namespace, &["configmap", "redis-record"])?["data"]["record.json"]
            .as_str()?
            .to_owned();
        let record: Value = serde_json::from_str(&text).ok()?;
        (record["voters"].as_array()?.len() == 2).then_some(())
    });
}

/// Idle connections from a node, as an application holds them; they end with this value.
struct Clients(Child);

impl Clients {
    fn hold(set: &Set, pod: &str, count: usize) -> Self {
        let node = set.pod_field(pod, "/spec/nodeName");
        let address = set.pod_field(pod, "/status/podIP");
        let script = format!(
            "ulimit -S -n 12000; for i in $(seq {count}); do exec {{fd}}<>/dev/tcp/{address}/6379; done; cat"
        );
        let tool = std::env::var("CLUSTER").unwrap();
        let child = Command::new(tool)
            .args(["node", "exec", &node, "--", "bash", "-c", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // `cat` ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_at_its_client_limit_by_directive() {
    let (_namespace, set) = fresh("trouble-limit", &ephemeral());
    has_votes(&set, "before");
    let before = restarts(&set, "redis-1");
    let began = Instant::now();
    // The operator's connection and the link to the primary are more.
    assert_eq!(set.redis("redis-1", "CONFIG SET maxclients 1"), "OK");
    let (status, took) =
        set.wait("the limit is told", began, |status| degraded_by(status, "MaxClientsReached"));
    println!("a client limit by directive: {:.2} s: {}", seconds(took), status.why("Ready"));
    assert!(took <= ASTRAY_WITHIN, "took {took:?}");
    assert!(status.why("Degraded").contains("redis-1 (maxclients 1)"), "{}", status.why("Degraded"));
    assert!(status.is("Available", "True") && status.is("Replicated", "True"), "{status:?}");

    replaces_its_primary(&set, "beside a server at its client limit");
    // Over the connection that the operator holds.
    set.patch(&json!({"config": {"maxclients": "1000"}}));
    set.wait_ready();
    assert_eq!(set.redis("redis-1", "CONFIG GET maxclients"), "maxclients\n1000");
    assert_eq!(restarts(&set, "redis-1"), before, "mended without a restart");
}

#[test]
fn a_server_whose_clients_an_application_takes() {
    let (_namespace, set) = fresh("trouble-clients", &ephemeral());
    has_votes(&set, "before");
    let before = restarts(&set, "redis-0");
    let clients = Clients::hold(&set, "redis-0", 10_050);
    // Full, by its own refusal: the operator's view must not be what it is measured by.
    let full = || set.try_redis("redis-0", "PING").as_deref() != Ok("PONG");
    set.until("it is full", || full().then_some(()));
    let began = Instant::now();
    let (status, took) =
        set.wait("the limit is told", began, |status| degraded_by(status, "MaxClientsReached"));
    println!(
        "10,000 clients of an application: told {:.2} s after the server was full: {}",
        seconds(took),
        status.why("Ready")
    );
    assert!(took <= ASTRAY_WITHIN, "took {took:?}");
    assert!(status.is("Available", "True") && status.is("Replicated", "True"), "{status:?}");
    // Longer than two readiness probes.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(restarts(&set, "redis-0"), before, "its probes pass");
    drop(clients);
    let (_, took) =
        set.wait_within("all is well", Instant::now(), crate::support::PATIENCE, crate::support::is_ready);
    println!("told to be over {:.2} s after the clients ended", seconds(took));
    assert_eq!(restarts(&set, "redis-0"), before);

    // The primary is full and its process is killed: its replicas had all, and one of them takes over.
    let clients = Clients::hold(&set, "redis-0", 10_050);
    set.until("it is full again", || full().then_some(()));
    replaces_its_primary(&set, "with its clients exhausted");
    drop(clients);
    set.wait_ready();
}

/// One trouble: how it is brought about, and how it ends.
struct Trouble {
    what: &'static str,
    begin: Box<dyn Fn(&Set)>,
    end: Box<dyn Fn(&Set)>,
    /// The reason under which a condition names it.
    named: Option<&'static str>,
}

fn spec(what: &'static str, named: &'static str, begin: Value, end: Value) -> Trouble {
    Trouble {
        what,
        begin: Box::new(move |set| set.patch(&begin)),
        end: Box::new(move |set| set.patch(&end)),
        named: Some(named),
    }
}

/// The object belongs to another one from now on.
fn taken(what: &'static str, object: &'static str) -> Trouble {
    let own = move |set: &Set, owners: Value| {
        let patch = json!({"metadata": {"ownerReferences": owners}}).to_string();
        kubectl_in(&set.namespace, &["patch", object, "--type=merge", "-p", &patch]);
    };
    Trouble {
        what,
        begin: Box::new(move |set| {
            let other = get(&set.namespace, &["configmap", "kube-root-ca.crt"]);
            own(
                set,
                json!([{
                    "apiVersion": "v1", "kind": "ConfigMap", "name": "kube-root-ca.crt", "controller": true,
                    "uid": other["metadata"]["uid"],
                }]),
            );
        }),
        end: Box::new(move |set| own(set, Value::Null)),
        named: Some("NameTaken"),
    }
}

/// The operator may not change objects of this kind, and one of them is not as it should be.
fn refused(what: &'static str, group: &'static str, resource: &'static str, object: &'static str) -> Trouble {
    Trouble {
        what,
        begin: Box::new(move |set| {
            let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:redis-operator");
            let expression =
                format!("request.userInfo.username != '{user}' || object.metadata.name == 'redis-record'");
            let policy = json!({"apiVersion": "v1", "kind": "List", "items": [
                {
                    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
                    "metadata": {"name": set.namespace},
                    "spec": {
                        "matchConstraints": {
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": set.namespace}},
                            "resourceRules": [{
                                "apiGroups": [group], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": [resource],
                            }],
                        },
                        "validations": [{"expression": expression, "message": "frozen by the platform team"}],
                    },
                },
                {
                    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                    "metadata": {"name": set.namespace},
                    "spec": {"policyName": set.namespace, "validationActions": ["Deny"]},
                },
            ]});
            kubectl_with(&["apply", "-f", "-"], &policy.to_string()).unwrap();
            // The API server takes up a policy some time after it stored it.
            std::thread::sleep(Duration::from_secs(3));
            let drift = r#"{"metadata": {"labels": {"app.kubernetes.io/component": "drift"}}}"#;
            kubectl_in(&set.namespace, &["patch", object, "--type=merge", "-p", drift]);
        }),
        end: Box::new(|set| {
            for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
                kubectl(&["delete", kind, &set.namespace]);
            }
        }),
        named: Some("ApiError"),
    }
}

fn secret(what: &'static str, named: &'static str, patch: Option<Value>) -> Trouble {
    Trouble {
        what,
        begin: Box::new(move |set| match &patch {
            Some(patch) => {
                let patch = patch.to_string();
                kubectl_in(&set.namespace, &["patch", "secret", "redis-auth", "--type=merge", "-p", &patch]);
            }
            None => {
                kubectl_in(&set.namespace, &["delete", "secret", "redis-auth"]);
            }
        }),
        end: Box::new(|set| {
            let password =
                kubectl_in(&set.namespace, &["get", "configmap", "kept", "-o", "jsonpath={.data.password}"]);
            let manifest = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-auth", "namespace": set.namespace},
                "data": {"password": password},
            });
            kubectl_with(&["replace", "--force", "-f", "-"], &manifest.to_string()).unwrap();
        }),
        named: Some(named),
    }
}

fn troubles() -> Vec<Trouble> {
    let config = |value: Value| json!({"config": value});
    let memory = json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}});
    let nothing = || -> Box<dyn Fn(&Set)> { Box::new(|_| {}) };
    vec![
        spec(
            "a memory request above its limit",
            "InvalidSpec",
            json!({"resources": memory}),
            json!({"resources": null}),
        ),
        spec(
            "a directive that the servers refuse",
            "DirectiveRefused",
            config(json!({"hz": "often"})),
            config(json!({"hz": null})),
        ),
        spec(
            "an image that cannot read the data",
            "InvalidSpec",
            json!({"image": "localhost/redis:6.0"}),
            json!({"image": crate::support::IMAGE}),
        ),
        taken("the Service for writes belongs to another object", "service/redis"),
        taken("the headless Service does", "service/redis-headless"),
        taken("the ConfigMap does", "configmap/redis-config"),
        taken("the budget does", "poddisruptionbudget/redis"),
        taken("the StatefulSet does", "statefulset/redis"),
        refused("Services may not be changed", "", "services", "service/redis-headless"),
        refused("ConfigMaps may not be changed", "", "configmaps", "configmap/redis-config"),
        refused("StatefulSets may not be changed", "apps", "statefulsets", "statefulset/redis"),
        Trouble {
            what: "the record is gone",
            begin: Box::new(|set| {
                kubectl_in(&set.namespace, &["delete", "configmap", "redis-record"]);
            }),
            end: nothing(),
            named: None,
        },
        Trouble {
            what: "the record is broken",
            begin: Box::new(|set| {
                let broken = r#"{"data": {"record.json": "{"}}"#;
                kubectl_in(
                    &set.namespace,
                    &["patch", "configmap", "redis-record", "--type=merge", "-p", broken],
                );
            }),
            end: nothing(),
            named: None,
        },
        Trouble {
            what: "a quota refuses pods",
            begin: Box::new(|set| {
                kubectl_in(&set.namespace, &["create", "quota", "none", "--hard=pods=0"]);
            }),
            end: Box::new(|set| {
                kubectl_in(&set.namespace, &["delete", "quota", "none"]);
            }),
            named: None,
        },
        secret("the Secret is gone", "SecretMissing", None),
        secret("the Secret has an empty password", "SecretMissing", Some(json!({"data": {"password": ""}}))),
        secret(
            "the Secret has another password",
            "Rotating",
            Some(json!({"stringData": {"password": "another"}})),
        ),
    ]
}

#[test]
fn no_trouble_stops_an_election_or_the_truth() {
    let (_namespace, set) = fresh("trouble", &ephemeral());
    let password =
        kubectl_in(&set.namespace, &["get", "secret", "redis-auth", "-o", "jsonpath={.data.password}"]);
    kubectl_in(
        &set.namespace,
        &["create", "configmap", "kept", &format!("--from-literal=password={password}")],
    );
    for Trouble { what, begin, end, named } in troubles() {
        begin(&set);
        // The operator reads the Secret once a minute, and when the set changes.
        kubectl_in(
            &set.namespace,
            &["label", "--overwrite", "rrs", "redis", &format!("look=n{}", what.len())],
        );
        if let Some(reason) = named {
            set.wait(&format!("{what}: {reason} is told"), Instant::now(), |status| {
                status.conditions.iter().any(|condition| condition.reason == reason)
            });
        }
        set.wait(&format!("{what}: told as it is"), Instant::now(), |status| {
            status.is("Available", "True") && status.is("Replicated", "True")
        });
        has_votes(&set, what);
        let killed = replaces_its_primary(&set, what);
        end(&set);
        kubectl_in(&set.namespace, &["label", "--overwrite", "rrs", "redis", "look=again"]);
        // The kubelet waits longer each time before it starts a container that crashed; a new pod starts at once.
        kubectl_in(&set.namespace, &["delete", "pod", &killed]);
        set.wait_ready();
    }
    set.until("redis-cli can log in everywhere", || {
        (0..3).all(|n| set.try_redis(&set.pod(n), "PING").is_ok_and(|said| said == "PONG")).then_some(())
    });
    for ordinal in 0..3 {
        set.assert_keys(&set.pod(ordinal), 100);
    }
}

/// `kubectl delete --cascade=orphan`, and the same manifest again.
#[test]
fn a_set_that_is_made_again_over_its_own_objects_goes_on() {
    let (_namespace, set) = fresh("trouble-orphans", &ephemeral());
    has_votes(&set, "before");
    let uids = |set: &Set| {
        set.pods().iter().map(|pod| crate::support::text(pod, "/metadata/uid")).collect::<Vec<_>>()
    };
    let (pods, epoch) = (uids(&set), set.status().primary.unwrap().epoch);
    kubectl_in(&set.namespace, &["delete", "rrs", "redis", "--cascade=orphan"]);
    set.up(ephemeral());
    assert_eq!(uids(&set), pods, "no pod was replaced");
    assert_eq!(set.status().primary.unwrap().epoch, epoch, "by the record of before");
    set.assert_keys("redis-0", 100);
    let owners = get(&set.namespace, &["statefulset", "redis"])["metadata"]["ownerReferences"].clone();
    assert_eq!(owners[0]["uid"].as_str(), set.get().metadata.uid.as_deref());
    has_votes(&set, "after");
    replaces_its_primary(&set, "adopted");
    set.wait_ready();
}
