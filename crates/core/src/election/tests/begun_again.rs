//! Rule 9 with what an earlier record left on the volumes (`volumes::history`).

use super::*;
use crate::volumes::history::{History, begin_again};

/// What stood on the volumes: history `OLD` ended at 100 with the second epoch.
fn again() -> Record {
    let members = vec!["redis-0".into(), "redis-1".into(), "redis-2".into()];
    let history = History { epoch: 2, start_offset: 100, closed: [(OLD.to_owned(), 100)].into() };
    begin_again(members, Some(history))
}

/// Parked members, each with a history and an offset in it.
fn over(volumes: [(&str, i64); 3]) -> Vec<(&'static str, Option<Answer>)> {
    ["redis-0", "redis-1", "redis-2"]
        .into_iter()
        .zip(volumes)
        .map(|(pod, (replid, offset))| (pod, Some(parked(server(pod, replid, offset, 5)))))
        .collect()
}

#[test]
fn a_history_that_is_known_to_have_ended_keeps_nobody_waiting() {
    // A volume that was left behind before the election, and one with writes that the election gave up.
    for left_behind in [60, 100, 500] {
        let volumes = over([(OLD, left_behind), (NEW, 150), (NEW, 170)]);
        let (winner, record) = winner_of(&again(), &volumes);
        assert_eq!((winner.as_str(), record.epoch), ("redis-2", 3), "{left_behind}");
        let unknown = Record::first(again().members, false);
        assert_eq!(hold_reason(elected(&unknown, &volumes)), Reason::HistoriesDiffer, "{left_behind}");
    }
}

#[test]
fn what_is_not_known_to_have_ended_still_waits_for_a_person() {
    for (why, volumes) in [
        ("an election since, of which the volumes do not tell", [(OLD, 60), (NEW, 150), ("newer", 140)]),
        ("a history of elsewhere", [("elsewhere", 9000), (NEW, 150), (OLD, 60)]),
        ("the history that went on is not among them", [(OLD, 100), ("elsewhere", 50), ("elsewhere", 50)]),
    ] {
        let held = elected(&again(), &over(volumes));
        assert_eq!(hold_reason(held), Reason::HistoriesDiffer, "{why}");
    }
}

#[test]
fn copies_of_an_ended_history_alone_are_ranked_by_their_offsets() {
    let (winner, _) = winner_of(&again(), &over([(OLD, 60), (OLD, 90), (OLD, 80)]));
    assert_eq!(winner, "redis-1");
}
