//! Between the model's numbers and the types that the shipped functions take and return.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use operator_core::{
    election::{process_end::Former, snapshot::Snapshot, votes},
    observed::{NoAnswer, Observed, ObservedPod, RoleLabel, StartRule},
    topology::topology,
};
use redis_agent::start_rule::Point;
use redis_node::{
    PARKED,
    answer::{Answer, ProbeFailure},
    files::REDIS_PORT,
    info::{Aof, ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
    record::{Record, Serving, SwitchTo},
};

use crate::{
    operator::Proven,
    redis::{Storage, bits},
    state::{self, Closed, Earlier, Failover, Glimpse, Glimpses, Id, MOST, Rec, Role, Seen, View, sorted},
};

pub fn pod(member: usize) -> String {
    format!("redis-{member}")
}

pub fn host(member: usize) -> String {
    host_of(&pod(member))
}

/// `master_replid`.
pub fn history(replid: Id) -> String {
    format!("h{replid}")
}

/// A point in a history.
pub fn point(replid: Id, offset: i8) -> Point {
    Point { replid: history(replid), offset: i64::from(offset) }
}

fn host_of(pod: &str) -> String {
    format!("{pod}.redis-headless.lab.svc.cluster.local")
}

/// The member that a pod or host name stands for.
pub fn member(name: &str) -> usize {
    let ordinal =
        name.trim_start_matches("redis-").split('.').next().and_then(|ordinal| ordinal.parse().ok());
    ordinal.expect("the model's names hold an ordinal")
}

fn id(name: &str) -> Id {
    name[1..].parse().expect("the model's identities are numbers")
}

pub fn record(rec: &Rec) -> Record {
    let members = (0..MOST).filter(|member| rec.is_member(*member)).map(pod).collect();
    Record {
        // Rules ask whether there was any decision, and nothing else of it.
        epoch: i64::from(rec.primary.is_some()),
        primary: rec.primary.map(|primary| pod(usize::from(primary))),
        start_offset: i64::from(rec.start_offset),
        closed: rec.closed.iter().map(|(replid, end)| (format!("h{replid}"), i64::from(end))).collect(),
        seen_serving: rec.seen.map(|seen| Serving {
            pod_uid: format!("u{}", seen.uid),
            run_id: format!("r{}", seen.run),
            replid: format!("h{}", seen.replid),
            aof_settled: seen.settled,
            ..Serving::default()
        }),
        voters: rec.voters.iter().filter(|run| **run != 0).map(|run| format!("r{run}")).collect(),
        switch_to: rec.switch_to.map(|switch| SwitchTo {
            target: pod(usize::from(switch.target)),
            replid: format!("h{}", switch.replid),
            process: Serving {
                pod_uid: format!("u{}", switch.uid),
                run_id: format!("r{}", switch.run),
                replid: format!("h{}", switch.replid),
                aof_settled: switch.settled,
                ..Serving::default()
            },
        }),
        ..Record::first(members, rec.sure)
    }
}

pub fn rec(record: &Record) -> Rec {
    let closed: &BTreeMap<String, i64> = &record.closed;
    Rec {
        primary: record.primary.as_deref().map(|primary| bits(member(primary))),
        start_offset: small(record.start_offset),
        members: record.members.iter().fold(0, |all, pod| all | 1 << member(pod)),
        closed: Closed::from_entries(closed.iter().map(|(replid, end)| (id(replid), small(*end)))),
        seen: record.seen_serving.as_ref().map(|seen| Seen {
            uid: id(&seen.pod_uid),
            run: id(&seen.run_id),
            replid: id(&seen.replid),
            settled: seen.aof_settled,
        }),
        sure: record.sure,
        voters: ids(&record.voters),
        switch_to: record.switch_to.as_ref().map(|switch| state::SwitchTo {
            target: bits(member(&switch.target)),
            replid: id(&switch.replid),
            uid: id(&switch.process.pod_uid),
            run: id(&switch.process.run_id),
            settled: switch.process.aof_settled,
        }),
    }
}

fn ids(runs: &BTreeSet<String>) -> [Id; 3] {
    let mut ids = [0; 3];
    for (slot, run) in ids.iter_mut().zip(runs) {
        *slot = id(run);
    }
    sorted(ids)
}

/// What the operator remembers of a look at the serving primary.
pub fn earlier(glimpse: &votes::PrimarySample) -> Earlier {
    Earlier { primary: id(&glimpse.primary), offset: small(glimpse.offset), alive: ids(&glimpse.alive) }
}

fn glimpse(earlier: Earlier) -> votes::PrimarySample {
    let alive = earlier.alive.iter().filter(|run| **run != 0).map(|run| format!("r{run}"));
    votes::PrimarySample {
        primary: format!("r{}", earlier.primary),
        offset: i64::from(earlier.offset),
        alive: alive.collect(),
    }
}

fn small(number: i64) -> i8 {
    i8::try_from(number).expect("offsets are small")
}

/// What one look adds up to, through the product's own `topology`.
pub fn look(
    storage: Storage,
    record: &Record,
    glimpses: &Glimpses,
    proven: Proven,
    before: Option<Earlier>,
) -> Snapshot {
    let former = |ended| if ended { Former::Ended } else { Former::default() };
    let pods = glimpses.iter().enumerate().filter_map(|(member, glimpse)| {
        let (uid, terminating, answer) = match glimpse {
            Glimpse::NotYet => return None,
            Glimpse::Silent { uid, terminating, refused: true } => {
                (uid, terminating, Err(NoAnswer::Failed(ProbeFailure::Refused)))
            }
            Glimpse::Silent { uid, terminating, refused: false } => {
                (uid, terminating, Err(NoAnswer::Failed(ProbeFailure::Timeout(Duration::from_secs(2)))))
            }
            Glimpse::Answer { uid, terminating, view } => {
                (uid, terminating, Ok(answer(storage, member, view)))
            }
        };
        Some(ObservedPod {
            name: pod(member),
            ordinal: i32::from(bits(member)),
            uid: format!("u{uid}"),
            node: String::new(),
            ready: true,
            terminating: *terminating,
            revision: None,
            image: String::new(),
            label: RoleLabel::default(),
            start: StartRule::Peers,
            new_address: false,
            astray: None,
            last_end: None,
            grace_seconds: 120,
            stuck: None,
            answer,
        })
    });
    let observed = Observed { pods: pods.collect() };
    Snapshot {
        topology: topology(host_of, record, &observed),
        observed,
        former: former(proven.former),
        target: former(proven.target),
        before: before.map(glimpse),
        // The patience of rule 4b ends at any time.
        waited: true,
        handover_stuck: false,
        exchanged: Vec::new(),
        aof_by_hand: false,
        consent: None,
        ..Snapshot::default()
    }
}

/// The same look, by servers that seem to be done with rewriting their append-only files.
pub fn rewrites_hidden(mut look: Snapshot) -> Snapshot {
    for answer in look.observed.pods.iter_mut().filter_map(|pod| pod.answer.as_mut().ok()) {
        if answer.info.persistence.aof == Aof::Rewriting {
            answer.info.persistence.aof = Aof::Whole;
        }
    }
    look
}

fn answer(storage: Storage, member: usize, view: &View) -> Answer {
    let offset = i64::from(view.offset);
    let upstream = |host: String, port| Upstream {
        host,
        port,
        link_up: view.link_up,
        last_io_seconds: if view.link_up { 1 } else { -1 },
        sync_in_progress: false,
        offset,
    };
    let line = |replica| ConnectedReplica {
        host: host(replica),
        port: REDIS_PORT,
        state: "online".to_owned(),
        offset,
        lag_seconds: 0,
    };
    Answer {
        info: Info {
            server: Server {
                flavour: Flavour::Redis,
                version: "7.0.15".to_owned(),
                run_id: format!("r{}", view.run),
                uptime_seconds: 1,
                time_micros: 0,
            },
            replication: Replication {
                upstream: match view.role {
                    Role::Primary => None,
                    Role::Parked => Some(upstream(PARKED.0.to_owned(), PARKED.1)),
                    Role::ReplicaOf(of) => Some(upstream(host(usize::from(of)), REDIS_PORT)),
                },
                replicas: (0..MOST).filter(|replica| view.replicas >> replica & 1 == 1).map(line).collect(),
                failover_state: match view.failover {
                    Failover::No => "no-failover",
                    Failover::Waiting(_) => "waiting-for-sync",
                    Failover::InProgress(_) => "failover-in-progress",
                }
                .to_owned(),
                replid: format!("h{}", view.replid),
                replid2: format!("h{}", view.replid2),
                second_repl_offset: i64::from(view.second),
                offset,
                backlog_active: view.backlog,
            },
            persistence: Persistence {
                loading: false,
                async_loading: false,
                aof: match storage {
                    Storage::Aof if view.rewrites => Aof::Rewriting,
                    Storage::Aof => Aof::Whole,
                    Storage::Rdb | Storage::Ephemeral => Aof::Off,
                },
            },
            clients: None,
            keys: Some(i64::from(!view.empty)),
        },
        announced: host(member),
        refuses_password: false,
        demands: None,
    }
}
