//! What a server would lose by following the primary of record (`docs/design/redis-facts.md`, section 3.3).
//!
//! A full resync deletes what only that server had, and with it the evidence. So this is found, and published, before
//! it is told to follow.

use super::{rank::Candidate, snapshot::Snapshot};
use crate::api::status::DivergenceStatus;
use redis_node::record::Record;

/// Data of a server that the primary does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Pod of the server.
    pub pod: String,
    /// `run_id` of its process.
    pub run_id: String,
    /// The history that both were part of.
    pub replid: String,
    /// Bytes of that history which only this server has. Redis' own pings count too, 14 bytes every 10 s (experiment
    /// E25): a few bytes need not be data.
    pub bytes: i64,
    /// Epoch of the decision that left them behind.
    pub epoch: i64,
}

/// What these pods would lose by following the primary of record, as far as histories can tell.
///
/// Append-only files keep no history over a restart (experiment E5 B): of such a server nothing is known here.
pub fn divergences(record: &Record, look: &Snapshot, pods: &[String]) -> Vec<Divergence> {
    let primary = record.primary.as_deref().and_then(|pod| look.process(pod));
    let Some(primary) = primary else { return Vec::new() };
    let of = |pod: &String| divergence(record, &primary, &look.process(pod)?);
    pods.iter().filter_map(of).collect()
}

fn divergence(record: &Record, primary: &Candidate<'_>, other: &Candidate<'_>) -> Option<Divergence> {
    let (served, info) = (&primary.answer.info.replication, &other.answer.info);
    let replid = &info.replication.replid;
    // Of one history: both move on, and were not asked at the same moment.
    if *replid == served.replid || other.is_empty() {
        return None;
    }
    let shared = served.offset_in(replid).or_else(|| record.closed.get(replid).copied())?;
    let bytes = info.replication.offset.saturating_sub(shared);
    (bytes > 0).then(|| Divergence {
        pod: other.pod.to_owned(),
        run_id: info.server.run_id.clone(),
        replid: replid.clone(),
        bytes,
        epoch: record.epoch,
    })
}

/// Whether a status tells of this very case.
pub fn is_published(published: &DivergenceStatus, found: &Divergence) -> bool {
    published.pod == found.pod && published.run_id == found.run_id && published.replid == found.replid
}
