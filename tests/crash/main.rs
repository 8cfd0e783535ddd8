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

/// The first call of each kind in each workload, at one moment, which goes round.
#[test]
fn the_operator_is_killed_at_each_kind_of_call() {
    let mut first = 0;
    campaign(&WORKLOADS, |call| {
        if call.occurrence > 1 {
            return Vec::new();
        }
        first += 1;
        vec![MOMENTS[first % MOMENTS.len()]]
    });
}

/// Each call of each workload, at each moment; `make proof` runs it.
#[test]
#[ignore = "takes some five times as long as the test above"]
fn the_operator_is_killed_at_each_moment_of_each_call() {
    campaign(&WORKLOADS, |_| MOMENTS.to_vec());
}
