//! Passwords that change: what the operator's own Secret says next, and that no server is ever to take too little.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a step that fails is the test's failure")]

use std::convert::Infallible;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use operator_core::{
    acl::{Rules, User},
    api::{
        auth::Auth,
        users::{RULE_PATTERN, is_rule},
    },
    credentials::{Application, Internal, Own, Took, Wanted, next},
    hash::sha256,
};
use proptest::prelude::*;
use redis_node::password::Password;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn password(text: &str) -> Password {
    Password::from_bytes(text.as_bytes()).unwrap()
}

fn own(n: u32) -> Own {
    let one = |of: &str| password(&format!("{of}{n}"));
    Own { operator: one("operator"), replica: one("replica"), agent: one("agent") }
}

fn application(text: &str) -> Application {
    Application::Password(password(text))
}

const TOOK: bool = true;
const WAITS: bool = false;

/// The next one, with passwords of the second generation if any are made.
fn then(internal: &Internal, application: &Application, auth: &Auth, all: bool, second: i64) -> Internal {
    let wanted = Wanted { application: application.clone(), ..Wanted::default() };
    let took = Took { all, ..Took::default() };
    follows(internal, &wanted, auth, &took, second)
}

fn follows(internal: &Internal, wanted: &Wanted, auth: &Auth, took: &Took, second: i64) -> Internal {
    let fresh = || Ok::<_, Infallible>(own(2));
    next(internal, wanted, auth, took, at(second), fresh).unwrap().unwrap_or_else(|| internal.clone())
}

/// Passwords that applications can log in with.
fn taken(internal: &Internal, of: &[&str]) -> Vec<String> {
    let user = internal.application_user().line();
    of.iter().filter(|text| user.contains(&sha256(text.as_bytes()))).map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_changed_password_is_added_first_and_the_former_one_goes_last() {
    let auth = Auth { grace: 60, ..Auth::default() };
    let first = then(&Internal::first(own(1), at(0)), &application("a"), &auth, WAITS, 0);
    assert_eq!(taken(&first, &["a"]), ["a"]);
    let changed = then(&first, &application("b"), &auth, TOOK, 10);
    assert_eq!(taken(&changed, &["a", "b"]), ["a", "b"]);
    assert_eq!(changed.application.since, Some(at(10)));
    // Nothing ends before every server has taken the new one, however long that takes.
    assert_eq!(then(&changed, &application("b"), &auth, WAITS, 100_000), changed);
    let ends = then(&changed, &application("b"), &auth, TOOK, 20);
    assert_eq!((ends.application.until, taken(&ends, &["a", "b"]).len()), (Some(at(80)), 2));
    assert_eq!(then(&ends, &application("b"), &auth, TOOK, 79), ends);
    assert_eq!(then(&ends, &application("b"), &auth, WAITS, 81), ends, "a server came that does not take it");
    let ended = then(&ends, &application("b"), &auth, TOOK, 81);
    assert_eq!(taken(&ended, &["a", "b"]), ["b"]);
    assert_eq!(then(&ended, &application("b"), &auth, TOOK, 200), ended);
}

#[test]
fn a_password_that_comes_back_is_no_former_one() {
    let auth = Auth::default();
    let first = then(&Internal::first(own(1), at(0)), &application("a"), &auth, WAITS, 0);
    let there = then(&first, &application("b"), &auth, TOOK, 10);
    let back = then(&there, &application("a"), &auth, TOOK, 20);
    assert_eq!(taken(&back, &["a", "b"]), ["a", "b"]);
    assert_eq!(back.application.former, [sha256(b"b")]);
}

#[test]
fn what_cannot_be_read_changes_nothing_and_nobody_is_let_in_without_a_password() {
    let auth = Auth::default();
    let none = Internal::first(own(1), at(0));
    assert_eq!(none.application_user().line(), "user default reset resetchannels ~* &* +@all\n");
    assert_eq!(then(&none, &Application::Unknown, &auth, TOOK, 10), none);
    let first = then(&none, &application("a"), &auth, WAITS, 0);
    assert_eq!(then(&first, &Application::Unknown, &auth, TOOK, 1_000_000), first);
    let open = then(&first, &Application::Open, &auth, TOOK, 10);
    assert!(open.application_user().line().contains(" nopass "));
    let closed = then(&open, &application("a"), &auth, TOOK, 20);
    assert_eq!(closed.application, first.application);
}

#[test]
fn own_passwords_change_after_their_days_and_are_taken_side_by_side() {
    let auth = Auth { internal_rotation_days: Some(30), ..Auth::default() };
    let day = 24 * 3600;
    let lines = |internal: &Internal| internal.own_users().map(|user| user.line()).concat();
    let takes = |internal: &Internal, n: u32| {
        let own = own(n);
        [own.operator, own.replica, own.agent]
            .iter()
            .all(|password| lines(internal).contains(&sha256(password.as_bytes())))
    };
    let first = then(&Internal::first(own(1), at(0)), &application("a"), &auth, WAITS, 0);
    assert_eq!(then(&first, &application("a"), &Auth::default(), TOOK, 400 * day), first, "not asked for");
    assert_eq!(then(&first, &application("a"), &auth, TOOK, 30 * day - 1), first);
    // A member that is not told would be left behind, with everybody who copies from it.
    assert_eq!(then(&first, &application("a"), &auth, WAITS, 30 * day), first);
    let changed = then(&first, &application("a"), &auth, TOOK, 30 * day);
    assert_eq!((changed.replica(false), changed.replica(true)), (own(1).replica(), own(2).replica()));
    assert!(takes(&changed, 1) && takes(&changed, 2));
    assert_eq!(changed.own, own(2));
    assert_eq!(then(&changed, &application("a"), &auth, WAITS, 31 * day), changed);
    let ends = then(&changed, &application("a"), &auth, TOOK, 30 * day + 10);
    assert!(takes(&ends, 1) && takes(&ends, 2));
    let ended = then(&ends, &application("a"), &auth, TOOK, 30 * day + 310);
    assert!(!takes(&ended, 1) && takes(&ended, 2));
    assert_eq!(
        ended.former.as_ref().unwrap().own,
        own(1),
        "kept, to log in to a server that missed the change"
    );
}

#[test]
fn a_secret_that_a_person_emptied_is_told_from_one_that_lost_its_notes() {
    let internal = then(&Internal::first(own(1), at(0)), &application("a"), &Auth::default(), WAITS, 0);
    let data = internal.data();
    assert_eq!(Internal::read(&data, at(9)).unwrap(), internal);
    for key in ["operator-password", "replica-password", "agent-password"] {
        let mut broken = data.clone();
        broken.insert(key.to_owned(), ByteString(Vec::new()));
        assert!(Internal::read(&broken, at(9)).is_err(), "{key}");
        broken.remove(key);
        assert!(Internal::read(&broken, at(9)).is_err(), "{key}");
    }
    for notes in [&b""[..], b"{", b"[]", b"\xff"] {
        let mut broken = data.clone();
        broken.insert("changes.json".to_owned(), ByteString(notes.to_vec()));
        let read = Internal::read(&broken, at(9)).unwrap();
        assert_eq!((&read.own, read.since), (&internal.own, at(9)));
        assert_ne!(read.data(), broken, "it is written again");
    }
}

/// Regression: a Secret that vanished while its password was being changed kept the former one for ever, and the reconciles going.
#[test]
fn a_change_ends_whatever_becomes_of_the_secret_meanwhile() {
    let auth = Auth { grace: 60, ..Auth::default() };
    let first = then(&Internal::first(own(1), at(0)), &application("a"), &auth, WAITS, 0);
    let changed = then(&first, &application("b"), &auth, TOOK, 10);
    for meanwhile in [Application::Unknown, Application::Open] {
        let ends = then(&changed, &meanwhile, &auth, TOOK, 20);
        assert_eq!(ends.application.until, Some(at(80)));
        assert!(then(&ends, &meanwhile, &auth, TOOK, 81).application.former.is_empty());
    }
}

/// Servers of earlier versions take the application's password alone, and that of before where a kubelet has not brought the Secret.
#[test]
fn the_last_two_passwords_of_the_application_are_known() {
    let auth = Auth::default();
    let mut internal = Internal::first(own(1), at(0));
    for text in ["a", "b", "c"] {
        internal = then(&internal, &application(text), &auth, WAITS, 0);
    }
    assert_eq!(internal.application_passwords, [password("c"), password("b")]);
    assert_eq!(then(&internal, &Application::Unknown, &auth, TOOK, 1).application_passwords.len(), 2);
    assert_eq!(Internal::read(&internal.data(), at(9)).unwrap(), internal);
}

#[test]
fn who_is_locked_out_is_locked_out_of_servers_that_start_at_once() {
    let off = Rules { rules: vec!["+@all".into()], off: true };
    let wanted = Wanted {
        application: application("a"),
        application_rules: Some(off.clone()),
        users: [("app".to_owned(), (application("p"), off))].into(),
    };
    let next = follows(&Internal::first(own(1), at(0)), &wanted, &Auth::default(), &Took::default(), 0);
    for user in &next.users()[3..] {
        assert!(user.is_off() && !user.line().contains(" on "), "{}", user.line());
    }
}

/// A server does not start with a line that it refuses, so rules reach the Secret once every server has taken them. Passwords at once.
#[test]
fn users_of_the_spec_are_in_the_secret_once_every_server_has_taken_their_rules() {
    let rules = |rules: &[&str]| Rules { rules: rules.iter().map(|r| (*r).to_owned()).collect(), off: false };
    let (reads, writes) = (rules(&["+@read", "~a:*"]), rules(&["+@all", "~a:*"]));
    let wanted = |of_users: &[(&str, &str, &Rules)]| Wanted {
        application: application("a"),
        application_rules: Some(writes.clone()),
        users: of_users
            .iter()
            .map(|(name, p, r)| ((*name).to_owned(), (application(p), (*r).clone())))
            .collect(),
    };
    let took = |of: &[(&str, &Rules)]| Took {
        all: true,
        rules: of.iter().map(|(name, rules)| ((*name).to_owned(), (*rules).clone())).collect(),
    };
    let auth = Auth { grace: 60, ..Auth::default() };
    let lines = |internal: &Internal| internal.users()[3..].iter().map(User::line).collect::<Vec<_>>();
    let first = Internal::first(own(1), at(0));
    let (a, p, q) = (sha256(b"a"), sha256(b"p"), sha256(b"q"));
    let asked = follows(&first, &wanted(&[("app", "p", &reads)]), &auth, &Took::default(), 0);
    assert_eq!(
        lines(&asked),
        [
            format!("user default reset #{a} on resetchannels ~* &* +@all\n"),
            format!("user app reset #{p} on resetchannels\n")
        ]
    );
    let taken = follows(
        &asked,
        &wanted(&[("app", "p", &reads)]),
        &auth,
        &took(&[("app", &reads), ("default", &writes)]),
        1,
    );
    assert_eq!(
        lines(&taken),
        [
            format!("user default reset #{a} on resetchannels +@all ~a:*\n"),
            format!("user app reset #{p} on resetchannels +@read ~a:*\n")
        ]
    );
    // Another password at once, other rules not yet.
    let changed = follows(&taken, &wanted(&[("app", "q", &writes)]), &auth, &took(&[("app", &reads)]), 2);
    assert_eq!(lines(&changed)[1], format!("user app reset #{q} #{p} on resetchannels +@read ~a:*\n"));
    // A user that is taken from the spec is remembered until no server has it.
    let gone = follows(&changed, &wanted(&[]), &auth, &Took::default(), 3);
    assert_eq!((gone.users.len(), gone.removed.len()), (0, 1));
    assert_eq!(follows(&gone, &wanted(&[]), &auth, &Took::default(), 4), gone);
    // Kubelets bring the Secret into pods within two minutes, and one that restarts meanwhile has the user again.
    assert_eq!(follows(&gone, &wanted(&[]), &auth, &took(&[]), 5).removed.len(), 1);
    assert!(follows(&gone, &wanted(&[]), &auth, &took(&[]), 303).removed.is_empty());
    let back = follows(&gone, &wanted(&[("app", "p", &reads)]), &auth, &Took::default(), 5);
    assert!(back.removed.is_empty() && back.users.len() == 1);
    assert_eq!(Internal::read(&changed.data(), at(9)).unwrap(), changed);
}

/// The pattern of the CRD and the check of the plan are one.
#[test]
fn rules_are_rules_and_never_passwords() {
    let pattern = regex::Regex::new(RULE_PATTERN).unwrap();
    for (rule, expected) in [
        ("+@read", true),
        ("-@dangerous", true),
        ("+config|get", true),
        ("~*", true),
        ("~a b", false),
        ("~\"'\\*", true),
        ("%R~a", true),
        ("%RW~a", true),
        ("%X~a", false),
        ("&news", true),
        ("allkeys", true),
        ("resetchannels", true),
        ("(+@read ~a)", true),
        ("(+@read\n~a)", false),
        (">password", false),
        ("<password", false),
        ("#0123", false),
        ("!0123", false),
        ("nopass", false),
        ("resetpass", false),
        ("reset", false),
        ("on", false),
        ("off", false),
        ("", false),
        ("+", false),
        ("~", false),
        ("+get nopass", false),
        ("+get\nuser", false),
        ("~a\u{0}", false),
        ("~ä", false),
    ] {
        assert_eq!(is_rule(rule), expected, "{rule:?}");
        assert_eq!(pattern.is_match(rule), expected, "{rule:?}");
    }
}

proptest! {
    #[test]
    fn a_rule_is_one_to_both(rule in "[ -~]{0,20}") {
        let pattern = regex::Regex::new(RULE_PATTERN).unwrap();
        prop_assert_eq!(is_rule(&rule), pattern.is_match(&rule));
    }

    /// Whatever becomes of the Secret and the servers, the password in it is taken, and one that any server may still know alone is too.
    #[test]
    fn what_a_server_takes_is_never_too_little(
        steps in prop::collection::vec((0..5_usize, any::<bool>(), 0..400_i64), 1..40),
    ) {
        let auth = Auth { grace: 60, internal_rotation_days: Some(1), ..Auth::default() };
        let mut internal = Internal::first(own(1), at(0));
        let (mut second, mut asked) = (0, None);
        for (which, all_took, wait) in steps {
            second += wait;
            let wanted = match which {
                0 => Application::Unknown,
                n => application(&format!("p{n}")),
            };
            let before = internal.clone();
            internal = then(&internal, &wanted, &auth, all_took, second);
            if let Application::Password(_) = &wanted {
                asked = Some(wanted.clone());
            }
            if let Some(Application::Password(password)) = &asked {
                let hash = sha256(password.as_bytes());
                prop_assert!(internal.application_user().line().contains(&hash));
            }
            // What was current before the last step is current, or taken beside it.
            if let Some(former) = &before.application.current {
                prop_assert!(internal.application_user().line().contains(former));
            }
            prop_assert!(internal.own_users()[1].line().contains(&sha256(before.own.replica.as_bytes())));
            prop_assert_eq!(Internal::read(&internal.data(), at(second)).unwrap(), internal.clone());
        }
    }
}
