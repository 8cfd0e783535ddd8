//! What one condition says, before it is compared with what it said.

use crate::{
    api::status::{InstanceState, InstanceStatus},
    status::Learned,
};

/// One condition before it is compared with the one before.
pub(super) struct Finding {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "True", reason, message: message.into() }
    }
    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "False", reason, message: message.into() }
    }
    pub(super) fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason, message: message.into() }
    }
}

pub(super) fn not_asked(learned: &Learned<'_>) -> Finding {
    match learned.failure {
        Some((reason, text)) => Finding::unknown(reason, text),
        None => Finding::unknown("NotAsked", "the servers were not asked in the last pass"),
    }
}

/// States that say nothing about the server, good or bad.
pub(super) fn is_silent(state: InstanceState) -> bool {
    matches!(state, InstanceState::Unreachable | InstanceState::Busy | InstanceState::AuthFailed)
}

pub(super) fn in_state<'a>(instances: &'a [InstanceStatus], states: &[InstanceState]) -> Vec<&'a str> {
    instances.iter().filter(|i| states.contains(&i.state)).map(|i| i.pod.as_str()).collect()
}
