//! What one pass saw: the pods as the API server lists them, and each Redis' answer. Data only.

use crate::redis::probe::{Answer, ProbeFailure};

/// The pods of a set, by ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// One entry a pod that exists.
    pub pods: Vec<ObservedPod>,
}

/// One pod and what its Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedPod {
    /// Name of the pod.
    pub name: String,
    /// Its ordinal in the `StatefulSet`.
    pub ordinal: i32,
    /// UID: a namesake that comes later is another pod.
    pub uid: String,
    /// Node that it was scheduled to; empty before that.
    pub node: String,
    /// The pod's Ready condition, as the kubelet sees it.
    pub ready: bool,
    /// `deletionTimestamp` is set.
    pub terminating: bool,
    /// Label `controller-revision-hash`: the template it was made from.
    pub revision: Option<String>,
    /// Why the pod cannot start, in the words of the kubelet or scheduler (`ImagePullBackOff: …`); `None` where
    /// nothing is wrong.
    pub stuck: Option<String>,
    /// The Redis' answer, or why there is none.
    pub answer: Result<Answer, NoAnswer>,
}

/// Why there is no answer of a pod's Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It was not asked: the pod has no address or no running container yet.
    NotStarted,
    /// It was not asked: the operator has no password (the Secret is missing).
    NoPassword,
    /// It was asked and failed.
    Failed(ProbeFailure),
}
