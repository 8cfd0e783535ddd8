//! Rule 4b, voters, the proof of death, and a person's consent.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    api::annotations::Consent,
    election::{
        process_end::{Former, NodeState, Traces, former, with_ends},
        votes::{PrimarySample, glimpse},
    },
    observed::pod::Ends,
};

fn voting() -> Record {
    Record { voters: BTreeSet::from(["run-redis-1".into(), "run-redis-2".into()]), ..record() }
}

/// redis-0 is silent and proven dead; the others have waited.
fn bereft(offsets: [i64; 3]) -> Snapshot {
    let mut answers = all_parked(offsets);
    answers[0].1 = None;
    Snapshot { former: Former::Ended, waited: true, ..look(&voting(), answers) }
}

fn promoted(record: &Record, first: &Snapshot, second: &Snapshot) -> (String, Record) {
    assert_eq!(decide(record, first), Decision::LookAgain);
    match elect(record, first, second) {
        Decision::Promote { record, pod } => (pod, record),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_dead_primary_is_done_without_where_everybody_else_votes() {
    let look = bereft([0, 100, 120]);
    let (winner, written) = promoted(&voting(), &look, &look);
    assert_eq!(winner, "redis-2");
    assert_eq!(written.closed, BTreeMap::from([(OLD.to_owned(), 120)]));
    assert!(written.voters.is_empty(), "votes are void at a new epoch");
    assert_eq!((written.epoch, written.seen_serving.unwrap().run_id), (2, "run-redis-2".into()));
}

/// The others would look for it under its former address for as long as a DNS answer lives.
#[test]
fn of_equals_the_one_that_is_found_at_once_wins_and_never_one_with_less() {
    for (offsets, wanted) in [([0, 120, 120], "redis-2"), ([0, 121, 120], "redis-1")] {
        let mut look = bereft(offsets);
        look.observed.pods[1].new_address = true;
        assert_eq!(promoted(&voting(), &look, &look).0, wanted);
    }
    assert_eq!(promoted(&voting(), &bereft([0, 120, 120]), &bereft([0, 120, 120])).0, "redis-1");
}

#[test]
fn each_missing_condition_holds_and_is_named() {
    let mut busy = Snapshot { former: Former::Unproven("the proof".into()), ..bereft([0, 1, 1]) };
    busy.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::Busy));
    let cases: Vec<(&str, Record, Snapshot, &str)> = vec![
        (
            "a script blocks it",
            voting(),
            busy,
            "redis-0 is busy with a script; SCRIPT KILL or FUNCTION KILL ends",
        ),
        (
            "no proof",
            voting(),
            Snapshot { former: Former::Unproven("the proof".into()), ..bereft([0, 1, 1]) },
            "the proof",
        ),
        ("too early", voting(), Snapshot { waited: false, ..bereft([0, 1, 1]) }, "few seconds"),
        (
            "one voter of two",
            Record { voters: BTreeSet::from(["run-redis-1".into()]), ..record() },
            bereft([0, 100, 120]),
            "redis-2 restarted or was not in sync since",
        ),
        ("not sure", Record { sure: false, ..voting() }, bereft([0, 1, 1]), "waiting for redis-0"),
        (
            "nobody ever served",
            Record { seen_serving: None, ..voting() },
            bereft([0, 1, 1]),
            "waiting for redis-0",
        ),
    ];
    for (case, record, look, message) in cases {
        match decide(&record, &look) {
            Decision::Hold(Hold { reason: Reason::MemberUnreachable, message: found }) => {
                assert!(found.contains(message), "{case}: {found}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
    // Another member is silent too.
    let mut two = bereft([0, 100, 120]);
    two.observed.pods[1].answer = Err(NoAnswer::NotStarted);
    assert_eq!(hold_reason(decide(&voting(), &two)), Reason::MemberUnreachable);
}

/// The primary's pod was evicted and ended in the middle of its switchover.
#[test]
fn in_the_middle_of_a_switchover_the_target_must_be_the_process_that_was_in_sync() {
    let open = opened(voting());
    let look = bereft([0, 100, 120]);
    let (winner, written) = promoted(&open, &look, &look);
    assert_eq!((winner.as_str(), written.switch_to), ("redis-2", None));
    // It voted, but it is not the process that may have taken over.
    let mut other = open.clone();
    other.switch_to.as_mut().unwrap().process.run_id = "another".into();
    assert_eq!(hold_reason(elect(&other, &look, &look)), Reason::MemberUnreachable);
    let mut replaced = look.clone();
    replaced.observed.pods[1].uid = "uid-namesake".into();
    assert_eq!(hold_reason(elect(&open, &replaced, &replaced)), Reason::MemberUnreachable);
}

#[test]
fn proof_and_votes_must_hold_in_both_looks() {
    let look = bereft([0, 100, 120]);
    assert_eq!(decide(&voting(), &look), Decision::LookAgain);
    let unproven = Snapshot { former: Former::Unproven("gone again".into()), ..look.clone() };
    assert_eq!(hold_reason(elect(&voting(), &look, &unproven)), Reason::MemberUnreachable);
    let mut restarted = look.clone();
    restarted.observed.pods[2].answer.as_mut().unwrap().info.server.run_id = "another".into();
    assert_eq!(hold_reason(elect(&voting(), &look, &restarted)), Reason::MemberUnreachable);
}

/// Regression "a restarted replica with its link up but its backlog not yet received counts as a voter".
#[test]
fn a_vote_needs_the_primarys_offset_of_an_earlier_look() {
    let record = record();
    let earlier = look(&record, healthy());
    let seen = glimpse(&record, &earlier).unwrap();
    assert_eq!(seen.offset, 100);
    let now = |before: Option<PrimarySample>, offset: i64| {
        let mut answers = healthy();
        change(&mut answers, "redis-2", |a| a.info.replication.offset = offset);
        decide(&record, &Snapshot { before, ..look(&record, answers) })
    };
    let noted = |decision: Decision| match decision {
        Decision::Note(record) => record.voters,
        other => panic!("{other:?}"),
    };
    assert_eq!(now(None, 100), Decision::Rest, "no earlier look");
    assert_eq!(
        now(Some(seen.clone()), 99),
        Decision::Rest,
        "it has not reached it, and one of two is no news"
    );
    assert_eq!(noted(now(Some(seen.clone()), 100)), voting().voters);
    let mut unborn = seen.clone();
    unborn.alive.remove("run-redis-2");
    assert_eq!(now(Some(unborn), 100), Decision::Rest, "it was not alive when the offset was read");
    let another = PrimarySample { primary: "another".into(), ..seen.clone() };
    assert_eq!(now(Some(another), 100), Decision::Rest, "another primary's offset");
    // Known already.
    let look = Snapshot { before: Some(seen), ..look(&voting(), healthy()) };
    assert_eq!(decide(&voting(), &look), Decision::Rest);
}

#[test]
fn a_replaced_replica_loses_its_vote_when_all_vote_again() {
    let record = Record { voters: BTreeSet::from(["old-1".into(), "run-redis-2".into()]), ..record() };
    let before = glimpse(&record, &look(&record, healthy()));
    match decide(&record, &Snapshot { before: before.clone(), ..look(&record, healthy()) }) {
        Decision::Note(noted) => assert_eq!(noted.voters, voting().voters),
        other => panic!("{other:?}"),
    }
    let mut answers = healthy();
    answers[2].1 = None;
    assert_eq!(decide(&record, &Snapshot { before, ..look(&record, answers) }), Decision::Rest);
}

#[test]
fn a_person_can_end_a_hold_for_the_epoch_that_they_saw() {
    let consent = |pod: &str, epoch| Some(Consent { pod: pod.into(), epoch });
    let held = Snapshot { former: Former::default(), waited: true, ..bereft([0, 100, 120]) };
    assert_eq!(hold_reason(decide(&voting(), &held)), Reason::MemberUnreachable);
    match decide(&voting(), &Snapshot { consent: consent("redis-1", 1), ..held.clone() }) {
        Decision::Promote { record, pod } => {
            assert_eq!((pod.as_str(), record.epoch), ("redis-1", 2));
            // What redis-2 has beyond that no longer counts.
            assert_eq!(record.closed, BTreeMap::from([(OLD.to_owned(), 100)]));
        }
        other => panic!("{other:?}"),
    }
    for (pod, epoch) in [("redis-1", 0), ("redis-1", 2), ("redis-0", 1), ("redis-7", 1)] {
        let look = Snapshot { consent: consent(pod, epoch), ..held.clone() };
        assert_eq!(hold_reason(decide(&voting(), &look)), Reason::MemberUnreachable, "{pod}@{epoch}");
    }
    // Nothing is lost for nothing: while somebody serves, it means nothing.
    let serving = Snapshot { consent: consent("redis-1", 1), ..look(&voting(), healthy()) };
    assert_eq!(decide(&voting(), &serving), Decision::Rest);
}

fn traces(node: NodeState) -> Traces {
    Traces { pod_exists: false, ends: None, gone_for: Duration::ZERO, node }
}

fn ready() -> NodeState {
    NodeState::Ready { since: "2026-01-01T00:00:00Z".to_owned() }
}

/// Regression "an old container's termination taken as proof for a later process of the same pod".
#[test]
fn what_proves_the_end_of_a_process_and_what_does_not() {
    let serving = Serving { pod_uid: "u".into(), node: "n".into(), started: 500, ..Serving::default() };
    let is_dead = |traces: Traces| former(&serving, &traces) == Former::Ended;
    let there = |latest: Option<i64>| {
        let ends = latest.map(|latest| Ends { latest, of_pod: false });
        Traces { pod_exists: true, ends, ..traces(ready()) }
    };
    assert!(is_dead(there(Some(501))));
    assert!(!is_dead(there(Some(500))), "that may be its predecessor");
    assert!(!is_dead(there(None)));
    assert!(!is_dead(Traces { pod_exists: true, ..traces(NodeState::Deleted) }), "the pod is still listed");
    let gone = |latest| Traces { ends: Some(Ends { latest, of_pod: false }), ..traces(NodeState::NotReady) };
    assert!(is_dead(gone(501)));
    assert!(!is_dead(gone(500)), "it was deleted by force after its predecessor's end");
    let ended = Traces { ends: Some(Ends { latest: 500, of_pod: true }), ..traces(ready()) };
    assert!(is_dead(ended), "it lived for less than a second, and its kubelet ended the whole pod");
    assert!(is_dead(traces(NodeState::Deleted)) && is_dead(traces(NodeState::OutOfService)));
    assert!(!is_dead(traces(NodeState::NotReady)) && !is_dead(traces(NodeState::Unknown("no".into()))));
    let gone_for = |gone_for| Traces { gone_for, ..traces(ready()) };
    assert!(!is_dead(traces(ready())), "its kubelet may not have ended it yet");
    assert!(!is_dead(gone_for(Duration::from_secs(300))));
    assert!(is_dead(gone_for(Duration::from_secs(301))));
    let slow = Serving { grace_seconds: 3600, ..serving.clone() };
    let slow_at = |seconds| former(&slow, &gone_for(Duration::from_secs(seconds)));
    assert_ne!(slow_at(3600), Former::Ended, "its kubelet gives it an hour");
    assert_eq!(slow_at(3781), Former::Ended);
    let unnamed = former(&Serving::default(), &traces(NodeState::Unknown("no node".into())));
    assert!(matches!(unnamed, Former::Unproven(_)), "a process that a record does not name may be any");
    let noted = Serving { ended: true, ..serving.clone() };
    assert_eq!(former(&noted, &traces(ready())), Former::Ended, "an operator that had the proof says so");
}

/// Regression: a node's clock was an hour ahead when the first container ended, and was set back before the process
/// that serves began.
#[test]
fn an_end_that_was_known_before_the_process_was_noted_is_its_predecessors() {
    let (an_hour_ahead, after_that) = (4_100, 4_101);
    let serving =
        Serving { pod_uid: "u".into(), started: 560, known_end: Some(an_hour_ahead), ..Serving::default() };
    let with =
        |latest| Traces { pod_exists: true, ends: Some(Ends { latest, of_pod: false }), ..traces(ready()) };
    assert!(matches!(former(&serving, &with(an_hour_ahead)), Former::Unproven(_)));
    assert_eq!(former(&serving, &with(after_that)), Former::Ended);
    // What is noted, with the process.
    let mut answers = look(&record(), healthy());
    answers.observed.pods[0].last_end = Some(an_hour_ahead);
    answers.observed.pods[0].answer.as_mut().unwrap().info.server.run_id = "another".into();
    match decide(&record(), &answers) {
        Decision::Note(noted) => assert_eq!(noted.seen_serving.unwrap().known_end, Some(an_hour_ahead)),
        other => panic!("{other:?}"),
    }
}

fn linked(answers: &mut [(&str, Option<Answer>)], pod: &str, to: &str, last_io_seconds: i64) {
    change(answers, pod, |answer| {
        let offset = answer.info.replication.offset;
        answer.info.replication.upstream = Some(Upstream {
            host: host(to),
            port: 6379,
            link_up: true,
            last_io_seconds,
            sync_in_progress: false,
            offset,
        });
    });
}

/// Regression: a wrong proof of death (a stale cache, a clock) beside replicas that hear the primary.
#[test]
fn nobody_is_cut_off_a_primary_that_a_replica_hears() {
    let with = |to: &str, last_io| {
        let mut answers = all_parked([0, 100, 120]);
        answers[0].1 = None;
        linked(&mut answers, "redis-1", to, last_io);
        decide(&voting(), &Snapshot { former: Former::Ended, waited: true, ..look(&voting(), answers) })
    };
    match with("redis-0", 3) {
        Decision::Hold(Hold { reason: Reason::MemberUnreachable, message }) => {
            assert!(message.contains("redis-1 still hears from it"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let parked = Decision::Park(vec!["redis-1".into()]);
    assert_eq!(with("redis-0", 16), parked, "the link only looks up");
    assert_eq!(with("redis-2", 3), parked, "it hears another replica, not the primary");
}

/// The same where a namesake answers in place of the pod that served.
#[test]
fn a_namesake_is_not_believed_while_a_replica_hears_the_process_before_it() {
    let with = |last_io| {
        let mut answers = all_parked([0, 100, 120]);
        linked(&mut answers, "redis-1", "redis-0", last_io);
        let mut seen = Snapshot { former: Former::Ended, waited: true, ..look(&voting(), answers) };
        seen.observed.pods[0].uid = "namesake".into();
        decide(&voting(), &seen)
    };
    assert_eq!(hold_reason(with(3)), Reason::PreviousPrimaryUnproven);
    assert_eq!(with(16), Decision::Park(vec!["redis-1".into()]));
}

/// Regression: the leader that had seen the pod's end died in the middle of the election, and the next one held it for
/// the 300 s of a pod whose end nobody saw.
#[test]
fn an_end_that_was_seen_is_written_down_once() {
    let process = |uid: &str| Serving { pod_uid: uid.into(), started: 500, ..Serving::default() };
    let switch = SwitchTo { target: "redis-1".into(), replid: OLD.into(), process: process("target") };
    let record = Record { seen_serving: Some(process("former")), switch_to: Some(switch), ..voting() };
    let told = |record: &Record, uid: &str, end| {
        let ends = Ends { latest: end, of_pod: false };
        with_ends(record, |asked| (asked == uid).then_some(ends))
    };
    let ended = |record: &Record| {
        (record.seen_serving.as_ref().unwrap().ended, record.switch_to.as_ref().unwrap().process.ended)
    };
    assert_eq!(told(&record, "another", 501), None);
    assert_eq!(told(&record, "former", 500), None, "that may be its predecessor");
    let former = told(&record, "former", 501).unwrap();
    assert_eq!(ended(&former), (true, false));
    assert_eq!(told(&former, "former", 501), None, "once");
    assert_eq!(ended(&told(&record, "target", 501).unwrap()), (false, true));
    assert_eq!(ended(&told(&former, "target", 501).unwrap()), (true, true));
}
