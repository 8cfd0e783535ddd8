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
mod audit;
mod campaign;
mod document;
mod redis_proxy;
mod run;
mod state;
mod trap;
mod workload;
mod writer;

use campaign::campaign;
use trap::{Call, MOMENTS, Target};

/// What kept the run from being told of.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The first call of each kind in each workload, at one moment, which goes round: what the product's tests have time for.
#[test]
fn the_operator_is_killed_at_each_kind_of_call() {
    campaign(
        "The first call of each kind in each workload, at one of the three moments, which go round",
        |calls| {
            let first = calls.iter().filter(|call| call.occurrence == 1);
            let target = |(call, moment): (&Call, _)| Target { call: call.clone(), moment };
            first.zip(MOMENTS.into_iter().cycle()).map(target).collect()
        },
    );
}

/// Each call of each workload, at one moment, which goes round.
#[test]
#[ignore = "takes almost twice as long as the test above"]
fn the_operator_is_killed_at_each_call() {
    campaign("Each call of each workload, at one of the three moments, which go round", |calls| {
        let target = |(call, moment): (&Call, _)| Target { call: call.clone(), moment };
        calls.iter().zip(MOMENTS.into_iter().cycle()).map(target).collect()
    });
}

/// Each call of each workload, at each moment; `make proof` runs it.
#[test]
#[ignore = "takes some five times as long as the first of these"]
fn the_operator_is_killed_at_each_moment_of_each_call() {
    campaign("Each call of each workload, at each of the three moments", |calls| {
        let at = |call: &Call| MOMENTS.map(|moment| Target { call: call.clone(), moment });
        calls.iter().flat_map(at).collect()
    });
}
