//! `spec` of a `RedisReplicaSet`: what a user asks for. Stub.
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Ordered Redis replicas.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "replication.redis",
    version = "v1alpha1",
    kind = "RedisReplicaSet",
    plural = "redisreplicasets",
    shortname = "rrs",
    category = "redis",
    namespaced,
    status = "crate::api::status::RedisReplicaSetStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct RedisReplicaSetSpec {
    /// Pods in all.
    #[serde(default)]
    pub replicas: i32,
}
