//! Where several things are wrong, READY names the one that a person can act on, and says nothing of an innocent kubelet.

use redis_node::info::Clients;

use super::*;

/// Its clients are as many as it takes.
fn full(mut pod: ObservedPod) -> ObservedPod {
    pod.answer.as_mut().unwrap().info.clients = Some(Clients { connected: 100, max: 100 });
    pod
}

fn stuck(mut pod: ObservedPod) -> ObservedPod {
    pod.stuck = Some("ImagePullBackOff: no such image".to_owned());
    pod
}

fn unready(mut pod: ObservedPod) -> ObservedPod {
    pod.ready = false;
    pod
}

fn refuses(ordinal: i32) -> ObservedPod {
    unready(silent(ordinal, ProbeFailure::Auth("WRONGPASS".into())))
}

fn takes_no_clients(ordinal: i32) -> ObservedPod {
    unready(silent(ordinal, ProbeFailure::ClientLimit))
}

fn gives_no_answer(ordinal: i32) -> ObservedPod {
    silent(ordinal, ProbeFailure::Timeout(Duration::from_secs(2)))
}

fn without_a_primary(pods: Vec<ObservedPod>, reason: Reason) -> Pass {
    saw(pods).and(|o| {
        o.write = None;
        o.roll = None;
        o.hold = Some(held(reason, "waiting"));
    })
}

fn invalid(outcome: &mut Outcome) {
    outcome.plan = None;
    outcome.fail(Reason::InvalidSpec, "spec.storage.size: is not a quantity");
}

/// What is wrong, and what READY says then.
fn table() -> Vec<(&'static str, Pass, &'static str)> {
    let silent_hold = Reason::MemberUnreachable;
    let no_password = |o: &mut Outcome| o.password_missing = true;
    let refused_apply =
        |o: &mut Outcome| o.fail(Reason::ApiError, "cannot apply Service default/redis: forbidden");
    let rdb = Write::Refused(Refusal::SavingFails, "MISCONF".to_owned());
    let of_all = |pod: fn(i32) -> ObservedPod| (0..3).map(pod).collect::<Vec<_>>();
    vec![
        ("nothing", saw(healthy()), "True Verified"),
        (
            "all refuse the password",
            without_a_primary(of_all(refuses), silent_hold),
            "Unknown PasswordRefused",
        ),
        (
            "all are full",
            without_a_primary(of_all(takes_no_clients), silent_hold),
            "Unknown MaxClientsReached",
        ),
        (
            "all are silent",
            without_a_primary(of_all(gives_no_answer), silent_hold),
            "Unknown MemberUnreachable",
        ),
        (
            "the primary refuses the password, a replica is silent",
            without_a_primary(vec![refuses(0), gives_no_answer(1), parked(2)], silent_hold),
            "Unknown PasswordRefused",
        ),
        (
            "the primary is full, a replica's pod cannot start",
            without_a_primary(vec![takes_no_clients(0), stuck(gives_no_answer(1)), parked(2)], silent_hold),
            "Unknown MaxClientsReached",
        ),
        (
            "one refuses the password, one is full",
            without_a_primary(vec![refuses(0), takes_no_clients(1), parked(2)], silent_hold),
            "Unknown PasswordRefused",
        ),
        (
            "the primary is gone, a replica's pod cannot start",
            without_a_primary(vec![gives_no_answer(0), stuck(gives_no_answer(1)), parked(2)], silent_hold),
            "Unknown PodStuck",
        ),
        (
            "histories differ, and a pod cannot start",
            without_a_primary(vec![parked(0), parked(1), stuck(parked(2))], Reason::HistoriesDiffer),
            "False HistoriesDiffer",
        ),
        (
            "the end of the former primary is unproven, one is full",
            without_a_primary(
                vec![gives_no_answer(0), full(parked(1)), parked(2)],
                Reason::PreviousPrimaryUnproven,
            ),
            "Unknown PreviousPrimaryUnproven",
        ),
        (
            "the Secret is gone, and nobody can be asked",
            without_a_primary((0..3).map(|n| pod(n, Err(NoAnswer::NoPassword))).collect(), silent_hold)
                .and(no_password),
            "Unknown SecretMissing",
        ),
        ("the Secret is gone, and all is well", saw(healthy()).and(no_password), "False SecretMissing"),
        (
            "the Secret is gone, and a replica refuses what is known",
            saw(vec![serves(0, &[1]), follows(1, 0), refuses(2)]).and(no_password),
            "False SecretMissing",
        ),
        (
            "a replica refuses the password",
            saw(vec![serves(0, &[1]), follows(1, 0), refuses(2)]),
            "False PasswordRefused",
        ),
        (
            "a replica is full and its link is down",
            saw(vec![serves(0, &[1]), follows(1, 0), link_down(full(follows(2, 0)))]),
            "False MaxClientsReached",
        ),
        (
            "the primary is full, and a replica cannot link",
            saw(vec![full(serves(0, &[1])), follows(1, 0), link_down(follows(2, 0))]),
            "False MaxClientsReached",
        ),
        (
            "the primary refuses writes, a replica's pod cannot start",
            saw(vec![serves(0, &[1]), follows(1, 0), stuck(gives_no_answer(2))])
                .and(|o| o.write = Some(rdb.clone())),
            "False SavingFails",
        ),
        (
            "the primary refuses writes and is full",
            saw(vec![full(serves(0, &[1, 2])), follows(1, 0), follows(2, 0)])
                .and(|o| o.write = Some(rdb.clone())),
            "False MaxClientsReached",
        ),
        (
            "the record was lost, one serves and one is silent",
            saw(vec![serves(0, &[1]), follows(1, 0), gives_no_answer(2)]).and(|o| {
                o.record = Some(Record { epoch: 1, ..Record::first(served(3).members, false) });
                o.write = None;
                o.hold = Some(held(silent_hold, "waiting for redis-2"));
            }),
            "False MemberUnreachable",
        ),
        ("the spec is invalid, and all is well", saw(healthy()).and(invalid), "False InvalidSpec"),
        (
            "the spec is invalid, and nobody serves",
            without_a_primary(vec![gives_no_answer(0), parked(1), parked(2)], silent_hold).and(invalid),
            "Unknown MemberUnreachable",
        ),
        (
            "the spec is invalid, and all refuse the password",
            without_a_primary(of_all(refuses), silent_hold).and(invalid),
            "Unknown PasswordRefused",
        ),
        (
            "the spec is invalid, and a replica's pod cannot start",
            saw(vec![serves(0, &[1]), follows(1, 0), stuck(gives_no_answer(2))]).and(invalid),
            "False InvalidSpec",
        ),
        ("an apply is refused, and all is well", saw(healthy()).and(refused_apply), "False ApiError"),
        (
            "an apply is refused, and nobody serves",
            without_a_primary(vec![gives_no_answer(0), parked(1), parked(2)], silent_hold).and(refused_apply),
            "Unknown MemberUnreachable",
        ),
        (
            "an apply is refused, and a pod cannot start",
            saw(vec![serves(0, &[1]), follows(1, 0), stuck(gives_no_answer(2))]).and(refused_apply),
            "False PodStuck",
        ),
        (
            "a name is taken, and a replica is full",
            saw(vec![serves(0, &[1, 2]), full(follows(1, 0)), follows(2, 0)])
                .and(|o| o.fail(Reason::NameTaken, "Service default/redis belongs to somebody else")),
            "False NameTaken",
        ),
        (
            "the API server cannot be asked, so no server was",
            saw(Vec::new())
                .and(|o| o.fail(Reason::ApiError, "cannot get ConfigMap default/redis-record"))
                .unseen(),
            "Unknown ApiError",
        ),
    ]
}

#[test]
fn ready_names_the_first_cause() {
    for (what, pass, expected) in table() {
        let status = pass.status(None, at(0));
        let ready = &status.conditions[0];
        let words = format!("{} {}", ready.status, ready.reason);
        assert_eq!(words, expected, "{what}: {}", ready.message);
        let kubelets = ready.message.contains("kubelet") && ready.reason != "PodNotReady";
        assert!(!kubelets, "{what}: {}", ready.message);
    }
}

/// Regression: another cause was mere progress, and written some 30 s later.
#[test]
fn another_cause_is_written_at_once() {
    let silent = without_a_primary((0..3).map(gives_no_answer).collect(), Reason::MemberUnreachable);
    let refused = without_a_primary((0..3).map(refuses).collect(), Reason::MemberUnreachable);
    let before = silent.status(None, at(0));
    assert!(!is_progress_only(Some(&before), &refused.status(Some(&before), at(1))));
    assert!(is_progress_only(Some(&before), &silent.status(Some(&before), at(1))));
}
