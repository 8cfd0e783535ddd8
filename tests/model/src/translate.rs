//! Between the model's numbers and the types that the shipped functions take and return.

use std::collections::BTreeMap;

use redis_operator::{
    decide::look::Look,
    names::REDIS_PORT,
    observed::{NoAnswer, Observed, ObservedPod},
    record::{Record, Serving},
    redis::{
        PARKED,
        info::{ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
        probe::{Answer, ProbeFailure},
    },
    topology::topology,
};

use crate::{
    redis::{Storage, bits},
    state::{Closed, Glimpse, Glimpses, Id, MOST, Rec, Role, Seen, View},
};

pub fn pod(member: usize) -> String {
    format!("redis-{member}")
}

pub fn host(member: usize) -> String {
    host_of(&pod(member))
}

fn host_of(pod: &str) -> String {
    format!("{pod}.redis-headless.lab.svc.cluster.local")
}

/// The member that a pod or host name stands for.
pub fn member(name: &str) -> usize {
    let ordinal = name.trim_start_matches("redis-").split('.').next().and_then(|ordinal| ordinal.parse().ok());
    ordinal.expect("the model's names hold an ordinal")
}

fn id(name: &str) -> Id {
    name[1..].parse().expect("the model's identities are numbers")
}

pub fn record(rec: &Rec) -> Record {
    let members = (0..MOST).filter(|member| rec.is_member(*member)).map(pod).collect();
    Record {
        primary: rec.primary.map(|primary| pod(usize::from(primary))),
        start_offset: i64::from(rec.start_offset),
        closed: rec.closed.iter().map(|(replid, end)| (format!("h{replid}"), i64::from(end))).collect(),
        seen_serving: rec.seen.map(|seen| Serving {
            pod_uid: format!("u{}", seen.uid),
            run_id: format!("r{}", seen.run),
            replid: format!("h{}", seen.replid),
            ..Serving::default()
        }),
        sure: rec.sure,
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
        }),
        sure: record.sure,
    }
}

fn small(number: i64) -> i8 {
    i8::try_from(number).expect("offsets are small")
}

/// What one look adds up to, through the product's own `topology`.
pub fn look(storage: Storage, record: &Record, glimpses: &Glimpses, former_ended: bool) -> Look {
    let pods = glimpses.iter().enumerate().filter_map(|(member, glimpse)| {
        let (uid, answer) = match glimpse {
            Glimpse::NotYet => return None,
            Glimpse::Silent { uid } => (uid, Err(NoAnswer::Failed(ProbeFailure::Refused))),
            Glimpse::Answer { uid, view } => (uid, Ok(answer(storage, member, view))),
        };
        Some(ObservedPod {
            name: pod(member),
            ordinal: i32::from(bits(member)),
            uid: format!("u{uid}"),
            node: String::new(),
            ready: true,
            terminating: false,
            revision: None,
            stuck: None,
            answer,
        })
    });
    let observed = Observed { pods: pods.collect() };
    Look { topology: topology(host_of, record, &observed), observed, former_ended }
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
                failover_state: "no-failover".to_owned(),
                replid: format!("h{}", view.replid),
                replid2: format!("h{}", view.replid2),
                second_repl_offset: i64::from(view.second),
                offset,
                backlog_active: view.backlog,
            },
            persistence: Persistence {
                loading: false,
                async_loading: false,
                aof_enabled: storage == Storage::Aof,
            },
            keys: Some(if view.empty { 0 } else { 1 }),
        },
        announced: host(member),
    }
}
