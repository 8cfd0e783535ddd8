//! What the status says in every situation that matters, in whole conditions; and what must hold in all others.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a step that fails is the test's failure"
)]

mod causes;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time};
use operator_core::fixtures::{self, answer, pod};
use operator_core::{
    api::{
        Reason, RedisReplicaSet, RedisReplicaSetStatus,
        status::{InstanceState, Primary},
    },
    credentials::{self, Missing, Taken},
    election::{
        Hold,
        divergence::{Divergence, is_published},
        snapshot::Snapshot,
    },
    events::{self, Notice},
    live_config::{Refused, Repaired, Report},
    names::SetName,
    observed::{NoAnswer, Observed, ObservedPod},
    plan::{Plan, Storage, plan},
    refusal,
    rollout::{next_pod::Roll, size::Size},
    settings::Settings,
    status::{derive, is_progress_only, outcome::Outcome},
    subject::Subject,
    topology::topology,
    volumes::Growth,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use redis_node::{
    PARKED,
    answer::{ProbeFailure, Refusal, Write},
    info::Replication,
    record::{Record, Serving},
};
use serde_json::json;

const REPLID: &str = "0123456789012345678901234567890123456789";

fn set() -> SetName {
    SetName::new("default", "redis")
}

fn host(ordinal: i32) -> String {
    set().fqdn(ordinal, "cluster.local")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn resource(wanted: i32, paused: bool) -> RedisReplicaSet {
    serde_json::from_value(json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {"name": "redis", "namespace": "default", "uid": "u-1", "generation": 7},
        "spec": {"replicas": wanted, "paused": paused},
    }))
    .unwrap()
}

fn a_plan(wanted: i32, paused: bool) -> Plan {
    let settings = Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "operator:1".into(),
        operator_namespace: "ops".into(),
    };
    plan(&resource(wanted, paused), &settings).unwrap()
}

fn an_ephemeral_plan(wanted: i32) -> Plan {
    let plan = a_plan(wanted, false);
    Plan {
        storage: Storage::Ephemeral,
        subject: Subject { has_volumes: false, ..plan.subject.clone() },
        ..plan
    }
}

/// A record of a set that redis-0 has served.
fn served(members: i32) -> Record {
    let serving = Serving {
        pod_uid: "uid-0".into(),
        run_id: "run".into(),
        replid: REPLID.into(),
        ..Serving::default()
    };
    Record {
        epoch: 1,
        primary: Some("redis-0".into()),
        seen_serving: Some(serving),
        ..Record::first((0..members).map(|ordinal| set().pod(ordinal)).collect(), true)
    }
}

fn says(ordinal: i32, replication: Replication) -> ObservedPod {
    pod(ordinal, Ok(answer(&host(ordinal), replication)))
}

fn silent(ordinal: i32, why: ProbeFailure) -> ObservedPod {
    pod(ordinal, Err(NoAnswer::Failed(why)))
}

/// A primary that lists the replicas with these ordinals.
fn serves(ordinal: i32, replicas: &[i32]) -> ObservedPod {
    let hosts: Vec<String> = replicas.iter().map(|replica| host(*replica)).collect();
    says(ordinal, fixtures::primary(REPLID, &hosts.iter().map(String::as_str).collect::<Vec<_>>()))
}

fn follows(ordinal: i32, primary: i32) -> ObservedPod {
    says(ordinal, fixtures::replica(REPLID, &host(primary)))
}

fn changed(mut pod: ObservedPod, change: impl FnOnce(&mut Replication)) -> ObservedPod {
    change(&mut pod.answer.as_mut().unwrap().info.replication);
    pod
}

fn link_down(pod: ObservedPod) -> ObservedPod {
    changed(pod, |replication| replication.upstream.as_mut().unwrap().link_up = false)
}

fn parked(ordinal: i32) -> ObservedPod {
    changed(follows(ordinal, 0), |replication| {
        let upstream = replication.upstream.as_mut().unwrap();
        (upstream.host, upstream.port, upstream.link_up) = (PARKED.0.to_owned(), PARKED.1, false);
    })
}

/// Three servers as they should be.
fn healthy() -> Vec<ObservedPod> {
    vec![serves(0, &[1, 2]), follows(1, 0), follows(2, 0)]
}

/// What a reconcile of this set found out.
#[derive(Clone, Debug)]
struct Pass {
    subject: Subject,
    pods: Option<Vec<ObservedPod>>,
    outcome: Outcome,
}

/// Every server took what the Secrets say, but for these.
fn took(missing: Vec<Missing>) -> credentials::Report {
    let application = Taken { current: Some("a".into()), since: Some(at(-100)), ..Taken::default() };
    credentials::Report {
        application,
        changing: Vec::new(),
        unknown: false,
        without_password: Vec::new(),
        refused: Vec::new(),
        own: None,
        missing,
    }
}

/// A pass over a set of three that went well and saw these pods.
fn saw(pods: Vec<ObservedPod>) -> Pass {
    let plan = a_plan(3, false);
    Pass {
        subject: plan.subject.clone(),
        pods: Some(pods),
        outcome: Outcome {
            plan: Some(plan),
            record: Some(served(3)),
            write: Some(Write::Taken),
            config: Some(Report::default()),
            users: Some(took(Vec::new())),
            size: Some(Size { replicas: 3, members: Vec::new(), blocked: None }),
            roll: Some(Roll::Done),
            ..Outcome::default()
        },
    }
}

impl Pass {
    /// The same with another outcome.
    fn and(mut self, change: impl FnOnce(&mut Outcome)) -> Self {
        change(&mut self.outcome);
        self
    }

    /// The same of a set that is asked for in another way.
    fn of(self, plan: Plan) -> Self {
        Self { subject: plan.subject.clone(), outcome: Outcome { plan: Some(plan), ..self.outcome }, ..self }
    }

    /// The same of a set that is being deleted.
    fn deleted(mut self, finalizers: Option<Vec<String>>) -> Self {
        self.subject.finalizers = finalizers;
        self
    }

    /// The same where nobody was asked.
    fn unseen(self) -> Self {
        Self { pods: None, ..self }
    }

    fn look(&self) -> Option<Snapshot> {
        let observed = Observed { pods: self.pods.clone()? };
        let host_of = |pod: &str| set().ordinal(pod).map(host).unwrap_or_default();
        let nobody = Record::first(Vec::new(), true);
        let topology = topology(host_of, self.outcome.record.as_ref().unwrap_or(&nobody), &observed);
        Some(Snapshot { observed, topology, ..Snapshot::default() })
    }

    fn status(&self, before: Option<&RedisReplicaSetStatus>, now: Timestamp) -> RedisReplicaSetStatus {
        let outcome = Outcome { look: self.look(), ..self.outcome.clone() };
        derive(before, &self.subject, &outcome, now)
    }
}

/// `Ready=True Verified: message`, one a condition.
fn lines(status: &RedisReplicaSetStatus) -> Vec<String> {
    status
        .conditions
        .iter()
        .map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message))
        .collect()
}

fn held(reason: Reason, message: &str) -> Hold {
    Hold { reason, message: message.to_owned() }
}

fn refused(ordinal: i32) -> refusal::Refused {
    let pod = set().pod(ordinal);
    let words = format!(
        "pods \"{pod}\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
    );
    refusal::Refused { pod, words }
}

/// Situations by name; tests/golden/conditions.snap has the conditions of each.
fn situations() -> Vec<(&'static str, Pass)> {
    let failed = |category, text: &str| {
        saw(Vec::new())
            .of(a_plan(3, false))
            .and(|o| {
                o.record = None;
                o.size = None;
                o.roll = None;
                o.fail(category, text);
            })
            .unseen()
    };
    let new = Record::first(vec!["redis-0".into()], true);
    vec![
        (
            "a new set before anything was read",
            failed(Reason::ApiError, "cannot get StatefulSet default/redis: connection refused").and(|o| {
                o.plan = None;
            }),
        ),
        (
            "bootstrap, no pod yet",
            saw(Vec::new()).and(|o| {
                o.record = Some(new.clone());
                o.hold = Some(held(Reason::MemberUnreachable, "waiting for redis-0"));
                o.size = Some(Size { replicas: 1, members: Vec::new(), blocked: None });
            }),
        ),
        (
            "bootstrap, the API server refuses the first pod",
            saw(Vec::new()).and(|o| {
                o.record = Some(new.clone());
                o.hold = Some(held(Reason::MemberUnreachable, "waiting for redis-0"));
                o.refused = vec![refused(0)];
            }),
        ),
        (
            "bootstrap, the first member is parked",
            saw(vec![parked(0)]).and(|o| {
                o.record = Some(new.clone());
            }),
        ),
        ("the others join", saw(vec![serves(0, &[1]), follows(1, 0), pod(2, Err(NoAnswer::NotStarted))])),
        ("healthy", saw(healthy())),
        (
            "one pod alone, as wanted",
            saw(vec![serves(0, &[])]).of(a_plan(1, false)).and(|o| {
                o.record = Some(served(1));
            }),
        ),
        (
            "one pod alone, with its data in it",
            saw(vec![serves(0, &[])]).of(an_ephemeral_plan(1)).and(|o| {
                o.record = Some(served(1));
            }),
        ),
        ("data in the pods", saw(healthy()).of(an_ephemeral_plan(3))),
        (
            "volumes grow",
            saw(healthy()).and(|o| {
                o.growth = Some(Growth {
                    size: "2Gi".into(),
                    running: vec!["data-redis-0 (Resizing)".into(), "data-redis-1 (just asked for)".into()],
                    refused: Vec::new(),
                });
            }),
        ),
        (
            "volumes may not grow",
            saw(healthy()).and(|o| {
                o.growth = Some(Growth {
                    size: "2Gi".into(),
                    running: Vec::new(),
                    refused: vec!["data-redis-0 (the class does not support it)".into()],
                });
            }),
        ),
        (
            "a replica that lags",
            saw(vec![
                serves(0, &[1, 2]),
                follows(1, 0),
                changed(follows(2, 0), |r| r.upstream.as_mut().unwrap().last_io_seconds = 60),
            ]),
        ),
        ("a replica without its link", saw(vec![serves(0, &[1]), follows(1, 0), link_down(follows(2, 0))])),
        (
            "a replica that gives no answer",
            saw(vec![
                serves(0, &[1, 2]),
                follows(1, 0),
                silent(2, ProbeFailure::Timeout(Duration::from_secs(2))),
            ]),
        ),
        (
            "a pod that cannot start",
            saw(vec![
                serves(0, &[1]),
                follows(1, 0),
                ObservedPod {
                    stuck: Some("ImagePullBackOff: no such image".into()),
                    ..pod(2, Err(NoAnswer::NotStarted))
                },
            ]),
        ),
        (
            "the API server refuses a replica's pod",
            saw(vec![serves(0, &[1]), follows(1, 0)]).and(|o| {
                o.refused = vec![refused(2)];
            }),
        ),
        (
            "the API server refuses a replica's pod, and the primary is full",
            saw(vec![serves(0, &[1]), follows(1, 0)]).and(|o| {
                o.refused = vec![refused(2)];
                o.write = Some(Write::Refused(Refusal::MemoryFull, "OOM".into()));
            }),
        ),
        (
            "the API server refuses a pod, and the election waits for it",
            saw(vec![parked(0), link_down(follows(1, 0))]).and(|o| {
                o.refused = vec![refused(2)];
                o.hold =
                    Some(held(Reason::MemberUnreachable, "no server is known to serve; waiting for redis-2"));
            }),
        ),
        (
            "the API server refuses a pod, and the election waits for a person",
            saw(vec![parked(0), link_down(follows(1, 0))]).and(|o| {
                o.refused = vec![refused(2)];
                o.hold = Some(held(Reason::HistoriesDiffer, "the histories differ"));
            }),
        ),
        (
            "the primary's process ended",
            saw(vec![silent(0, ProbeFailure::Refused), link_down(follows(1, 0)), link_down(follows(2, 0))])
                .and(|o| {
                    o.hold = Some(held(
                        Reason::MemberUnreachable,
                        "nobody is known to serve; waiting for redis-0",
                    ));
                }),
        ),
        (
            "the primary came back parked",
            saw(vec![parked(0), link_down(follows(1, 0)), link_down(follows(2, 0))]),
        ),
        (
            "two serve",
            saw(vec![serves(0, &[2]), serves(1, &[]), follows(2, 0)]).and(|o| {
                o.hold = Some(held(
                    Reason::UnexpectedPrimary,
                    "redis-1 serves as primary, but the primary of record is redis-0",
                ));
            }),
        ),
        (
            "another server at a pod's address",
            saw(vec![
                serves(0, &[1, 2]),
                follows(1, 0),
                pod(2, Ok(answer("elsewhere", fixtures::primary(REPLID, &[])))),
            ]),
        ),
        (
            "the Secret is gone",
            saw((0..3).map(|n| pod(n, Err(NoAnswer::NoPassword))).collect()).and(|o| {
                o.password_missing = true;
            }),
        ),
        (
            "pods of a former set",
            saw(Vec::new())
                .and(|o| {
                    o.record = None;
                    o.size = None;
                    o.roll = None;
                    o.hold = Some(held(
                        Reason::LeftoverPods,
                        "waiting for the pods of a former set of this name to end",
                    ));
                })
                .unseen(),
        ),
        (
            "the API server failed before the look",
            failed(Reason::ApiError, "cannot get Service default/redis-headless"),
        ),
        (
            "the API server failed after the look",
            saw(healthy()).and(|o| {
                o.size = None;
                o.roll = None;
                o.fail(Reason::ApiError, "cannot apply StatefulSet default/redis");
            }),
        ),
        (
            "the spec is invalid, and the servers are as they should be",
            saw(healthy()).and(|o| {
                o.plan = None;
                o.size = None;
                o.roll = None;
                o.fail(Reason::InvalidSpec, "spec.storage.size: is not a quantity");
            }),
        ),
        (
            "the spec is invalid, and no server serves",
            saw(vec![parked(0), follows(1, 0), follows(2, 0)]).and(|o| {
                o.plan = None;
                o.size = None;
                o.roll = None;
                o.hold = Some(held(Reason::MemberUnreachable, "redis-0 does not answer"));
                o.fail(Reason::InvalidSpec, "spec.storage.size: is not a quantity");
            }),
        ),
        (
            "the spec is invalid, and the servers were not asked",
            failed(Reason::InvalidSpec, "spec.storage.size: is not a quantity").and(|o| {
                o.plan = None;
            }),
        ),
        (
            "a blocked change",
            saw(healthy()).and(|o| {
                o.size = None;
                o.roll = None;
                o.fail(
                    Reason::ImmutableFieldChanged,
                    "StatefulSet default/redis cannot be changed in spec.volumeClaimTemplates",
                );
            }),
        ),
        (
            "paused",
            saw(healthy()).of(a_plan(3, true)).and(|o| {
                o.size = None;
                o.roll = None;
            }),
        ),
        (
            "paused while a replica is away",
            saw(vec![serves(0, &[1]), follows(1, 0), link_down(follows(2, 0))]).of(a_plan(3, true)).and(
                |o| {
                    o.size = None;
                    o.roll = None;
                },
            ),
        ),
        (
            "a roll replaces a pod",
            saw(healthy()).and(|o| {
                o.roll = Some(Roll::Replace {
                    pod: "redis-2".into(),
                    uid: "u".into(),
                    why: "its template was changed".into(),
                });
            }),
        ),
        (
            "a roll waits",
            saw(vec![serves(0, &[1]), follows(1, 0), pod(2, Err(NoAnswer::NotStarted))]).and(|o| {
                o.roll = Some(Roll::Wait("redis-2 must be verified before the next pod is replaced".into()));
            }),
        ),
        (
            "a change that Kubernetes has not seen",
            saw(healthy()).and(|o| {
                o.roll = Some(Roll::Unknown);
            }),
        ),
        (
            "a scale-down that waits",
            saw(vec![serves(0, &[2]), link_down(follows(1, 0)), follows(2, 0)]).of(a_plan(2, false)).and(
                |o| {
                    o.size = Some(Size {
                        replicas: 3,
                        members: Vec::new(),
                        blocked: Some("waiting for redis-1".into()),
                    });
                },
            ),
        ),
        ("a scale-down whose last pod still runs", saw(healthy()).of(a_plan(2, false))),
        (
            "as many as wanted, but one of them is another",
            saw(vec![serves(0, &[1, 3]), follows(1, 0), follows(3, 0)]),
        ),
    ]
}

/// Ready, Available and Degraded of a set in sync whose primary answered so to a write.
fn told_of(write: Write) -> [String; 3] {
    let mut lines = lines(
        &saw(healthy())
            .and(|o| {
                o.write = Some(write);
            })
            .status(None, at(0)),
    );
    [lines.remove(4), lines.remove(1), lines.remove(0)]
}

/// Regression: a set in sync whose every write was refused was Ready.
#[test]
fn a_primary_that_takes_no_writes_is_not_available() {
    let refused = |why, words: &str| Write::Refused(why, words.to_owned());
    for (write, reason, words, needs_a_person) in [
        (
            refused(Refusal::SavingFails, "MISCONF snapshots"),
            "SavingFails",
            "MISCONF snapshots. Its log",
            true,
        ),
        (refused(Refusal::AppendingFails, "MISCONF AOF"), "AppendingFails", "MISCONF AOF. Give", true),
        (refused(Refusal::MemoryFull, "OOM used"), "MemoryFull", "OOM used. Delete", true),
        (
            refused(Refusal::TooFewReplicas, "NOREPLICAS few"),
            "TooFewReplicas",
            "NOREPLICAS few. No replica",
            false,
        ),
        (Write::Paused, "ClientsPaused", "(CLIENT PAUSE). CLIENT UNPAUSE", true),
    ] {
        let [degraded, available, ready] = told_of(write);
        let wanted = format!("{reason}: redis-0 serves, but takes no writes: ");
        assert!(available.starts_with(&format!("Available=False {wanted}")), "{available}");
        assert!(available.contains(words), "{available}");
        assert!(ready.starts_with(&format!("Ready=False {wanted}")), "{ready}");
        assert_eq!(degraded.starts_with(&format!("Degraded=True {wanted}")), needs_a_person, "{degraded}");
    }
}

#[test]
fn a_write_that_nobody_answered_is_unknown() {
    let [degraded, available, ready] = told_of(Write::Unknown(ProbeFailure::Timeout(Duration::from_secs(1))));
    let words =
        "PrimaryUnreachable: redis-0 answered that it serves, and then took no write: no answer within 1s";
    assert_eq!(available, format!("Available=Unknown {words}"));
    assert_eq!(ready, format!("Ready=Unknown {words}"));
    assert_eq!(degraded, "Degraded=False AsExpected: nothing needs a person");
    // A user with few rights says nothing about writes.
    let [_, available, _] = told_of(Write::Unknown(ProbeFailure::Reply("NOPERM to SETRANGE".into())));
    assert_eq!(available, "Available=True PrimaryServes: redis-0 serves");
}

/// An older time means that nobody looks any more, so it may not be left to what happens to change.
#[test]
fn the_time_of_the_last_look_is_renewed_every_ten_minutes() {
    let pass = saw(healthy());
    let first = pass.status(None, at(0));
    assert_eq!(first.last_probe_time, Some(Time(at(0))));
    let at_rest = pass.status(Some(&first), at(599));
    assert_eq!(at_rest, first, "one write in ten minutes");
    let renewed = pass.status(Some(&first), at(600));
    assert_eq!(renewed, RedisReplicaSetStatus { last_probe_time: Some(Time(at(600))), ..first.clone() });
    let changed = saw(vec![serves(0, &[1]), follows(1, 0), link_down(follows(2, 0))]);
    assert_eq!(
        changed.status(Some(&first), at(5)).last_probe_time,
        Some(Time(at(5))),
        "it is written anyway"
    );
    let not_asked = pass
        .and(|o| {
            o.fail(Reason::ApiError, "x");
        })
        .unseen();
    assert_eq!(not_asked.status(Some(&first), at(700)).last_probe_time, first.last_probe_time);
}

/// Regression: of a set with a foreign finalizer, and of one that could not be read, the last True stayed.
#[test]
fn a_set_that_is_deleted_or_unreadable_is_told_about() {
    let deleted = saw(healthy()).deleted(Some(vec!["example.com/backup".into()]));
    let words = "Deleting: the set is being deleted, and stays until these finalizers are gone: example.com/backup. Until then its servers are looked after; its objects are left to Kubernetes";
    let told = lines(&deleted.status(None, at(0)));
    assert_eq!(
        (told[0].as_str(), told[3].as_str()),
        (&*format!("Ready=False {words}"), &*format!("Progressing=True {words}"))
    );
    assert_eq!(told[1], "Available=True PrimaryServes: redis-0 serves");

    let text = "this RedisReplicaSet cannot be read: invalid type";
    let unreadable = saw(healthy()).and(|o| {
        o.plan = None;
        o.size = None;
        o.roll = None;
        o.users = None;
        o.fail(Reason::Unreadable, text);
    });
    assert_eq!(
        lines(&unreadable.status(None, at(0))),
        [
            &format!("Ready=False Unreadable: {text}"),
            "Available=True PrimaryServes: redis-0 serves",
            "Replicated=True AllInSync: 2 of 2 replicas verified in sync",
            "Progressing=False ReconcileFailed: the set cannot be read, so the operator watches its servers and changes nothing",
            &format!("Degraded=True Unreadable: {text}"),
            &format!("CredentialsCurrent=Unknown Unreadable: {text}"),
            &format!("SpecValid=False Unreadable: {text}"),
        ]
    );
}

/// Regression: a primary to which no Service leads was Ready, and one that still serves was called none.
#[test]
fn the_kubelets_word_on_the_primary_counts() {
    let [mut not_ready, mut ends, mut moves] = [healthy(), healthy(), healthy()];
    not_ready[0].ready = false;
    ends[0].terminating = true;
    moves[0] = changed(serves(0, &[1, 2]), |r| r.failover_state = "waiting-for-sync".into());
    for (pods, available, ready) in [
        (
            not_ready,
            "Available=False PodNotReady: redis-0 serves, but the kubelet does not call its pod Ready, so no Service leads to it",
            "Ready=False PodNotReady",
        ),
        (
            ends,
            "Available=True PrimaryServes: redis-0 serves; its pod is being deleted",
            "Ready=False ReplicasNotInSync",
        ),
        (
            moves,
            "Available=False SwitchingOver: redis-0 hands its role over; writes wait",
            "Ready=False SwitchingOver",
        ),
    ] {
        let lines = lines(&saw(pods).status(None, at(0)));
        assert_eq!(lines[1], available);
        assert!(lines[0].starts_with(ready), "{}", lines[0]);
    }
}

#[test]
fn every_situation_in_whole_conditions() {
    let told = situations().into_iter().map(|(name, pass)| {
        let conditions = lines(&pass.status(None, at(0))).join("\n");
        format!("# {name}\n{conditions}\n")
    });
    insta::with_settings!({snapshot_path => "../../../../tests/golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("conditions", told.collect::<Vec<_>>().join("\n"));
    });
}

#[test]
fn the_figures_of_a_healthy_set() {
    let status = saw(healthy()).status(None, at(0));
    assert_eq!((status.replicas, status.ready_replicas, status.synced_replicas), (3, 3, 2));
    assert_eq!((status.summary.replicas.as_str(), status.summary.synced.as_str()), ("3/3", "2/2"));
    assert_eq!(status.primary, Some(Primary { pod: "redis-0".into(), epoch: 1 }));
    assert_eq!(status.master_host.as_deref(), Some("redis-0.redis-headless.default.svc.cluster.local"));
    assert_eq!(status.observed_generation, Some(7));
    let instance = &status.instances[1];
    assert_eq!(instance.master_host, status.master_host);
    assert_eq!((instance.link.as_deref(), instance.version.as_deref()), (Some("up"), Some("7.0.15")));
    assert_eq!(
        (instance.replid.as_deref(), &instance.message, &instance.since),
        (Some(REPLID), &None, &Some(Time(at(0))))
    );
}

/// What was true is not claimed when it could not be asked again.
#[test]
fn nothing_is_kept_true_without_evidence() {
    let before = saw(healthy()).status(None, at(0));
    for (name, pass) in situations() {
        if pass.pods.is_some() {
            continue;
        }
        let after = pass.status(Some(&before), at(5));
        for condition in &after.conditions[..3] {
            assert_ne!(condition.status, "True", "{name}: {condition:?}");
        }
        assert_eq!((after.ready_replicas, after.synced_replicas), (0, 0), "{name}");
        for instance in &after.instances {
            assert_eq!(
                (instance.state, &instance.role, &instance.link),
                (InstanceState::Unreachable, &None, &None),
                "{name}"
            );
        }
        // Who is primary of record is a decision, not an answer: it stands until it is known to have changed.
        assert_eq!((&after.primary, &after.master_host), (&before.primary, &before.master_host), "{name}");
    }
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let mut pass = saw(healthy());
    pass.outcome.fail(Reason::ApiError, "ä".repeat(5000));
    let status = pass.status(None, at(0));
    let degraded = status.conditions.iter().find(|c| c.type_ == "Degraded").unwrap();
    assert_eq!(degraded.message.chars().count(), 1024);
    assert!(degraded.message.ends_with("ä…"));
}

fn described(notices: &[Notice]) -> Vec<String> {
    let type_ = |notice: &Notice| if notice.warning { "Warning" } else { "Normal" };
    notices.iter().map(|n| format!("{} {}: {}", type_(n), n.reason, n.note)).collect()
}

#[test]
fn events_tell_of_transitions() {
    let healthy_status = saw(healthy()).status(None, at(0));
    let told = events::transitions(None, &healthy_status);
    assert_eq!(described(&told), ["Normal Ready: redis-0 serves; 2 of 2 replicas verified in sync"]);

    let lost = saw(vec![serves(0, &[1]), follows(1, 0), silent(2, ProbeFailure::Refused)])
        .status(Some(&healthy_status), at(1));
    let told = events::transitions(Some(&healthy_status), &lost);
    assert_eq!(
        described(&told),
        [
            "Warning NotReady: ReplicasUnreachable: 1 of 2 replicas verified in sync; redis-2 Unreachable (connection refused)"
        ]
    );

    let mut failover = saw(vec![parked(0), serves(1, &[2]), follows(2, 1)]);
    failover.outcome.record = Some(Record { epoch: 2, primary: Some("redis-1".into()), ..served(3) });
    let failover = failover.status(Some(&lost), at(2));
    let told = events::transitions(Some(&lost), &failover);
    assert_eq!(described(&told), ["Normal PrimaryChanged: redis-1 is the primary from epoch 2 on"]);

    // Data is given up: told once, before it happens, and it stays in the status.
    let divergence = Divergence {
        pod: "redis-0".into(),
        run_id: "run-0".into(),
        replid: REPLID.into(),
        bytes: 320,
        epoch: 2,
    };
    let mut diverged = saw(vec![parked(0), serves(1, &[2]), follows(2, 1)]);
    diverged.outcome.record = Some(Record { epoch: 2, primary: Some("redis-1".into()), ..served(3) });
    diverged.outcome.diverged = vec![divergence.clone()];
    let told_of = diverged.status(Some(&failover), at(3));
    assert!(!is_progress_only(Some(&failover), &told_of), "it must not be held back");
    assert_eq!(
        described(&events::transitions(Some(&failover), &told_of)),
        [format!(
            "Warning DataDiverged: redis-0 has 320 bytes of history {REPLID} that the primary of epoch 2 does not have; \
             they are lost as it follows that primary"
        )]
    );
    let again = diverged.status(Some(&told_of), at(9));
    assert_eq!(again.divergences, told_of.divergences);
    assert!(is_published(&again.divergences[0], &divergence));
    let after = saw(healthy()).status(Some(&again), at(10));
    assert_eq!(after.divergences, told_of.divergences, "what was lost stays known");
    diverged.outcome.diverged = vec![Divergence { run_id: "run-9".into(), ..divergence.clone() }];
    let another = diverged.status(Some(&after), at(11)).divergences;
    assert_eq!((another.len(), another[0].run_id.as_str()), (1, "run-9"), "the last case of each pod");

    // One Event although two conditions speak of it.
    let invalid = saw(Vec::new()).and(|o| {
        o.plan = None;
        o.fail(Reason::InvalidSpec, "spec.x: no");
    });
    let told = events::transitions(Some(&lost), &invalid.status(Some(&lost), at(3)));
    assert_eq!(described(&told), ["Warning InvalidSpec: spec.x: no"]);

    // The same condition for another reason is news.
    let stuck = saw(healthy())
        .and(|o| {
            o.fail(Reason::ApiError, "no");
        })
        .status(Some(&lost), at(3));
    let other = saw(healthy())
        .and(|o| {
            o.fail(Reason::CommandFailed, "no");
        })
        .status(Some(&stuck), at(4));
    assert_eq!(described(&events::transitions(Some(&stuck), &other)), ["Warning CommandFailed: no"]);
}

fn spec_valid(status: &RedisReplicaSetStatus) -> String {
    lines(status).pop().unwrap()
}

#[test]
fn a_refused_directive_is_named_until_a_pass_knows_better() {
    let refused =
        |name: &str| Refused { pod: "redis-2".into(), name: name.into(), words: "ERR no number".into() };
    let report = Report { refused: vec![refused("hz"), refused("timeout")], ..Report::default() };
    let told = saw(healthy())
        .and(|o| {
            o.config = Some(report);
        })
        .status(None, at(0));
    assert_eq!(
        spec_valid(&told),
        "SpecValid=False DirectiveRefused: spec.config.hz: redis-2 refuses the value: ERR no number; \
         spec.config.timeout: redis-2 refuses the value: ERR no number. Correct or remove it; until then the servers \
         keep what they have, and everything else is carried out"
    );
    assert!(
        lines(&told)[1].starts_with("Available=True")
            && lines(&told)[0].starts_with("Ready=False DirectiveRefused")
    );

    // A pass that could tell nobody: what was said to the same spec still counts.
    let untold = saw(healthy()).and(|o| {
        o.config = None;
    });
    let later = untold.status(Some(&told), at(1));
    assert_eq!(later.conditions, told.conditions);
    let mut edited = told.clone();
    edited.conditions.iter_mut().for_each(|c| c.observed_generation = Some(6));
    assert_eq!(
        spec_valid(&untold.status(Some(&edited), at(1))),
        "SpecValid=True Valid: every field can be carried out"
    );
    assert!(
        saw(healthy()).status(Some(&told), at(1)).is_ready(),
        "and a pass in which all was taken ends it"
    );
}

#[test]
fn who_may_log_in_is_told() {
    let told = |pass: Pass| lines(&pass.status(None, at(0)))[5].clone();
    let with = |change: fn(&mut credentials::Report)| {
        let mut report = took(Vec::new());
        change(&mut report);
        told(saw(healthy()).and(|o| o.users = Some(report)))
    };
    let no_answer = || Missing { pod: "redis-2".into(), why: None };
    insta::assert_snapshot!(
        [
            told(saw(healthy())),
            told(saw(healthy()).and(|o| o.users = Some(took(vec![no_answer()])))),
            with(|report| report.application.open = true),
            with(|report| report.unknown = true),
            with(|report| report.changing = vec![("default".into(), Some(at(-100)), None)]),
            with(|report| {
                report.changing = vec![("default".into(), Some(at(-100)), Some(at(200)))];
                report.missing = vec![Missing { pod: "redis-1".into(), why: Some("connection refused".into()) }];
            }),
            with(|report| report.own = Some((at(-100), Some(at(200))))),
            with(|report| report.changing = vec![("app".into(), Some(at(-100)), Some(at(200)))]),
            with(|report| report.without_password = vec!["app".into()]),
            with(|report| report.refused = vec!["user app: redis-2 refuses ERR Error in ACL SETUSER modifier '+nope'".into()]),
            told(saw(healthy()).deleted(Some(Vec::new())).and(|o| o.users = None)),
            told(saw(healthy()).unseen().and(|o| o.users = None)),
        ]
        .join("\n"),
        @r"
        CredentialsCurrent=True AsInSecrets: every server took a login with the password in Secret redis-auth, and takes no other
        CredentialsCurrent=Unknown NotTakenYet: redis-2: it gives no answer
        CredentialsCurrent=True AuthDisabled: spec.auth.disabled is set: whoever reaches the port can read, write and delete everything
        CredentialsCurrent=False SecretMissing: Secret redis-auth or its key password is gone, or empty; the servers take what they took before
        CredentialsCurrent=False Rotating: the password in Secret redis-auth changed at 2027-01-15T07:58:20Z; the former ones are taken as well, until every server has taken the new ones
        CredentialsCurrent=False Rotating: the password in Secret redis-auth changed at 2027-01-15T07:58:20Z; the former ones are taken until 2027-01-15T08:03:20Z; not yet taken by redis-1: connection refused
        CredentialsCurrent=False Rotating: the operator's own passwords changed at 2027-01-15T07:58:20Z; the former ones are taken until 2027-01-15T08:03:20Z
        CredentialsCurrent=False Rotating: the password of user app changed at 2027-01-15T07:58:20Z; the former ones are taken until 2027-01-15T08:03:20Z
        CredentialsCurrent=False SecretMissing: the Secret of spec.users, or its key password, is missing or empty for app; nobody else is concerned
        CredentialsCurrent=False UserRefused: user app: redis-2 refuses ERR Error in ACL SETUSER modifier '+nope'. Correct spec.users; the user stays as it was
        CredentialsCurrent=Unknown NotProbed: the operator changes nothing about the set, so it does not try the passwords
        CredentialsCurrent=Unknown NotProbed: the operator did not ask the servers in the last reconcile
        "
    );
}

#[test]
fn memory_that_leaves_no_room_is_warned_of_once() {
    let mut plan = a_plan(3, false);
    plan.directives = [("maxmemory".to_owned(), "900mb".to_owned())].into();
    plan.resources.limits = [("memory".to_owned(), Quantity("1Gi".into()))].into();
    let before = saw(healthy()).status(None, at(0));
    let tight = saw(healthy()).of(plan);
    let warned = tight.status(Some(&before), at(1));
    assert!(
        spec_valid(&warned)
            .starts_with("SpecValid=True MemoryTight: spec.config.maxmemory 900mb is more than 80 %")
    );
    assert!(warned.is_ready(), "a warning refuses nothing");
    let told = described(&events::transitions(Some(&before), &warned));
    assert!(
        told.len() == 1 && told[0].starts_with("Warning MemoryTight: spec.config.maxmemory 900mb"),
        "{told:?}"
    );
    assert_eq!(described(&events::transitions(Some(&warned), &tight.status(Some(&warned), at(2)))), [""; 0]);
}

#[test]
fn a_repaired_directive_is_told_of() {
    let repaired = Repaired {
        pod: "redis-1".into(),
        name: "maxmemory".into(),
        readings: ("5".into(), "1073741824".into()),
    };
    assert_eq!(
        described(&[events::repaired(&repaired)]),
        [
            "Warning ConfigDrift: maxmemory had been changed on redis-1 to \"5\" and was set back to \"1073741824\"; to \
             change it for good, change spec.config"
        ]
    );
}

/// A change of the status as a test sees it.
type Change = fn(&mut RedisReplicaSetStatus);

#[test]
fn mere_progress() {
    let unready = |ready: i32| {
        let mut status = saw(vec![serves(0, &[]), parked(1), parked(2)]).status(None, at(0));
        status.ready_replicas = ready;
        status
    };
    let table: [(&str, bool, Change); 10] = [
        ("nothing", true, |_| {}),
        ("a state", true, |s| s.instances[1].state = InstanceState::Syncing),
        ("a server more", true, |s| s.ready_replicas = 2),
        ("a message", true, |s| s.conditions[2].message = "1 of 2".into()),
        ("a server less", false, |s| s.ready_replicas = 0),
        ("a condition", false, |s| s.conditions[1].status = "Unknown".into()),
        ("what a person must act on", false, |s| s.conditions[4].reason = "PodRefused".into()),
        ("Ready", false, |s| s.conditions[0].status = "True".into()),
        ("the primary", false, |s| s.primary = None),
        ("the spec", false, |s| s.observed_generation = Some(8)),
    ];
    for (what, expected, change) in table {
        let mut after = unready(1);
        change(&mut after);
        assert_eq!(is_progress_only(Some(&unready(1)), &after), expected, "{what}");
    }
    assert!(!is_progress_only(None, &unready(1)), "the first status");
    let ready = saw(healthy()).status(None, at(0));
    assert!(!is_progress_only(Some(&ready), &ready), "a set that is there");
}

/// One pod in one of many states; `None`: it does not exist.
fn a_pod(ordinal: i32, state: u8) -> Option<ObservedPod> {
    let as_it_should = || if ordinal == 0 { serves(0, &[1, 2, 3, 4]) } else { follows(ordinal, 0) };
    let unasked = |why| pod(ordinal, Err(why));
    Some(match state {
        0 => silent(ordinal, ProbeFailure::Refused),
        1 => silent(ordinal, ProbeFailure::Timeout(Duration::from_secs(2))),
        2 => silent(ordinal, ProbeFailure::Loading),
        3 => silent(ordinal, ProbeFailure::Busy),
        4 => silent(ordinal, ProbeFailure::Auth("WRONGPASS".into())),
        5 => silent(ordinal, ProbeFailure::Malformed("x".into())),
        6 => unasked(NoAnswer::NotStarted),
        7 => unasked(NoAnswer::NoPassword),
        8 => ObservedPod { stuck: Some("ImagePullBackOff: no".into()), ..unasked(NoAnswer::NotStarted) },
        9 => pod(ordinal, Ok(answer("elsewhere", fixtures::primary(REPLID, &[])))),
        10 => ObservedPod { terminating: true, ..as_it_should() },
        11 => changed(follows(ordinal, 0), |r| r.upstream.as_mut().unwrap().last_io_seconds = 60),
        12 => parked(ordinal),
        13 => serves(ordinal, &[1, 2, 3, 4]),
        14 => link_down(follows(ordinal, 0)),
        15 => follows(ordinal, 1),
        16 => return None,
        _ => as_it_should(),
    })
}

fn passes() -> impl Strategy<Value = Pass> {
    // Most pods are as they should be, so that good sets are met as often as bad ones.
    let pods =
        vec(prop_oneof![1 => 0..16_u8, 1 => Just(16_u8), 6 => Just(17_u8)], 0..=5).prop_map(|states| {
            states
                .into_iter()
                .zip(0..)
                .filter_map(|(state, ordinal)| a_pod(ordinal, state))
                .collect::<Vec<_>>()
        });
    let record = prop_oneof![
        8 => Just(Some(served(5))),
        1 => Just(Some(Record { epoch: 2, primary: Some("redis-1".into()), ..served(5) })),
        1 => Just(Some(Record::first(vec!["redis-0".into()], true))),
        1 => Just(None),
    ];
    let holds = select(vec![Reason::MemberUnreachable, Reason::UnexpectedPrimary, Reason::LeftoverPods]);
    let hold = option::weighted(0.1, holds.prop_map(|reason| Hold { reason, message: "waiting".into() }));
    let size = option::weighted(0.9, option::weighted(0.1, Just("held".to_owned())))
        .prop_map(|size| size.map(|blocked| Size { replicas: 3, members: Vec::new(), blocked }));
    let replace = Roll::Replace { pod: "redis-2".into(), uid: "u".into(), why: "changed".into() };
    let rolls = [
        Roll::Done,
        Roll::Done,
        Roll::Done,
        Roll::Done,
        Roll::Done,
        Roll::Unknown,
        replace,
        Roll::Wait("later".into()),
    ];
    let roll = option::weighted(0.9, select(rolls.to_vec()));
    let categories = select(vec![
        Reason::ApiError,
        Reason::InvalidSpec,
        Reason::ImmutableFieldChanged,
        Reason::NameTaken,
        Reason::CommandFailed,
    ]);
    let failure = option::weighted(0.1, (categories, "\\PC{0,1500}"));
    let rarely = || prop::bool::weighted(0.1);
    let growth = (rarely(), rarely()).prop_map(|(runs, refused)| Growth {
        size: "2Gi".into(),
        running: runs.then(|| "data-redis-0 (Resizing)".to_owned()).into_iter().collect(),
        refused: refused.then(|| "data-redis-1 (no)".to_owned()).into_iter().collect(),
    });
    let growth = option::weighted(0.9, growth);
    let flags = (rarely(), rarely(), rarely(), rarely());
    let refused = |why| Write::Refused(why, "MISCONF".into());
    let write = option::weighted(
        0.9,
        select(vec![
            Write::Taken,
            Write::Paused,
            Write::Unknown(ProbeFailure::Busy),
            refused(Refusal::SavingFails),
            refused(Refusal::TooFewReplicas),
        ]),
    );
    let pods = (option::weighted(0.9, pods), write);
    (1..=5_i32, pods, record, hold, size, roll, growth, failure, flags)
        .prop_map(
            |(
                wanted,
                (pods, write),
                record,
                hold,
                size,
                roll,
                growth,
                failure,
                (password_missing, paused, waits, lost),
            )| {
                let divergence = Divergence {
                    pod: "redis-0".into(),
                    run_id: "run".into(),
                    replid: REPLID.into(),
                    bytes: 1,
                    epoch: 1,
                };
                let plan = a_plan(wanted, paused);
                let mut outcome = Outcome {
                    diverged: lost.then_some(divergence).into_iter().collect(),
                    growth,
                    switchover_pending: waits
                        .then(|| "redis-1 is to become the primary once it is in sync".to_owned()),
                    record,
                    write,
                    hold,
                    size,
                    roll,
                    password_missing,
                    ..Outcome::default()
                };
                let is_invalid = failure.as_ref().is_some_and(|(reason, _)| *reason == Reason::InvalidSpec);
                let subject = plan.subject.clone();
                outcome.plan = (!is_invalid).then_some(plan);
                if let Some((reason, message)) = failure {
                    outcome.fail(reason, message);
                }
                Pass { subject, pods, outcome }
            },
        )
        .boxed()
}

proptest! {
    #[test]
    fn a_second_pass_that_learns_the_same_changes_nothing(before in option::of(passes()), pass in passes()) {
        let before = before.map(|before| before.status(None, at(0)));
        let once = pass.status(before.as_ref(), at(10));
        prop_assert_eq!(&pass.status(Some(&once), at(20)), &once);
        prop_assert_eq!(described(&events::transitions(Some(&once), &once)), Vec::<String>::new());
    }

    #[test]
    fn ready_means_verified_in_this_look(pass in passes()) {
        let status = pass.status(None, at(0));
        // The instances repeat the look: where there was none, nobody is known.
        let in_sync = |pod: &ObservedPod| status.instances.iter().any(|i| i.pod == pod.name && i.state == InstanceState::InSync);
        let proven = pass.pods.as_ref().is_some_and(|pods| {
            let serving: Vec<&str> = pods
                .iter()
                .filter(|pod| pod.answer.as_ref().is_ok_and(|a| a.info.replication.upstream.is_none()))
                .map(|pod| pod.name.as_str())
                .collect();
            // Another server at a pod's address says nothing about that pod.
            let speak_for_themselves =
                pods.iter().all(|pod| pod.answer.as_ref().is_ok_and(|a| a.announced == host(pod.ordinal)));
            let of_record = pass.outcome.record.as_ref().and_then(|record| record.primary.as_deref());
            let wanted_are_there = (0..pass.subject.wanted).all(|ordinal| {
                pods.iter().any(|pod| pod.ordinal == ordinal && pod.answer.is_ok() && !pod.terminating)
            });
            matches!(serving.as_slice(), [only] if Some(*only) == of_record)
                && wanted_are_there
                && speak_for_themselves
                && pods.iter().all(|pod| Some(pod.name.as_str()) == of_record || in_sync(pod))
                && pods.len() == usize::try_from(pass.subject.wanted).unwrap()
        });
        let carried_out = pass.outcome.growth.as_ref().is_none_or(|growth| growth.refused.is_empty());
        let takes_writes = matches!(pass.outcome.write, None | Some(Write::Taken));
        let calm = pass.outcome.failures.is_empty() && pass.outcome.hold.is_none() && !pass.outcome.password_missing && carried_out && takes_writes;
        prop_assert!(!status.is_ready() || (proven && calm), "{:#?}", lines(&status));
        // And it is not withheld where all is proven and nothing is under way.
        let at_rest = matches!(pass.outcome.roll, None | Some(Roll::Done)) && pass.outcome.size.as_ref().is_none_or(|s| s.blocked.is_none());
        prop_assert!(!(proven && calm && at_rest) || status.is_ready(), "{:#?}", lines(&status));
    }

    #[test]
    fn an_unanswered_pod_raises_nothing(pass in passes(), which in any::<prop::sample::Index>()) {
        let mut fewer = pass.clone();
        let Some(pods) = fewer.pods.as_mut().filter(|pods| !pods.is_empty()) else { return Ok(()) };
        let at_index = which.index(pods.len());
        pods[at_index].answer = Err(NoAnswer::Failed(ProbeFailure::Refused));
        let (more, less) = (pass.status(None, at(0)), fewer.status(None, at(0)));
        prop_assert!(less.ready_replicas <= more.ready_replicas);
        prop_assert!(less.synced_replicas <= more.synced_replicas);
        for (more, less) in more.conditions.iter().zip(&less.conditions).take(3) {
            prop_assert!(less.status != "True" || more.status == "True", "{:?} {:?}", more, less);
        }
    }

    #[test]
    fn the_order_of_pods_changes_nothing(pass in passes(), order in vec(any::<u8>(), 5)) {
        let mut shuffled = pass.clone();
        if let Some(pods) = &mut shuffled.pods {
            pods.sort_by_key(|pod| order[usize::try_from(pod.ordinal).unwrap()]);
        }
        prop_assert_eq!(shuffled.status(None, at(0)), pass.status(None, at(0)));
    }

    #[test]
    fn the_form_of_conditions(before in option::of(passes()), pass in passes()) {
        let before = before.map(|before| before.status(None, at(0)));
        let after = pass.status(before.as_ref(), at(10));
        let types: Vec<&str> = after.conditions.iter().map(|c| c.type_.as_str()).collect();
        prop_assert_eq!(types, ["Ready", "Available", "Replicated", "Progressing", "Degraded", "CredentialsCurrent", "SpecValid"]);
        for condition in &after.conditions {
            prop_assert_eq!(condition.observed_generation, Some(7));
            prop_assert!(["True", "False", "Unknown"].contains(&condition.status.as_str()));
            prop_assert!(!condition.reason.is_empty() && condition.message.chars().count() <= 1024);
            let old = before.iter().flat_map(|s| &s.conditions).find(|old| old.type_ == condition.type_);
            let since = match old {
                Some(old) if old.status == condition.status => old.last_transition_time.clone(),
                _ => Time(at(10)),
            };
            prop_assert_eq!(&condition.last_transition_time, &since);
        }
        for instance in &after.instances {
            let old = before.iter().flat_map(|s| &s.instances).find(|old| old.pod == instance.pod);
            let since = match old {
                Some(old) if old.state == instance.state => old.since.clone(),
                _ => Some(Time(at(10))),
            };
            prop_assert_eq!(&instance.since, &since);
        }
    }

    #[test]
    fn reasons_stand_where_the_documentation_says(pass in passes()) {
        for condition in pass.status(None, at(0)).conditions.iter().filter(|c| c.type_ != "Ready") {
            let reason: Reason = condition.reason.parse().unwrap();
            let is_listed = |type_: &str| {
                let place = format!("{type_}={}", condition.status);
                reason.stands_in().split(' ').any(|listed| listed == place)
            };
            prop_assert!(is_listed(&condition.type_) || is_listed("Any"), "{condition:?}");
        }
    }

    #[test]
    fn events_only_where_something_turned(before in passes(), pass in passes()) {
        let before = before.status(None, at(0));
        let after = pass.status(Some(&before), at(10));
        let told = events::transitions(Some(&before), &after);
        for event in &told {
            prop_assert!(event.reason.len() <= 128 && event.action.len() <= 128);
        }
        let turned = |s: &RedisReplicaSetStatus| -> Vec<(String, String)> {
            s.conditions.iter().map(|c| (c.status.clone(), c.reason.clone())).collect()
        };
        let epoch = |s: &RedisReplicaSetStatus| s.primary.as_ref().map(|p| p.epoch);
        let gave_up = before.divergences != after.divergences;
        prop_assert!(
            told.is_empty() || gave_up || turned(&before) != turned(&after) || epoch(&before) != epoch(&after)
        );
        // Losing and gaining Ready is always told, and once.
        let about_ready = told.iter().filter(|event| ["Ready", "NotReady"].contains(&event.reason.as_str())).count();
        prop_assert_eq!(about_ready, usize::from(before.is_ready() != after.is_ready()));
    }
}
