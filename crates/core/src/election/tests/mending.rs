//! A primary that refuses writes because it cannot save or append them.

use std::collections::BTreeSet;

use super::*;
use crate::{
    api::{annotations::Home, failover::Mode},
    election::mending::{is_own_cause, unmended},
    names::SetName,
    rollout::{
        next_pod::Roll,
        placement::{Placement, wish},
    },
};
use redis_node::answer::{Refusal, Write};

/// redis-0 serves and refused a write.
fn refusing() -> Snapshot {
    let mut look = look(&record(), healthy());
    look.unmended = BTreeSet::from(["redis-0".into()]);
    look
}

fn target(decision: Decision) -> String {
    match decision {
        Decision::Switch { target, from, .. } if from == "redis-0" => target,
        other => panic!("no switchover but {other:?}"),
    }
}

#[test]
fn a_primary_that_cannot_write_hands_over_to_a_replica_that_can() {
    assert_eq!(target(decide(&record(), &refusing())), "redis-1");
    let mut one_fails = refusing();
    change_look(&mut one_fails, "redis-1", |a| a.info.persistence.fails = true);
    assert_eq!(target(decide(&record(), &one_fails)), "redis-2");
    // Where no other can, nothing is gained.
    let mut none = one_fails;
    none.unmended.insert("redis-2".into());
    assert_eq!(decide(&record(), &none), Decision::Rest);
    let mut by_hand = refusing();
    by_hand.failover.mode = Mode::Manual;
    assert_eq!(decide(&record(), &by_hand), Decision::Rest, "a person moves it");
    assert_eq!(decide(&record(), &look(&record(), healthy())), Decision::Rest);
}

#[test]
fn a_replica_that_cannot_write_is_the_last_choice_of_a_drain() {
    let mut look = look(&record(), healthy());
    change_look(&mut look, "redis-1", |a| a.info.persistence.fails = true);
    look.observed.pods[0].terminating = true;
    look.topology = topology(host, &record(), &look.observed);
    assert_eq!(target(decide(&record(), &look)), "redis-2");
}

#[test]
fn only_what_the_server_alone_is_the_cause_of_moves_the_role() {
    let refused = |why| Write::Refused(why, String::new());
    assert!(is_own_cause(&refused(Refusal::SavingFails)) && is_own_cause(&refused(Refusal::AppendingFails)));
    assert!(!is_own_cause(&refused(Refusal::MemoryFull)) && !is_own_cause(&refused(Refusal::TooFewReplicas)));
    assert!(!is_own_cause(&Write::Paused) && !is_own_cause(&Write::Taken));
}

/// A restart forgets that a save failed, and the volume is as full as before.
#[test]
fn a_server_is_mended_once_it_has_saved_or_appended() {
    let refused = BTreeMap::from([("redis-0".to_owned(), "run-redis-0".to_owned())]);
    let left = |edit: &dyn Fn(&mut Answer)| {
        let mut answers = healthy();
        change(&mut answers, "redis-0", edit);
        unmended(&refused, &look(&record(), answers).observed).len()
    };
    assert_eq!(left(&|a| a.info.persistence.fails = true), 1);
    assert_eq!(left(&|_| {}), 0, "the same process says that a save succeeded");
    let restarted = |a: &mut Answer| {
        a.info.server.run_id = "another".into();
        a.info.persistence.last_save = a.info.server.started();
    };
    assert_eq!(left(&restarted), 1);
    assert_eq!(
        left(&|a| {
            restarted(a);
            a.info.persistence.last_save += 1;
        }),
        0
    );
    assert_eq!(
        left(&|a| {
            restarted(a);
            a.info.persistence.aof = Aof::Whole;
        }),
        0
    );
    let mut silent = healthy();
    silent[0].1 = None;
    assert_eq!(unmended(&refused, &look(&record(), silent).observed).len(), 1);
}

#[test]
fn the_primary_does_not_go_home_before_that_is_mended() {
    let set = SetName::new("lab", "redis");
    let mut look = look(&record(), healthy());
    for pod in &mut look.observed.pods {
        pod.answer.as_mut().unwrap().info.server.uptime_seconds = 60;
    }
    for asked in [false, true] {
        let home = Home { pod: "redis-1".into(), asked };
        let wished = |look: &Snapshot| wish(&set, 3, Some(&home), &record(), look, (&Roll::Done, None));
        assert!(matches!(wished(&look), Placement::Move { .. }), "{asked}");
        let refused = Snapshot { unmended: BTreeSet::from(["redis-1".into()]), ..look.clone() };
        assert!(matches!(wished(&refused), Placement::Wait(why) if why.contains("would refuse writes")));
    }
}
