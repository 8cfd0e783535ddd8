//! Rules 5 and 6: whose data is the newest.
//!
//! Offsets compare only within one history (`master_replid`); the record's closed histories and start offset make
//! them comparable across elections.

use std::collections::BTreeMap;

use crate::topology::MAX_LINK_SILENCE_SECONDS;
use redis_node::{
    PARKED,
    answer::Answer,
    info::{Aof, Replication},
    record::{Record, SwitchTo, latest},
};

/// One member that takes part in an election.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Name of its pod.
    pub pod: &'a str,
    /// UID of its pod.
    pub uid: &'a str,
    /// Node of its pod.
    pub node: &'a str,
    /// Ordinal of its pod.
    pub ordinal: i32,
    /// Its pod has a new address: the others may look for it elsewhere, or nowhere, for as long as DNS answers live.
    pub new_address: bool,
    /// The latest end of a Redis container of its pod that the kubelet reports.
    pub last_end: Option<i64>,
    /// `terminationGracePeriodSeconds` of its pod.
    pub grace_seconds: i64,
    /// Its append-only file, if there is one, was switched on by hand, and is switched off again.
    pub aof_by_hand: bool,
    /// Its volume is not the one that the record speaks of.
    pub exchanged: bool,
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
    /// These members' histories are known to nobody: they began at a restart with append-only files, or outside of the
    /// set.
    Unrankable(Vec<String>),
    /// This primary of record ended before its append-only file held what it served, and no other member has that.
    UnsettledFile(String),
    /// The volume of this primary of record is another one than the record speaks of, and no other member has what it served.
    ExchangedVolume(String),
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
    let unrankable: Vec<&Candidate<'a>> =
        candidates.iter().filter(|c| c.is_unrankable(candidates, record)).collect();
    if let Some(switch) = &record.switch_to
        && !unrankable.is_empty()
    {
        return winner_of_switchover(candidates, &unrankable, switch, record);
    }
    let primary = unrankable.iter().find(|c| c.appends() && record.primary.as_deref() == Some(c.pod));
    if let Some(primary) = primary.filter(|_| record.sure || unrankable.len() == 1) {
        // Rule 6: an AOF primary of record that restarted has what it acknowledged, and so all that it sent to anybody.
        // (A node that lost power may have lost the last second under `appendfsync everysec`; nothing that is visible
        // here tells.)
        if record.seen_serving.as_ref().is_some_and(|seen| seen.aof_settled) && !primary.exchanged {
            return Ok(**primary);
        }
        // Its file may be older than all of the time that it served. What it acknowledged is in the copies of what it
        // served, where there are any.
        let others: Vec<Candidate<'a>> =
            candidates.iter().filter(|c| c.pod != primary.pod).copied().collect();
        if record.sure && unrankable.len() == 1 && others.iter().any(|c| c.has_copy_of_served(record)) {
            return best_of(&others, record);
        }
        let pod = primary.pod.to_owned();
        let is_other = primary.exchanged;
        return Err(if is_other { NoWinner::ExchangedVolume(pod) } else { NoWinner::UnsettledFile(pod) });
    }
    if !unrankable.is_empty() {
        return Err(NoWinner::Unrankable(unrankable.iter().map(|c| c.pod.to_owned()).collect()));
    }
    best_of(candidates, record)
}

/// Rule 5 among members whose histories are known.
fn best_of<'a>(candidates: &[Candidate<'a>], record: &Record) -> Result<Candidate<'a>, NoWinner> {
    let best = candidates
        .iter()
        .max_by_key(|c| {
            (
                rank(c, record),
                // Cut level, and yet the longer copy of a closed history has all that the shorter one has. (The end was
                // too low where the winner of that election had come to the next history before it had all of this one.)
                c.replication().offset,
                // A process that ran on can serve the others' partial resyncs.
                c.answer.info.replication.backlog_active,
                record.primary.as_deref() == Some(c.pod),
                // Who is found at once can be followed at once. Only where the ordinal would decide: what comes before
                // is what the model explored.
                !c.new_address,
                -c.ordinal,
            )
        })
        .ok_or(NoWinner::NoCommonDescendant)?;
    // What a record that was begun again knows to have ended is accounted for in the current history (rule 9).
    let is_current = rank(best, record).class == Class::Current;
    let has_ended = |other: &Candidate<'_>| is_current && record.closed.contains_key(other.replid());
    let descends_from_all =
        candidates.iter().all(|other| other.is_empty() || best.descends_from(other) || has_ended(other));
    if record.sure || descends_from_all { Ok(*best) } else { Err(NoWinner::NoCommonDescendant) }
}

/// Rule 6 while a switchover is open: the primary and its target had the same data, and one of them lost its history
/// by a restart with append-only files. Who serves is not known, so the one that may have gone on alone wins.
fn winner_of_switchover<'a>(
    candidates: &[Candidate<'a>],
    unrankable: &[&Candidate<'a>],
    switch: &SwitchTo,
    record: &Record,
) -> Result<Candidate<'a>, NoWinner> {
    let hold = || NoWinner::Unrankable(unrankable.iter().map(|c| c.pod.to_owned()).collect());
    let [only] = unrankable else { return Err(hold()) };
    // Without append-only files an unknown history says nothing about who served last: its file is merely older.
    if !only.appends() {
        return Err(hold());
    }
    let target = candidates.iter().find(|c| c.pod == switch.target);
    if only.pod == switch.target {
        // Whoever follows what came of the handover has all that was confirmed since, and what the target's file holds
        // beyond that nobody was promised.
        let mut others = candidates.iter().filter(|c| c.pod != only.pod);
        let new = others.find(|c| c.replication().replid2 == switch.replid).map(Candidate::replid);
        let heirs = candidates.iter().filter(|c| Some(c.replid()) == new);
        return match heirs.max_by_key(|c| (c.replication().offset, -c.ordinal)) {
            Some(fullest) => Ok(*fullest),
            None if switch.process.aof_settled && !only.exchanged => Ok(**only),
            None => Err(hold()),
        };
    }
    if record.primary.as_deref() != Some(only.pod) {
        return Err(hold());
    }
    let is_settled = record.seen_serving.as_ref().is_some_and(|seen| seen.aof_settled) && !only.exchanged;
    match target {
        // It did not take over: the old primary was the last to serve.
        Some(target) if target.replid() == switch.replid && is_settled => Ok(**only),
        // It did, or the old primary was told to go on after all: both begin a history that goes on from the one that
        // the switchover began with. Whoever has most of it has all that was confirmed.
        Some(target)
            if [target.replid(), target.replication().replid2.as_str()].contains(&switch.replid.as_str()) =>
        {
            candidates
                .iter()
                .filter(|c| c.replid() == target.replid())
                .max_by_key(|c| (c.replication().offset, c.pod == target.pod))
                .copied()
                .ok_or_else(hold)
        }
        _ => Err(hold()),
    }
}

/// Rule 7: every history seen ends with this election, at the winner's offset in it, or at the highest offset seen
/// where the winner is not part of it. An end that is known already stays.
///
/// A winner by rule 6 keeps its own history open: should its promotion not arrive, it must win again, and nobody else
/// can have that history.
pub fn close_histories(
    candidates: &[Candidate<'_>],
    winner: &Candidate<'_>,
    record: &Record,
) -> BTreeMap<String, i64> {
    let mut closed = record.closed.clone();
    let stays_open = winner.is_unrankable(candidates, record).then(|| winner.replid());
    for history in candidates.iter().map(|c| &c.answer.info.replication.replid) {
        if stays_open == Some(history.as_str()) {
            continue;
        }
        let end = winner.replication().offset_in(history).or_else(|| {
            candidates.iter().filter(|c| c.replid() == history).map(|c| c.replication().offset).max()
        });
        if let Some(end) = end {
            closed.entry(history.clone()).or_insert(end);
        }
    }
    let held: Vec<&str> = candidates.iter().map(Candidate::replid).collect();
    latest(closed, &held)
}

impl Candidate<'_> {
    /// A `FAILOVER` runs on it.
    pub fn hands_over(&self) -> bool {
        self.replication().failover_state != "no-failover"
    }

    /// The primary that it is linked to and has heard from lately. Nothing proves better that a process lives; a link to
    /// one that is gone without a word stays up for `repl-timeout`, 60 s (experiment E4), but nothing comes over it.
    pub fn heard_from(&self) -> Option<&str> {
        let upstream = self.replication().upstream.as_ref()?;
        let heard = upstream.link_up && (0..=MAX_LINK_SILENCE_SECONDS).contains(&upstream.last_io_seconds);
        heard.then_some(upstream.host.as_str())
    }

    /// Its data is still changing.
    pub fn is_unsettled(&self) -> bool {
        let info = &self.answer.info;
        info.persistence.loading
            || info.persistence.async_loading
            || info.replication.upstream.as_ref().is_some_and(|u| u.sync_in_progress)
            // A FAILOVER runs; its end decides who serves.
            || self.hands_over()
    }

    /// It follows nobody on purpose.
    pub fn is_parked(&self) -> bool {
        self.replication().upstream.as_ref().is_some_and(|u| (u.host.as_str(), u.port) == PARKED)
    }

    fn replication(&self) -> &Replication {
        &self.answer.info.replication
    }

    fn replid(&self) -> &str {
        &self.replication().replid
    }

    /// It has, or goes on from, the history that was served last.
    fn has_copy_of_served(&self, record: &Record) -> bool {
        let served = record.seen_serving.as_ref().map(|seen| seen.replid.as_str());
        !self.is_empty()
            && (served == Some(self.replid()) || served == Some(self.replication().replid2.as_str()))
    }

    /// No key in any database. Unknown counts as not empty: emptiness only ever lowers a rank.
    pub fn is_empty(&self) -> bool {
        self.answer.info.keys == Some(0)
    }

    /// Its append-only file holds what it serves, and goes on to.
    pub fn has_settled_aof(&self) -> bool {
        self.answer.info.persistence.aof == Aof::Whole && !self.aof_by_hand
    }

    /// It writes, or is about to write, what it serves to its append-only file.
    pub fn appends(&self) -> bool {
        self.answer.info.persistence.aof != Aof::Off
    }

    /// Whether this member's data cannot be compared with the others': its history is nobody's that is known.
    ///
    /// AOF makes a new history at each restart (experiment E5 B; rule 6). A primary of record without AOF loses its
    /// history when its RDB was written while it had no replication backlog, that is, before any replica linked; then
    /// only a member that linked since proves that such an RDB is older. Anybody else's unknown history comes from
    /// outside: a server that it was pointed at by hand, or a volume of another set.
    fn is_unrankable(&self, candidates: &[Candidate<'_>], record: &Record) -> bool {
        if self.is_empty() || self.has_known_history(candidates, record) {
            return false;
        }
        if self.appends() || record.primary.as_deref() != Some(self.pod) {
            // Without a sure record every history is unknown, and rule 9 asks for a common descendant.
            return self.appends() || record.sure && record.seen_serving.is_some();
        }
        let seen = record.seen_serving.as_ref().map(|serving| serving.replid.as_str());
        let others: Vec<_> = candidates.iter().filter(|c| c.pod != self.pod && !c.is_empty()).collect();
        let linked_since: Vec<_> = others.iter().filter(|c| seen == Some(c.replid())).collect();
        if linked_since.is_empty() {
            return !others.is_empty();
        }
        // More than that is either from outside, or of a history that it began with a switchover that was aborted, and ended
        // before anybody noted that (found by the model). One that it began when it was promoted is not noted yet either.
        let is_noted =
            seen.is_some_and(|seen| !record.closed.contains_key(seen)) && record.switch_to.is_none();
        is_noted && linked_since.iter().all(|c| c.replication().offset < self.replication().offset)
    }

    /// Whether its history is one of the set's: closed, served last, or shared with somebody who came to it from there.
    fn has_known_history(&self, candidates: &[Candidate<'_>], record: &Record) -> bool {
        let seen = record.seen_serving.as_ref().map(|serving| serving.replid.as_str());
        // A restart with append-only files forgets the former history too, so who names it ran on.
        // Where it left before somebody else ended, it was promoted by hand, and both went on (found by the model).
        let has_more =
            |of: &Candidate<'_>, than: i64| Some(of.replid()) == seen && of.replication().offset > than;
        let comes_from_seen = |c: &Candidate<'_>| {
            let left = c.replication();
            seen == Some(left.replid2.as_str())
                && (record.closed.contains_key(&left.replid2)
                    || !candidates
                        .iter()
                        .any(|other| has_more(other, left.second_repl_offset.saturating_sub(1))))
        };
        if record.closed.contains_key(self.replid()) || seen == Some(self.replid()) || comes_from_seen(self) {
            return true;
        }
        // Two that copied from the same stranger share a history too. A primary without a backlog begins a new one when
        // its first replica links.
        let is_primary_of_record = |c: &Candidate<'_>| record.primary.as_deref() == Some(c.pod);
        let is_known = |c: &Candidate<'_>| {
            comes_from_seen(c) || is_primary_of_record(c) || is_primary_of_record(self) || !record.sure
        };
        let shares =
            |c: &Candidate<'_>| c.replid() == self.replid() || c.replication().replid2 == self.replid();
        candidates.iter().filter(|c| c.pod != self.pod).any(|c| shares(c) && is_known(c))
    }

    /// Whether this member's data contains the other's, by history and offset.
    pub(super) fn descends_from(&self, other: &Candidate<'_>) -> bool {
        self.replication()
            .offset_in(other.replid())
            .is_some_and(|shared| shared >= other.replication().offset)
    }
}
