//! Unit tests of the pure parts of the scenarios, which have no test harness themselves and need the real cluster.

#![allow(clippy::unwrap_used, reason = "a step that fails is the test's failure")]

#[path = "bench/clock.rs"]
#[allow(dead_code, reason = "only its arithmetic is used here")]
mod clock;
#[path = "scenarios/node/history.rs"]
#[allow(dead_code, reason = "only what needs no file is used here")]
mod history;
#[path = "scenarios/truth.rs"]
mod truth;

use jiff::Timestamp;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000_000_000 + millis).unwrap()
}

#[cfg(test)]
mod history_tests {
    use crate::{
        at,
        history::{Entry, History, Span},
    };

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
    fn spans_that_touch_share_no_moment() {
        let span = |from, to| Span { from: at(from), to: at(to) };
        assert!(span(0, 10).overlaps(span(9, 20)));
        assert!(!span(0, 10).overlaps(span(10, 20)));
    }
}

#[cfg(test)]
mod truth_tests {
    use crate::{
        at,
        truth::{
            Change::{Are, Said},
            longest_false_ready,
        },
    };

    #[test]
    fn ready_is_false_from_the_loss_until_the_status_says_so() {
        let changes = vec![
            (at(0), Are(3)),
            (at(10), Said(Some(3))),
            (at(100), Are(0)),
            (at(150), Said(None)),
            (at(400), Are(3)),
            (at(500), Said(Some(3))),
        ];
        assert_eq!(longest_false_ready(changes, at(0), at(1_000)), 50);
    }

    #[test]
    fn a_loss_that_is_never_told_lasts_until_the_servers_are_back_or_the_end() {
        let changes = vec![(at(0), Said(Some(3))), (at(10), Are(3)), (at(100), Are(2)), (at(300), Are(3))];
        assert_eq!(longest_false_ready(changes.clone(), at(10), at(1_000)), 200);
        assert_eq!(longest_false_ready(changes, at(10), at(250)), 150);
    }

    #[test]
    fn fewer_servers_than_before_are_right_where_the_status_counts_fewer() {
        let changes = vec![(at(0), Are(3)), (at(1), Said(Some(3))), (at(2), Said(Some(2))), (at(3), Are(2))];
        assert_eq!(longest_false_ready(changes, at(0), at(10)), 0);
    }
}
