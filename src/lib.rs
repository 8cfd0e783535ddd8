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
pub mod agent;
pub mod api;
pub mod apply;
pub mod claims;
pub mod cli;
pub mod config;
pub mod context;
pub mod controller;
pub mod crd;
pub mod decide;
pub mod desired;
pub mod drift;
pub mod error;
pub mod events;
#[cfg(test)]
mod fake_api;
pub mod hash;
pub mod http;
pub mod image;
pub mod immutable;
pub mod lease;
pub mod limits;
pub mod metrics;
pub mod monitor;
pub mod names;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod pods;
pub mod quantity;
pub mod reconcile;
pub mod record;
pub mod redis;
pub mod requeue;
pub mod roles;
pub mod run;
pub mod settings;
pub mod status;
pub mod store;
pub mod stores;
pub mod subject;
pub mod telemetry;
pub mod topology;
pub mod volumes;
