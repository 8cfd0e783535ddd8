//! Replicas whose primary is lost, while nobody can be elected yet.
//!
//! Redis looks its primary's name up once a second, in its event loop: where DNS gives no answer, it answers nobody meanwhile
//! (experiment E20). Parked, as an election would do it, it goes on to be read.

use super::snapshot::Snapshot;
use crate::observed::{NoAnswer, ObservedPod};
use redis_node::{answer::ProbeFailure, record::Record};

/// Whether the primary of record has ended for good: its pod is being deleted, and nothing listens there any more. A Redis that ends
/// listens until it has saved, and is not started again in such a pod.
pub fn has_left(record: &Record, look: &Snapshot) -> bool {
    let is_refused = |pod: &ObservedPod| matches!(pod.answer, Err(NoAnswer::Failed(ProbeFailure::Refused)));
    let pods = &mut look.observed.pods.iter();
    pods.any(|pod| Some(&pod.name) == record.primary.as_ref() && pod.terminating && is_refused(pod))
}

/// Replicas that answer and dial a primary of record which nobody reaches. One that still hears it is never among them: its link
/// may be all that a living primary has.
pub fn lost(record: &Record, look: &Snapshot, host_of: impl Fn(&str) -> String) -> Vec<String> {
    let Some(primary) = record.primary.as_deref() else { return Vec::new() };
    // Who refuses the operator or is busy may serve, and is found again without it.
    let lives = |pod: &ObservedPod| match &pod.answer {
        Ok(_) => true,
        Err(NoAnswer::NotStarted) => false,
        Err(why) => !why.is_silence(),
    };
    let is_there = look.observed.pods.iter().any(|pod| pod.name == primary && lives(pod));
    let is_over = look.waited || has_left(record, look);
    if is_there || record.switch_to.is_some() || !is_over || !look.topology.serving().is_empty() {
        return Vec::new();
    }
    let host = host_of(primary);
    let dials = |upstream: &redis_node::info::Upstream| {
        upstream.host == host && !upstream.link_up && !upstream.sync_in_progress
    };
    look.members()
        .iter()
        .filter(|member| member.answer.info.replication.upstream.as_ref().is_some_and(dials))
        .map(|member| member.pod.to_owned())
        .collect()
}
