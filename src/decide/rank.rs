//! Rules 5 and 6: whose data is the newest.
//!
//! Offsets compare only within one history (`master_replid`); the record's closed histories and start offset make
//! them comparable across elections.

use std::collections::BTreeMap;

use crate::{
    record::Record,
    redis::{info::Replication, probe::Answer},
};

/// One member that takes part in an election.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Name of its pod.
    pub pod: &'a str,
    /// UID of its pod.
    pub uid: &'a str,
    /// Ordinal of its pod.
    pub ordinal: i32,
    /// What its Redis answered.
    pub answer: &'a Answer,
}

/// How new a member's data is. Greater is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    class: Class,
    offset: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// No key at all.
    Empty,
    /// Data of a history that an election ended, or of before the last election's winner.
    Closed,
    /// Data of the current history.
    Current,
}

/// Why nobody can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWinner {
    /// These members' histories began anew at an AOF restart and cannot be compared with the others'.
    Unrankable(Vec<String>),
    /// The record is not sure, and no member's data provably contains everybody else's.
    NoCommonDescendant,
}

/// Rule 5.
pub fn rank(candidate: &Candidate<'_>, record: &Record) -> Rank {
    let replication = &candidate.answer.info.replication;
    let offset = replication.offset;
    if candidate.is_empty() {
        return Rank { class: Class::Empty, offset: 0 };
    }
    match record.closed.get(&replication.replid) {
        Some(end) => Rank { class: Class::Closed, offset: offset.min(*end) },
        None if offset < record.start_offset => Rank { class: Class::Closed, offset },
        None => Rank { class: Class::Current, offset },
    }
}

/// The member with the newest data, or why none can be named.
pub fn winner<'a>(candidates: &[Candidate<'a>], record: &Record) -> Result<Candidate<'a>, NoWinner> {
    let unrankable: Vec<&Candidate<'a>> = candidates.iter().filter(|c| c.is_unrankable(record)).collect();
    if let [only] = unrankable.as_slice()
        && record.primary.as_deref() == Some(only.pod)
    {
        // Rule 6: an AOF primary of record that restarted has every write that it ever acknowledged.
        return Ok(**only);
    }
    if !unrankable.is_empty() {
        return Err(NoWinner::Unrankable(unrankable.iter().map(|c| c.pod.to_owned()).collect()));
    }
    let best = candidates
        .iter()
        .max_by_key(|c| {
            (
                rank(c, record),
                // A process that ran on can serve the others' partial resyncs.
                c.answer.info.replication.backlog_active,
                record.primary.as_deref() == Some(c.pod),
                -c.ordinal,
            )
        })
        .ok_or(NoWinner::NoCommonDescendant)?;
    let descends_from_all = candidates.iter().all(|other| other.is_empty() || best.descends_from(other));
    if record.sure || descends_from_all { Ok(*best) } else { Err(NoWinner::NoCommonDescendant) }
}

/// Rule 7: every history seen ends with this election, at the winner's offset in it, or at the highest offset seen
/// where the winner is not part of it. An end that is known already stays.
pub fn close_histories(
    candidates: &[Candidate<'_>],
    winner: &Candidate<'_>,
    record: &Record,
) -> BTreeMap<String, i64> {
    let mut closed = record.closed.clone();
    for history in candidates.iter().map(|c| &c.answer.info.replication.replid) {
        let end = winner.offset_in(history).or_else(|| {
            candidates.iter().filter(|c| c.replid() == history).map(|c| c.replication().offset).max()
        });
        if let Some(end) = end {
            closed.entry(history.clone()).or_insert(end);
        }
    }
    closed
}

impl Candidate<'_> {
    fn replication(&self) -> &Replication {
        &self.answer.info.replication
    }

    fn replid(&self) -> &str {
        &self.replication().replid
    }

    /// No key in any database. Unknown counts as not empty: emptiness only ever lowers a rank.
    pub fn is_empty(&self) -> bool {
        self.answer.info.keys == Some(0)
    }

    /// Rule 6: AOF makes a new history at each restart (experiment E5 B), so a member that restarted and never
    /// linked since cannot be compared. A member whose history is known to the record did link, or served.
    fn is_unrankable(&self, record: &Record) -> bool {
        let known = record.closed.contains_key(self.replid())
            || record.seen_serving.as_ref().is_some_and(|serving| serving.replid == self.replid());
        self.answer.info.persistence.aof_enabled && !self.is_empty() && !known
    }

    /// Up to which offset this member's data lies in a history, if it is part of it.
    fn offset_in(&self, history: &str) -> Option<i64> {
        let own = self.replication();
        if own.replid == history {
            Some(own.offset)
        } else if own.replid2 == history {
            // second_repl_offset is the first offset that is no longer shared.
            Some(own.second_repl_offset - 1)
        } else {
            None
        }
    }

    /// Whether this member's data contains the other's, by history and offset.
    fn descends_from(&self, other: &Candidate<'_>) -> bool {
        self.offset_in(other.replid()).is_some_and(|shared| shared >= other.replication().offset)
    }
}
