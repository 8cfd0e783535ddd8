//! Kubernetes Events: on transitions of the status, and only then. The catalogue is in `docs/use/events.md`.
//!
//! Pure; `reconcile::publish` sends them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use strum::{IntoStaticStr, VariantArray};

use crate::{
    api::{ConditionStatus, ConditionType, Reason, RedisReplicaSetStatus},
    live_config::Repaired,
};

/// Reasons of Events that tell of something that happened. The others repeat a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum EventReason {
    /// The condition Ready became True.
    Ready,
    /// The condition Ready is no longer True.
    NotReady,
    /// Another pod is the primary of record.
    PrimaryChanged,
    /// A server has data that the primary does not have, and loses it by following.
    DataDiverged,
    /// A directive that was changed on a running server was set back.
    ConfigDrift,
    /// A user that was changed on a running server was set back.
    UserDrift,
    /// A planned switchover ended without a change.
    SwitchoverFailed,
    /// A set was begun again over data of before.
    DataAdopted,
    /// The role was handed over, and not by the operator, which goes on with who serves.
    FailoverAdopted,
}

/// What a person is to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Something is wrong.
    pub warning: bool,
    /// One word: an [`EventReason`], or the reason of the condition that it repeats.
    pub reason: String,
    /// What the operator was about.
    pub action: &'static str,
    /// What happened.
    pub note: String,
}

impl Notice {
    fn normal(reason: EventReason, action: &'static str, note: impl Into<String>) -> Self {
        Self { warning: false, ..Self::warning(reason, action, note) }
    }

    fn warning(reason: EventReason, action: &'static str, note: impl Into<String>) -> Self {
        let reason: &str = reason.into();
        Self { warning: true, reason: reason.to_owned(), action, note: note.into() }
    }
}

/// What happened between two statuses of a set.
pub fn transitions(before: Option<&RedisReplicaSetStatus>, after: &RedisReplicaSetStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let was_ready = before.is_some_and(RedisReplicaSetStatus::is_ready);
    if let Some(ready) = after.condition(ConditionType::Ready) {
        if after.is_ready() && !was_ready {
            notices.push(Notice::normal(EventReason::Ready, "Verify", &*ready.message));
        } else if !after.is_ready() && was_ready {
            let note = format!("{}: {}", ready.reason, ready.message);
            notices.push(Notice::warning(EventReason::NotReady, "Verify", note));
        }
    }
    let old_epoch = before.and_then(|s| s.primary.as_ref()).map(|p| p.epoch);
    // The first primary is part of becoming Ready; a later one is news.
    if let (Some(old_epoch), Some(primary)) = (old_epoch, &after.primary)
        && primary.epoch > old_epoch
    {
        let note = format!("{} is the primary from epoch {} on", primary.pod, primary.epoch);
        notices.push(Notice::normal(EventReason::PrimaryChanged, "Promote", note));
    }
    let known = before.map_or(&[][..], |s| &s.divergences);
    for lost in after.divergences.iter().filter(|lost| !known.contains(lost)) {
        let note = format!(
            "{} has {} bytes of history {} that the primary of epoch {} does not have; they are lost as it follows that \
             primary",
            lost.pod, lost.bytes, lost.replid, lost.epoch
        );
        notices.push(Notice::warning(EventReason::DataDiverged, "Follow", note));
    }
    notices.extend(conditions_to_repeat(before, after));
    // An invalid spec makes both conditions speak of the same thing.
    notices.dedup_by(|a, b| a.reason == b.reason);
    notices
}

/// Whether a condition is one that a person must act on.
type Matters = fn(&Condition) -> bool;

/// Conditions that a person must act on, where they turned or speak of something else than before.
fn conditions_to_repeat(
    before: Option<&RedisReplicaSetStatus>,
    after: &RedisReplicaSetStatus,
) -> Vec<Notice> {
    let is_tight = |c: &Condition| c.reason == Reason::MemoryTight.as_str();
    let is_degraded = |c: &Condition| c.status == ConditionStatus::True.as_str();
    let is_invalid = |c: &Condition| c.status == ConditionStatus::False.as_str();
    // The first is a warning beside a spec that can be carried out.
    let repeated: [(ConditionType, Matters); 3] = [
        (ConditionType::SpecValid, is_tight),
        (ConditionType::Degraded, is_degraded),
        (ConditionType::SpecValid, is_invalid),
    ];
    let news = |(type_, matters): (ConditionType, Matters)| {
        let now = after.condition(type_).filter(|now| matters(now))?;
        let was = before.and_then(|status| status.condition(type_)).filter(|was| matters(was));
        was.is_none_or(|was| was.reason != now.reason).then(|| Notice {
            warning: true,
            reason: now.reason.clone(),
            action: type_.as_str(),
            note: now.message.clone(),
        })
    };
    repeated.into_iter().filter_map(news).collect()
}

/// A directive that somebody changed on a running server, and that was set back. No transition of the status goes with
/// it: what it tells of is over.
pub fn repaired(repaired: &Repaired) -> Notice {
    let Repaired { pod, name, readings: (found, left) } = repaired;
    let note = format!(
        "{name} had been changed on {pod} to {found:?} and was set back to {left:?}; to change it for good, change \
         spec.config"
    );
    Notice::warning(EventReason::ConfigDrift, "Repair", note)
}

/// A user that somebody changed on a running server, and that was set back.
pub fn user_repaired(pod: &str, user: &str) -> Notice {
    let note = format!(
        "the user {user} had been changed on {pod} and was set back; applications log in with the password in their Secret, and \
         other users can be added beside the operator's"
    );
    Notice::warning(EventReason::UserDrift, "Repair", note)
}

/// A planned switchover ended without a change.
pub fn switchover_failed(note: impl Into<String>) -> Notice {
    Notice::warning(EventReason::SwitchoverFailed, "Switchover", note)
}

/// The set was begun again over data of before, and the newest of it serves.
pub fn data_adopted(note: impl Into<String>) -> Notice {
    Notice::normal(EventReason::DataAdopted, "Adopt", note)
}

/// Somebody else than the operator handed the role over, and it goes on with who serves.
pub fn failover_adopted(note: impl Into<String>) -> Notice {
    Notice::normal(EventReason::FailoverAdopted, "Adopt", note)
}
