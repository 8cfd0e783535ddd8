//! What a set's answers add up to where one server's INFO does not show it: pods without an answer, pods that go,
//! sets without a primary.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is the test's failure")]

use std::time::Duration;

use operator_core::fixtures::{answer, pod, primary, record, replica};
use operator_core::{
    api::status::InstanceState,
    observed::{NoAnswer, Observed, ObservedPod},
    topology::{Topology, topology},
};
use redis_node::{PARKED, answer::ProbeFailure, info::Replication, record::Record};

const REPLID: &str = "0123456789012345678901234567890123456789";

/// In these tests a Redis announces the name of its pod.
fn judge(record: &Record, pods: Vec<ObservedPod>) -> Topology {
    topology(str::to_owned, record, &Observed { pods })
}

fn says(ordinal: i32, replication: Replication) -> ObservedPod {
    pod(ordinal, Ok(answer(&format!("redis-{ordinal}"), replication)))
}

fn serves(replicas: &[&str]) -> Replication {
    primary(REPLID, replicas)
}

fn follows(host: &str) -> Replication {
    replica(REPLID, host)
}

fn parked() -> Replication {
    let mut replication = follows(PARKED.0);
    let upstream = replication.upstream.as_mut().unwrap();
    upstream.port = PARKED.1;
    upstream.link_up = false;
    replication
}

#[test]
fn why_there_is_no_answer() {
    let failed = |failure| NoAnswer::Failed(failure);
    let table = [
        (NoAnswer::NotStarted, InstanceState::Pending, "its Redis has not started yet"),
        (NoAnswer::NoPassword, InstanceState::Unreachable, "not asked: the operator has no password for it"),
        (failed(ProbeFailure::Refused), InstanceState::Unreachable, "connection refused"),
        (
            failed(ProbeFailure::Timeout(Duration::from_secs(2))),
            InstanceState::Unreachable,
            "no answer within 2s",
        ),
        (
            failed(ProbeFailure::Reply("ERR to AUTH".to_owned())),
            InstanceState::Unreachable,
            "answered with an error: ERR to AUTH",
        ),
        (
            failed(ProbeFailure::Auth("WRONGPASS".to_owned())),
            InstanceState::AuthFailed,
            "password refused: WRONGPASS",
        ),
        (failed(ProbeFailure::Loading), InstanceState::Loading, "loading its dataset"),
        (failed(ProbeFailure::Busy), InstanceState::Busy, "busy with a script"),
        (
            failed(ProbeFailure::Malformed("HTTP".to_owned())),
            InstanceState::Foreign,
            "not an answer of a Redis server: HTTP",
        ),
    ];
    for (reason, state, fault) in table {
        let judged = judge(&record("redis-0"), vec![pod(0, Err(reason.clone()))]);
        assert_eq!(judged.instances[0].state, state, "{reason:?}");
        assert_eq!(judged.instances[0].faults, [fault], "{reason:?}");
    }
}

#[test]
fn a_stuck_pod_says_what_it_waits_for() {
    let stuck = Some("ImagePullBackOff: redis:nope".to_owned());
    let waiting = ObservedPod { stuck: stuck.clone(), ..pod(0, Err(NoAnswer::NotStarted)) };
    let crashed = ObservedPod { stuck, ..pod(1, Err(NoAnswer::Failed(ProbeFailure::Refused))) };
    let judged = judge(&record("redis-0"), vec![waiting, crashed]);
    assert_eq!(judged.instances[0].state, InstanceState::Pending);
    assert_eq!(judged.instances[0].faults, ["ImagePullBackOff: redis:nope"]);
    assert_eq!(judged.instances[1].state, InstanceState::Unreachable);
    assert_eq!(judged.instances[1].faults, ["connection refused", "ImagePullBackOff: redis:nope"]);
}

#[test]
fn a_primary_that_goes_still_serves() {
    let going = ObservedPod { terminating: true, ..says(0, serves(&["redis-1"])) };
    let judged = judge(&record("redis-0"), vec![going, says(1, follows("redis-0"))]);
    assert_eq!(judged.instances[0].state, InstanceState::Terminating);
    assert_eq!(judged.serving(), [judged.get("redis-0").unwrap()]);
    assert_eq!(judged.instances[1].state, InstanceState::InSync);
    assert!(!judged.all_in_sync(2));
}

#[test]
fn a_stranger_does_not_speak_for_the_pod() {
    let stranger = pod(0, Ok(answer("", serves(&["redis-1"]))));
    let judged = judge(&record("redis-0"), vec![stranger, says(1, follows("redis-0"))]);
    assert_eq!(judged.instances[0].state, InstanceState::Foreign);
    assert_eq!(
        judged.instances[0].faults,
        ["another server answers at its address: it announces no name, wanted redis-0"]
    );
    assert!(judged.serving().is_empty());
    assert_eq!(judged.instances[1].state, InstanceState::Unconfirmed);
}

#[test]
fn no_primary_on_record() {
    let judged = judge(
        &Record::first(Vec::new(), true),
        vec![says(0, serves(&["redis-1"])), says(1, follows("redis-0")), says(2, parked())],
    );
    let states: Vec<InstanceState> = judged.instances.iter().map(|found| found.state).collect();
    assert_eq!(
        states,
        [InstanceState::UnexpectedPrimary, InstanceState::WrongPrimary, InstanceState::Parked]
    );
    assert_eq!(judged.instances[0].faults, ["serves as primary, but none is on record"]);
    assert_eq!(judged.instances[1].faults, ["follows redis-0:6379; no primary is on record"]);
}

/// The primary's process ended and came back parked: the others still name it, and their links are down.
#[test]
fn a_primary_that_came_back_parked() {
    let mut left = follows("redis-0");
    left.upstream.as_mut().unwrap().link_up = false;
    let judged = judge(&record("redis-0"), vec![says(0, parked()), says(1, left)]);
    assert_eq!(judged.instances[0].state, InstanceState::Parked);
    assert_eq!(judged.instances[1].state, InstanceState::LinkDown);
    assert_eq!(
        judged.instances[1].faults,
        ["the link to its primary is down", "redis-0 does not serve as primary: it is parked"]
    );
}

/// Each part of the evidence that failed is named, not only the one that decides.
#[test]
fn all_faults_are_named() {
    let mut lines = serves(&["redis-1"]);
    lines.replicas[0].lag_seconds = 11;
    lines.replid = "f".repeat(40);
    let mut replication = follows("redis-0");
    replication.upstream.as_mut().unwrap().last_io_seconds = 16;
    let judged = judge(&record("redis-0"), vec![says(0, lines), says(1, replication)]);
    assert_eq!(judged.instances[1].state, InstanceState::Unconfirmed);
    assert_eq!(
        judged.instances[1].faults,
        [
            format!("its history is {REPLID}, that of redis-0 is {}", "f".repeat(40)),
            "has heard nothing from its primary for more than 15 s".to_owned(),
            "has acknowledged nothing to its primary for more than 10 s".to_owned(),
        ]
    );
}

#[test]
fn a_primary_that_follows() {
    let pods = || vec![says(0, follows("redis-1")), says(1, follows("redis-0")), says(2, follows("redis-2"))];
    let judged = judge(&record("redis-0"), pods());
    assert_eq!(
        judged.instances[0].faults,
        ["follows redis-1:6379 (in a circle, without a primary); it is the primary of record"]
    );
    assert_eq!(
        judged.instances[1].faults,
        ["redis-0 does not serve as primary: it follows redis-1:6379 (in a circle, without a primary)"]
    );
    assert!(judged.instances[2].faults[0].starts_with("follows redis-2:6379, itself; wanted redis-0:6379"));
    assert!(judged.instances.iter().all(|found| found.state == InstanceState::WrongPrimary));
}

/// A wrong port is a wrong server, whatever its name.
#[test]
fn a_wrong_port() {
    let mut replication = follows("redis-0");
    replication.upstream.as_mut().unwrap().port = 6380;
    let judged = judge(&record("redis-0"), vec![says(0, serves(&["redis-1"])), says(1, replication)]);
    assert_eq!(judged.instances[1].state, InstanceState::WrongPrimary);
    assert_eq!(judged.instances[1].faults, ["follows redis-0:6380; wanted redis-0:6379"]);
}
