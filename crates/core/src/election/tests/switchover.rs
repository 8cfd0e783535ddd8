//! Rules 2, 6 (its second half) and 8.

use super::*;
use crate::{
    api::annotations::{Consent, Home},
    election::{process_end::Former, switchover::evacuation_waits},
    names::SetName,
    rollout::{
        next_pod::Roll,
        placement::{Placement, wish},
    },
};

/// redis-0 is to hand over to redis-1.
fn open_record() -> Record {
    opened(record())
}

fn handing_over(answers: &mut [(&str, Option<Answer>)], state: &str) {
    change(answers, "redis-0", |a| a.info.replication.failover_state = state.into());
}

/// redis-1 serves, redis-0 follows it, redis-2 still follows redis-0.
fn taken_over() -> Vec<(&'static str, Option<Answer>)> {
    let mut answers = healthy();
    for pod in ["redis-0", "redis-1"] {
        change(&mut answers, pod, |a| {
            a.info.replication.replid = NEW.into();
            a.info.replication.replid2 = OLD.into();
            a.info.replication.second_repl_offset = 101;
            a.info.replication.offset = 130;
        });
    }
    change(&mut answers, "redis-1", |a| a.info.replication.upstream = None);
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, true));
    answers
}

fn terminating(mut look: Snapshot, pod: &str) -> Snapshot {
    look.observed.pods.iter_mut().find(|p| p.name == pod).unwrap().terminating = true;
    look.topology = topology(host, &record(), &look.observed);
    look
}

#[test]
fn a_primary_whose_pod_is_being_deleted_hands_over_to_the_fullest_replica() {
    let mut answers = healthy();
    change(&mut answers, "redis-2", |a| a.info.replication.offset = 101);
    let look = terminating(look(&record(), answers), "redis-0");
    match decide(&record(), &look) {
        Decision::Switch { record: written, from, target } => {
            assert_eq!((from.as_str(), target.as_str()), ("redis-0", "redis-2"));
            let switch = written.switch_to.unwrap();
            assert_eq!((switch.target, switch.replid.as_str()), (target, OLD));
            assert_eq!(
                (switch.process.pod_uid.as_str(), switch.process.run_id.as_str()),
                ("uid-redis-2", "run-redis-2")
            );
            assert_eq!((written.epoch, written.primary), (1, Some("redis-0".into())), "not before it serves");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_takes_over_who_is_not_in_sync_or_goes_too() {
    let mut answers = healthy();
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.replication.upstream.as_mut().unwrap().link_up = false);
    }
    assert_eq!(decide(&record(), &terminating(look(&record(), answers), "redis-0")), Decision::Rest);
    let both = terminating(look(&record(), healthy()), "redis-1");
    match decide(&record(), &terminating(both, "redis-0")) {
        Decision::Switch { target, .. } => assert_eq!(target, "redis-2"),
        other => panic!("{other:?}"),
    }
}

/// The old primary would dial a former address, or find none, with writes paused.
#[test]
fn nobody_takes_over_whose_address_is_new() {
    let mut look = terminating(look(&record(), healthy()), "redis-0");
    look.observed.pods[1].new_address = true;
    assert!(matches!(decide(&record(), &look), Decision::Switch { target, .. } if target == "redis-2"));
    look.observed.pods[2].new_address = true;
    assert_eq!(
        decide(&record(), &look),
        Decision::Rest,
        "it serves on meanwhile, and the preStop hook waits"
    );
}

/// The same, by the word of the cluster's DNS: and what is waited for is told.
#[test]
fn nobody_takes_over_whose_name_leads_elsewhere() {
    let mut look = terminating(look(&record(), healthy()), "redis-0");
    look.observed.pods[1].astray = Some("redis-1 leads to 10.0.0.9".into());
    assert!(matches!(decide(&record(), &look), Decision::Switch { target, .. } if target == "redis-2"));
    assert_eq!(evacuation_waits(&record(), &look), None);
    look.observed.pods[2].astray = Some("redis-2 is unknown".into());
    assert_eq!(
        decide(&record(), &look),
        Decision::Rest,
        "it serves on meanwhile, and the preStop hook waits"
    );
    assert_eq!(
        evacuation_waits(&record(), &look).as_deref(),
        Some(
            "redis-0 is the primary, its pod is being deleted, and it cannot hand over yet: redis-1 leads to 10.0.0.9; \
             redis-2 is unknown"
        )
    );
    // Its name is not all that redis-2 lacks.
    look.observed.pods[2].new_address = true;
    assert!(evacuation_waits(&record(), &look).is_some_and(|what| !what.contains("redis-2")));
    look.observed.pods[0].terminating = false;
    assert_eq!(evacuation_waits(&record(), &look), None, "nothing is due");
}

#[test]
fn a_switchover_that_runs_is_waited_for() {
    let mut answers = healthy();
    handing_over(&mut answers, "waiting-for-sync");
    assert_eq!(decide(&open_record(), &look(&open_record(), answers.clone())), Decision::Await);
    // It serves no more, and the target does not yet.
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, false));
    handing_over(&mut answers, "failover-in-progress");
    assert_eq!(decide(&open_record(), &look(&open_record(), answers)), Decision::Await);
}

#[test]
fn a_switchover_that_did_not_happen_is_ended_with_the_primary_in_place() {
    match decide(&open_record(), &look(&open_record(), healthy())) {
        Decision::Abort { record: written, pod } => {
            assert_eq!(pod, "redis-0");
            assert_eq!(written, record());
        }
        other => panic!("{other:?}"),
    }
}

/// Regression "switchTo cleared although FAILOVER had completed: the target serves unnamed", and "one look torn by a
/// FAILOVER that completes between two observations: a replica is repointed backwards".
#[test]
fn a_target_that_serves_is_the_primary_and_the_old_history_is_closed() {
    let open = open_record();
    let written = match decide(&open, &look(&open, taken_over())) {
        Decision::Note(written) => written,
        other => panic!("{other:?}"),
    };
    assert_eq!((written.epoch, written.primary.as_deref()), (2, Some("redis-1")));
    assert_eq!(written.closed, BTreeMap::from([(OLD.to_owned(), 100)]));
    assert_eq!((written.start_offset, written.switch_to.clone()), (100, None));
    assert_eq!(written.seen_serving.clone().unwrap().run_id, "run-redis-1");
    assert_eq!(decide(&written, &look(&written, taken_over())), Decision::Follow(vec!["redis-2".into()]));
}

/// Regression "one look torn by a FAILOVER that completes between two observations": the target was asked before it took
/// over, the old primary after.
#[test]
fn a_torn_look_parks_nobody() {
    let open = open_record();
    let mut torn = taken_over();
    torn[1] = healthy().swap_remove(1);
    let torn = look(&open, torn);
    assert_eq!(decide(&open, &torn), Decision::LookAgain);
    let whole = look(&open, taken_over());
    assert!(
        matches!(elect(&open, &torn, &whole), Decision::Note(written) if written.primary.as_deref() == Some("redis-1"))
    );
    // Nobody serves in the second look either: now it is an election.
    assert_eq!(
        elect(&open, &torn, &torn),
        Decision::Park(vec!["redis-0".into(), "redis-1".into(), "redis-2".into()])
    );
}

#[test]
fn nobody_is_repointed_while_two_serve() {
    let mut answers = healthy();
    change(&mut answers, "redis-1", |a| a.info.replication.upstream = None);
    let open = open_record();
    assert_eq!(hold_reason(decide(&open, &look(&open, answers))), Reason::UnexpectedPrimary);
}

/// A target that ended before it took over must not take over from an older file when it comes back.
#[test]
fn a_handover_to_nobody_is_aborted_and_one_to_a_silent_target_is_held() {
    let mut answers = healthy();
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, false));
    handing_over(&mut answers, "failover-in-progress");
    answers[1].1 = None;
    let open = open_record();
    let refused = look(&open, answers.clone());
    // Regression: a firewall between the operator and a target that serves refuses as well.
    assert_eq!(hold_reason(decide(&open, &refused)), Reason::MemberUnreachable);
    let reported = Snapshot { target: Former::Ended, ..refused.clone() };
    assert!(matches!(decide(&open, &reported), Decision::Abort { pod, .. } if pod == "redis-0"));
    let mut anew = answers.clone();
    anew[1] = all_parked([100, 90, 100]).swap_remove(1);
    assert_eq!(decide(&open, &look(&open, anew.clone())), Decision::Await, "the process that was in sync");
    change(&mut anew, "redis-1", |a| a.info.server.run_id = "another".into());
    assert!(matches!(decide(&open, &look(&open, anew)), Decision::Abort { .. }), "over an older file");
    let mut silent = refused.clone();
    let timeout = ProbeFailure::Timeout(std::time::Duration::from_secs(2));
    silent.observed.pods[1].answer = Err(NoAnswer::Failed(timeout));
    assert_eq!(hold_reason(decide(&open, &silent)), Reason::MemberUnreachable);
}

/// Regression "a force-deleted pod's process lives on while its namesake answers", for the target of a switchover.
/// Regression: Redis gives a handover no time after it left the primary, and nobody could write meanwhile.
#[test]
fn a_handover_that_is_stuck_is_taken_back_while_the_target_answers_as_a_replica() {
    let mut answers = healthy();
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, false));
    handing_over(&mut answers, "failover-in-progress");
    let open = open_record();
    let waits = look(&open, answers.clone());
    assert_eq!(decide(&open, &waits), Decision::Await);
    let stuck = Snapshot { handover_stuck: true, ..waits };
    match decide(&open, &stuck) {
        Decision::TakeBack { record, pod, target } => {
            assert_eq!((pod.as_str(), target.as_str(), record.switch_to), ("redis-0", "redis-1", None));
        }
        other => panic!("{other:?}"),
    }
    let taken = Snapshot { handover_stuck: true, ..look(&open, taken_over()) };
    assert!(matches!(decide(&open, &taken), Decision::Note(_)), "it took over at the last moment");
    // A target that does not answer may serve; a person may know that it does not.
    answers[1].1 = None;
    let silent = Snapshot { handover_stuck: true, ..look(&open, answers) };
    assert_eq!(hold_reason(decide(&open, &silent)), Reason::MemberUnreachable);
    let consent = |epoch| Some(Consent { pod: "redis-0".into(), epoch });
    let told = Snapshot { consent: consent(open.epoch), ..silent.clone() };
    assert!(matches!(decide(&open, &told), Decision::Abort { pod, .. } if pod == "redis-0"));
    let told_before = Snapshot { consent: consent(open.epoch - 1), ..silent };
    assert_eq!(hold_reason(decide(&open, &told_before)), Reason::MemberUnreachable);
}

#[test]
fn a_replaced_target_may_have_taken_over_unseen() {
    let open = open_record();
    let mut answers = healthy();
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, false));
    handing_over(&mut answers, "failover-in-progress");
    for namesake in [None, all_parked([100, 90, 100]).swap_remove(1).1] {
        answers[1].1 = namesake;
        let mut replaced = look(&open, answers.clone());
        replaced.observed.pods[1].uid = "uid-namesake".into();
        assert_eq!(hold_reason(decide(&open, &replaced)), Reason::MemberUnreachable);
        replaced.target = Former::Ended;
        assert!(matches!(decide(&open, &replaced), Decision::Abort { .. }));
    }
    // Nobody serves.
    let mut nobody = look(&open, all_parked([100, 100, 100]));
    nobody.observed.pods[1].uid = "uid-namesake".into();
    assert_eq!(decide(&open, &nobody), Decision::LookAgain);
    match elect(&open, &nobody, &nobody) {
        Decision::Hold(Hold { reason: Reason::PreviousPrimaryUnproven, message }) => {
            assert!(message.contains("redis-1") && message.contains("uid-redis-1"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let ended = Snapshot { target: Former::Ended, ..nobody };
    assert!(matches!(elect(&open, &ended, &ended), Decision::Promote { pod, .. } if pod == "redis-0"));
}

/// Whoever answers at the target's address is not of the set; what became of the target's process it cannot say.
#[test]
fn a_stranger_at_the_targets_address_proves_nothing() {
    let open = open_record();
    let mut answers = healthy();
    let old = answers[0].1.take().unwrap();
    answers[0].1 = Some(following(old, &host("redis-1"), 6379, false));
    handing_over(&mut answers, "failover-in-progress");
    change(&mut answers, "redis-1", |a| a.announced = host("redis-7"));
    assert_eq!(hold_reason(decide(&open, &look(&open, answers))), Reason::MemberUnreachable);
}

/// Rule 6: "FAILOVER done, then target or old primary killed (AOF: either alone → available; both → hold)".
#[test]
fn with_an_open_switchover_one_restarted_aof_member_is_decided_for() {
    let aof = |answers: &mut Vec<(&'static str, Option<Answer>)>| {
        for pod in ["redis-0", "redis-1", "redis-2"] {
            change(answers, pod, |a| a.info.persistence.aof = Aof::Whole);
        }
    };
    let restarted = |answers: &mut Vec<(&'static str, Option<Answer>)>, pod: &str| {
        change(answers, pod, |a| {
            a.info.replication.replid = format!("fresh-{pod}");
            a.info.replication.offset = 0;
        });
    };
    let open = settled(open_record());
    let mut target = all_parked([100, 100, 100]);
    aof(&mut target);
    restarted(&mut target, "redis-1");
    assert_eq!(winner_of(&open, &target).0, "redis-1", "it may have served alone");

    let mut old = all_parked([100, 100, 100]);
    aof(&mut old);
    restarted(&mut old, "redis-0");
    let (winner, written) = winner_of(&open, &old);
    assert_eq!(winner, "redis-0", "the target still has the old history, so it never served");
    assert_eq!(written.switch_to, None);
    change(&mut old, "redis-1", |a| {
        a.info.replication.replid = NEW.into();
        a.info.replication.replid2 = OLD.into();
    });
    // redis-1's new history is known to nobody else either, so both are unrankable but for what the others share.
    change(&mut old, "redis-2", |a| a.info.replication.replid = NEW.into());
    assert_eq!(winner_of(&open, &old).0, "redis-1", "it served");

    // Found by the model: a target that came back with a file of an older history never took over.
    change(&mut old, "redis-1", |a| a.info.replication.replid2 = "older".into());
    assert_eq!(hold_reason(elected(&open, &old)), Reason::HistoriesDiffer);

    let mut both = all_parked([100, 100, 100]);
    aof(&mut both);
    restarted(&mut both, "redis-0");
    restarted(&mut both, "redis-1");
    assert_eq!(hold_reason(elected(&open, &both)), Reason::HistoriesDiffer);
}

fn set() -> SetName {
    SetName::new("lab", "redis")
}

fn wished(wanted: i32, home: Option<(&str, bool)>, look: &Snapshot, roll: &Roll) -> Placement {
    let home = home.map(|(pod, asked)| Home { pod: pod.into(), asked });
    let primary = look.topology.serving().first().map(|v| v.pod.clone());
    wish(&set(), wanted, home.as_ref(), &Record { primary, ..record() }, look, (roll, Some("new")))
}

fn target(wish: &Placement) -> &str {
    match wish {
        Placement::Move { target, .. } => target,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_primary_stays_where_it_belongs() {
    let look = look(&record(), healthy());
    for home in [None, Some(("redis-0", false)), Some(("redis-0", true))] {
        assert_eq!(wished(3, home, &look, &Roll::Done), Placement::Stay);
    }
}

#[test]
fn a_move_waits_for_the_name_of_its_target() {
    let mut look = look(&record(), healthy());
    look.observed.pods[1].astray = Some("redis-1 leads to 10.0.0.9".into());
    for pod in &mut look.observed.pods {
        pod.revision = Some("new".into());
        pod.answer.as_mut().unwrap().info.server.uptime_seconds = 60;
    }
    for home in [("redis-1", true), ("redis-1", false)] {
        let wish = wished(3, Some(home), &look, &Roll::Done);
        assert!(
            matches!(&wish, Placement::Wait(why) if why.ends_with("yet: redis-1 leads to 10.0.0.9")),
            "{wish:?}"
        );
    }
    // Another one may do.
    let moved = Roll::MovePrimary { revision: "new".into() };
    assert_eq!(target(&wished(3, None, &look, &moved)), "redis-2");
    look.observed.pods[2].revision = None;
    let wish = wished(3, None, &look, &moved);
    assert!(
        matches!(&wish, Placement::Wait(why) if why.contains("redis-0") && why.ends_with("10.0.0.9")),
        "{wish:?}"
    );
}

#[test]
fn the_primary_moves_before_its_pod_is_removed_or_replaced() {
    let served_by_1 = Record { primary: Some("redis-1".into()), ..record() };
    let mut answers = taken_over();
    let two = answers[2].1.take().unwrap();
    answers[2].1 = Some(following(two, &host("redis-1"), 6379, true));
    for pod in ["redis-0", "redis-2"] {
        change(&mut answers, pod, |a| {
            a.info.replication.replid = NEW.into();
            a.info.replication.offset = 130;
        });
        let line = healthy()[0].1.clone().unwrap().info.replication.replicas[0].clone();
        change(&mut answers, "redis-1", |a| {
            a.info.replication.replicas.push(ConnectedReplica { host: host(pod), ..line });
        });
    }
    let mut look = look(&served_by_1, answers);
    assert_eq!(target(&wished(1, None, &look, &Roll::Done)), "redis-0");
    let moved = Roll::MovePrimary { revision: "new".into() };
    assert!(
        matches!(wished(3, None, &look, &moved), Placement::Wait(why) if why.contains("redis-1 is the primary"))
    );
    look.observed.pods[2].revision = Some("new".into());
    assert_eq!(target(&wished(3, None, &look, &moved)), "redis-2");
    // Home: when everything is done, and only to a pod that has stayed up for a while.
    assert_eq!(wished(3, Some(("redis-0", false)), &look, &Roll::Unknown), Placement::Stay);
    assert_eq!(
        wished(3, Some(("redis-0", false)), &look, &Roll::Done),
        Placement::Later(25),
        "it came up 5 s ago"
    );
    look.observed.pods[0].answer.as_mut().unwrap().info.server.uptime_seconds = 31;
    assert_eq!(target(&wished(3, Some(("redis-0", false)), &look, &Roll::Done)), "redis-0");
    // A person need not wait for that.
    assert_eq!(target(&wished(3, Some(("redis-2", true)), &look, &Roll::Done)), "redis-2");
    assert!(
        matches!(wished(3, Some(("redis-7", true)), &look, &Roll::Done), Placement::Wait(why) if why.contains("no pod"))
    );
    // Found by the crash campaign: in the middle of a roll it went back to the pod that was to be replaced, and away again.
    let waits = Roll::Wait("redis-2 must be verified before the next pod is replaced".into());
    assert_eq!(target(&wished(3, Some(("redis-0", true)), &look, &waits)), "redis-0", "neither was replaced");
    look.observed.pods[1].revision = Some("new".into());
    for roll in [&waits, &Roll::Unknown] {
        let wish = wished(3, Some(("redis-0", true)), &look, roll);
        assert!(matches!(&wish, Placement::Wait(why) if why.contains("replaced its pod")), "{wish:?}");
    }
    assert_eq!(target(&wished(3, Some(("redis-2", true)), &look, &waits)), "redis-2", "that is the new one");
    // Found by the crash campaign: the pod that a person asked for is being replaced in this very reconcile.
    let replaced = Roll::Replace { pod: "redis-2".into(), uid: "u".into(), why: String::new() };
    assert_eq!(wished(3, Some(("redis-2", true)), &look, &replaced), Placement::Stay);
    look.former = Former::Ended;
    look.topology.instances[2].state = crate::api::status::InstanceState::Syncing;
    assert!(
        matches!(wished(3, Some(("redis-2", true)), &look, &Roll::Done), Placement::Wait(why) if why.contains("in sync"))
    );
    assert_eq!(wished(3, Some(("redis-0", false)), &look, &Roll::Done), Placement::Stay);
}
