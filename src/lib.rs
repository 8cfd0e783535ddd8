//! An operator for replicated Redis.
//!
//! The flow of one pass over one `RedisReplicaSet`; the names are the modules:
//!
//! ```text
//!  RedisReplicaSet ──plan──▶ Plan ──desired──▶ Desired ──apply──▶ Applied ─┐
//!     (api)          pure           pure                 IO, SSA           ├─▶ decide ──▶ act
//!  pods, Secret ──observe──▶ Observed ──topology──▶ Topology ──────────────┤    pure       IO
//!     record        IO, redis            pure                              └─▶ status ──▶ patch
//!                                                                               pure      IO, SSA
//! ```
//!
//! `reconcile` is that picture as code. Pure modules know no client, no clock and no connection;
//! `tests/architecture.rs` holds them to it.

pub mod api;
pub mod apply;
pub mod crd;
pub mod desired;
pub mod drift;
pub mod hash;
pub mod immutable;
pub mod names;
pub mod observed;
pub mod plan;
pub mod quantity;
pub mod record;
pub mod redis;
pub mod settings;
pub mod topology;
