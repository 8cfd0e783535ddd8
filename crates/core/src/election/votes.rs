//! Which replicas may decide without a primary that stays silent (`docs/design/protocol.md`, rule 4b).
//!
//! A link that is up is no vote: right after a restart it is up before the backlog has arrived. A *voter* was alive
//! before the serving primary's offset was read, and had reached that offset after.

use std::collections::BTreeSet;

use crate::{
    api::status::InstanceState,
    election::{
        followers::{is_tracked, without_ended},
        rank::Candidate,
        snapshot::Snapshot,
    },
};
use redis_node::record::Record;

/// What an earlier look has shown of the serving primary and of who was alive then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimarySample {
    /// `run_id` of the primary.
    pub primary: String,
    /// Its offset.
    pub offset: i64,
    /// `run_id`s that were seen before that offset was read.
    pub alive: BTreeSet<String>,
    /// Followers, by `run_id`, whose end stood in the record before that offset was read.
    pub ended: BTreeSet<String>,
}

/// What this look shows, with all who answered in it; `None` where the primary of record does not serve.
pub fn glimpse(record: &Record, look: &Snapshot) -> Option<PrimarySample> {
    let primary = record.primary.as_deref()?;
    look.topology.get(primary).filter(|verdict| verdict.serves)?;
    let own = look.process(primary)?;
    let alive = look.members().iter().map(|c| c.answer.info.server.run_id.clone()).collect();
    Some(PrimarySample {
        primary: own.answer.info.server.run_id.clone(),
        offset: own.answer.info.replication.offset,
        alive,
        ended: ended(record).cloned().collect(),
    })
}

/// The followers that have ended and that the others have not made up for yet.
fn ended(record: &Record) -> impl Iterator<Item = &String> {
    let followers = record.followers.iter().flatten().map(|follower| &follower.process);
    followers.filter(|process| process.ended).map(|process| &process.run_id)
}

/// The record with the voters, once each process that has to vote is one: all other members, or all that follow. Rule 4b needs
/// them all, so fewer are not worth a write.
pub(super) fn noted(record: &Record, look: &Snapshot) -> Option<Record> {
    let mut voters = BTreeSet::new();
    for pod in electorate(record, look) {
        let replica = look.member(pod)?;
        let run_id = &replica.answer.info.server.run_id;
        if !record.voters.contains(run_id) && !votes(&replica, record, look) {
            return None;
        }
        voters.insert(run_id.clone());
    }
    // Processes that are gone never come back under their run_id; they leave with the next write.
    let has_ended = record.followers.iter().flatten().any(|follower| follower.process.ended);
    let is_news = !voters.is_subset(&record.voters) || has_ended && !voters.is_empty();
    is_news.then(|| without_ended(Record { voters, ..record.clone() }))
}

/// The pods whose processes have to vote.
fn electorate<'a>(record: &'a Record, look: &Snapshot) -> Vec<&'a str> {
    let followers = record.followers.as_ref().filter(|_| is_tracked(record, look));
    if let Some(all) = followers {
        return all.iter().filter(|f| !f.process.ended).map(|f| f.pod.as_str()).collect();
    }
    let others = record.members.iter().filter(|pod| record.primary.as_ref() != Some(pod));
    others.map(String::as_str).collect()
}

fn votes(replica: &Candidate<'_>, record: &Record, look: &Snapshot) -> bool {
    let now = glimpse(record, look);
    let (Some(before), Some(now)) = (&look.before, now) else { return false };
    let info = &replica.answer.info;
    // What only one that has ended had confirmed may be later than an offset of before (found by the model).
    ended(record).all(|run_id| before.ended.contains(run_id))
        && before.primary == now.primary
        && before.alive.contains(&info.server.run_id)
        && info.replication.offset >= before.offset
        && look.topology.get(replica.pod).is_some_and(|v| v.state == InstanceState::InSync)
}
