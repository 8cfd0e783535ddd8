//! The next step towards a goal: what the rules decide on a look, and what of it may be done now.
//!
//! Pure. Three rules stand here: a role is handed over on request only while nothing else is to be done; no handover
//! follows at once on one that was in vain; data that is given up stands in the status before it is lost.

use std::time::Duration;

use super::{
    Decision, Hold, Reason, decide,
    divergence::{Divergence, divergences, is_published},
    elect,
    snapshot::Snapshot,
    switchover,
};
use crate::{
    api::{failover::Mode, status::DivergenceStatus},
    names::ACCEPT_DATA_LOSS,
};
use redis_node::record::Record;

/// What a reconcile is after, beside a set whose servers are in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal<'a> {
    /// The set is paused: nothing is begun. A switchover that is open keeps writes waiting, so it still ends.
    pub paused: bool,
    /// A pod to hand the role to where nothing else is to be done.
    pub target: Option<&'a str>,
    /// For how long no switchover may begin, because the last one was in vain.
    pub no_switchover_for: Option<Duration>,
    /// What the status says already of data that is given up.
    pub published: &'a [DivergenceStatus],
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Carry the decision out.
    Do(Box<Decision>),
    /// The set is paused: leave it as it is.
    Leave,
    /// A switchover is wanted, and too early.
    SwitchLater {
        /// Pod that is to become the primary.
        target: String,
        /// Time until it may begin.
        wait: Duration,
    },
    /// Servers are to follow the primary that have data which it does not have. That is first to stand in the status; the
    /// next reconcile tells them.
    Publish {
        /// What they lose.
        losses: Vec<Divergence>,
        /// Pods that lose nothing, or nothing new: point them at the primary of record.
        follow: Vec<String>,
    },
}

/// The next step. `first` is the first look of an election of which `look` is the second.
pub fn next(record: &Record, first: Option<&Snapshot>, look: &Snapshot, goal: &Goal<'_>) -> Step {
    let decision = match first {
        Some(first) => elect(record, first, look),
        None => decide(record, look),
    };
    towards(goal, decision, record, look)
}

/// What of a decision is to be done now.
pub fn towards(goal: &Goal<'_>, decision: Decision, record: &Record, look: &Snapshot) -> Step {
    let ends = record.switch_to.is_some() && ends_switchover(&decision) || lets_go(&decision, record);
    if goal.paused && !ends {
        return Step::Leave;
    }
    let decision = match (decision, goal.target) {
        (Decision::Rest, Some(target)) => hand_over(target, record, look),
        (decision, _) => decision,
    };
    match (by_hand(decision, record, look), goal.no_switchover_for) {
        (Decision::Switch { target, .. }, Some(wait)) => Step::SwitchLater { target, wait },
        (Decision::Follow(pods), _) => follow(pods, goal.published, record, look),
        (decision, _) => Step::Do(Box::new(decision)),
    }
}

/// Whether this takes a demand back that would stop writes where nobody looks after it.
fn lets_go(decision: &Decision, record: &Record) -> bool {
    match decision {
        Decision::Note(next) => record.armed.is_some() && next.armed.is_none(),
        Decision::Demand { .. } => true,
        _ => false,
    }
}

/// In mode Manual nobody takes over before a person names the pod. A new set has nothing to lose.
fn by_hand(decision: Decision, record: &Record, look: &Snapshot) -> Decision {
    match decision {
        Decision::Promote { pod, .. }
            if look.failover.mode == Mode::Manual && record.epoch > 0 && !look.consents_to(&pod, record) =>
        {
            Decision::Hold(Hold {
                reason: Reason::ManualFailover,
                message: format!(
                    "no server takes writes, and spec.failover.mode is Manual. The operator would promote {pod}, which has the \
                     newest data; to do that, annotate the set: {ACCEPT_DATA_LOSS}={pod}@{}",
                    record.epoch
                ),
            })
        }
        decision => decision,
    }
}

/// Whether this brings a switchover that has begun to its end, one way or the other.
fn ends_switchover(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::Await
            | Decision::Note(_)
            | Decision::Abort { .. }
            | Decision::TakeBack { .. }
            | Decision::Hold(_)
    )
}

/// Begins the switchover that was asked for, if the target is still fit for it.
fn hand_over(target: &str, record: &Record, look: &Snapshot) -> Decision {
    let primary = record.primary.as_deref().and_then(|pod| look.member(pod));
    let pod = look.observed.pods.iter().find(|pod| pod.name == target);
    match (primary, pod) {
        (Some(primary), Some(pod)) if switchover::can_take_over(look, pod) => {
            look.member(target).map_or(Decision::Rest, |target| switchover::begin(&primary, &target, record))
        }
        _ => Decision::Rest,
    }
}

/// The pods that can be told to follow now, and of the others what they lose.
fn follow(pods: Vec<String>, published: &[DivergenceStatus], record: &Record, look: &Snapshot) -> Step {
    let is_news = |d: &Divergence| !published.iter().any(|known| is_published(known, d));
    let losses: Vec<Divergence> = divergences(record, look, &pods).into_iter().filter(is_news).collect();
    if losses.is_empty() {
        return Step::Do(Box::new(Decision::Follow(pods)));
    }
    let follow = pods.into_iter().filter(|pod| losses.iter().all(|d| d.pod != *pod)).collect();
    Step::Publish { losses, follow }
}
