//! Which replicas may decide without a primary that stays silent (`docs/protocol.md`, rule 4b).
//!
//! A link that is up is no vote: right after a restart it is up before the backlog has arrived. A *voter* was alive
//! before the serving primary's offset was read, and had reached that offset after.

use std::collections::BTreeSet;

use crate::{
    api::status::InstanceState,
    decide::{look::Look, rank::Candidate},
    record::Record,
};

/// What an earlier look has shown of the serving primary and of who was alive then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// `run_id` of the primary.
    pub primary: String,
    /// Its offset.
    pub offset: i64,
    /// `run_id`s of all who answered.
    pub alive: BTreeSet<String>,
}

/// What this look shows; `None` where the primary of record does not serve.
pub fn glimpse(record: &Record, look: &Look) -> Option<Glimpse> {
    let primary = record.primary.as_deref()?;
    look.topology.get(primary).filter(|verdict| verdict.serves)?;
    let own = look.process(primary)?;
    let alive = look.members().iter().map(|c| c.answer.info.server.run_id.clone()).collect();
    Some(Glimpse {
        primary: own.answer.info.server.run_id.clone(),
        offset: own.answer.info.replication.offset,
        alive,
    })
}

/// The voters to write into the record now, if that is worth a write: some are new, and every other replica that
/// answers is one too, for each write counts and they come in a row at a start.
pub(super) fn noted(record: &Record, look: &Look) -> Option<BTreeSet<String>> {
    let replicas: Vec<Candidate<'_>> =
        look.members().into_iter().filter(|c| record.primary.as_deref() != Some(c.pod)).collect();
    let run_id = |c: &Candidate<'_>| c.answer.info.server.run_id.clone();
    let is_voter = |c: &Candidate<'_>| record.voters.contains(&run_id(c)) || votes(c, record, look);
    let has_new = replicas.iter().any(|c| !record.voters.contains(&run_id(c)));
    if !has_new || !replicas.iter().all(is_voter) {
        return None;
    }
    // A process that is gone never comes back under its run_id. One that is only silent may.
    let nobody_silent = record.members.iter().all(|pod| look.member(pod).is_some());
    let kept = if nobody_silent { BTreeSet::new() } else { record.voters.clone() };
    Some(kept.into_iter().chain(replicas.iter().map(run_id)).collect())
}

fn votes(replica: &Candidate<'_>, record: &Record, look: &Look) -> bool {
    let now = glimpse(record, look);
    let (Some(before), Some(now)) = (&look.before, now) else { return false };
    let info = &replica.answer.info;
    before.primary == now.primary
        && before.alive.contains(&info.server.run_id)
        && info.replication.offset >= before.offset
        && look.topology.get(replica.pod).is_some_and(|v| v.state == InstanceState::InSync)
}
