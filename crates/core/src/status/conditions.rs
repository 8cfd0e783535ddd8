//! `status.conditions`: seven, always all present, each `True`, `False` or `Unknown` with a documented reason
//! (`docs/use/status.md`).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        ConditionStatus, ConditionType, Reason,
        status::{InstanceState, InstanceStatus, Primary},
    },
    live_config::{Refused, Report},
    plan::memory,
    rollout::next_pod::Roll,
    status::{
        available::available,
        cause::degraded,
        credentials::credentials_current,
        finding::{Finding, is_bootstrapping, is_silent, not_probed},
        outcome::Outcome,
        refused, wanted,
    },
    subject::Subject,
    volumes::Growth,
};

/// The longest message that the Kubernetes API accepts in a condition is 32768; a column wants far less.
const MAX_MESSAGE: usize = 1024;

/// A server refuses a directive; looked for again in the status before.
const REFUSED: Reason = Reason::DirectiveRefused;

/// All conditions, in the order in which `kubectl describe` shows them.
pub fn conditions(
    before: &[Condition],
    (subject, outcome): (&Subject, &Outcome),
    instances: &[InstanceStatus],
    primary: Option<&Primary>,
    now: Timestamp,
) -> Vec<Condition> {
    let spec_valid = spec_valid(before, subject, outcome);
    let available = available(outcome, instances, primary);
    let mut replicated = replicated(subject, outcome, instances, &available);
    let progressing = refused::progressing(progressing(subject, outcome, &available, &replicated), outcome);
    let degraded = degraded(subject, outcome, instances, &available);
    let ready = ready(outcome, &[&spec_valid, &degraded, &available, &replicated], &progressing);
    // Not in Ready's message: it is no news.
    if let Some(limits) = limits(subject).filter(|_| replicated.status == ConditionStatus::True) {
        replicated.message = format!("{}; {limits}", replicated.message);
    }
    [
        (ConditionType::Ready, ready),
        (ConditionType::Available, available),
        (ConditionType::Replicated, replicated),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
        (ConditionType::CredentialsCurrent, credentials_current(subject, outcome)),
        (ConditionType::SpecValid, spec_valid),
    ]
    .into_iter()
    .map(|(type_, finding)| condition(before, type_, &finding, subject.generation, now))
    .collect()
}

/// Failures that only an edit ends.
const OF_SPEC: [Reason; 4] =
    [Reason::InvalidSpec, Reason::ImmutableFieldChanged, Reason::NameTaken, Reason::Unreadable];

/// Whether the spec can be carried out.
fn spec_valid(before: &[Condition], subject: &Subject, outcome: &Outcome) -> Finding {
    if let Some(failure) = outcome.failures.iter().find(|failure| OF_SPEC.contains(&failure.reason)) {
        return Finding::no(failure.reason, &*failure.message);
    }
    let Some(plan) = &outcome.plan else {
        return Finding::unknown(
            Reason::NotChecked,
            "the operator did not read the spec in the last reconcile",
        );
    };
    if let Some(refusal) = refusal(before, subject, outcome) {
        return Finding::no(REFUSED, refusal);
    }
    if let Some(growth) = outcome.growth.as_ref().filter(|growth| !growth.refused.is_empty()) {
        return Finding::no(
            Reason::VolumeGrowthRefused,
            format!(
                "spec.storage.size: the API server does not let these volumes grow to {}: {}. Let their StorageClass \
                 allow it (allowVolumeExpansion: true), or set spec.storage.size back; everything else goes on",
                growth.size,
                growth.refused.join(", ")
            ),
        );
    }
    match memory::tight(plan) {
        Some(warning) => Finding::yes(Reason::MemoryTight, warning),
        None => Finding::yes(Reason::Valid, "every field can be carried out"),
    }
}

/// Directives that a server refused. A reconcile in which none could be told knows what was said to the same spec before.
fn refusal(before: &[Condition], subject: &Subject, outcome: &Outcome) -> Option<String> {
    let is_same =
        |c: &&Condition| c.reason == REFUSED.as_str() && c.observed_generation == subject.generation;
    match &outcome.config {
        Some(Report { refused, .. }) if refused.is_empty() => None,
        Some(Report { refused, .. }) => {
            let words =
                |r: &Refused| format!("spec.config.{}: {} refuses the value: {}", r.name, r.pod, r.words);
            let all: Vec<String> = refused.iter().map(words).collect();
            Some(format!(
                "{}. Correct or remove it; until then the servers keep what they have, and everything else is carried \
                 out",
                all.join("; ")
            ))
        }
        None => before.iter().find(is_same).map(|c| c.message.clone()),
    }
}

/// What the copies that are there cannot promise.
fn limits(subject: &Subject) -> Option<&'static str> {
    match (subject.has_volumes, subject.wanted) {
        (false, 1) => Some(
            "it lives in the pod only and is lost with it: by an eviction, a drain, the loss of the node, a deletion",
        ),
        (false, _) => Some(
            "the data lives in the pods only: a pod that is replaced takes it from another one, and it is lost when \
             no pod is left to take it from",
        ),
        (true, 1) => Some(
            "nobody can take over: while its pod is away nobody serves, and after a crash what was not saved to the \
             volume is lost",
        ),
        (true, _) => None,
    }
}

/// Whether every wanted replica is verified.
fn replicated(
    subject: &Subject,
    outcome: &Outcome,
    instances: &[InstanceStatus],
    available: &Finding,
) -> Finding {
    if outcome.look.is_none() {
        return not_probed(outcome);
    }
    let pods = wanted(subject, outcome);
    let wanted = usize::try_from(pods - 1).unwrap_or(0);
    let is_wanted = |i: &&InstanceStatus| subject.set.ordinal(&i.pod).is_some_and(|o| o < pods);
    let synced = instances.iter().filter(is_wanted).filter(|i| i.state == InstanceState::InSync).count();
    let astray: Vec<String> = instances
        .iter()
        .filter(|i| !matches!(i.state, InstanceState::InSync | InstanceState::Primary))
        .map(|i| {
            format!(
                "{} {:?}{}",
                i.pod,
                i.state,
                i.message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default()
            )
        })
        .collect();
    let surplus: Vec<String> = instances
        .iter()
        .filter(|i| !is_wanted(i))
        .map(|i| format!("{} is not wanted any more", i.pod))
        .collect();
    if astray.is_empty() && surplus.is_empty() && synced == wanted && available.is(ConditionStatus::True) {
        return if wanted == 0 {
            Finding::yes(Reason::SingleServer, "no replica is wanted: the data has one copy")
        } else {
            Finding::yes(Reason::AllInSync, format!("{synced} of {wanted} replicas verified in sync"))
        };
    }
    let count = format!("{synced} of {wanted} replicas verified in sync");
    let rest = [astray.as_slice(), surplus.as_slice()].concat().join(", ");
    let message = if rest.is_empty() { count } else { format!("{count}; {rest}") };
    let all_astray_silent = instances
        .iter()
        .filter(|i| !matches!(i.state, InstanceState::InSync | InstanceState::Primary))
        .all(|i| is_silent(i.state));
    if !astray.is_empty() && all_astray_silent {
        Finding::unknown(Reason::ReplicasUnreachable, message)
    } else {
        Finding::no(Reason::ReplicasNotInSync, message)
    }
}

/// Whether the operator is on its way to the wanted state.
fn progressing(subject: &Subject, outcome: &Outcome, available: &Finding, replicated: &Finding) -> Finding {
    let settled = available.is(ConditionStatus::True) && replicated.is(ConditionStatus::True);
    if let Some(finalizers) = &subject.finalizers {
        return Finding::yes(
            Reason::Deleting,
            format!(
                "the set is being deleted, and stays until these finalizers are gone: {}. Until then its servers are \
                 looked after; its objects are left to Kubernetes",
                finalizers.join(", ")
            ),
        );
    }
    match (&outcome.roll, &outcome.size) {
        _ if outcome.failed_with(Reason::Unreadable) => Finding::no(
            Reason::ReconcileFailed,
            "the set cannot be read, so the operator watches its servers and changes nothing",
        ),
        _ if subject.paused => {
            Finding::no(Reason::Paused, "spec.paused is set: the operator watches and changes nothing")
        }
        _ if outcome.failed_with(Reason::InvalidSpec) => Finding::no(
            Reason::InvalidSpec,
            "the spec cannot be carried out; the operator looks after what runs, and changes nothing else",
        ),
        _ if !outcome.failures.is_empty() => {
            Finding::no(Reason::ReconcileFailed, "the last reconcile ended early; the operator tries again")
        }
        (Some(Roll::Replace { pod, why, .. }), _) => {
            Finding::yes(Reason::RollingOut, format!("replacing {pod}: {why}"))
        }
        _ if outcome.record.as_ref().is_some_and(|record| record.switch_to.is_some()) => {
            Finding::yes(Reason::SwitchingOver, "the primary hands its role over")
        }
        (Some(Roll::Wait(what)), _) => Finding::yes(Reason::RollingOut, &**what),
        (Some(Roll::MovePrimary { .. }), _) => Finding::yes(
            Reason::RollingOut,
            outcome
                .switchover_pending
                .as_deref()
                .unwrap_or("only the primary's pod is left; the primary moves first"),
        ),
        (Some(Roll::Unknown), _) => {
            Finding::yes(Reason::Applying, "the StatefulSet controller takes up the latest change")
        }
        (_, Some(size)) if size.blocked.is_some() => {
            Finding::no(Reason::ScaleDownHeld, size.blocked.clone().unwrap_or_default())
        }
        _ if outcome.switchover_pending.is_some() => {
            Finding::yes(Reason::SwitchoverPending, outcome.switchover_pending.as_deref().unwrap_or_default())
        }
        _ if outcome.hold.is_some() && !is_bootstrapping(outcome) => {
            Finding::no(Reason::Held, outcome.hold.as_ref().map(|h| h.message.clone()).unwrap_or_default())
        }
        _ if is_bootstrapping(outcome) => Finding::yes(Reason::Bootstrapping, "starting the first member"),
        _ if !settled => Finding::yes(Reason::Converging, "waiting for all replicas to be in sync"),
        _ => match outcome.growth.as_ref().filter(|growth| !growth.running.is_empty()) {
            Some(Growth { size, running, .. }) => Finding::yes(
                Reason::VolumesGrowing,
                format!("volumes grow to {size}: {}", running.join(", ")),
            ),
            None => Finding::no(Reason::UpToDate, "nothing is left to do"),
        },
    }
}

/// The summary: what keeps the set from being what the spec wants, most important first.
fn ready(outcome: &Outcome, causes: &[&Finding; 4], progressing: &Finding) -> Finding {
    let [spec_valid, degraded, available, replicated] = causes;
    // Where writes are taken an edit of the spec comes first; where not, what keeps them from being taken.
    let is_down = degraded.is(ConditionStatus::True)
        && degraded.reason != spec_valid.reason
        && !available.is(ConditionStatus::True);
    if spec_valid.is(ConditionStatus::False) && !is_down {
        return Finding::no(spec_valid.reason, &*spec_valid.message);
    }
    if degraded.is(ConditionStatus::True) {
        // Where the servers could not be asked, nothing is known to be wrong with them.
        return if available.is(ConditionStatus::Unknown) {
            Finding::unknown(degraded.reason, &*degraded.message)
        } else {
            Finding::no(degraded.reason, &*degraded.message)
        };
    }
    for cause in [available, replicated] {
        match cause.status {
            ConditionStatus::True => {}
            // While something is under way, its reason says more than the symptom.
            ConditionStatus::False
                if progressing.is(ConditionStatus::True) && progressing.reason != Reason::Converging =>
            {
                return Finding::no(
                    progressing.reason,
                    format!("{}; {}", progressing.message, cause.message),
                );
            }
            ConditionStatus::False => return Finding::no(cause.reason, &*cause.message),
            ConditionStatus::Unknown => return Finding::unknown(cause.reason, &*cause.message),
        }
    }
    if [Reason::RollingOut, Reason::Applying, Reason::ScaleDownHeld, Reason::Deleting]
        .contains(&progressing.reason)
    {
        return Finding::no(progressing.reason, &*progressing.message);
    }
    let primary = outcome.record.as_ref().and_then(|r| r.primary.as_deref()).unwrap_or_default();
    Finding::yes(Reason::Verified, format!("{primary} serves; {}", replicated.message))
}

fn condition(
    before: &[Condition],
    type_: ConditionType,
    finding: &Finding,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let unchanged_since = before
        .iter()
        .find(|old| old.type_ == type_.as_str() && old.status == finding.status.as_str())
        .map(|old| old.last_transition_time.clone());
    Condition {
        type_: type_.as_str().to_owned(),
        status: finding.status.as_str().to_owned(),
        reason: finding.reason.as_str().to_owned(),
        message: shown(&finding.message),
        observed_generation: generation,
        last_transition_time: unchanged_since.unwrap_or(Time(now)),
    }
}

/// A message on one line, and not for ever. What somebody wrote into the resource stands in some of them: it begins no line of its own
/// where the message is printed, writes to nobody's terminal, and turns no text around.
pub(super) fn shown(message: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let message = message.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c });
    if message.clone().count() <= MAX_MESSAGE {
        return message.collect();
    }
    message.take(MAX_MESSAGE - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_not_for_ever() {
        assert_eq!(shown("redis-0: é …"), "redis-0: é …");
        assert_eq!(shown("a\nb\u{1b}[2J\u{202e}\0\u{2028}\u{85}"), "a?b?[2J????");
        let long = shown(&"é".repeat(MAX_MESSAGE + 1));
        assert_eq!((long.chars().count(), long.ends_with('…')), (MAX_MESSAGE, true));
    }
}
