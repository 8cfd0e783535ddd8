//! What one writer did: every key with the times at which it was sent, answered with OK and acknowledged by a replica;
//! and what follows from that.

use std::{fmt::Write as _, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use rig::clock::millis;

/// Gaps worth telling, in milliseconds.
const GAP_MILLIS: i64 = 20;

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was sent.
    pub sent: Timestamp,
    /// When the server said OK.
    pub ok: Option<Timestamp>,
    /// When a replica had it too.
    pub acknowledged: Option<Timestamp>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Span {
    /// Its length in milliseconds.
    pub fn millis(self) -> i64 {
        millis(self.from, self.to)
    }

    /// Whether they share a moment.
    pub fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// What a writer did, in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Name of the writer.
    pub writer: String,
    /// Keys that were sent.
    pub sent: usize,
    /// Of these, keys that were answered with OK.
    pub ok: usize,
    /// Of these, keys that a replica acknowledged.
    pub acknowledged: usize,
    /// Times between two successive successes: acknowledged writes, or OK for a writer that does not ask for more.
    pub gaps: Vec<Span>,
    /// Acknowledged keys that the primary does not have.
    pub lost_acknowledged: usize,
    /// Keys that were answered with OK, never acknowledged, and that the primary does not have.
    pub lost_ok: usize,
}

/// One writer's keys, numbered from 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    /// Begins every key.
    pub prefix: String,
    /// Name of the writer.
    pub writer: String,
    /// Whether a success is a replica's acknowledgement, not the OK.
    pub confirms: bool,
    entries: Vec<Entry>,
}

impl History {
    /// Nothing yet.
    pub fn new(prefix: &str, writer: &str, confirms: bool) -> Self {
        Self { prefix: prefix.to_owned(), writer: writer.to_owned(), confirms, entries: Vec::new() }
    }

    /// Number of the next key.
    pub fn next(&self) -> usize {
        self.entries.len()
    }

    /// Adds what became of the next key.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// A replica has every key that was answered with OK until now.
    pub fn acknowledge_all(&mut self, at: Timestamp) {
        for entry in self.entries.iter_mut().filter(|entry| entry.ok.is_some()) {
            entry.acknowledged = Some(at);
        }
    }

    /// A key by its number; its value is the number.
    pub fn key(&self, number: usize) -> String {
        format!("{}:{}:{number}", self.prefix, self.writer)
    }

    /// Numbers of the keys that a server promised to keep.
    pub fn promised(&self) -> Vec<usize> {
        let promised = self.entries.iter().enumerate().filter(|(_, entry)| entry.ok.is_some());
        promised.map(|(number, _)| number).collect()
    }

    /// What became of a key.
    pub fn entry(&self, number: usize) -> Option<Entry> {
        self.entries.get(number).copied()
    }

    /// When it succeeded last.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.entries.iter().rev().find_map(|entry| self.success(entry))
    }

    /// When it succeeded last within this time.
    pub fn last_success_in(&self, span: Span) -> Option<Timestamp> {
        let all = self.entries.iter().filter_map(|entry| self.success(entry));
        all.filter(|at| *at >= span.from && *at <= span.to).max()
    }

    fn success(&self, entry: &Entry) -> Option<Timestamp> {
        if self.confirms { entry.acknowledged } else { entry.ok }
    }

    /// The figures, with keys that the primary does not have. Without a success after `end` the last gap ends there.
    pub fn written(&self, missing: &[usize], end: Timestamp) -> Written {
        let mut gaps = Vec::new();
        let mut before: Option<Timestamp> = None;
        for at in self.entries.iter().filter_map(|entry| self.success(entry)).chain([end]) {
            if let Some(from) = before
                && millis(from, at) >= GAP_MILLIS
            {
                gaps.push(Span { from, to: at });
            }
            before = before.max(Some(at));
        }
        let lost = |acknowledged: bool| {
            let entries = missing.iter().filter_map(|number| self.entry(*number));
            entries.filter(|entry| entry.ok.is_some() && entry.acknowledged.is_some() == acknowledged).count()
        };
        Written {
            writer: self.writer.clone(),
            sent: self.entries.len(),
            ok: self.entries.iter().filter(|entry| entry.ok.is_some()).count(),
            acknowledged: self.entries.iter().filter(|entry| entry.acknowledged.is_some()).count(),
            gaps,
            lost_acknowledged: lost(true),
            lost_ok: lost(false),
        }
    }

    /// One line a key: key, sent, OK, acknowledged.
    pub fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        let mut line = String::new();
        for (number, entry) in self.entries.iter().enumerate() {
            line.clear();
            let time = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.to_string());
            let (ok, acknowledged) = (time(entry.ok), time(entry.acknowledged));
            // Writing to a String cannot fail.
            let _ = writeln!(line, "{} {} {ok} {acknowledged}", self.key(number), entry.sent);
            to.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a step that fails is the test's failure")]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000_000 + millis).unwrap()
    }

    /// Keys sent at these times; each gets OK after 1 ms and an acknowledgement after 2 ms, as the two flags say.
    fn history(confirms: bool, entries: &[(i64, bool, bool)]) -> History {
        let mut history = History::new("run", "writer", confirms);
        for (sent, ok, acknowledged) in entries {
            history.push(Entry {
                sent: at(*sent),
                ok: ok.then(|| at(sent + 1)),
                acknowledged: acknowledged.then(|| at(sent + 2)),
            });
        }
        history
    }

    #[test]
    fn a_lost_key_counts_as_what_was_promised_of_it() {
        let all = [(0, true, true), (10, true, false), (20, false, false), (30, true, true)];
        let history = history(true, &all);
        assert_eq!(history.promised(), [0, 1, 3]);
        let written = history.written(&[0, 1], at(40));
        assert_eq!((written.sent, written.ok, written.acknowledged), (4, 3, 2));
        assert_eq!((written.lost_acknowledged, written.lost_ok), (1, 1));
        assert_eq!(history.key(3), "run:writer:3");
    }

    #[test]
    fn gaps_lie_between_acknowledgements_where_these_count() {
        let all = [(0, true, true), (100, true, false), (200, true, true)];
        let gaps = |confirms| history(confirms, &all).written(&[], at(205)).gaps;
        assert_eq!(gaps(true), [Span { from: at(2), to: at(202) }]);
        assert_eq!(gaps(false), [Span { from: at(1), to: at(101) }, Span { from: at(101), to: at(201) }]);
    }

    #[test]
    fn silence_until_the_end_is_a_gap() {
        let gaps = history(true, &[(0, true, true)]).written(&[], at(5_002)).gaps;
        assert_eq!(gaps.iter().map(|gap| gap.millis()).collect::<Vec<_>>(), [5_000]);
        // A success after the writers were told to stop leaves no gap beyond it.
        let gaps = history(true, &[(0, true, true), (300, true, true)]).written(&[], at(100)).gaps;
        assert_eq!(gaps, [Span { from: at(2), to: at(302) }]);
    }

    #[test]
    fn the_last_success_within_a_time_is_none_of_before_or_after() {
        let history =
            history(true, &[(0, true, true), (100, true, false), (200, true, true), (300, true, true)]);
        let last = |from, to| history.last_success_in(Span { from: at(from), to: at(to) });
        assert_eq!(last(50, 250), Some(at(202)));
        assert_eq!(last(50, 150), None);
    }

    #[test]
    fn spans_that_touch_share_no_moment() {
        let span = |from, to| Span { from: at(from), to: at(to) };
        assert!(span(0, 10).overlaps(span(9, 20)));
        assert!(!span(0, 10).overlaps(span(10, 20)));
    }
}
