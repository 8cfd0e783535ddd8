//! Between the model's numbers and the types that the shipped functions take and return.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use operator_core::{
    api::failover::{Mode, Policy},
    election::{process_end::Former, snapshot::Snapshot, votes},
    observed::{NoAnswer, Observed, ObservedPod, RoleLabel, StartRule},
    topology::topology,
};
use redis_agent::start_rule::Point;
use redis_node::{
    PARKED,
    answer::{Answer, Demands, ProbeFailure},
    files::REDIS_PORT,
    info::{Aof, ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
    record::{self, Armed, Record, Serving, SwitchTo},
};

use crate::{
    operator::Proven,
    quorum::{self, Followers},
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
        followers: rec.followers.map(|all| all.iter().map(follower).collect()),
        armed: (rec.armed != 0).then(|| Armed {
            run_id: format!("r{}", rec.armed),
            min_replicas: 1,
            max_lag_seconds: MAX_LAG_SECONDS,
            ping_seconds: PING_SECONDS,
        }),
        ..Record::first(members, rec.sure)
    }
}

/// What it served, and when it started, is asked of no follower.
fn follower(follower: quorum::Follower) -> record::Follower {
    record::Follower {
        pod: pod(usize::from(follower.pod)),
        process: Serving {
            pod_uid: format!("u{}", follower.uid),
            run_id: format!("r{}", follower.run),
            ended: follower.ended,
            ..Serving::default()
        },
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
        followers: record.followers.as_ref().map(|all| {
            Followers::from_entries(all.iter().map(|follower| quorum::Follower {
                pod: bits(member(&follower.pod)),
                uid: id(&follower.process.pod_uid),
                run: id(&follower.process.run_id),
                ended: follower.process.ended,
            }))
        }),
        armed: record.armed.as_ref().map_or(0, |armed| id(&armed.run_id)),
    }
}

pub fn ids(runs: &BTreeSet<String>) -> [Id; 3] {
    let mut ids = [0; 3];
    for (slot, run) in ids.iter_mut().zip(runs) {
        *slot = id(run);
    }
    sorted(ids)
}

/// What the operator remembers of a look at the serving primary.
pub fn earlier(glimpse: &votes::PrimarySample) -> Earlier {
    Earlier {
        primary: id(&glimpse.primary),
        offset: small(glimpse.offset),
        alive: ids(&glimpse.alive),
        ended: ids(&glimpse.ended),
    }
}

fn glimpse(earlier: Earlier) -> votes::PrimarySample {
    let names =
        |runs: [Id; 3]| runs.into_iter().filter(|run| *run != 0).map(|run| format!("r{run}")).collect();
    votes::PrimarySample {
        primary: format!("r{}", earlier.primary),
        offset: i64::from(earlier.offset),
        alive: names(earlier.alive),
        ended: names(earlier.ended),
    }
}

fn small(number: i64) -> i8 {
    i8::try_from(number).expect("offsets are small")
}

/// `min-replicas-max-lag` and `repl-ping-replica-period` of every server in mode Quorum.
const MAX_LAG_SECONDS: i64 = 3;
const PING_SECONDS: i64 = 1;
/// Longer than anything waits.
const LONG: Duration = Duration::from_hours(1);
/// A link over which nothing comes is up for a minute; nobody is deceived by it after so many seconds.
const NOT_HEARD_SECONDS: i64 = 20;

/// What else there is to know at a look.
#[derive(Clone, Copy)]
pub struct Around {
    pub storage: Storage,
    pub quorum: bool,
    pub proven: Proven,
    pub before: Option<Earlier>,
    /// The followers that the operator knows detached, and whether for long enough.
    pub detached: ([Id; 3], bool),
}

/// What one look adds up to, through the product's own `topology`.
pub fn look(record: &Record, rec: &Rec, glimpses: &Glimpses, around: Around) -> Snapshot {
    let Around { storage, quorum, proven, before, detached } = around;
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
                (uid, terminating, Ok(answer(storage, quorum, member, view)))
            }
        };
        Some(ObservedPod {
            name: pod(member),
            ordinal: i32::from(bits(member)),
            uid: format!("u{uid}"),
            node: String::new(),
            ready: true,
            terminating: *terminating,
            overdue: *terminating,
            revision: None,
            image: String::new(),
            label: RoleLabel::default(),
            start: if quorum { StartRule::Parked } else { StartRule::Peers },
            new_address: false,
            astray: None,
            last_end: None,
            grace_seconds: 120,
            stuck: None,
            answer,
        })
    });
    let observed = Observed { pods: pods.collect() };
    let unseen = rec.followers.iter().flat_map(|all| all.0.iter().enumerate()).filter(|(_, follower)| {
        let answers =
            |glimpse: &Glimpse| matches!(glimpse, Glimpse::Answer { uid, .. } if *uid == follower.uid);
        follower.run != 0 && !follower.ended && !answers(&glimpses[usize::from(follower.pod)])
    });
    let unseen = unseen
        .map(|(place, follower)| (format!("r{}", follower.run), former(proven.followers >> place & 1 == 1)));
    let look = Snapshot {
        topology: topology(host_of, record, &observed),
        observed,
        former: former(proven.former),
        target: former(proven.target),
        before: before.map(glimpse),
        // The patience of rule 4b ends at any time.
        waited: true,
        handover_stuck: false,
        unmended: BTreeSet::new(),
        demand_refused: None,
        exchanged: Vec::new(),
        aof_by_hand: false,
        consent: None,
        failover: Policy { mode: if quorum { Mode::Quorum } else { Mode::Fenced }, ..Policy::default() },
        // Its patience ends at any time too.
        silent_for: LONG,
        detached_for: None,
        unseen: unseen.collect(),
    };
    // As `memory::Memory::detached_for` does.
    let parked = operator_core::election::followers::parked(record, &look).map(|parked| ids(&parked));
    let (known, fenced) = detached;
    let is_known = known != [0; 3] && parked == Some(known);
    let since = if fenced { LONG } else { Duration::ZERO };
    Snapshot { detached_for: is_known.then_some(since), ..look }
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

fn answer(storage: Storage, quorum: bool, member: usize, view: &View) -> Answer {
    let offset = i64::from(view.offset);
    let upstream = |host: String, port| Upstream {
        host,
        port,
        link_up: view.link_up,
        last_io_seconds: match (view.link_up, view.hears) {
            (true, true) => 1,
            (true, false) => NOT_HEARD_SECONDS,
            (false, _) => -1,
        },
        sync_in_progress: false,
        offset,
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
                replicas: lines(view),
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
                ..Persistence::default()
            },
            clients: None,
            keys: Some(i64::from(!view.empty)),
        },
        announced: host(member),
        refuses_password: false,
        demands: quorum.then(|| Demands {
            min_replicas: i64::from(view.demands),
            max_lag_seconds: MAX_LAG_SECONDS,
            ping_seconds: PING_SECONDS,
        }),
    }
}

/// The replicas that it lists, ghosts under the names of their pods.
fn lines(view: &View) -> Vec<ConnectedReplica> {
    let line = |replica: usize| ConnectedReplica {
        host: host(replica % MOST),
        port: REDIS_PORT,
        state: "online".to_owned(),
        offset: i64::from(view.offset),
        lag_seconds: 0,
    };
    (0..2 * MOST).filter(|place| view.replicas >> place & 1 == 1).map(line).collect()
}
