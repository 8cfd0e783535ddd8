//! `status` of a `RedisReplicaSet`: what the Redis servers themselves answered, and what follows from it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConditionStatus, ConditionType, failover::Mode};

/// What the operator saw when it last asked every server of the set.
///
/// Numbers that move by themselves (offsets, seconds) are metrics, never status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisReplicaSetStatus {
    /// The `metadata.generation` of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the servers were last asked, renewed at least every eleven minutes: an older time means that no operator
    /// looks at this set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// Label selector of the pods, in the form that the scale subresource needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Number of pods that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Number of pods whose Redis answered in the last reconcile: serving primary and replicas verified in sync.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Number of replicas (the primary not counted) that truly follow the primary.
    #[serde(default)]
    pub synced_replicas: i32,
    /// Wanted and verified numbers as `kubectl get` shows them, for example `3/3` in the column REPLICAS.
    #[serde(default)]
    pub summary: Summary,
    /// The primary of record; absent until the operator promoted the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<Primary>,
    /// The host that every replica must report as its `master_host`, as a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_host: Option<String>,
    /// One entry a pod, by ordinal: what its Redis answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".into()]))]
    pub instances: Vec<InstanceStatus>,
    /// Who may take over from a primary that stays silent, as of the last look at the servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverStatus>,
    /// Data that was given up: what a server had of the set's history that the primary has not, when it was told to
    /// follow it. The last such case of each pod; stays until the next one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".into()]))]
    pub divergences: Vec<DivergenceStatus>,
    /// Ready, Available, Replicated, Progressing, Degraded and `SpecValid`; all present from the first write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Who may take over from a primary that stays silent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// The mode that holds, chosen by `spec.failover.mode` or by default.
    pub mode: Mode,
    /// With mode Quorum: a replica takes over although nothing proves the primary's end. Otherwise the operator waits for proof.
    pub armed: bool,
    /// `min-replicas-to-write` of the primary, while it is armed: it refuses writes that fewer replicas could acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas_to_write: Option<i64>,
    /// What is missing, or what would be lost all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl RedisReplicaSetStatus {
    /// Whether the condition Ready is True.
    pub fn is_ready(&self) -> bool {
        self.is_true(ConditionType::Ready)
    }

    /// Whether a condition is True.
    pub fn is_true(&self, type_: ConditionType) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
    }

    /// The condition of this type.
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_.as_str())
    }
}

/// Figures prepared for the columns of `kubectl get`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Pods whose Redis is verified, of the wanted number: `3/3`.
    #[serde(default)]
    pub replicas: String,
    /// Replicas verified in sync, of the wanted number: `2/2`.
    #[serde(default)]
    pub synced: String,
}

/// The primary of record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Primary {
    /// Name of its pod.
    pub pod: String,
    /// Counts the operator's decisions about who is primary; each promotion raises it by one.
    pub epoch: i64,
}

/// What one Redis answered, or why it could not be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Name of the pod.
    pub pod: String,
    /// What the evidence adds up to.
    pub state: InstanceState,
    /// `role` in the words of this API: primary (Redis: master) or replica (Redis: slave); absent if not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<InstanceRole>,
    /// `master_host` as this Redis reported it, verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_host: Option<String>,
    /// `master_link_status` as this Redis reported it: `up` or `down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// `master_replid` as this Redis reported it: the history that its data belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replid: Option<String>,
    /// `run_id` of the process that answered.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "runID")]
    pub run_id: Option<String>,
    /// Version of the server that answered, for example `7.0.15`, or `valkey 8.1.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When `state` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// The evidence in plain words where `state` is not the wanted one; names each part that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Data of one server that the primary does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DivergenceStatus {
    /// Name of the pod.
    pub pod: String,
    /// `run_id` of the process that still had the data.
    #[serde(rename = "runID")]
    pub run_id: String,
    /// `master_replid` of the history that both were part of.
    pub replid: String,
    /// Bytes of that history which only this server had. Redis' own pings count too (14 bytes every 10 s).
    pub bytes: i64,
    /// Epoch of the decision that left them behind.
    pub epoch: i64,
    /// When it was found, before the server was told to follow the primary.
    pub time: Time,
}

/// A Redis server's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum InstanceRole {
    /// It says that it serves writes (Redis: `role:master`).
    Primary,
    /// It says that it replicates from somebody, or is parked (Redis: `role:slave`).
    Replica,
}

/// What the answers about one pod add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum InstanceState {
    /// The primary of record, and it serves.
    Primary,
    /// Truly follows the primary: name, link, listing and history all agree.
    InSync,
    /// Follows the right primary and is still receiving its data.
    Syncing,
    /// Follows the right primary, and everything agrees, but it is behind or silent for too long.
    Lagging,
    /// Follows the right primary by name, but the link is down.
    LinkDown,
    /// Follows somebody else, or a server that is not the primary.
    WrongPrimary,
    /// Says that it follows the primary, but the primary does not list it, or their histories differ.
    Unconfirmed,
    /// Serves as primary although it is not the primary of record.
    UnexpectedPrimary,
    /// Follows nobody on purpose: keeps its data, refuses writes, waits for the operator.
    Parked,
    /// Loads its data from disk or from the primary and answers nothing else yet.
    Loading,
    /// Runs a script that blocks every other command: unknown, not down.
    Busy,
    /// Takes no new clients, and the operator has no connection to it: `maxclients` is reached.
    ClientLimit,
    /// Refused the operator's password.
    AuthFailed,
    /// Another server answered at this pod's address.
    Foreign,
    /// Could not be asked: no answer, refused, or time-out.
    Unreachable,
    /// The pod has no running Redis yet; the message says what it waits for.
    Pending,
    /// The pod is being deleted.
    Terminating,
}
