//! Explicit-state model checker over the decisions that ship: the agent's start rule and the operator's `decide` and
//! `elect`, with servers, volumes, faults and the network around them as one value (`state`).
//!
//! The search is its own (`search`) and not the crate `stateright`: states are kept as 16 bytes of digest each, which is
//! what makes ten million of them fit, and what the shipped functions said is remembered beside it.
//!
//! The tests are the default runs; `explore` looks at bounds of your own, `report` writes `docs/evidence/model.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "the model checks itself: whatever is out of bounds here is the run's failure"
)]
#![allow(clippy::struct_excessive_bools, reason = "kinds of faults, and rules, are on or off")]

#[macro_use]
mod named;

mod environment;
mod explore;
mod operator;
mod quorum;
mod quorum_regressions;
mod quorum_runs;
mod redis;
mod regressions;
mod report;
mod rules;
mod runs;
mod search;
mod set;
mod state;
mod translate;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Looks for sequences of faults that lose data or make two primaries.
#[derive(Parser)]
enum Command {
    /// Explore bounds of your own; prints the shortest trace to what must not be.
    Explore(explore::Options),
    /// Do every run and regression, long ones too, and write the page with their figures.
    Report {
        /// File to write
        #[arg(default_value = "docs/evidence/model.md")]
        file: PathBuf,
        /// Leave the long runs out
        #[arg(long)]
        short: bool,
    },
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Explore(options) => explore::explore(&options),
        Command::Report { file, short } => report::write(&file, short),
    }
}
