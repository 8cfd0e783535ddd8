//! The resource: what a user writes (`spec`) and what the operator answers (`status`).

pub mod annotations;
pub mod auth;
pub mod condition;
pub mod directives;
pub mod failover;
pub mod network;
pub mod spec;
pub mod status;
pub mod users;

pub use condition::{ConditionStatus, ConditionType, Reason};
pub use spec::{RedisReplicaSet, RedisReplicaSetSpec};
pub use status::RedisReplicaSetStatus;
