//! Whether the process that served last is proven dead (`docs/design/protocol.md`, rules 4 and 4b).
//!
//! Pure. What proves nothing: a pod that is not ready, a refused connection, a node that is not ready, a deletion by
//! force, a namesake that waits or answers.

use std::time::Duration;

use crate::observed::pod::Ends;
use redis_node::{
    files::DEFAULT_GRACE_SECONDS,
    record::{Record, Serving},
};

/// A kubelet that learns of a pod's deletion by force gives it the pod's grace period; so much later it has ended it.
const MARGIN: Duration = Duration::from_secs(180);

/// The time within which the kubelet ends a pod that was deleted by force, once it knows.
pub fn kubelet_ends_within(serving: &Serving) -> Duration {
    let grace = serving.grace_seconds.max(DEFAULT_GRACE_SECONDS);
    Duration::from_secs(grace.unsigned_abs()).saturating_add(MARGIN)
}

/// What is known of the process that served last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Former {
    /// It cannot serve any more.
    Ended,
    /// It may serve: what is missing for a proof, and what a person can do.
    Unproven(String),
}

impl Default for Former {
    fn default() -> Self {
        Self::Unproven("no look at its pod was possible".to_owned())
    }
}

/// What the API server says of the pod and node of that process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The pod is still there, under the same UID.
    pub pod_exists: bool,
    /// The ends of its Redis containers that the kubelet reported while somebody watched.
    pub ends: Option<Ends>,
    /// For how long this operator has known, by its own clock, that the pod is gone and its node is ready, without seeing
    /// anything else meanwhile. The time of a namesake or of a node's condition comes from other clocks.
    pub gone_for: Duration,
    /// State of its node.
    pub node: NodeState,
}

/// State of a node, as far as it says something about processes on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// The kubelet reports itself ready.
    Ready {
        /// `lastTransitionTime` of the condition, verbatim. Another one tells that the node was away meanwhile.
        since: String,
    },
    /// The kubelet does not report, or reports itself not ready.
    NotReady,
    /// A person says that it was shut down: it bears the taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// The API server knows no such node.
    Deleted,
    /// It could not be asked.
    Unknown(String),
}

/// The record with the ends that the kubelet reported: an end is shown once, and the process that saw it may not live
/// until the election. `None` where there is nothing to add. What else proves an end is there to be asked for again,
/// and a person may take it back.
pub fn with_ends(record: &Record, ends: impl Fn(&str) -> Option<Ends>) -> Option<Record> {
    let mut told = record.clone();
    let target = told.switch_to.as_mut().map(|switch| &mut switch.process);
    let followers = told.followers.iter_mut().flatten().map(|follower| &mut follower.process);
    for process in told.seen_serving.iter_mut().chain(target).chain(followers) {
        process.ended |= has_ended(process, ends(&process.pod_uid));
    }
    (told != *record).then_some(told)
}

/// Whether these ends of Redis containers of its pod prove its own: the whole pod has ended, or a container ended after this
/// process began. Both times come from the clock of one node, and the start is rounded up: an end that is later belongs to
/// this process, or to a later one of the same pod, which cannot have begun before this one ended. Of a process that lived for
/// less than two seconds only the end of its pod tells.
///
/// An end that was known when the process was noted is its predecessor's. A clock that was set back in between would make
/// it look later than the start.
pub fn has_ended(serving: &Serving, ends: Option<Ends>) -> bool {
    ends.is_some_and(|Ends { latest, of_pod }| {
        of_pod || latest > serving.started && serving.known_end.is_none_or(|known| latest > known)
    })
}

/// Judges.
pub fn former(serving: &Serving, traces: &Traces) -> Former {
    // An operator that saw the end may have written it down.
    if serving.ended || has_ended(serving, traces.ends) {
        return Former::Ended;
    }
    let node = &serving.node;
    if traces.pod_exists {
        return Former::Unproven(format!(
            "the kubelet on node {node} has not reported that the Redis which served has ended"
        ));
    }
    match &traces.node {
        NodeState::OutOfService | NodeState::Deleted => Former::Ended,
        // A kubelet that is there has ended by now what the API server no longer lists. One that has just come back
        // learns of it only now, and gives the process its grace period.
        NodeState::Ready { .. } if traces.gone_for > kubelet_ends_within(serving) => Former::Ended,
        NodeState::Ready { .. } => Former::Unproven(format!(
            "its pod was deleted by force; the kubelet on node {node}, which is ready, has {} s to end it, counted anew \
             when the node was away or another operator took over",
            kubelet_ends_within(serving).as_secs()
        )),
        NodeState::NotReady => Former::Unproven(format!(
            "node {node} is not ready, so nobody knows whether the Redis there runs. Bring the node back; or, if it is \
             shut down for certain, delete it or taint it node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        )),
        NodeState::Unknown(why) => Former::Unproven(format!(
            "its pod is gone without a report of its end, and node {node} could not be asked ({why})"
        )),
    }
}
