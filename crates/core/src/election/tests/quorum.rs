//! Rule 12: followers as processes, the armed state, and a silent primary that is succeeded.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    api::failover::{Alone, Mode, Policy},
    election::{
        followers::needed,
        next::{Goal, Step, towards},
        process_end::Former,
        quorum::armable,
        votes::glimpse,
    },
    observed::StartRule,
};
use redis_node::{
    answer::Demands,
    record::{Armed, Follower},
};

const POLICY: Policy = Policy {
    mode: Mode::Quorum,
    is_chosen: false,
    is_paused: false,
    after: Duration::from_secs(5),
    alone: Alone::Serve,
    owns_min_replicas: true,
};

type Answers = Vec<(&'static str, Option<Answer>)>;

fn follower(pod: &str) -> Follower {
    let process =
        Serving { pod_uid: format!("uid-{pod}"), run_id: format!("run-{pod}"), ..Serving::default() };
    Follower { pod: pod.into(), process }
}

/// Both replicas follow and have voted.
fn tracked() -> Record {
    Record {
        voters: BTreeSet::from(["run-redis-1".into(), "run-redis-2".into()]),
        followers: Some(vec![follower("redis-1"), follower("redis-2")]),
        ..record()
    }
}

fn armed() -> Record {
    let armed = Armed { run_id: "run-redis-0".into(), min_replicas: 1, max_lag_seconds: 3, ping_seconds: 1 };
    Record { armed: Some(armed), ..tracked() }
}

/// All pods start parked, and the primary demands so many replicas.
fn seen(record: &Record, mut answers: Answers, min_replicas: i64) -> Snapshot {
    for answer in answers.iter_mut().filter_map(|(_, answer)| answer.as_mut()) {
        answer.demands = Some(Demands { min_replicas, max_lag_seconds: 3, ping_seconds: 1 });
    }
    let mut look = Snapshot { failover: POLICY, waited: true, ..look(record, answers) };
    for pod in &mut look.observed.pods {
        pod.start = StartRule::Parked;
    }
    look
}

/// What is written, after the primary was told or without that.
fn noted(decision: Decision) -> Record {
    match decision {
        Decision::Note(record) | Decision::Arm { record, .. } => record,
        other => panic!("no note but {other:?}"),
    }
}

/// The primary is silent; its replicas say so of their links.
fn silent(link: impl Fn(Answer) -> Answer) -> Snapshot {
    let replica = |pod| (pod, Some(link(server(pod, OLD, 100, 5))));
    let mut look = seen(&armed(), vec![("redis-0", None), replica("redis-1"), replica("redis-2")], 1);
    look.former = Former::Unproven("nothing proves its end".into());
    look.silent_for = POLICY.after;
    look.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::Timeout(Duration::from_secs(2))));
    look
}

/// Their link stays up until `repl-timeout`, and nothing comes over it.
fn unheard(answer: Answer) -> Answer {
    let mut answer = following(answer, &host("redis-0"), 6379, true);
    answer.info.replication.upstream.as_mut().unwrap().last_io_seconds = 4;
    answer
}

fn detached(seconds: u64) -> Snapshot {
    Snapshot { detached_for: Some(Duration::from_secs(seconds)), ..silent(parked) }
}

#[test]
fn a_set_is_armed_after_its_primary_was_told() {
    let Decision::Arm { record: written, pod } = decide(&tracked(), &seen(&tracked(), healthy(), 0)) else {
        panic!("not armed");
    };
    assert_eq!((written, pod.as_str()), (armed(), "redis-0"));
    assert_eq!(decide(&armed(), &seen(&armed(), healthy(), 1)), Decision::Rest);
}

#[test]
fn followers_are_named_once_all_have_voted_and_nobody_else_is_linked() {
    let voting = Record { followers: None, ..tracked() };
    assert_eq!(noted(decide(&voting, &seen(&voting, healthy(), 0))), armed(), "all in one write");
    let mut stranger = healthy();
    change(&mut stranger, "redis-0", |primary| {
        let mut line = primary.info.replication.replicas[0].clone();
        line.host = "elsewhere".into();
        primary.info.replication.replicas.push(line);
    });
    assert_eq!(decide(&voting, &seen(&voting, stranger, 0)), Decision::Rest);
    // A pod that follows by itself may do so at any time.
    let mut old = seen(&voting, healthy(), 0);
    old.observed.pods[1].start = StartRule::Peers;
    assert_eq!(decide(&voting, &old), Decision::Rest);
    assert_eq!(noted(decide(&armed(), &old)), Record { followers: None, armed: None, ..armed() });
}

/// What takes the armed state back, by what a look shows; the record first, then the demand.
#[test]
fn whoever_is_missing_or_too_many_disarms_first() {
    let mut broken: Vec<(&str, Snapshot)> = Vec::new();
    let with = |edit: &dyn Fn(&mut Answers)| {
        let mut answers = healthy();
        edit(&mut answers);
        seen(&armed(), answers, 1)
    };
    broken.push(("a replica is silent", with(&|answers| answers[1].1 = None)));
    broken.push((
        "a line too many",
        with(&|answers| {
            change(answers, "redis-0", |primary| {
                let line = primary.info.replication.replicas[0].clone();
                primary.info.replication.replicas.push(line);
            });
        }),
    ));
    broken.push(("somebody changed the demand", seen(&armed(), healthy(), 2)));
    let mut paused = seen(&armed(), healthy(), 1);
    paused.failover.is_paused = true;
    broken.push(("paused", paused));
    let mut fenced = seen(&armed(), healthy(), 1);
    fenced.failover.mode = Mode::Fenced;
    broken.push(("another mode", fenced));
    for (what, look) in broken {
        assert_eq!(noted(decide(&armed(), &look)), tracked(), "{what}");
        let told = Decision::Demand { pod: "redis-0".into(), min_replicas: 0 };
        assert_eq!(decide(&tracked(), &look), told, "{what}");
        // Both are done for a paused set too, since nobody else looks after its demand.
        let goal = Goal { paused: true, ..Goal::default() };
        for (record, decision) in [(armed(), decide(&armed(), &look)), (tracked(), told)] {
            assert_eq!(towards(&goal, decision.clone(), &record, &look), Step::Do(Box::new(decision)));
        }
    }
    let mut refuses = seen(&tracked(), healthy(), 0);
    refuses.failover.alone = Alone::RefuseWrites;
    refuses.observed.pods[1].answer = Err(NoAnswer::NotStarted);
    let told = Decision::Demand { pod: "redis-0".into(), min_replicas: 1 };
    assert_eq!(decide(&tracked(), &refuses), told);
}

#[test]
fn a_restarted_replica_is_named_before_it_is_told_to_follow() {
    let mut answers = healthy();
    change(&mut answers, "redis-1", |answer| {
        *answer = parked(server("redis-1", OLD, 100, 5));
        answer.info.server.run_id = "another".into();
    });
    let look = seen(&tracked(), answers, 0);
    let named = noted(decide(&tracked(), &look));
    let followers = named.followers.clone().unwrap();
    let runs: Vec<(&str, bool)> =
        followers.iter().map(|f| (f.process.run_id.as_str(), f.process.ended)).collect();
    // A pod runs one Redis at a time: the one before has ended, and the others are to vote after that.
    assert_eq!(runs, [("run-redis-1", true), ("another", false), ("run-redis-2", false)]);
    assert!(named.voters.is_empty());
    assert_eq!(decide(&named, &look), Decision::Follow(vec!["redis-1".into()]));
    assert!(armable(&named, &look).is_err());
}

#[test]
fn a_follower_that_ended_leaves_once_the_others_have_voted() {
    let mut ended = tracked();
    ended.followers.as_mut().unwrap()[0].process.ended = true;
    let mut answers = healthy();
    answers[1].1 = None;
    change(&mut answers, "redis-0", |primary| {
        primary.info.replication.replicas.remove(0);
    });
    let unvoted = Record { voters: BTreeSet::new(), ..ended.clone() };
    let look = seen(&unvoted, answers.clone(), 0);
    assert_eq!(decide(&unvoted, &look), Decision::Rest, "redis-2 has no vote yet");
    assert_eq!(needed(&unvoted, &look), ["redis-0", "redis-1", "redis-2"]);
    let voted = Record { voters: BTreeSet::from(["run-redis-2".into()]), ..ended };
    // One replica is enough to be armed.
    let left = noted(decide(&voted, &seen(&voted, answers.clone(), 0)));
    assert!(left.armed.is_some());
    assert_eq!(left.followers, Some(vec![follower("redis-2")]));
    // It does not follow any more, so an election does not ask for it.
    let look = seen(&left, answers, 0);
    assert_eq!(needed(&left, &look), ["redis-0", "redis-2"]);
}

#[test]
fn a_silent_primary_is_succeeded_once_its_followers_are_detached() {
    let linked = silent(unheard);
    let all = vec!["redis-1".to_owned(), "redis-2".to_owned()];
    assert_eq!(decide(&armed(), &linked), Decision::Detach(all.clone()));
    assert_eq!(decide(&armed(), &silent(parked)), Decision::Detach(all), "parked by whom, nobody knows");
    assert_eq!(hold_reason(decide(&armed(), &detached(4))), Reason::FailingOver);
    let open = detached(5);
    assert_eq!(decide(&armed(), &open), Decision::LookAgain);
    let Decision::Promote { record: written, pod } = elect(&armed(), &open, &open) else {
        panic!("no promotion");
    };
    assert_eq!((pod.as_str(), written.epoch), ("redis-1", 2));
    assert_eq!(written.armed, None);
    assert_eq!(written.followers, Some(vec![follower("redis-2")]), "the former primary follows nobody");
    assert_eq!(written.closed[OLD], 100);
}

/// Each of these may mean that the primary still confirms writes, or that a newer copy is somewhere.
#[test]
fn what_is_missing_keeps_the_usual_hold() {
    let open = || detached(5);
    let changed = |edit: &dyn Fn(&mut Snapshot)| {
        let mut look = open();
        edit(&mut look);
        look
    };
    let other = |edit: &dyn Fn(&mut Record)| {
        let mut record = armed();
        edit(&mut record);
        record
    };
    let answer = |look: &mut Snapshot, edit: &dyn Fn(&mut Answer)| {
        edit(look.observed.pods[1].answer.as_mut().unwrap());
    };
    for (what, record, look) in [
        ("not armed", tracked(), open()),
        ("armed for another process", other(&|r| r.armed.as_mut().unwrap().run_id = "x".into()), open()),
        ("mode Fenced", armed(), changed(&|look| look.failover.mode = Mode::Fenced)),
        ("too early", armed(), changed(&|look| look.silent_for = Duration::from_secs(4))),
        ("a pod follows by itself", armed(), changed(&|look| look.observed.pods[2].start = StartRule::Peers)),
        (
            "a follower is silent",
            armed(),
            changed(&|look| look.observed.pods[2].answer = Err(NoAnswer::NotStarted)),
        ),
        (
            "a follower is another process",
            armed(),
            changed(&|look| answer(look, &|a| a.info.server.run_id = "another".into())),
        ),
        (
            "the primary says what is wrong with it",
            armed(),
            changed(&|look| {
                look.observed.pods[0].answer = Err(NoAnswer::Failed(ProbeFailure::ClientLimit));
            }),
        ),
        ("a follower hears it", armed(), silent(|a| following(a, &host("redis-0"), 6379, true))),
    ] {
        assert_eq!(hold_reason(decide(&record, &look)), Reason::MemberUnreachable, "{what}");
    }
}

/// Its pod was deleted by force, and another one of its name has begun from older files; its process may live.
#[test]
fn a_namesake_has_no_say() {
    let mut look = detached(5);
    let mut namesake = parked(server("redis-0", OLD, 900, 5));
    namesake.info.server.run_id = "namesake".into();
    look.observed.pods[0].uid = "uid of another".into();
    look.observed.pods[0].answer = Ok(namesake);
    let look = Snapshot { topology: topology(host, &armed(), &look.observed), ..look };
    assert_eq!(decide(&armed(), &look), Decision::LookAgain);
    let Decision::Promote { pod, .. } = elect(&armed(), &look, &look) else { panic!("no promotion") };
    assert_eq!(pod, "redis-1");
    let early = Snapshot { silent_for: Duration::ZERO, ..look };
    assert_eq!(hold_reason(decide(&armed(), &early)), Reason::PreviousPrimaryUnproven);
}

#[test]
fn in_mode_manual_a_person_names_the_pod() {
    let look = Snapshot {
        failover: Policy { mode: Mode::Manual, ..POLICY },
        ..seen(&tracked(), all_parked([100, 120, 110]), 0)
    };
    let decision = elect(&tracked(), &look, &look);
    assert!(matches!(decision, Decision::Promote { .. }));
    let Step::Do(step) = towards(&Goal::default(), decision.clone(), &tracked(), &look) else { panic!() };
    let Decision::Hold(hold) = *step else { panic!("{step:?}") };
    assert_eq!(hold.reason, Reason::ManualFailover);
    assert!(hold.message.contains("accept-data-loss=redis-1@1"), "{}", hold.message);
    let consent = Some(crate::api::annotations::Consent { pod: "redis-1".into(), epoch: 1 });
    let agreed = Snapshot { consent, ..look };
    assert_eq!(
        towards(&Goal::default(), decision.clone(), &tracked(), &agreed),
        Step::Do(Box::new(decision))
    );
}

/// Found by the model: the winner ended before it was promoted, and an older follower won without the former primary.
#[test]
fn a_member_that_did_not_follow_is_asked_where_nobody_runs_on() {
    let elected = Record {
        primary: Some("redis-1".into()),
        seen_serving: Some(Serving { replid: OLD.into(), ..follower("redis-1").process }),
        followers: Some(vec![follower("redis-2")]),
        voters: BTreeSet::new(),
        ..tracked()
    };
    let answers = |run: &str| {
        let mut winner = parked(server("redis-1", OLD, 100, 5));
        winner.info.server.run_id = run.into();
        vec![
            ("redis-0", None),
            ("redis-1", Some(winner)),
            ("redis-2", Some(parked(server("redis-2", OLD, 90, 5)))),
        ]
    };
    let ended = seen(&elected, answers("another"), 0);
    assert_eq!(needed(&elected, &ended), ["redis-0", "redis-1", "redis-2"]);
    assert_eq!(hold_reason(decide(&elected, &ended)), Reason::MemberUnreachable);
    // It was not promoted, because the operator ended: it still has everything.
    let unpromoted = seen(&elected, answers("run-redis-1"), 0);
    assert_eq!(needed(&elected, &unpromoted), ["redis-1", "redis-2"]);
    // The other one had everything of it at some time.
    let voted = Record { voters: BTreeSet::from(["run-redis-2".into()]), ..elected };
    assert_eq!(needed(&voted, &ended), ["redis-1", "redis-2"]);
}

/// Found by the model: what only a follower that has ended had confirmed was later than the offset that the vote went by.
#[test]
fn a_vote_after_an_end_needs_an_offset_that_was_read_after_it() {
    let before = glimpse(&tracked(), &seen(&tracked(), healthy(), 0)).unwrap();
    let mut ended = Record { voters: BTreeSet::new(), ..tracked() };
    ended.followers.as_mut().unwrap()[0].process.ended = true;
    let mut answers = healthy();
    answers[1].1 = None;
    let look = seen(&ended, answers, 0);
    let with = |before| Snapshot { before: Some(before), ..look.clone() };
    assert_eq!(decide(&ended, &with(before)), Decision::Rest);
    let after = glimpse(&ended, &look).unwrap();
    let voted = noted(decide(&ended, &with(after)));
    assert_eq!(voted.voters, BTreeSet::from(["run-redis-2".into()]));
    assert_eq!(voted.followers, Some(vec![follower("redis-2")]));
}

/// Found by the model: a follower had restarted from older files, and the other one decided without the dead primary and without it.
#[test]
fn a_follower_that_restarted_unseen_keeps_others_from_deciding() {
    let mut restarted = parked(server("redis-1", OLD, 90, 5));
    let with = |answer: &Answer| {
        let answers = vec![
            ("redis-0", None),
            ("redis-1", Some(answer.clone())),
            ("redis-2", Some(parked(server("redis-2", OLD, 90, 5)))),
        ];
        Snapshot { former: Former::Ended, ..seen(&tracked(), answers, 0) }
    };
    assert_eq!(decide(&tracked(), &with(&restarted)), Decision::LookAgain);
    restarted.info.server.run_id = "another".into();
    assert_eq!(hold_reason(decide(&tracked(), &with(&restarted))), Reason::MemberUnreachable);
}

/// Found by a review: nobody makes a pod of a smaller set again, and each death of the primary was held until its follower had
/// left the record.
#[test]
fn a_follower_that_ended_and_is_no_member_is_not_waited_for() {
    let smaller = Record { members: vec!["redis-0".into(), "redis-1".into()], ..tracked() };
    let answers = vec![
        ("redis-0", Some(parked(server("redis-0", OLD, 90, 5)))),
        ("redis-1", Some(parked(server("redis-1", OLD, 100, 5)))),
    ];
    let unknown = seen(&smaller, answers, 0);
    assert_eq!(hold_reason(decide(&smaller, &unknown)), Reason::MemberUnreachable);
    let unseen = BTreeMap::from([("run-redis-2".to_owned(), Former::Ended)]);
    let ended = Snapshot { unseen, ..unknown };
    assert_eq!(decide(&smaller, &ended), Decision::LookAgain);
}

/// Found by a review: a replica that crashes in a loop filled the record.
#[test]
fn of_the_ended_processes_of_a_pod_one_is_kept() {
    let mut record = tracked();
    for life in 0..5 {
        let mut answers = healthy();
        change(&mut answers, "redis-1", |answer| {
            *answer = parked(server("redis-1", OLD, 100, 5));
            answer.info.server.run_id = format!("life {life}");
        });
        record = noted(decide(&record, &seen(&record, answers, 0)));
    }
    let followers = record.followers.unwrap();
    let of_it: Vec<(&str, bool)> = followers
        .iter()
        .filter(|f| f.pod == "redis-1")
        .map(|f| (f.process.run_id.as_str(), f.process.ended))
        .collect();
    assert_eq!(of_it, [("life 3", true), ("life 4", false)]);
}

/// Found by a review: the demand stayed where the record stopped naming followers in the write that disarmed.
#[test]
fn the_demand_is_taken_back_where_followers_are_not_named_any_more() {
    let unnamed = Record { followers: None, ..tracked() };
    let mut look = seen(&unnamed, healthy(), 1);
    look.observed.pods[1].start = StartRule::Peers;
    let told = Decision::Demand { pod: "redis-0".into(), min_replicas: 0 };
    assert_eq!(decide(&unnamed, &look), told);
    look.failover.owns_min_replicas = false;
    assert_ne!(decide(&unnamed, &look), told, "it is the user's");
}

#[test]
fn without_a_fence_that_works_nobody_is_armed() {
    for (max_lag_seconds, ping_seconds) in [(0, 1), (11, 1), (3, 0), (3, 60)] {
        let mut look = seen(&tracked(), healthy(), 0);
        for pod in &mut look.observed.pods {
            let answer = pod.answer.as_mut().unwrap();
            answer.demands = Some(Demands { min_replicas: 0, max_lag_seconds, ping_seconds });
        }
        assert_eq!(decide(&tracked(), &look), Decision::Rest);
        assert!(armable(&tracked(), &look).unwrap_err().contains("min-replicas-max-lag"));
    }
    let mut unacknowledged = healthy();
    change(&mut unacknowledged, "redis-0", |primary| {
        for line in &mut primary.info.replication.replicas {
            line.lag_seconds = 4;
        }
    });
    assert_eq!(
        noted(decide(&armed(), &seen(&armed(), unacknowledged, 1))),
        tracked(),
        "it refuses writes soon"
    );
}

/// A person took `CONFIG SET` from the operator's user: the replicas are told whom to follow all the same.
#[test]
fn a_refused_demand_keeps_nobody_from_following() {
    let mut answers = healthy();
    change(&mut answers, "redis-1", |a| *a = parked(a.clone()));
    let mut look = seen(&tracked(), answers, 1);
    let told = Decision::Demand { pod: "redis-0".into(), min_replicas: 0 };
    assert_eq!(decide(&tracked(), &look), told);
    look.demand_refused = Some("redis-0".into());
    assert_eq!(decide(&tracked(), &look), Decision::Follow(vec!["redis-1".into()]));
    let mut whole = seen(&tracked(), healthy(), 0);
    whole.demand_refused = Some("redis-0".into());
    assert_eq!(decide(&tracked(), &whole), Decision::Rest, "nor is it armed");
    assert!(armable(&tracked(), &whole).unwrap_err().contains("refuses"));
}

/// What stands in for a spec that cannot be read does not say whose demand it is.
#[test]
fn a_demand_is_left_alone_where_the_spec_cannot_be_read() {
    let mut look = seen(&tracked(), healthy(), 2);
    assert!(matches!(decide(&tracked(), &look), Decision::Demand { .. }));
    look.failover = Policy::unread();
    assert_eq!(decide(&tracked(), &look), Decision::Rest);
    assert_eq!(noted(decide(&armed(), &look)), tracked(), "and nobody takes over");
}
