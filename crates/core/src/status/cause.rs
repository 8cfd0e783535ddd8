//! What needs a person, the cause before its symptoms: the first of them stands in Degraded, and in READY.
//!
//! A member that gives no usable answer may do so because its password was changed, its clients are too many or its pod cannot
//! start. Those are named before the member's silence. Why nobody is elected stands behind the cause.

use super::{
    finding::{Finding, in_state, is_bootstrapping, not_probed},
    outcome::{Failure, Outcome},
    refused,
};
use crate::{
    api::{
        Reason,
        status::{InstanceState, InstanceStatus},
    },
    subject::Subject,
};

/// Causes by which the primary refuses writes.
const REFUSALS: [Reason; 4] =
    [Reason::SavingFails, Reason::AppendingFails, Reason::MemoryFull, Reason::ClientsPaused];

/// Holds that tell of a member that gives no usable answer, and not why.
const SYMPTOMS: [Reason; 2] = [Reason::MemberUnreachable, Reason::MemberLoading];

/// The first cause, if there is one.
pub(super) fn first_cause(
    subject: &Subject,
    outcome: &Outcome,
    instances: &[InstanceStatus],
    available: &Finding,
) -> Option<Finding> {
    // The spec has a condition of its own, and what looks, elects and tells goes on without it.
    let failure = outcome.failure().filter(|failure| failure.reason != Reason::InvalidSpec);
    let unseen = failure.filter(|_| outcome.look.is_none());
    let refused = REFUSALS.contains(&available.reason);
    let held = outcome.hold.as_ref().filter(|_| !is_bootstrapping(outcome));
    let cause = None
        .or_else(|| outcome.password_missing.then(|| password_missing(subject)))
        .or_else(|| unseen.map(failed))
        .or_else(|| password_refused(subject, outcome, instances))
        .or_else(|| hold(outcome, false))
        .or_else(|| client_limit(outcome, instances))
        .or_else(|| refused.then(|| Finding::yes(available.reason, &*available.message)))
        .or_else(|| refused::cause(outcome))
        .or_else(|| pods_stuck(outcome));
    match (cause, held) {
        // Both are true, and each has its remedy.
        (Some(cause), Some(held)) if cause.reason != held.reason => {
            Some(Finding { message: format!("{}; {}", cause.message, held.message), ..cause })
        }
        // While no primary is on record, the one that serves is no intruder: what the decision waits for comes first.
        (cause, _) => cause
            .or_else(|| hold(outcome, true))
            .or_else(|| unexpected(instances))
            .or_else(|| failure.map(failed)),
    }
}

/// Whether something needs a person's eyes.
pub(super) fn degraded(
    subject: &Subject,
    outcome: &Outcome,
    instances: &[InstanceStatus],
    available: &Finding,
) -> Finding {
    if let Some(cause) = first_cause(subject, outcome, instances, available) {
        return cause;
    }
    match outcome.failure() {
        Some(failure) => failed(failure),
        None if outcome.look.is_none() => not_probed(outcome),
        None => Finding::no(Reason::AsExpected, "nothing needs a person"),
    }
}

fn failed(failure: &Failure) -> Finding {
    Finding::yes(failure.reason, &*failure.message)
}

fn password_missing(subject: &Subject) -> Finding {
    let secret = subject.password_secret();
    Finding::yes(
        Reason::SecretMissing,
        format!(
            "Secret {secret} or its key password is gone, or empty. The servers take what they took before, and the operator does \
             not need it. Create it again for the applications; with another password, the operator brings that to the servers"
        ),
    )
}

/// Servers that refuse the operator's users: those that it cannot ask for that, and those that it asks over a connection of before.
fn password_refused(subject: &Subject, outcome: &Outcome, instances: &[InstanceStatus]) -> Option<Finding> {
    let unseen = in_state(instances, &[InstanceState::AuthFailed]);
    let seen = outcome.look.iter().flat_map(|look| &look.observed.pods);
    let seen = seen.filter(|pod| pod.answer.as_ref().is_ok_and(|answer| answer.refuses_password));
    let mut pods: Vec<&str> = unseen.iter().copied().chain(seen.map(|pod| pod.name.as_str())).collect();
    pods.sort_unstable();
    let first = pods.first()?;
    let namespace = &subject.set.namespace;
    let now = if unseen.is_empty() {
        "The operator goes on over the connections that it has; replicas that come now are refused"
    } else {
        "So the operator cannot ask it"
    };
    Some(Finding::yes(
        Reason::PasswordRefused,
        format!(
            "{} takes no password that the operator knows: somebody changed its users by hand. {now}. Delete its pod, and it \
             starts with the users in Secret {}: kubectl -n {namespace} delete pod {first}",
            pods.join(", "),
            subject.set.internal_secret()
        ),
    ))
}

/// Servers at their client limit: those that the operator still sees over its held connection, and those that it cannot.
fn client_limit(outcome: &Outcome, instances: &[InstanceStatus]) -> Option<Finding> {
    let seen = outcome.look.iter().flat_map(|look| &look.observed.pods);
    let mut full: Vec<String> = seen
        .filter_map(|pod| {
            let info = &pod.answer.as_ref().ok()?.info;
            let clients = info.clients.filter(|_| info.is_full())?;
            Some(format!("{} (maxclients {})", pod.name, clients.max))
        })
        .collect();
    let unseen = in_state(instances, &[InstanceState::ClientLimit]);
    full.extend(unseen.iter().map(|pod| format!("{pod} (it does not answer the operator either)")));
    full.sort();
    (!full.is_empty()).then(|| {
        Finding::yes(
            Reason::MaxClientsReached,
            format!(
                "max number of clients reached: {} takes no new clients, and no replica that lost its link. End some \
                 clients (redis-cli CLIENT LIST says whose they are), or raise maxclients in spec.config",
                full.join(", ")
            ),
        )
    })
}

/// Why nothing can be done safely. The first member of a new set is waited for without a word.
fn hold(outcome: &Outcome, symptoms: bool) -> Option<Finding> {
    let hold = outcome.hold.as_ref().filter(|_| !is_bootstrapping(outcome))?;
    if SYMPTOMS.contains(&hold.reason) != symptoms {
        return None;
    }
    // What a consent needs; where a primary is named, its epoch stands beside it.
    let epoch = outcome.record.as_ref().filter(|r| r.primary.is_none()).map(|r| r.epoch);
    let hint = epoch.filter(|_| hold.reason == Reason::HistoriesDiffer);
    let hint = hint.map(|epoch| format!("; the epoch is {epoch}")).unwrap_or_default();
    Some(Finding::yes(hold.reason, format!("{}{hint}", hold.message)))
}

fn pods_stuck(outcome: &Outcome) -> Option<Finding> {
    let mut pods: Vec<_> = outcome.look.iter().flat_map(|look| &look.observed.pods).collect();
    pods.sort_by_key(|pod| pod.ordinal);
    let stuck: Vec<String> =
        pods.iter().filter_map(|p| p.stuck.as_ref().map(|why| format!("{}: {why}", p.name))).collect();
    (!stuck.is_empty()).then(|| Finding::yes(Reason::PodStuck, stuck.join("; ")))
}

fn unexpected(instances: &[InstanceStatus]) -> Option<Finding> {
    let wrong = in_state(instances, &[InstanceState::UnexpectedPrimary, InstanceState::Foreign]);
    let words: Vec<String> = instances
        .iter()
        .filter(|i| wrong.contains(&i.pod.as_str()))
        .map(|i| format!("{} {:?}: {}", i.pod, i.state, i.message.as_deref().unwrap_or_default()))
        .collect();
    (!words.is_empty()).then(|| Finding::yes(Reason::UnexpectedServer, words.join("; ")))
}
