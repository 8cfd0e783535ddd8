//! One look at a set: what was answered, what it adds up to, and what else is known at that moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    api::{annotations::Consent, failover::Policy, status::InstanceState},
    election::{process_end::Former, rank::Candidate, votes::PrimarySample},
    observed::Observed,
    topology::Topology,
};
use redis_node::record::Record;

/// One look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What was answered.
    pub observed: Observed,
    /// What it adds up to.
    pub topology: Topology,
    /// Whether the process that served last is proven dead.
    pub former: Former,
    /// Whether the process to which a switchover hands the role is proven dead.
    pub target: Former,
    /// An earlier look at the serving primary, a few seconds old.
    pub before: Option<PrimarySample>,
    /// Nobody has been serving for long enough that a primary which restarts would have answered.
    pub waited: bool,
    /// Pods whose volume is not the one that the record speaks of: it was restored or made again meanwhile. Known only where
    /// nobody serves.
    pub exchanged: Vec<String>,
    /// The primary of record hands its role over, for so long that it cannot reach its successor.
    pub handover_stuck: bool,
    /// Append-only files were switched on by hand: `spec.config` does not say `appendonly yes`.
    pub aof_by_hand: bool,
    /// Pods that refused a write because they could not save or append it, and have done neither since.
    pub unmended: BTreeSet<String>,
    /// The pod of a primary that refused, just now, to be told how many replicas it is to demand.
    pub demand_refused: Option<String>,
    /// Who may take over from a primary that stays silent.
    pub failover: Policy,
    /// For how long the process that served last has given no answer.
    pub silent_for: Duration,
    /// For how long this operator has known each follower of record parked, and other operators cut off from it.
    pub detached_for: Option<Duration>,
    /// The followers of record, by `run_id`, that give no answer: whether each has ended.
    pub unseen: BTreeMap<String, Former>,
    /// A person names the pod to promote.
    pub consent: Option<Consent>,
}

impl Snapshot {
    /// Whether the primary of record serves.
    pub fn primary_serves(&self, record: &Record) -> bool {
        let primary = record.primary.as_deref().and_then(|pod| self.topology.get(pod));
        primary.is_some_and(|verdict| verdict.state == InstanceState::Primary)
    }

    /// Whether a person names this pod, and has seen this record's epoch.
    pub fn consents_to(&self, pod: &str, record: &Record) -> bool {
        self.consent.as_ref().is_some_and(|consent| consent.epoch == record.epoch && consent.pod == pod)
    }

    /// The pods whose own Redis answered. A pod that is being deleted counts as silent: what it says now says
    /// nothing about the process that follows it.
    pub fn members(&self) -> Vec<Candidate<'_>> {
        self.answering(|state| !matches!(state, InstanceState::Foreign | InstanceState::Terminating))
    }

    /// One of [`Self::members`].
    pub fn member(&self, pod: &str) -> Option<Candidate<'_>> {
        self.members().into_iter().find(|candidate| candidate.pod == pod)
    }

    /// The Redis of a pod, if it answered; also that of a pod that is being deleted.
    pub fn process(&self, pod: &str) -> Option<Candidate<'_>> {
        self.answering(|state| state != InstanceState::Foreign).into_iter().find(|c| c.pod == pod)
    }

    fn answering(&self, counts: impl Fn(InstanceState) -> bool) -> Vec<Candidate<'_>> {
        self.observed
            .pods
            .iter()
            .filter(|pod| self.topology.get(&pod.name).is_some_and(|verdict| counts(verdict.state)))
            .filter_map(|pod| {
                let answer = pod.answer.as_ref().ok()?;
                Some(Candidate {
                    pod: &pod.name,
                    uid: &pod.uid,
                    node: &pod.node,
                    ordinal: pod.ordinal,
                    new_address: pod.new_address,
                    last_end: pod.last_end,
                    grace_seconds: pod.grace_seconds,
                    aof_by_hand: self.aof_by_hand,
                    exchanged: self.exchanged.contains(&pod.name),
                    answer,
                })
            })
            .collect()
    }
}
