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

pub mod act;
pub mod apply;
pub mod claims;
pub mod cli;
pub mod context;
pub mod controller;
pub mod error;
#[cfg(test)]
mod fake_api;
pub mod http;
pub mod kubernetes;
pub mod lease;
pub mod limits;
pub mod metrics;
pub mod monitor;
pub mod observe;
pub mod pods;
pub mod reconcile;
pub mod redis;
pub mod run;
pub mod store;
pub mod stores;
pub mod telemetry;
