//! From the servers' answers to what they add up to: who serves, who truly follows, and what is wrong with the rest.
//!
//! Pure. Source of the definition: Redis replication experiments E1-E25 (`docs/design/protocol.md` lists them).
//!
//! A replica truly follows when both ends say so: it names the primary (as a string: Redis keeps the literal text),
//! its link is up and quiet for no longer than a ping period, and the primary lists it as online *and* has the same
//! history. `link up` alone proves nothing: two replicas of each other say so too, and so does a cut link (E4, E6).
//!
//! Faults become status texts. They hold no moving numbers: a text that changes by itself would be written for ever.

mod replica;

use crate::{
    api::status::InstanceState,
    observed::{NoAnswer, Observed, ObservedPod},
};
use redis_node::{
    PARKED,
    answer::{Answer, ProbeFailure},
    files::REDIS_PORT,
    info::Upstream,
    record::Record,
};

/// A replica whose last I/O with its primary is older than this is not in sync. The primary pings every 10 s
/// (`repl-ping-replica-period`), so a healthy link never shows more (experiment E4).
pub const MAX_LINK_SILENCE_SECONDS: i64 = 15;

/// A replica that the primary heard of longer ago than this is not in sync; a healthy one acknowledges every second.
pub const MAX_ACK_LAG_SECONDS: i64 = 10;

/// `master_failover_state` of a server on which no FAILOVER runs.
const NO_FAILOVER: &str = "no-failover";

/// What the answers of a whole set add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// One entry an observed pod, by ordinal.
    pub instances: Vec<Verdict>,
}

/// What the answers add up to for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the pod.
    pub pod: String,
    /// Its ordinal.
    pub ordinal: i32,
    /// What it is.
    pub state: InstanceState,
    /// Its own Redis answered with role master. Apart from `state`, since a terminating or loading one may serve.
    pub serves: bool,
    /// Every part of the evidence that failed, in plain words; empty where all is as wanted.
    pub faults: Vec<String>,
}

impl Verdict {
    /// The primary of record serving, or a replica that truly follows it.
    pub fn is_verified(&self) -> bool {
        matches!(self.state, InstanceState::Primary | InstanceState::InSync)
    }
}

impl Topology {
    /// All pods whose own Redis says that it is a primary; more than one is a split brain.
    pub fn serving(&self) -> Vec<&Verdict> {
        self.instances.iter().filter(|verdict| verdict.serves).collect()
    }

    /// The verdict about a pod, if it was observed.
    pub fn get(&self, pod: &str) -> Option<&Verdict> {
        self.instances.iter().find(|verdict| verdict.pod == pod)
    }

    /// Number of replicas that truly follow the primary.
    pub fn in_sync_count(&self) -> usize {
        self.instances.iter().filter(|verdict| verdict.state == InstanceState::InSync).count()
    }

    /// Whether the set is whole with this number of pods: the primary of record serves, alone and without a fault,
    /// and each pod with an ordinal below `pods` is that primary or truly follows it.
    pub fn all_in_sync(&self, pods: i32) -> bool {
        let good = |verdict: &Verdict| {
            matches!(verdict.state, InstanceState::Primary | InstanceState::InSync)
                && verdict.faults.is_empty()
        };
        let primary_serves_alone = matches!(
            self.serving().as_slice(),
            [only] if only.state == InstanceState::Primary && only.faults.is_empty()
        );
        primary_serves_alone
            && (0..pods)
                .all(|ordinal| self.instances.iter().any(|found| found.ordinal == ordinal && good(found)))
    }
}

/// Judges every observed pod by all answers together. `host_of` gives the name that the Redis of a pod announces,
/// and that replicas report as `master_host`, from the pod's name.
pub fn topology(host_of: impl Fn(&str) -> String, record: &Record, observed: &Observed) -> Topology {
    let mut members: Vec<Member> =
        observed.pods.iter().map(|pod| Member { pod, host: host_of(&pod.name) }).collect();
    members.sort_by(|a, b| (a.pod.ordinal, &a.pod.name).cmp(&(b.pod.ordinal, &b.pod.name)));
    let primary =
        record.primary.as_deref().map(|pod| PrimaryOfRecord { pod: pod.to_owned(), host: host_of(pod) });
    let set = Set { members, primary };
    Topology { instances: set.members.iter().map(|member| set.verdict(member)).collect() }
}

/// All that is known of a set.
struct Set<'a> {
    members: Vec<Member<'a>>,
    primary: Option<PrimaryOfRecord>,
}

struct PrimaryOfRecord {
    pod: String,
    host: String,
}

struct Member<'a> {
    pod: &'a ObservedPod,
    /// The name that its Redis should announce.
    host: String,
}

impl Member<'_> {
    /// The answer of this pod's own Redis. A server that announces another name is not: a reused address, or a
    /// Service in between.
    fn own_answer(&self) -> Option<&Answer> {
        self.pod.answer.as_ref().ok().filter(|answer| answer.announced == self.host)
    }

    fn upstream(&self) -> Option<&Upstream> {
        self.own_answer()?.info.replication.upstream.as_ref()
    }

    fn serves(&self) -> bool {
        self.own_answer().is_some_and(|answer| answer.info.replication.upstream.is_none())
    }
}

/// The evidence against a pod. The first finding decides the state, all of them make the message.
#[derive(Default)]
struct Findings {
    state: Option<InstanceState>,
    faults: Vec<String>,
}

impl Findings {
    fn add(&mut self, state: InstanceState, fault: impl Into<String>) {
        self.state.get_or_insert(state);
        self.faults.push(fault.into());
    }
}

impl Set<'_> {
    fn verdict(&self, member: &Member<'_>) -> Verdict {
        let mut findings = Findings::default();
        if member.pod.terminating {
            findings.add(InstanceState::Terminating, "the pod is being deleted");
        }
        let good = match (&member.pod.answer, member.own_answer()) {
            (Err(reason), _) => no_answer(reason, member.pod.stuck.as_deref(), &mut findings),
            (Ok(answer), None) => foreign(answer, &member.host, &mut findings),
            (Ok(_), Some(answer)) => match &answer.info.replication.upstream {
                None => self.serving(member, answer, &mut findings),
                Some(upstream) => self.replica(member, answer, upstream, &mut findings),
            },
        };
        Verdict {
            pod: member.pod.name.clone(),
            ordinal: member.pod.ordinal,
            state: findings.state.unwrap_or(good),
            serves: member.serves(),
            faults: findings.faults,
        }
    }

    /// A server with role master.
    fn serving(&self, member: &Member<'_>, answer: &Answer, findings: &mut Findings) -> InstanceState {
        if let Some(primary) = self.primary.as_ref().filter(|primary| primary.pod != member.pod.name) {
            findings.add(
                InstanceState::UnexpectedPrimary,
                format!("serves as primary, but the primary of record is {}", primary.pod),
            );
        } else if self.primary.is_none() {
            findings.add(InstanceState::UnexpectedPrimary, "serves as primary, but none is on record");
        }
        if answer.info.persistence.loading {
            findings.add(InstanceState::Loading, "loads its dataset");
        }
        let replication = &answer.info.replication;
        if replication.failover_state != NO_FAILOVER {
            let state = &replication.failover_state;
            findings
                .add(InstanceState::Primary, format!("is handing over its role (failover state {state})"));
        }
        if self.is_primary_of_record(member) {
            for other in
                self.members.iter().filter(|other| other.serves() && !self.is_primary_of_record(other))
            {
                findings.add(InstanceState::Primary, format!("{} serves as primary too", other.pod.name));
            }
        }
        InstanceState::Primary
    }

    fn is_primary_of_record(&self, member: &Member<'_>) -> bool {
        self.primary.as_ref().is_some_and(|primary| primary.pod == member.pod.name)
    }

    fn by_host(&self, host: &str) -> Option<&Member<'_>> {
        self.members.iter().find(|member| member.host == host)
    }
}

/// A pod whose Redis was not asked, or did not answer.
fn no_answer(reason: &NoAnswer, stuck: Option<&str>, findings: &mut Findings) -> InstanceState {
    match reason {
        NoAnswer::NotStarted => {
            findings.add(InstanceState::Pending, stuck.unwrap_or("its Redis has not started yet"));
            return InstanceState::Pending;
        }
        NoAnswer::NoPassword => {
            findings.add(InstanceState::Unreachable, "not asked: the operator has no password for it");
        }
        NoAnswer::Failed(failure) => {
            let state = match failure {
                ProbeFailure::Loading => InstanceState::Loading,
                ProbeFailure::Busy => InstanceState::Busy,
                ProbeFailure::ClientLimit => InstanceState::ClientLimit,
                ProbeFailure::Auth(_) => InstanceState::AuthFailed,
                ProbeFailure::Malformed(_) => InstanceState::Foreign,
                ProbeFailure::Refused
                | ProbeFailure::Timeout(_)
                | ProbeFailure::Connection(_)
                | ProbeFailure::Reply(_) => InstanceState::Unreachable,
            };
            findings.add(state, failure.to_string());
        }
    }
    if let Some(stuck) = stuck {
        findings.add(InstanceState::Unreachable, stuck);
    }
    InstanceState::Unreachable
}

/// A Redis that says it is another one: nothing else that it says is about this pod.
fn foreign(answer: &Answer, host: &str, findings: &mut Findings) -> InstanceState {
    let announced = match answer.announced.as_str() {
        "" => "no name",
        name => name,
    };
    findings.add(
        InstanceState::Foreign,
        format!("another server answers at its address: it announces {announced}, wanted {host}"),
    );
    InstanceState::Foreign
}

/// Whether a server follows nobody on purpose.
fn is_parked(upstream: &Upstream) -> bool {
    (upstream.host.as_str(), upstream.port) == PARKED
}

/// Whether this is the primary that was meant, as a string: the same server by another name is torn down and
/// followed again when it is named as wanted, so it counts as another (experiment E6).
fn names(upstream: &Upstream, host: &str) -> bool {
    upstream.host == host && upstream.port == REDIS_PORT
}
