//! What the tests stand on, made once: real servers on the loopback, a real control plane, stand-ins of kubelets, and the
//! cluster under measurement.
//!
//! | Module | For |
//! |---|---|
//! | [`hostile_text`] | properties: what nobody may inject anything by |
//! | [`local`] | tests that need no cluster: etcd, kube-apiserver and redis-servers as processes of this machine |
//! | [`cluster`] | programs that measure the operator on the real cluster |
//! | [`node`] | what such a program runs inside a node's network |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a step that fails is the test's failure"
)]

pub mod clock;
pub mod cluster;
pub mod hostile_text;
pub mod local;
pub mod machine;
pub mod node;
pub mod stats;

use std::path::{Path, PathBuf};

/// What went wrong, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// A program of the repository, built beside this test: cargo puts both into one directory.
pub fn program(name: &str) -> PathBuf {
    built().join(name)
}

/// A directory for what a test leaves to be looked at afterwards; `cargo clean` removes it.
pub fn leavings() -> PathBuf {
    built().join("../tmp")
}

/// Where cargo puts what it builds: `target/debug`. Tests are one directory below, programs are in it.
fn built() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let directory = this.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap().to_owned() } else { directory.to_owned() }
}
