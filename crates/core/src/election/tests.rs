//! The rules of `docs/design/protocol.md`, one by one. The exhaustive search over them is the model checker's.

use std::collections::BTreeMap;

use super::{snapshot::Snapshot, *};
use crate::{
    election::process_end::Former,
    observed::{NoAnswer, Observed, ObservedPod},
    topology::topology,
};
use redis_node::{
    PARKED,
    answer::{Answer, ProbeFailure},
    info::{Aof, ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
    record::SwitchTo,
};

mod begun_again;
mod by_hand;
mod divergence;
mod lost_primary;
mod mending;
mod quorum;
mod switchover;
mod without_primary;

const OLD: &str = "replid-old";
const NEW: &str = "replid-new";

fn host(pod: &str) -> String {
    format!("{pod}.redis-headless.lab.svc.cluster.local")
}

/// A server in the making; every test changes what it is about.
fn server(pod: &str, replid: &str, offset: i64, keys: i64) -> Answer {
    Answer {
        info: Info {
            server: Server {
                flavour: Flavour::Redis,
                version: "7.0.15".into(),
                run_id: format!("run-{pod}"),
                uptime_seconds: 5,
                time_micros: 4_000_000,
            },
            replication: Replication {
                upstream: None,
                replicas: vec![],
                failover_state: "no-failover".into(),
                replid: replid.into(),
                replid2: "0".repeat(40),
                second_repl_offset: -1,
                offset,
                backlog_active: false,
            },
            persistence: Persistence::default(),
            clients: None,
            keys: Some(keys),
        },
        announced: host(pod),
        refuses_password: false,
        demands: None,
    }
}

fn following(mut answer: Answer, upstream: &str, port: u16, link_up: bool) -> Answer {
    let offset = answer.info.replication.offset;
    answer.info.replication.upstream = Some(Upstream {
        host: upstream.into(),
        port,
        link_up,
        last_io_seconds: if link_up { 1 } else { -1 },
        sync_in_progress: false,
        offset,
    });
    answer
}

fn change_look(look: &mut Snapshot, pod: &str, change: impl Fn(&mut Answer)) {
    let pod = look.observed.pods.iter_mut().find(|p| p.name == pod).unwrap();
    change(pod.answer.as_mut().unwrap());
}

fn parked(answer: Answer) -> Answer {
    following(answer, PARKED.0, PARKED.1, false)
}

fn look(record: &Record, answers: Vec<(&str, Option<Answer>)>) -> Snapshot {
    let pods = answers
        .into_iter()
        .map(|(pod, answer)| ObservedPod {
            uid: format!("uid-{pod}"),
            answer: answer.ok_or(NoAnswer::Failed(ProbeFailure::Refused)),
            ..ObservedPod::running(pod.rsplit('-').next().unwrap().parse().unwrap())
        })
        .collect();
    let observed = Observed { pods };
    Snapshot { topology: topology(host, record, &observed), observed, ..Snapshot::default() }
}

/// A set of three that served history `OLD` under redis-0.
fn record() -> Record {
    Record {
        epoch: 1,
        primary: Some("redis-0".into()),
        start_offset: 0,
        members: vec!["redis-0".into(), "redis-1".into(), "redis-2".into()],
        seen_serving: Some(Serving {
            pod_uid: "uid-redis-0".into(),
            run_id: "run-redis-0".into(),
            replid: OLD.into(),
            ..Serving::default()
        }),
        ..Record::first(Vec::new(), true)
    }
}

/// The primary was seen with an append-only file that held what it served.
fn settled(record: Record) -> Record {
    let seen = record.seen_serving.map(|seen| Serving { aof_settled: true, ..seen });
    Record { seen_serving: seen, ..record }
}

/// With a switchover to redis-1 under way.
fn opened(record: Record) -> Record {
    let process = Serving {
        pod_uid: "uid-redis-1".into(),
        run_id: "run-redis-1".into(),
        replid: OLD.into(),
        aof_settled: true,
        ..Serving::default()
    };
    Record { switch_to: Some(SwitchTo { target: "redis-1".into(), replid: OLD.into(), process }), ..record }
}

fn healthy() -> Vec<(&'static str, Option<Answer>)> {
    let mut primary = server("redis-0", OLD, 100, 5);
    let mut answers = vec![];
    for pod in ["redis-1", "redis-2"] {
        primary.info.replication.replicas.push(ConnectedReplica {
            host: host(pod),
            port: 6379,
            state: "online".into(),
            offset: 100,
            lag_seconds: 0,
        });
        answers.push((pod, Some(following(server(pod, OLD, 100, 5), &host("redis-0"), 6379, true))));
    }
    answers.insert(0, ("redis-0", Some(primary)));
    answers
}

/// All parked, with these offsets in history `OLD`.
fn all_parked(offsets: [i64; 3]) -> Vec<(&'static str, Option<Answer>)> {
    let pods = ["redis-0", "redis-1", "redis-2"];
    pods.into_iter()
        .zip(offsets)
        .map(|(pod, offset)| (pod, Some(parked(server(pod, OLD, offset, 5)))))
        .collect()
}

fn change(answers: &mut [(&str, Option<Answer>)], pod: &str, edit: impl FnOnce(&mut Answer)) {
    edit(answers.iter_mut().find(|(name, _)| *name == pod).unwrap().1.as_mut().unwrap());
}

fn elected(record: &Record, answers: &[(&'static str, Option<Answer>)]) -> Decision {
    let (first, second) = (look(record, answers.to_vec()), look(record, answers.to_vec()));
    assert_eq!(decide(record, &first), Decision::LookAgain);
    elect(record, &first, &second)
}

fn winner_of(record: &Record, answers: &[(&'static str, Option<Answer>)]) -> (String, Record) {
    match elected(record, answers) {
        Decision::Promote { record, pod } => (pod, record),
        other => panic!("no promotion but {other:?}"),
    }
}

fn hold_reason(decision: Decision) -> Reason {
    match decision {
        Decision::Hold(hold) => hold.reason,
        other => panic!("no hold but {other:?}"),
    }
}

#[test]
fn a_healthy_set_is_left_alone() {
    assert_eq!(decide(&record(), &look(&record(), healthy())), Decision::Rest);
}

/// A new set of three; nobody was ever promoted.
fn new_set() -> Record {
    Record::first(record().members, true)
}

fn empty(pod: &'static str) -> (&'static str, Option<Answer>) {
    (pod, Some(parked(server(pod, &format!("replid of {pod}"), 0, 0))))
}

#[test]
fn bootstrap_promotes_the_first_member_alone() {
    let new = new_set();
    for answers in [
        vec![empty("redis-0")],
        vec![empty("redis-0"), ("redis-1", None)],
        vec![empty("redis-0"), empty("redis-1"), empty("redis-2")],
    ] {
        let Decision::Promote { record: written, pod } = decide(&new, &look(&new, answers.clone())) else {
            panic!("{answers:?}");
        };
        assert_eq!(
            (pod.as_str(), written.epoch, written.primary.as_deref()),
            ("redis-0", 1, Some("redis-0"))
        );
        assert_eq!(written.members, new.members);
        let serving = written.seen_serving.unwrap();
        assert_eq!((serving.pod_uid.as_str(), serving.run_id.as_str()), ("uid-redis-0", "run-redis-0"));
    }
}

#[test]
fn bootstrap_waits_for_all_where_anybody_may_hold_data() {
    let holds = |pod| (pod, Some(parked(server(pod, OLD, 10, 1))));
    let loads = {
        let mut first = empty("redis-0");
        first.1.as_mut().unwrap().info.persistence.loading = true;
        first
    };
    let unsure = Record { sure: false, ..new_set() };
    // The promotion of the first member did not arrive, or it did and the process ended: others may have its data.
    let promoted = Record { epoch: 1, primary: Some("redis-0".into()), ..new_set() };
    for (record, answers) in [
        (new_set(), vec![holds("redis-0")]),
        (new_set(), vec![empty("redis-0"), holds("redis-1")]),
        (new_set(), vec![empty("redis-1"), empty("redis-2")]),
        (new_set(), vec![loads]),
        (unsure, vec![empty("redis-0")]),
        (promoted, vec![empty("redis-0")]),
    ] {
        let decision = decide(&record, &look(&record, answers.clone()));
        assert_eq!(hold_reason(decision), Reason::MemberUnreachable, "{record:?} {answers:?}");
    }
    // All answer: whose data somebody put there is elected.
    let all = [empty("redis-0"), holds("redis-1"), empty("redis-2")];
    assert_eq!(winner_of(&new_set(), &all).0, "redis-1");
}

#[test]
fn the_promoted_process_is_noted_when_it_serves() {
    let promoted = Record { seen_serving: None, ..record() };
    match decide(&promoted, &look(&promoted, healthy())) {
        Decision::Note(noted) => {
            let without_aof = Serving { aof_settled: false, ..record().seen_serving.unwrap() };
            assert_eq!(noted.seen_serving, Some(without_aof));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn strays_are_pointed_at_the_primary() {
    let mut answers = healthy();
    change(&mut answers, "redis-1", |a| *a = parked(a.clone()));
    change(&mut answers, "redis-2", |a| *a = following(a.clone(), &host("redis-1"), 6379, true));
    assert_eq!(
        decide(&record(), &look(&record(), answers)),
        Decision::Follow(vec!["redis-1".into(), "redis-2".into()])
    );
}

#[test]
fn the_longest_history_wins() {
    let (pod, written) = winner_of(&record(), &all_parked([100, 120, 110]));
    assert_eq!(pod, "redis-1");
    assert_eq!(written.start_offset, 120);
    assert_eq!(written.closed, BTreeMap::from([(OLD.to_owned(), 120)]));
    assert_eq!(written.epoch, 2);
}

#[test]
fn equal_histories_keep_the_primary_of_record() {
    let seen_serving = record().seen_serving.map(|s| Serving { pod_uid: "uid-redis-2".into(), ..s });
    let record = Record { primary: Some("redis-2".into()), seen_serving, ..record() };
    assert_eq!(winner_of(&record, &all_parked([100, 100, 100])).0, "redis-2");
}

#[test]
fn a_process_that_ran_on_wins_a_tie() {
    let mut answers = all_parked([100, 100, 100]);
    change(&mut answers, "redis-1", |a| a.info.replication.backlog_active = true);
    assert_eq!(winner_of(&record(), &answers).0, "redis-1");
}

/// Regression "an empty parked ex-primary beside full replicas" (trap 1): its offset may even be higher.
#[test]
fn an_empty_member_never_wins_over_data() {
    let mut answers = all_parked([9000, 100, 90]);
    change(&mut answers, "redis-0", |a| a.info.keys = Some(0));
    assert_eq!(winner_of(&record(), &answers).0, "redis-1");
}

/// Regression: after an election, a member of the ended history must not outrank the new one, however long it is.
#[test]
fn a_closed_history_counts_only_up_to_its_end() {
    let record = Record { closed: BTreeMap::from([(OLD.to_owned(), 100)]), start_offset: 100, ..record() };
    let mut answers = all_parked([5000, 100, 100]);
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| {
            a.info.replication.replid = NEW.into();
            // They went on from it.
            a.info.replication.replid2 = OLD.into();
            a.info.replication.second_repl_offset = 101;
            a.info.replication.offset = 130;
        });
    }
    assert_eq!(winner_of(&record, &answers).0, "redis-1");
}

/// Found by the model: the winner of an election had come to the next history before it had all of the former one, and
/// so closed that too low; then it restarted with less of it than the other has.
#[test]
fn of_two_copies_that_are_cut_level_the_longer_one_wins() {
    let record = Record { closed: BTreeMap::from([(OLD.to_owned(), 80)]), start_offset: 100, ..record() };
    let answers = all_parked([90, 100, 95]);
    assert_eq!(winner_of(&record, &answers).0, "redis-1");
}

/// Regression: a replica has its new replid before it has the backlog, so a new history below the winner's start
/// ranks as an old one.
#[test]
fn a_new_history_below_the_start_ranks_as_old() {
    let record = Record { start_offset: 100, closed: BTreeMap::from([(OLD.to_owned(), 100)]), ..record() };
    let mut answers = all_parked([100, 100, 100]);
    change(&mut answers, "redis-0", |a| {
        a.info.replication.replid = NEW.into();
        a.info.replication.offset = 40;
    });
    assert_eq!(winner_of(&record, &answers).0, "redis-1");
}

#[test]
fn one_silent_member_holds_the_election() {
    let mut answers = all_parked([100, 120, 110]);
    answers[2].1 = None;
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::MemberUnreachable);
}

/// A member of record whose pod does not even exist may hold the newest data on its volume.
#[test]
fn a_missing_pod_holds_the_election() {
    let mut answers = all_parked([100, 120, 110]);
    answers.pop();
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::MemberUnreachable);
}

/// The server of another set at a reused address has answered, but it is not the member.
#[test]
fn a_foreign_server_is_not_a_member() {
    let mut answers = all_parked([100, 120, 110]);
    change(&mut answers, "redis-1", |a| a.announced = host("other-1"));
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::MemberUnreachable);
}

#[test]
fn a_terminating_member_is_silent() {
    let mut first = look(&record(), all_parked([100, 120, 110]));
    first.observed.pods[1].terminating = true;
    first.topology = topology(host, &record(), &first.observed);
    assert_eq!(hold_reason(decide(&record(), &first)), Reason::MemberUnreachable);
}

#[test]
fn a_loading_member_holds_the_election() {
    let mut answers = all_parked([100, 120, 110]);
    change(&mut answers, "redis-2", |a| a.info.persistence.loading = true);
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::MemberLoading);
}

/// To hasten: members that are still linked to each other (a chain) are parked before the looks.
#[test]
fn linked_members_are_parked_first() {
    let mut answers = all_parked([100, 120, 110]);
    change(&mut answers, "redis-2", |a| *a = following(a.clone(), &host("redis-1"), 6379, true));
    assert_eq!(decide(&record(), &look(&record(), answers)), Decision::Park(vec!["redis-2".into()]));
}

/// Regression "a member emptied (or replaced) between the two looks; the winner restarts between the looks".
#[test]
fn a_process_that_changed_between_the_looks_is_looked_at_again() {
    let record = record();
    let first = look(&record, all_parked([100, 120, 110]));
    let mut answers = all_parked([100, 120, 110]);
    change(&mut answers, "redis-1", |a| a.info.server.run_id = "another".into());
    assert_eq!(elect(&record, &first, &look(&record, answers)), Decision::LookAgain);
}

/// Kernel buffers go on delivering after the primary's death (experiment E25).
#[test]
fn an_offset_that_moved_between_the_looks_is_looked_at_again() {
    let record = record();
    let first = look(&record, all_parked([100, 120, 110]));
    let second = look(&record, all_parked([100, 120, 130]));
    assert_eq!(elect(&record, &first, &second), Decision::LookAgain);
}

/// Regression "one look torn by a FAILOVER that completes between two observations".
#[test]
fn somebody_who_serves_in_the_second_look_ends_the_election() {
    let record = record();
    let first = look(&record, all_parked([100, 120, 110]));
    assert_eq!(elect(&record, &first, &look(&record, healthy())), Decision::Rest);
}

/// Rule 6, and regression "an AOF primary promoted after a restart": its offset begins again, its data does not.
#[test]
fn a_restarted_aof_primary_of_record_wins() {
    let mut answers = all_parked([0, 120, 110]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "fresh".into());
    let (pod, written) = winner_of(&settled(record()), &answers);
    assert_eq!(pod, "redis-0");
    assert_eq!(written.closed.get(OLD), Some(&120), "the old history is closed, so nobody of it wins later");
}

/// Regression: a volume made again from last night's snapshot won, as the primary's own.
#[test]
fn an_exchanged_volume_does_not_win_by_the_name_of_its_pod() {
    let mut answers = all_parked([0, 120, 110]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "snapshot".into());
    let elected = |answers: &[(&'static str, Option<Answer>)]| {
        let record = settled(record());
        let look = || Snapshot { exchanged: vec!["redis-0".into()], ..look(&record, answers.to_vec()) };
        elect(&record, &look(), &look())
    };
    match elected(&answers) {
        Decision::Promote { pod, .. } => assert_eq!(pod, "redis-1", "it has what was served"),
        other => panic!("{other:?}"),
    }
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.replication.replid = format!("fresh-{pod}"));
    }
    assert_eq!(hold_reason(elected(&answers)), Reason::HistoriesDiffer);
}

/// Regression: a full sync leaves the append-only file as it was, until a rewrite is done.
#[test]
fn a_primary_whose_file_was_never_settled_does_not_win_by_it() {
    let mut answers = all_parked([0, 120, 110]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "fresh".into());
    let (pod, written) = winner_of(&record(), &answers);
    assert_eq!(pod, "redis-1", "it has all that was confirmed");
    assert!(written.closed.contains_key("fresh"), "the old file never wins later");
    assert!(written.seen_serving.unwrap().aof_settled, "it is not being rewritten");
    // Nobody else has what it served.
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.replication.replid = "older".into());
    }
    assert_eq!(hold_reason(elected(&record(), &answers)), Reason::HistoriesDiffer);

    // The target of a switchover.
    let mut target = all_parked([100, 100, 100]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut target, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    change(&mut target, "redis-1", |a| a.info.replication.replid = "fresh".into());
    let mut open = opened(record());
    assert_eq!(winner_of(&open, &target).0, "redis-1");
    open.switch_to.as_mut().unwrap().process.aof_settled = false;
    assert_eq!(hold_reason(elected(&open, &target)), Reason::HistoriesDiffer);
}

/// Regression: which process was seen settled is written down, once, and nobody is handed the role before.
#[test]
fn a_file_that_is_being_rewritten_is_waited_for() {
    let rewriting = |pods: &[&str]| {
        let mut answers = healthy();
        for pod in pods {
            change(&mut answers, pod, |a| {
                a.info.persistence = Persistence { aof: Aof::Rewriting, ..Persistence::default() };
            });
        }
        look(&record(), answers)
    };
    let fit = |look: &Snapshot| {
        let fits = |pod: &&ObservedPod| super::switchover::can_take_over(look, pod);
        look.observed.pods.iter().filter(fits).map(|pod| pod.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fit(&rewriting(&[])), ["redis-1", "redis-2"]);
    assert_eq!(fit(&rewriting(&["redis-1"])), ["redis-2"]);

    let before = record();
    assert_eq!(decide(&before, &rewriting(&["redis-0"])), Decision::Rest);
    let mut done = rewriting(&["redis-0"]);
    done.observed.pods[0].answer.as_mut().unwrap().info.persistence.aof = Aof::Whole;
    let by_hand = Snapshot { aof_by_hand: true, ..done.clone() };
    assert_eq!(
        decide(&before, &by_hand),
        Decision::Rest,
        "it is switched off again, and then its file grows old"
    );
    let off = look(&record(), healthy());
    let Decision::Note(noted) = decide(&settled(record()), &off) else { panic!("its file grows old") };
    assert_eq!(noted, before);
    match decide(&before, &done) {
        Decision::Note(noted) => {
            assert_eq!(noted, settled(record()));
            assert_eq!(decide(&noted, &rewriting(&["redis-0"])), Decision::Rest, "an ordinary rewrite");
        }
        other => panic!("{other:?}"),
    }
}

/// All processes were killed at once.
#[test]
fn of_a_whole_set_with_append_only_files_the_primary_of_record_wins() {
    let mut answers = all_parked([0, 0, 0]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| {
            a.info.persistence.aof = Aof::Whole;
            a.info.replication.replid = format!("fresh-{pod}");
        });
    }
    let (winner, written) = winner_of(&settled(record()), &answers);
    assert_eq!(winner, "redis-0");
    assert_eq!(winner_of(&written, &answers).0, "redis-0", "its promotion may not have arrived");
    let unsure = Record { sure: false, ..settled(record()) };
    assert_eq!(hold_reason(elected(&unsure, &answers)), Reason::HistoriesDiffer);
    change(&mut answers, "redis-0", |a| a.info.keys = Some(0));
    assert_eq!(
        hold_reason(elected(&settled(record()), &answers)),
        Reason::HistoriesDiffer,
        "its files are gone"
    );
}

/// Regression: replicas that somebody pointed at another server, or that got another set's volume, and whose offsets
/// are larger.
#[test]
fn a_history_from_outside_never_wins_by_its_size() {
    for strangers in [&["redis-1"][..], &["redis-1", "redis-2"]] {
        let mut answers = all_parked([100, 110, 110]);
        for pod in strangers {
            change(&mut answers, pod, |a| {
                a.info.replication.replid = "foreign".into();
                a.info.replication.offset = 1_000_000_000_000;
            });
        }
        assert_eq!(hold_reason(elected(&record(), &answers)), Reason::HistoriesDiffer, "{strangers:?}");
        // One that an election has ended is older, and known to be.
        let closed = BTreeMap::from([("foreign".to_owned(), 50)]);
        assert_eq!(
            winner_of(&Record { closed, ..record() }, &answers).1.closed.get("foreign"),
            Some(&50),
            "{strangers:?}"
        );
        // Who serves is followed all the same: then nothing is chosen by size.
        let mut serving = healthy();
        change(&mut serving, "redis-1", |a| {
            a.info.replication.replid = "foreign".into();
            a.info.replication.upstream.as_mut().unwrap().host = "elsewhere".into();
        });
        assert_eq!(decide(&record(), &look(&record(), serving)), Decision::Follow(vec!["redis-1".into()]));
    }
}

/// Found by the model: a replica was promoted by hand and written to, the primary was killed before a look showed that, and
/// the next look found all of them parked.
#[test]
fn who_left_the_served_history_early_does_not_win_by_what_it_took_alone() {
    let with = |left_at: i64| {
        let mut answers = all_parked([90, 500, 120]);
        change(&mut answers, "redis-1", |a| {
            (a.info.replication.replid, a.info.replication.replid2) = (NEW.into(), OLD.into());
            a.info.replication.second_repl_offset = left_at + 1;
        });
        answers
    };
    assert_eq!(hold_reason(elected(&record(), &with(100))), Reason::HistoriesDiffer);
    // It was elected, or handed the role: then nobody had more.
    assert_eq!(winner_of(&record(), &with(120)).0, "redis-1");
    // What an election left out no longer counts.
    let closed = Record { closed: BTreeMap::from([(OLD.to_owned(), 100)]), ..record() };
    assert_eq!(winner_of(&closed, &with(100)).0, "redis-1");
}

/// Regression: a stranger that a person has to decide about stands in the way of nothing else.
#[test]
fn a_stranger_freezes_neither_repairs_nor_an_evacuation() {
    let with = |parked_too: bool| {
        let mut answers = healthy();
        change(&mut answers, "redis-2", |a| {
            a.info.replication.upstream = None;
            (a.info.replication.replid, a.info.replication.replid2) = (NEW.into(), OLD.into());
            (a.info.replication.second_repl_offset, a.info.replication.offset) = (101, 150);
        });
        if parked_too {
            change(&mut answers, "redis-1", |a| {
                let upstream = a.info.replication.upstream.as_mut().unwrap();
                (upstream.host, upstream.port, upstream.link_up) = (PARKED.0.into(), PARKED.1, false);
            });
        }
        look(&record(), answers)
    };
    assert_eq!(hold_reason(decide(&record(), &with(false))), Reason::UnexpectedPrimary);
    assert_eq!(decide(&record(), &with(true)), Decision::Follow(vec!["redis-1".into()]));
    let mut leaving = with(false);
    leaving.observed.pods[0].terminating = true;
    leaving.topology = topology(host, &record(), &leaving.observed);
    let Decision::Switch { record: open, target, .. } = decide(&record(), &leaving) else { panic!("held") };
    assert_eq!(target, "redis-1");
    // It goes on while the stranger serves, and ends.
    let mut over = leaving.clone();
    change_look(&mut over, "redis-0", |a| {
        a.info.replication.failover_state = "failover-in-progress".into();
        *a = following(a.clone(), &host("redis-1"), 6379, false);
    });
    over.topology = topology(host, &open, &over.observed);
    assert_eq!(decide(&open, &over), Decision::Await);
}

/// Regression: the record was deleted, and one member is silent.
#[test]
fn a_person_can_have_the_one_that_serves_adopted() {
    let lost = Record { members: record().members, ..Record::first(Vec::new(), false) };
    let mut answers = healthy();
    answers[2].1 = None;
    let seen = look(&lost, answers);
    let Decision::Hold(hold) = decide(&lost, &seen) else { panic!("not held") };
    assert_eq!(hold.reason, Reason::MemberUnreachable);
    assert!(hold.message.contains("redis-0 serves") && hold.message.contains("redis-2"), "{}", hold.message);
    let with = |pod: &str, epoch| {
        let consent = Some(crate::api::annotations::Consent { pod: pod.into(), epoch });
        decide(&lost, &Snapshot { consent, ..seen.clone() })
    };
    let Decision::Note(adopted) = with("redis-0", 0) else { panic!("not adopted") };
    assert_eq!((adopted.primary.as_deref(), adopted.sure, adopted.epoch), (Some("redis-0"), true, 1));
    for (pod, epoch) in [("redis-1", 0), ("redis-0", 7)] {
        assert_eq!(hold_reason(with(pod, epoch)), Reason::MemberUnreachable, "{pod}@{epoch}");
    }
}

#[test]
fn a_restarted_aof_replica_holds_the_election() {
    let mut answers = all_parked([100, 0, 110]);
    change(&mut answers, "redis-1", |a| {
        a.info.persistence.aof = Aof::Whole;
        a.info.replication.replid = "fresh".into();
    });
    assert_eq!(hold_reason(elected(&record(), &answers)), Reason::HistoriesDiffer);
}

#[test]
fn a_stranger_with_writes_of_its_own_is_held() {
    let mut answers = healthy();
    change(&mut answers, "redis-2", |a| {
        a.info.replication.upstream = None;
        a.info.replication.replid2 = OLD.into();
        a.info.replication.replid = NEW.into();
        a.info.replication.second_repl_offset = 101;
        a.info.replication.offset = 150;
    });
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::UnexpectedPrimary);
}

#[test]
fn a_stranger_without_writes_of_its_own_is_parked() {
    let mut answers = healthy();
    change(&mut answers, "redis-2", |a| {
        a.info.replication.backlog_active = true;
        a.info.replication.upstream = None;
        a.info.replication.replid2 = OLD.into();
        a.info.replication.replid = NEW.into();
        a.info.replication.second_repl_offset = 101;
        a.info.replication.offset = 100;
    });
    assert_eq!(decide(&record(), &look(&record(), answers)), Decision::Retire(vec!["redis-2".into()]));
}

/// Trap 1: an empty server that was promoted by hand under the primary's name must not become the truth.
#[test]
fn a_primary_promoted_by_hand_with_older_data_is_held() {
    let mut answers = all_parked([0, 120, 110]);
    change(&mut answers, "redis-0", |a| {
        a.info.replication.upstream = None;
        a.info.keys = Some(0);
        a.info.server.run_id = "restarted".into();
        a.info.replication.replid = NEW.into();
    });
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::PrimaryOutranked);
}

/// Rule 9: a set re-created over old volumes. Nothing is known, so the winner must contain everybody's data.
#[test]
fn without_a_sure_record_the_winner_descends_from_all() {
    let unsure = Record::first(vec!["redis-0".into(), "redis-1".into(), "redis-2".into()], false);
    let answers = all_parked([100, 120, 110]);
    assert_eq!(winner_of(&unsure, &answers).0, "redis-1");

    let mut differ = answers.clone();
    change(&mut differ, "redis-0", |a| a.info.replication.replid = "elsewhere".into());
    assert_eq!(hold_reason(elected(&unsure, &differ)), Reason::HistoriesDiffer);

    let mut promoted = answers;
    change(&mut promoted, "redis-2", |a| {
        a.info.replication.replid = NEW.into();
        a.info.replication.replid2 = OLD.into();
        a.info.replication.second_repl_offset = 121;
        a.info.replication.offset = 300;
    });
    assert_eq!(winner_of(&unsure, &promoted).0, "redis-2");
}

#[test]
fn without_a_sure_record_a_server_with_the_newest_data_is_adopted() {
    let unsure = Record::first(vec!["redis-0".into(), "redis-1".into(), "redis-2".into()], false);
    match decide(&unsure, &look(&unsure, healthy())) {
        Decision::Note(record) => {
            assert_eq!(record.primary.as_deref(), Some("redis-0"));
            assert!(record.sure && record.seen_serving.is_some());
        }
        other => panic!("{other:?}"),
    }
    let mut behind = healthy();
    change(&mut behind, "redis-2", |a| *a = parked(server("redis-2", OLD, 500, 5)));
    assert_eq!(hold_reason(decide(&unsure, &look(&unsure, behind))), Reason::UnexpectedPrimary);

    let mut all_aof = healthy();
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut all_aof, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    assert!(matches!(decide(&unsure, &look(&unsure, all_aof)), Decision::Note(_)));
}

/// A primary gets a new history when its first replica links; elections must know it.
#[test]
fn a_changed_history_of_the_same_process_is_noted() {
    let mut answers = healthy();
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.replication.replid = NEW.into());
    }
    // Nobody has linked to it since it began this history.
    assert_eq!(decide(&record(), &look(&record(), answers.clone())), Decision::Rest);
    change(&mut answers, "redis-0", |a| a.info.replication.backlog_active = true);
    match decide(&record(), &look(&record(), answers)) {
        Decision::Note(noted) => assert_eq!(noted.seen_serving.unwrap().replid, NEW),
        other => panic!("{other:?}"),
    }
}

/// Regression "a force-deleted pod's process lives on while its namesake answers".
#[test]
fn a_replaced_primary_whose_end_nobody_saw_holds() {
    let mut unseen = look(&record(), all_parked([100, 120, 110]));
    unseen.observed.pods[0].uid = "another".into();
    assert_eq!(hold_reason(decide(&record(), &unseen)), Reason::PreviousPrimaryUnproven);
    unseen.former = Former::Ended;
    assert_eq!(decide(&record(), &unseen), Decision::LookAgain);
}

/// A person who promotes where nobody serves is not undone, and whom they promoted is gone on with where nobody has more.
#[test]
fn a_promotion_by_hand_while_nobody_serves_is_respected() {
    let mut answers = all_parked([100, 100, 100]);
    change(&mut answers, "redis-2", |a| {
        a.info.replication.upstream = None;
        a.info.replication.backlog_active = true;
        a.info.replication.replid2 = OLD.into();
        a.info.replication.replid = NEW.into();
        a.info.replication.second_repl_offset = 101;
    });
    assert!(
        matches!(decide(&record(), &look(&record(), answers.clone())), Decision::Adopt(r) if r.primary.as_deref() == Some("redis-2"))
    );
    change(&mut answers, "redis-1", |a| a.info.replication.offset = 101);
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::UnexpectedPrimary);
}

#[test]
fn nobody_is_elected_while_a_failover_runs() {
    let mut answers = all_parked([100, 120, 110]);
    change(&mut answers, "redis-0", |a| a.info.replication.failover_state = "failover-in-progress".into());
    assert_eq!(hold_reason(decide(&record(), &look(&record(), answers))), Reason::MemberLoading);
}

/// An RDB that was written before any replica linked has no history. Its data is older than that of a replica that
/// linked since, and cannot be compared with any other's.
#[test]
fn a_primary_whose_history_is_lost_wins_over_nobody() {
    let record = Record { closed: BTreeMap::from([(OLD.to_owned(), 100)]), start_offset: 100, ..record() };
    let mut answers = all_parked([0, 100, 100]);
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "random".into());
    let noted = |replid: &str| {
        let seen_serving = record.seen_serving.clone().map(|s| Serving { replid: replid.into(), ..s });
        Record { seen_serving, ..record.clone() }
    };
    assert_eq!(hold_reason(elected(&noted("served"), &answers)), Reason::HistoriesDiffer);
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| {
            a.info.replication.replid = "served".into();
            a.info.replication.offset = 150;
        });
    }
    assert_eq!(winner_of(&noted("served"), &answers).0, "redis-1");
}

/// Regression, found by the model: the restarted primary of record was pointed at another Redis.
#[test]
fn a_primary_of_record_with_a_history_from_outside_does_not_win_by_its_size() {
    let mut answers = all_parked([100_000, 120, 110]);
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "foreign".into());
    assert_eq!(hold_reason(elected(&record(), &answers)), Reason::HistoriesDiffer);
    change(&mut answers, "redis-0", |a| a.info.replication.offset = 0);
    assert_eq!(winner_of(&record(), &answers).0, "redis-1", "its own, of before the others linked");
    change(&mut answers, "redis-0", |a| a.info.replication.offset = 100_000);
    // It may have begun that history when it was promoted, and ended before anybody noted that.
    let closed = Record { closed: BTreeMap::from([(OLD.to_owned(), 120)]), ..record() };
    assert_eq!(winner_of(&closed, &answers).0, "redis-0");
    // Its own file of before anybody linked names no history, and holds all that there is.
    for pod in ["redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.keys = Some(0));
    }
    assert_eq!(winner_of(&record(), &answers).0, "redis-0");
}

/// Regression: a primary that crashed every few seconds filled the record within days, and then nobody could be promoted.
#[test]
fn the_record_keeps_the_latest_histories_and_those_that_somebody_has() {
    let before: BTreeMap<String, i64> =
        (1..=300).map(|end| (format!("ended-{end:03}"), 1000 + end)).collect();
    let full = Record { closed: before, start_offset: 1300, ..record() };
    let mut answers = all_parked([2000, 2000, 20]);
    change(&mut answers, "redis-2", |a| a.info.replication.replid = "ended-001".into());
    let (_, written) = winner_of(&full, &answers);
    assert_eq!(written.closed.len(), 200);
    for (history, kept) in [("ended-300", true), (OLD, true), ("ended-001", true), ("ended-050", false)] {
        assert_eq!(written.closed.contains_key(history), kept, "{history}");
    }
    // Whoever comes back with one that was left out.
    change(&mut answers, "redis-2", |a| a.info.replication.replid = "ended-050".into());
    assert_eq!(hold_reason(elected(&written, &answers)), Reason::HistoriesDiffer);
}

/// The record says redis-0 won by rule 6, but REPLICAOF NO ONE never reached it.
#[test]
fn an_aof_winner_whose_promotion_did_not_arrive_wins_again() {
    let mut answers = all_parked([0, 120, 110]);
    for pod in ["redis-0", "redis-1", "redis-2"] {
        change(&mut answers, pod, |a| a.info.persistence.aof = Aof::Whole);
    }
    change(&mut answers, "redis-0", |a| a.info.replication.replid = "fresh".into());
    let (_, written) = winner_of(&settled(record()), &answers);
    assert_eq!(winner_of(&written, &answers).0, "redis-0");
}
