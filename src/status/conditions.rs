//! `status.conditions`: six, always all present, each `True`, `False` or `Unknown` with a documented reason
//! (`docs/status.md`).

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::status::{InstanceState, InstanceStatus, Primary},
    config::{
        live::{Refused, Report},
        memory,
    },
    decide::{HoldReason, roll::Roll},
    plan::Storage,
    status::{
        Learned,
        available::available,
        finding::{Finding, in_state, is_silent, not_asked},
    },
    volumes::Growth,
};

/// The longest message that the Kubernetes API accepts in a condition is 32768; a column wants far less.
const MAX_MESSAGE: usize = 1024;

/// A server refuses a directive; looked for again in the status before.
const REFUSED: &str = "DirectiveRefused";

fn is_unreadable(learned: &Learned<'_>) -> bool {
    learned.failure.is_some_and(|(reason, _)| reason == "Unreadable")
}

/// All conditions, in the order in which `kubectl describe` shows them.
pub fn conditions(
    before: &[Condition],
    learned: &Learned<'_>,
    instances: &[InstanceStatus],
    primary: Option<&Primary>,
    now: Timestamp,
) -> Vec<Condition> {
    let spec_valid = spec_valid(before, learned);
    let available = available(learned, instances, primary);
    let mut replicated = replicated(learned, instances, &available);
    let progressing = progressing(learned, &available, &replicated);
    let degraded = degraded(learned, instances, &available);
    let ready = ready(learned, &[&spec_valid, &degraded, &available, &replicated], &progressing);
    // Not in Ready's message: it is no news.
    if let Some(limits) = limits(learned).filter(|_| replicated.status == "True") {
        replicated.message = format!("{}; {limits}", replicated.message);
    }
    [
        ("Ready", ready),
        ("Available", available),
        ("Replicated", replicated),
        ("Progressing", progressing),
        ("Degraded", degraded),
        ("SpecValid", spec_valid),
    ]
    .into_iter()
    .map(|(type_, finding)| condition(before, type_, finding, learned.generation, now))
    .collect()
}

/// Whether the spec can be carried out.
fn spec_valid(before: &[Condition], learned: &Learned<'_>) -> Finding {
    if let Some((reason @ ("InvalidSpec" | "ImmutableFieldChanged" | "NameTaken" | "Unreadable"), text)) =
        learned.failure
    {
        return Finding::no(reason, text);
    }
    let Some(plan) = learned.plan else {
        return Finding::unknown("NotChecked", "the spec was not read in the last pass");
    };
    if let Some(refusal) = refusal(before, learned) {
        return Finding::no(REFUSED, refusal);
    }
    if let Some(growth) = learned.growth.filter(|growth| !growth.refused.is_empty()) {
        return Finding::no(
            "VolumeGrowthRefused",
            format!(
                "spec.storage.size: the API server does not let these volumes grow to {}: {}. Let their StorageClass \
                 allow it (allowVolumeExpansion: true), or set spec.storage.size back; everything else goes on",
                growth.size,
                growth.refused.join(", ")
            ),
        );
    }
    match memory::tight(plan) {
        Some(warning) => Finding::yes("MemoryTight", warning),
        None => Finding::yes("Valid", "every field can be carried out"),
    }
}

/// Directives that a server refused. A pass in which none could be told knows what was said to the same spec before.
fn refusal(before: &[Condition], learned: &Learned<'_>) -> Option<String> {
    let is_same = |c: &&Condition| c.reason == REFUSED && c.observed_generation == learned.generation;
    match learned.report {
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
fn limits(learned: &Learned<'_>) -> Option<&'static str> {
    let plan = learned.plan?;
    match (&plan.storage, plan.replicas) {
        (Storage::Ephemeral, 1) => Some(
            "it lives in the pod only and is lost with it: by an eviction, a drain, the loss of the node, a deletion",
        ),
        (Storage::Ephemeral, _) => Some(
            "the data lives in the pods only: a pod that is replaced takes it from another one, and it is lost when \
             no pod is left to take it from",
        ),
        (Storage::Volume { .. }, 1) => Some(
            "nobody can take over: while its pod is away nobody serves, and after a crash what was not saved to the \
             volume is lost",
        ),
        (Storage::Volume { .. }, _) => None,
    }
}

/// Whether every wanted replica is verified.
fn replicated(learned: &Learned<'_>, instances: &[InstanceStatus], available: &Finding) -> Finding {
    if learned.look.is_none() {
        return not_asked(learned);
    }
    let wanted = usize::try_from(learned.wanted - 1).unwrap_or(0);
    let is_wanted = |i: &&InstanceStatus| learned.set.ordinal(&i.pod).is_some_and(|o| o < learned.wanted);
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
    if astray.is_empty() && surplus.is_empty() && synced == wanted && available.status == "True" {
        return if wanted == 0 {
            Finding::yes("SingleServer", "no replica is wanted: the data has one copy")
        } else {
            Finding::yes("AllInSync", format!("{synced} of {wanted} replicas verified in sync"))
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
        Finding::unknown("ReplicasSilent", message)
    } else {
        Finding::no("ReplicasNotInSync", message)
    }
}

/// Whether the operator is on its way to the wanted state.
fn progressing(learned: &Learned<'_>, available: &Finding, replicated: &Finding) -> Finding {
    let settled = available.status == "True" && replicated.status == "True";
    if let Some(finalizers) = learned.finalizers {
        return Finding::yes(
            "Deleting",
            format!(
                "the set is being deleted, and stays until these finalizers are gone: {}. Until then its servers are \
                 looked after; its objects are left to Kubernetes",
                finalizers.join(", ")
            ),
        );
    }
    match (learned.plan, learned.roll, learned.size) {
        (Some(plan), _, _) if plan.paused => {
            Finding::no("Paused", "spec.paused is set: the operator watches and changes nothing")
        }
        _ if is_unreadable(learned) => Finding::no(
            "PassFailed",
            "the set cannot be read, so the operator watches its servers and changes nothing",
        ),
        _ if learned.failure.is_some() => {
            Finding::no("PassFailed", "the last pass ended early; it is tried again")
        }
        (_, Some(Roll::Replace { pod, why, .. }), _) => {
            Finding::yes("RollingOut", format!("replacing {pod}: {why}"))
        }
        _ if learned.record.is_some_and(|record| record.switch_to.is_some()) => {
            Finding::yes("SwitchingOver", "the primary hands its role over")
        }
        (_, Some(Roll::Wait(what)), _) => Finding::yes("RollingOut", what),
        (_, Some(Roll::MovePrimary { .. }), _) => Finding::yes(
            "RollingOut",
            learned.move_waits.unwrap_or("only the primary's pod is left; the primary moves first"),
        ),
        (_, Some(Roll::Unknown), _) => {
            Finding::yes("Applying", "the StatefulSet controller takes up the latest change")
        }
        (_, _, Some(size)) if size.blocked.is_some() => {
            Finding::no("ScaleDownHeld", size.blocked.clone().unwrap_or_default())
        }
        _ if learned.move_waits.is_some() => {
            Finding::yes("MoveWaits", learned.move_waits.unwrap_or_default())
        }
        _ if learned.hold.is_some() && !is_bootstrapping(learned) => {
            Finding::no("Held", learned.hold.map(|h| h.message.clone()).unwrap_or_default())
        }
        _ if is_bootstrapping(learned) => Finding::yes("Bootstrapping", "starting the first member"),
        _ if !settled => Finding::yes("Converging", "waiting for the servers to become what is wanted"),
        _ => match learned.growth.filter(|growth| !growth.running.is_empty()) {
            Some(Growth { size, running, .. }) => {
                Finding::yes("VolumesGrowing", format!("volumes grow to {size}: {}", running.join(", ")))
            }
            None => Finding::no("Settled", "nothing is left to do"),
        },
    }
}

/// Whether something needs a person's eyes.
fn degraded(learned: &Learned<'_>, instances: &[InstanceStatus], available: &Finding) -> Finding {
    let wrong = in_state(
        instances,
        &[InstanceState::UnexpectedPrimary, InstanceState::Foreign, InstanceState::AuthFailed],
    );
    let mut pods: Vec<_> = learned.look.iter().flat_map(|look| &look.observed.pods).collect();
    pods.sort_by_key(|pod| pod.ordinal);
    let stuck: Vec<String> =
        pods.iter().filter_map(|p| p.stuck.as_ref().map(|why| format!("{}: {why}", p.name))).collect();
    if learned.password_missing {
        let secret = learned.set.auth_secret();
        Finding::yes(
            "SecretMissing",
            format!(
                "Secret {secret} or its key password is gone, so no server can be asked. Running pods still have it: \
                 kubectl -n {} exec {} -c redis -- cat /etc/redis-operator/auth/password prints it; create the Secret \
                 again with that value",
                learned.set.namespace,
                learned.set.pod(0)
            ),
        )
    } else if let Some((reason, text)) = learned.failure {
        Finding::yes(reason, text)
    } else if let Some(hold) = learned.hold.filter(|_| !is_bootstrapping(learned)) {
        // What a consent needs; where a primary is named, its epoch stands beside it.
        let epoch = learned.record.filter(|r| r.primary.is_none()).map(|r| r.epoch);
        let hint = epoch.filter(|_| hold.reason == HoldReason::HistoriesDiffer);
        let hint = hint.map(|epoch| format!("; the epoch is {epoch}")).unwrap_or_default();
        Finding::yes(hold.reason.as_str(), format!("{}{hint}", hold.message))
    } else if !stuck.is_empty() {
        Finding::yes("PodStuck", stuck.join("; "))
    } else if ["SavingFails", "AppendingFails", "MemoryFull", "ClientsPaused"].contains(&available.reason) {
        Finding::yes(available.reason, &*available.message)
    } else if !wrong.is_empty() {
        let words: Vec<String> = instances
            .iter()
            .filter(|i| wrong.contains(&i.pod.as_str()))
            .map(|i| format!("{} {:?}: {}", i.pod, i.state, i.message.as_deref().unwrap_or_default()))
            .collect();
        Finding::yes("ServerAstray", words.join("; "))
    } else if learned.look.is_none() {
        not_asked(learned)
    } else {
        Finding::no("AsWanted", "nothing needs a person")
    }
}

/// The summary: what keeps the set from being what the spec wants, most important first.
fn ready(learned: &Learned<'_>, causes: &[&Finding; 4], progressing: &Finding) -> Finding {
    let [spec_valid, degraded, available, replicated] = causes;
    if spec_valid.status == "False" {
        return Finding::no(spec_valid.reason, &*spec_valid.message);
    }
    if degraded.status == "True" {
        // Where the servers could not be asked, nothing is known to be wrong with them.
        return if available.status == "Unknown" {
            Finding::unknown(degraded.reason, &*degraded.message)
        } else {
            Finding::no(degraded.reason, &*degraded.message)
        };
    }
    for cause in [available, replicated] {
        match cause.status {
            "True" => {}
            // While something is under way, its reason says more than the symptom.
            "False" if progressing.status == "True" && progressing.reason != "Converging" => {
                return Finding::no(
                    progressing.reason,
                    format!("{}; {}", progressing.message, cause.message),
                );
            }
            "False" => return Finding::no(cause.reason, &*cause.message),
            _ => return Finding::unknown(cause.reason, &*cause.message),
        }
    }
    if ["RollingOut", "Applying", "ScaleDownHeld", "Deleting"].contains(&progressing.reason) {
        return Finding::no(progressing.reason, &*progressing.message);
    }
    let primary = learned.record.and_then(|r| r.primary.as_deref()).unwrap_or_default();
    Finding::yes("Verified", format!("{primary} serves; {}", replicated.message))
}

/// A new set before its first primary. Holds that are not just the first member's start are shown as holds.
fn is_bootstrapping(learned: &Learned<'_>) -> bool {
    learned.record.is_none_or(|r| r.epoch == 0 && r.sure)
        && learned
            .hold
            .is_none_or(|h| matches!(h.reason, HoldReason::MemberSilent | HoldReason::MemberLoading))
}

fn condition(
    before: &[Condition],
    type_: &str,
    finding: Finding,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let unchanged_since = before
        .iter()
        .find(|old| old.type_ == type_ && old.status == finding.status)
        .map(|old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: finding.status.to_owned(),
        reason: finding.reason.to_owned(),
        message: truncate(finding.message),
        observed_generation: generation,
        last_transition_time: unchanged_since.unwrap_or(Time(now)),
    }
}

fn truncate(message: String) -> String {
    if message.chars().count() <= MAX_MESSAGE {
        return message;
    }
    message.chars().take(MAX_MESSAGE - 1).chain(['…']).collect()
}
