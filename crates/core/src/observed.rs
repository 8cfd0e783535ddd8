//! What one reconcile saw: the pods as the API server lists them, and each Redis' answer. Data only.

use jiff::Timestamp;

pub mod pod;

use redis_node::answer::{Answer, ProbeFailure};

use crate::labels::Role;

/// The pods of a set, by ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// One entry a pod that exists.
    pub pods: Vec<ObservedPod>,
}

/// One pod and what its Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what a kubelet reports and what a user asked for do not exclude each other"
)]
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
    /// Whom its Redis follows when it starts.
    pub start: StartRule,
    /// It has had its address for so short a time that other servers may still look for it elsewhere, or nowhere.
    pub new_address: bool,
    /// Why its name does not lead to it, as the cluster's DNS answered lately; `None` where it does, or was not asked.
    pub astray: Option<String>,
    /// The latest end of a Redis container of this pod that the kubelet reports, in seconds since 1970 by the node's clock.
    pub last_end: Option<i64>,
    /// `terminationGracePeriodSeconds` of its spec.
    pub grace_seconds: i64,
    /// `deletionTimestamp` is set.
    pub terminating: bool,
    /// That time has come: its grace period is over.
    pub overdue: bool,
    /// Label `controller-revision-hash`: the template it was made from.
    pub revision: Option<String>,
    /// The image of its Redis, as its spec has it; empty where it has none.
    pub image: String,
    /// Why the pod cannot start, in the words of the kubelet or scheduler (`ImagePullBackOff: …`); `None` where
    /// nothing is wrong.
    pub stuck: Option<String>,
    /// What it is labelled as.
    pub label: RoleLabel,
    /// The Redis' answer, or why there is none.
    pub answer: Result<Answer, NoAnswer>,
}

impl Observed {
    /// Whether this pod is there and its Redis gives no answer.
    pub fn silent(&self, uid: &str) -> bool {
        self.pods.iter().any(|pod| pod.uid == uid && pod.answer.is_err())
    }
}

/// Whom the Redis of a pod follows when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartRule {
    /// The member that serves.
    Peers,
    /// Nobody, until the operator says so (`--start=parked`).
    Parked,
}

/// What a pod's label and annotation say of its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleLabel {
    /// Label `replication.redis/role`; `None` where it is missing or says something else.
    pub role: Option<Role>,
    /// Annotation `replication.redis/demoted-at`: since when it is no longer the primary, until its clients were cut
    /// a second time.
    pub demoted_at: Option<Timestamp>,
    /// `metadata.resourceVersion` of the pod that says so: the watch may not have shown yet what was written since.
    pub version: String,
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

impl NoAnswer {
    /// Whether it was asked and nobody answered. Who refuses, loads or is busy lives.
    pub fn is_silence(&self) -> bool {
        use ProbeFailure::{Connection, Refused, Timeout};
        matches!(self, Self::Failed(Refused | Timeout(_) | Connection(_)))
    }
}

#[cfg(any(test, feature = "fixtures"))]
impl ObservedPod {
    /// The running pod `redis-<ordinal>` of a set, whose Redis was not asked; each test changes what it is about.
    pub fn running(ordinal: i32) -> Self {
        Self {
            name: format!("redis-{ordinal}"),
            ordinal,
            uid: format!("uid-{ordinal}"),
            node: String::new(),
            ready: true,
            start: StartRule::Peers,
            new_address: false,
            astray: None,
            last_end: None,
            grace_seconds: redis_node::files::DEFAULT_GRACE_SECONDS,
            terminating: false,
            overdue: false,
            revision: None,
            image: String::new(),
            stuck: None,
            label: RoleLabel::default(),
            answer: Err(NoAnswer::NotStarted),
        }
    }
}
