//! Rule 3: a person typed `FAILOVER` on the primary.

use super::*;
use redis_node::record::Follower;

type Answers = Vec<(&'static str, Option<Answer>)>;

/// redis-1 serves, redis-0 follows it, and redis-2 follows redis-0 as before.
fn taken_over() -> Answers {
    let mut answers = healthy();
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| {
            a.info.replication.replid = NEW.into();
            a.info.replication.replid2 = OLD.into();
            a.info.replication.second_repl_offset = 101;
            a.info.replication.offset = 130;
        });
    }
    change(&mut answers, "redis-0", |a| *a = following(a.clone(), &host("redis-1"), 6379, true));
    change(&mut answers, "redis-1", |a| a.info.replication.upstream = None);
    answers
}

fn process(pod: &str) -> Follower {
    let process =
        Serving { pod_uid: format!("uid-{pod}"), run_id: format!("run-{pod}"), ..Serving::default() };
    Follower { pod: pod.into(), process }
}

/// In mode Quorum: both replicas follow, have voted, and the primary demands one of them.
fn armed() -> Record {
    let armed = redis_node::record::Armed {
        run_id: "run-redis-0".into(),
        min_replicas: 1,
        max_lag_seconds: 3,
        ping_seconds: 1,
    };
    Record {
        armed: Some(armed),
        voters: ["run-redis-1".into(), "run-redis-2".into()].into(),
        followers: Some(vec![process("redis-1"), process("redis-2")]),
        ..record()
    }
}

fn parked_starts(mut look: Snapshot) -> Snapshot {
    for pod in &mut look.observed.pods {
        pod.start = crate::observed::StartRule::Parked;
    }
    look
}

#[test]
fn who_took_over_by_a_typed_failover_is_adopted() {
    let Decision::Adopt(written) = decide(&record(), &look(&record(), taken_over())) else {
        panic!("not adopted");
    };
    assert_eq!((written.epoch, written.primary.as_deref()), (2, Some("redis-1")));
    assert_eq!((written.closed.clone(), written.start_offset), (BTreeMap::from([(OLD.into(), 100)]), 100));
    assert_eq!(written.seen_serving.clone().unwrap().run_id, "run-redis-1");
    // What follows in a chain is led to it.
    assert_eq!(decide(&written, &look(&written, taken_over())), Decision::Follow(vec!["redis-2".into()]));
}

/// In mode Quorum the write that names it disarms the set, and names all that follow it.
#[test]
fn an_adopted_primary_begins_disarmed_with_all_its_followers() {
    let look = parked_starts(look(&armed(), taken_over()));
    let Decision::Adopt(written) = decide(&armed(), &look) else { panic!("not adopted") };
    assert_eq!((written.armed.clone(), written.voters.len()), (None, 0));
    let followers: Vec<String> = written.followers.unwrap().into_iter().map(|f| f.pod).collect();
    assert_eq!(followers, ["redis-0", "redis-2"]);
}

/// Found by the model: an operator that saw the moment of the handover began to park all, and ended. And in mode Quorum a pod that
/// restarts meanwhile stays parked.
#[test]
fn who_is_linked_to_nobody_and_has_no_more_keeps_nobody_from_being_adopted() {
    let mut answers = taken_over();
    change(&mut answers, "redis-0", |a| *a = parked(a.clone()));
    change(&mut answers, "redis-2", |a| {
        *a = following(server("redis-2", OLD, 100, 5), &host("redis-0"), 6379, false);
    });
    // Or still linked to one that was parked.
    let mut chained = taken_over();
    change(&mut chained, "redis-0", |a| *a = parked(a.clone()));
    assert!(matches!(decide(&record(), &look(&record(), chained)), Decision::Adopt(_)));
    let Decision::Adopt(written) = decide(&record(), &look(&record(), answers.clone())) else {
        panic!("not adopted")
    };
    let led = Decision::Follow(vec!["redis-0".into(), "redis-2".into()]);
    assert_eq!(decide(&written, &look(&written, answers)), led);
}

fn with(edit: &dyn Fn(&mut Answers)) -> Snapshot {
    let mut answers = taken_over();
    edit(&mut answers);
    look(&record(), answers)
}

/// One member says something else of its replication.
fn says(pod: &'static str, edit: &dyn Fn(&mut Replication)) -> Snapshot {
    with(&|answers| change(answers, pod, |a| edit(&mut a.info.replication)))
}

fn assert_held(what: &str, missing: &str, look: &Snapshot) {
    match decide(&record(), look) {
        Decision::Hold(Hold { reason: Reason::UnexpectedPrimary, message }) => {
            assert!(message.contains(missing), "{what}: {message}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn nobody_is_adopted_while_a_member_does_not_answer() {
    let silent = |number: usize| with(&move |answers| answers[number].1 = None);
    assert_held("a replica", "redis-2 does not answer", &silent(2));
    assert_held("the former primary", "redis-0 does not answer", &silent(0));
    let mut deleted = with(&|_| {});
    deleted.observed.pods[2].terminating = true;
    deleted.topology = topology(host, &record(), &deleted.observed);
    assert_held("its pod is being deleted", "redis-2 does not answer", &deleted);
}

/// Its pod was deleted by force: the process may serve on.
#[test]
fn nobody_is_adopted_while_the_former_primary_may_serve() {
    let mut replaced = with(&|_| {});
    replaced.observed.pods[0].uid = "uid of another".into();
    replaced.former = Former::Unproven("nothing proves its end".into());
    assert_held("nobody saw its end", "nothing proves its end", &replaced);
    replaced.former = Former::Ended;
    assert_held("redis-2 hears one of its name", "still hears from it", &replaced);
    change_look(&mut replaced, "redis-2", |a| {
        a.info.replication.upstream.as_mut().unwrap().host = host("redis-1");
    });
    assert!(matches!(decide(&record(), &replaced), Decision::Adopt(_)), "its end is proven");
}

/// Each of these may have what the one that serves has not, or it may have what the record does not know.
#[test]
fn who_may_have_less_is_not_adopted() {
    let upstream =
        |pod: &'static str, edit: &dyn Fn(&mut Upstream)| says(pod, &|r| edit(r.upstream.as_mut().unwrap()));
    let parked_with = |replid: &str, offset: i64| {
        with(&|answers| {
            change(answers, "redis-2", |a| *a = parked(server("redis-2", replid, offset, 5)));
        })
    };
    let is_old: &dyn Fn(&mut Replication) = &|r| {
        (r.replid, r.replid2, r.second_repl_offset, r.offset) = (OLD.into(), "0".repeat(40), -1, 150);
    };
    for (what, missing, look) in [
        ("a replica has more of the former history", "behind it: redis-2", says("redis-2", is_old)),
        ("a parked one has more of it", "behind it: redis-2", parked_with(OLD, 101)),
        ("a parked one is of another history", "behind it: redis-2", parked_with("other", 1)),
        (
            "a replica still copies",
            "behind it: redis-2",
            upstream("redis-2", &|u| (u.link_up, u.sync_in_progress) = (false, true)),
        ),
        (
            "a replica hears another server",
            "behind it: redis-2",
            upstream("redis-2", &|u| u.host = "elsewhere".into()),
        ),
        (
            "two follow each other",
            "behind it: redis-0, redis-2",
            upstream("redis-0", &|u| u.host = host("redis-2")),
        ),
        (
            "it hands the role on",
            "hands its role on",
            says("redis-1", &|r| r.failover_state = "waiting-for-sync".into()),
        ),
        ("it is of another history", "does not go on", says("redis-1", &|r| r.replid2 = "other".into())),
    ] {
        assert_held(what, missing, &look);
    }
    // A history that is younger than the epoch is not one of it.
    let later = Record { start_offset: 101, ..record() };
    assert_eq!(hold_reason(decide(&later, &look(&later, taken_over()))), Reason::UnexpectedPrimary);
    // Two serve.
    let mut two = taken_over();
    change(&mut two, "redis-2", |a| a.info.replication.upstream = None);
    assert_eq!(hold_reason(decide(&record(), &look(&record(), two))), Reason::UnexpectedPrimary);
}

/// Its pod was deleted by force: the process may follow on, and have what the others lack.
#[test]
fn a_follower_that_may_live_on_keeps_it_from_being_adopted() {
    let mut look = parked_starts(look(&armed(), taken_over()));
    look.observed.pods[2].uid = "uid of another".into();
    assert_eq!(hold_reason(decide(&armed(), &look)), Reason::UnexpectedPrimary);
    look.unseen.insert("run-redis-2".into(), Former::Ended);
    assert!(matches!(decide(&armed(), &look), Decision::Adopt(_)));
}
