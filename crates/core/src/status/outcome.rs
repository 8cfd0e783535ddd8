//! What one reconcile found out and did: each stage adds to it, and only the status, Events and metrics read it.
//!
//! Pure. `None` means: not learned in this reconcile. What was learned before a stage failed, or before the reconcile took too
//! long, is there all the same.

use std::time::Duration;

use crate::{
    api::Reason,
    credentials,
    election::{Hold, divergence::Divergence, snapshot::Snapshot},
    events::Notice,
    live_config::Report,
    plan::Plan,
    refusal::Refused,
    rollout::{next_pod::Roll, size::Size},
    volumes::Growth,
};
use redis_node::{answer::Write, record::Record};

/// A stage that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its documented reason.
    pub reason: Reason,
    /// What happened, to which object, and what to do.
    pub message: String,
}

/// What one reconcile found out and did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The plan, unless the spec cannot be carried out.
    pub plan: Option<Plan>,
    /// The role record at the end.
    pub record: Option<Record>,
    /// The last look.
    pub look: Option<Snapshot>,
    /// What became of a write that was tried on the primary of record.
    pub write: Option<Write>,
    /// What the servers said to the directives that they were told.
    pub config: Option<Report>,
    /// Why nothing can be done safely.
    pub hold: Option<Hold>,
    /// How many pods there shall be now.
    pub size: Option<Size>,
    /// What the roll waits for.
    pub roll: Option<Roll>,
    /// Why the primary, which is to move, cannot yet.
    pub switchover_pending: Option<String>,
    /// Data that servers have and the primary has not, found before they are told to follow it.
    pub diverged: Vec<Divergence>,
    /// How far the volumes are from the wanted size.
    pub growth: Option<Growth>,
    /// Pods that the API server refuses.
    pub refused: Vec<Refused>,
    /// The application's Secret, or its key `password`, is missing or empty.
    pub password_missing: bool,
    /// What became of the users of the servers.
    pub users: Option<credentials::Report>,
    /// What happened, for Events.
    pub notices: Vec<Notice>,
    /// Stages that failed, in order.
    pub failures: Vec<Failure>,
    /// The next reconcile is not to come later than this.
    pub again_in: Option<Duration>,
}

impl Outcome {
    /// A stage failed. Said once, however often it was tried.
    pub fn fail(&mut self, reason: Reason, message: impl Into<String>) {
        let failure = Failure { reason, message: message.into() };
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    /// The next reconcile is not to come later than this.
    pub fn again_in(&mut self, wait: Duration) {
        self.again_in = Some(self.again_in.map_or(wait, |soon| soon.min(wait)));
    }

    /// Whether a stage failed for this reason.
    pub fn failed_with(&self, reason: Reason) -> bool {
        self.failures.iter().any(|failure| failure.reason == reason)
    }

    /// The failure that says why something was not learned: the first one that is not about the spec alone, else the first.
    pub fn failure(&self) -> Option<&Failure> {
        let is_own = |failure: &&Failure| failure.reason != Reason::InvalidSpec;
        self.failures.iter().find(is_own).or(self.failures.first())
    }
}
