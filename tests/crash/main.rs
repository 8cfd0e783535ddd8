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
use trap::{Call, MOMENTS, Target};
use workload::{WORKLOADS, Workload};

/// The first call of each kind in each workload, at one moment, which goes round.
#[test]
fn the_operator_is_killed_at_each_kind_of_call() {
    campaign(&WORKLOADS, |workload, calls| {
        // A roll waits twice for half a minute, until the names of new pods lead to them everywhere.
        let every = if workload == Workload::Roll { 4 } else { 1 };
        let first = calls.iter().filter(|call| call.occurrence == 1);
        let target = |(call, moment): (&Call, _)| Target { call: call.clone(), moment };
        first.step_by(every).zip(MOMENTS.into_iter().cycle()).map(target).collect()
    });
}

/// Each call of each workload, at each moment; `make proof` runs it.
#[test]
#[ignore = "takes some ten times as long as the test above"]
fn the_operator_is_killed_at_each_moment_of_each_call() {
    campaign(&WORKLOADS, |_, calls| {
        let at = |call: &Call| MOMENTS.map(|moment| Target { call: call.clone(), moment });
        calls.iter().flat_map(at).collect()
    });
}
