//! Replicas of a lost primary.

use super::*;
use crate::election::lost_primary::{has_left, lost};
use std::time::Duration;

/// redis-0 gives no answer; these are the links of the others to it, up or down.
fn without_primary(links: [bool; 2]) -> Snapshot {
    let mut answers = healthy();
    answers[0].1 = None;
    for (pod, up) in ["redis-1", "redis-2"].into_iter().zip(links) {
        change(&mut answers, pod, |a| a.info.replication.upstream.as_mut().unwrap().link_up = up);
    }
    Snapshot { waited: true, ..look(&record(), answers) }
}

/// Regression: each of them looked the name up once a second, and answered nobody for as long as DNS was silent.
#[test]
fn who_dials_a_lost_primary_is_to_be_parked() {
    assert_eq!(lost(&record(), &without_primary([false, false]), host), ["redis-1", "redis-2"]);
}

/// Regression: a primary's pod was deleted without DNS, and the looks of its election waited for look-ups for 1.5 s.
#[test]
fn who_dials_a_primary_that_has_left_is_parked_at_once() {
    let mut look = Snapshot { waited: false, ..without_primary([false, true]) };
    look.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::Refused));
    assert!(!has_left(&record(), &look) && lost(&record(), &look, host).is_empty(), "it is started again");
    look.observed.pods[0].terminating = true;
    assert!(has_left(&record(), &look));
    assert_eq!(lost(&record(), &look, host), ["redis-1"], "and nobody who hears it");
    look.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::Timeout(Duration::from_secs(2))));
    assert!(!has_left(&record(), &look) && lost(&record(), &look, host).is_empty(), "it may run");
}

#[test]
fn who_still_has_its_link_is_left_with_it() {
    assert_eq!(lost(&record(), &without_primary([true, false]), host), ["redis-2"]);
    let mut look = without_primary([false, false]);
    change_look(&mut look, "redis-1", |a| {
        a.info.replication.upstream.as_mut().unwrap().sync_in_progress = true;
    });
    change_look(&mut look, "redis-2", |a| {
        a.info.replication.upstream.as_mut().unwrap().host = host("redis-1");
    });
    assert!(lost(&record(), &look, host).is_empty(), "a copy comes in, or it dials another one");
}

#[test]
fn nobody_is_parked_where_the_primary_may_be_there() {
    let down = || without_primary([false, false]);
    let mut answers = healthy();
    change(&mut answers, "redis-1", |a| a.info.replication.upstream.as_mut().unwrap().link_up = false);
    let mut full = down();
    full.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::ClientLimit));
    let mut starting = down();
    starting.observed.pods[0].answer = Err(NoAnswer::NotStarted);
    assert_eq!(lost(&record(), &starting, host), ["redis-1", "redis-2"]);
    for (record, look) in [
        (record(), full),
        (record(), Snapshot { waited: false, ..down() }),
        (opened(record()), down()),
        (Record { primary: None, ..record() }, down()),
        (record(), Snapshot { waited: true, ..look(&record(), answers) }),
    ] {
        assert!(lost(&record, &look, host).is_empty());
    }
}

#[test]
fn who_is_parked_already_is_left_alone() {
    let mut answers = all_parked([0, 100, 100]);
    answers[0].1 = None;
    let look = Snapshot { waited: true, ..look(&record(), answers) };
    assert!(lost(&record(), &look, host).is_empty());
}
