//! Replicas whose primary is lost, while nobody can be elected yet.
//!
//! Redis looks its primary's name up once a second, in its event loop: where DNS gives no answer, it answers nobody meanwhile
//! (experiment E20). Parked, as an election would do it, it goes on to be read.

use super::snapshot::Snapshot;
use crate::observed::{NoAnswer, ObservedPod};
use redis_node::record::Record;

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
    if is_there || record.switch_to.is_some() || !look.waited || !look.topology.serving().is_empty() {
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
