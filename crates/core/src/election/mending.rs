//! Servers that refused writes for a cause of their own: a save that failed, or an append (`MISCONF`). A full or read-only volume, most often.
//!
//! What a server says of its last save is forgotten with its process, and the volume is as full as before. So who refused a
//! write is remembered until it has saved or appended again.

use std::collections::BTreeMap;

use super::snapshot::Snapshot;
use crate::observed::{Observed, ObservedPod};
use redis_node::{
    answer::{Refusal, Write},
    info::Aof,
};

/// Whether a write was refused for a cause of this server alone. `maxmemory` is reached by its replicas too, and so is what
/// replicas themselves are the cause of.
pub fn is_own_cause(write: &Write) -> bool {
    matches!(write, Write::Refused(Refusal::SavingFails | Refusal::AppendingFails, _))
}

/// Those that refused a write (pod to `run_id`), without those that are seen mended.
pub fn unmended(refused: &BTreeMap<String, String>, observed: &Observed) -> BTreeMap<String, String> {
    let is_mended = |pod: &str, run_id: &str| {
        let seen = observed.pods.iter().find(|seen| seen.name == pod);
        seen.and_then(|seen| seen.answer.as_ref().ok()).is_some_and(|answer| {
            let (server, persistence) = (&answer.info.server, answer.info.persistence);
            // Another process has not failed yet. It has saved, or it appends what it gets.
            let has_written = server.run_id == run_id
                || persistence.last_save > server.started()
                || persistence.aof == Aof::Whole;
            !persistence.fails && has_written
        })
    };
    let left = refused.iter().filter(|(pod, run_id)| !is_mended(pod, run_id));
    left.map(|(pod, run_id)| (pod.clone(), run_id.clone())).collect()
}

/// Whether a server is not known to refuse writes for want of its volume.
pub fn can_write(look: &Snapshot, pod: &ObservedPod) -> bool {
    let fails = pod.answer.as_ref().is_ok_and(|answer| answer.info.persistence.fails);
    !fails && !look.unmended.contains(&pod.name)
}
