//! Whether every server takes the passwords that the Secrets hold.

use jiff::Timestamp;

use super::{
    finding::{Finding, not_probed},
    outcome::Outcome,
};
use redis_node::login::DEFAULT_USER;

use crate::{
    api::Reason,
    credentials::{Missing, Report},
    subject::Subject,
};

/// The condition.
pub(super) fn credentials_current(subject: &Subject, outcome: &Outcome) -> Finding {
    let Some(report) = &outcome.users else {
        return if subject.is_left_alone() && outcome.look.is_some() {
            let words = "the operator changes nothing about the set, so it does not try the passwords";
            Finding::unknown(Reason::NotProbed, words)
        } else {
            not_probed(outcome)
        };
    };
    let secret = subject.password_secret();
    let why = |missing: &Missing| missing.why.clone().unwrap_or_else(|| "it gives no answer".to_owned());
    let missing: Vec<String> = report.missing.iter().map(|m| format!("{}: {}", m.pod, why(m))).collect();
    let missing = missing.join("; ");
    let is_silence = report.missing.iter().all(|missing| missing.why.is_none());
    if report.unknown {
        return Finding::no(
            Reason::SecretMissing,
            format!(
                "Secret {secret} or its key password is gone, or empty; the servers take what they took before"
            ),
        );
    }
    if !report.without_password.is_empty() {
        let users = report.without_password.join(", ");
        return Finding::no(
            Reason::SecretMissing,
            format!(
                "the Secret of spec.users, or its key password, is missing or empty for {users}; nobody else is concerned"
            ),
        );
    }
    if !report.refused.is_empty() {
        let refused = report.refused.join("; ");
        return Finding::no(
            Reason::UserRefused,
            format!("{refused}. Correct spec.users; the user stays as it was"),
        );
    }
    let changes = changes(report, &secret);
    match (changes.is_empty(), missing.is_empty()) {
        (false, true) => Finding::no(Reason::Rotating, changes),
        (false, false) => Finding::no(Reason::Rotating, format!("{changes}; not yet taken by {missing}")),
        (true, false) if is_silence => Finding::unknown(Reason::NotTakenYet, missing),
        (true, false) => Finding::no(Reason::NotTakenYet, missing),
        (true, true) if report.application.open => Finding::yes(
            Reason::AuthDisabled,
            "spec.auth.disabled is set: whoever reaches the port can read, write and delete everything",
        ),
        (true, true) => Finding::yes(
            Reason::AsInSecrets,
            format!("every server took a login with the password in Secret {secret}, and takes no other"),
        ),
    }
}

/// What is being changed, with both ends.
fn changes(report: &Report, secret: &str) -> String {
    let of_user = |(user, since, until): &(String, Option<Timestamp>, Option<Timestamp>)| {
        let what = match user.as_str() {
            DEFAULT_USER => format!("the password in Secret {secret}"),
            user => format!("the password of user {user}"),
        };
        change(&what, *since, *until)
    };
    let own = report.own.map(|(since, until)| change("the operator's own passwords", Some(since), until));
    let all: Vec<String> = report.changing.iter().map(of_user).chain(own).collect();
    all.join("; ")
}

fn change(what: &str, since: Option<Timestamp>, until: Option<Timestamp>) -> String {
    let since = since.map(|since| format!(" at {since:.0}")).unwrap_or_default();
    let until = match until {
        Some(until) => format!("the former ones are taken until {until:.0}"),
        None => "the former ones are taken as well, until every server has taken the new ones".to_owned(),
    };
    format!("{what} changed{since}; {until}")
}
