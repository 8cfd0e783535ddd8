//! Tests on the real three-node cluster: the lab row by row, a set's whole life as a user lives it, and whether the
//! status tells the truth about servers that go wrong.
//!
//! `make test-cluster` brings the cluster up and runs them. By hand, with the cluster up (`make up`):
//!
//! ```text
//! KUBECTL=$(target/debug/cluster tools --path kubectl) HELM=$(target/debug/cluster tools --path helm) \
//!   CLUSTER=target/debug/cluster cargo test --features cluster-tests --test cluster -- --test-threads=1
//! ```
//!
//! Sets that have a namespace of their own are tested three at a time there: they wait more than they work. The lab,
//! which is the namespace `default`, and what takes the operator away from all sets (`install`, `operator`) come after
//! them one by one.
//!
//! `KUBECONFIG` overrides the kubeconfig that `CLUSTER` names. With `--nocapture` each test prints the times that it
//! measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

mod flavours;
mod install;
mod lab;
mod life;
mod operator;
mod support;
mod trouble;
mod truth;
