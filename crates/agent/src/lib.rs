//! The agent: the small program that runs beside or before Redis in every pod, in any image, shell or not.
//!
//! ```text
//! install   init container: copies this executable into the pod
//! start     the container's command:
//!             members ──ask──▶ answers ──decide──▶ follow or park ──config──▶ redis.conf ──▶ exec redis-server
//!                        IO               pure                       pure
//! probe     the kubelet's question: does this Redis answer?
//! prestop   the container's preStop hook: wait until the primary was moved away from here
//! ```
//!
//! The agent never makes its Redis a primary and never follows a name that it read in a file: it follows a peer
//! that says now, over the network, that it serves (`docs/design/protocol.md`, "Start rule"). Synchronous and small: it
//! is PID 1 of the container until Redis takes its place.

pub mod ask;
pub mod config;
pub mod data;
pub mod dump;
pub mod install;
pub mod internal;
pub mod lock;
pub mod prestop;
pub mod probe;
pub mod start;
pub mod start_rule;
pub mod wire;
