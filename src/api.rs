//! The resource: what a user writes (`spec`) and what the operator answers (`status`).

pub mod directives;
pub mod spec;
pub mod status;

pub use spec::{RedisReplicaSet, RedisReplicaSetSpec};
pub use status::RedisReplicaSetStatus;
