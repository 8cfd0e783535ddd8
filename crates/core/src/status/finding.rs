//! What one condition says, before it is compared with what it said.

use crate::{
    api::{
        ConditionStatus, Reason,
        status::{InstanceState, InstanceStatus},
    },
    status::outcome::Outcome,
};

/// One condition before it is compared with the one before.
pub(super) struct Finding {
    pub(super) status: ConditionStatus,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn is(&self, status: ConditionStatus) -> bool {
        self.status == status
    }

    pub(super) fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::True, reason, message: message.into() }
    }
    pub(super) fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::False, reason, message: message.into() }
    }
    pub(super) fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self { status: ConditionStatus::Unknown, reason, message: message.into() }
    }
}

pub(super) fn not_probed(outcome: &Outcome) -> Finding {
    match outcome.failure() {
        Some(failure) => Finding::unknown(failure.reason, &*failure.message),
        None => {
            Finding::unknown(Reason::NotProbed, "the operator did not ask the servers in the last reconcile")
        }
    }
}

/// States that say nothing about the server, good or bad.
pub(super) fn is_silent(state: InstanceState) -> bool {
    matches!(
        state,
        InstanceState::Unreachable
            | InstanceState::Busy
            | InstanceState::ClientLimit
            | InstanceState::AuthFailed
    )
}

pub(super) fn in_state<'a>(instances: &'a [InstanceStatus], states: &[InstanceState]) -> Vec<&'a str> {
    instances.iter().filter(|i| states.contains(&i.state)).map(|i| i.pod.as_str()).collect()
}

/// A new set before its first primary. Holds that are not just the first member's start are shown as holds.
pub(super) fn is_bootstrapping(outcome: &Outcome) -> bool {
    outcome.record.as_ref().is_none_or(|r| r.epoch == 0 && r.sure)
        && outcome
            .hold
            .as_ref()
            .is_none_or(|h| matches!(h.reason, Reason::MemberUnreachable | Reason::MemberLoading))
}
