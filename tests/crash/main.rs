//! The operator is killed at each of its calls that change something, in each workload, and started again: the end is
//! the same as if nothing had happened.
//!
//! The operator's own binary against a real kube-apiserver, with real redis-servers, behind proxies that count its calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

mod api_proxy;
mod campaign;
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/operator.rs"]
mod operator;
mod redis_proxy;
#[allow(dead_code, reason = "only its addresses are used here")]
#[path = "../support/redis_server.rs"]
mod redis_server;
mod run;
#[path = "../support/sets.rs"]
mod sets;
mod state;
mod trap;
mod workload;
mod writer;

use campaign::campaign;
use trap::MOMENTS;
use workload::WORKLOADS;

/// Each call of each workload at one moment, which goes round: a third of the whole.
#[test]
fn the_operator_is_killed_at_each_call() {
    campaign(&WORKLOADS, |call| vec![MOMENTS[call % MOMENTS.len()]]);
}

/// The whole, for `make proof`.
#[test]
#[ignore = "takes some three times as long as the test above; make proof runs it"]
fn the_operator_is_killed_at_each_moment_of_each_call() {
    campaign(&WORKLOADS, |_| MOMENTS.to_vec());
}
