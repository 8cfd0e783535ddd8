//! The agent's command line: parses it, runs one of its jobs, and turns the result into an exit code.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use redis_agent::{
    install::install,
    prestop::{self, prestop},
    probe::{Check, probe},
    start::{self, start},
};
use redis_node::files::{INTERNAL_DIR, REDIS_PORT};

/// Starts and probes the Redis of one pod.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Copy this executable to DIR/agent
    Install {
        /// A writable directory that the Redis container mounts too
        dir: PathBuf,
    },
    /// Follow the member that serves as primary, or park; write redis.conf and become Redis
    Start(start::Options),
    /// Ask the Redis in this container; exit code 0 if the probe succeeds, 1 if not
    Probe {
        /// Which probe
        check: Check,
        /// Port of Redis on 127.0.0.1
        #[arg(long, default_value_t = REDIS_PORT)]
        port: u16,
        /// The operator's passwords, as its Secret has them; not used for liveness
        #[arg(long, default_value_t = INTERNAL_DIR.to_owned())]
        internal_dir: String,
    },
    /// Wait until this Redis is no longer the primary, or nobody could take over; exit code 0 in every case
    Prestop(prestop::Options),
}

fn main() -> ExitCode {
    let failed = match Cli::parse() {
        Cli::Install { dir } => match install(&dir) {
            Ok(path) => {
                println!("installed {}", path.display());
                return ExitCode::SUCCESS;
            }
            Err(error) => error.to_string(),
        },
        Cli::Start(options) => match start(&options) {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        },
        Cli::Probe { check, port, internal_dir } => {
            let verdict = probe(check, port, internal_dir.as_ref());
            if verdict.passed {
                println!("{}", verdict.seen);
                return ExitCode::SUCCESS;
            }
            verdict.seen
        }
        Cli::Prestop(options) => {
            println!("{}", prestop(&options));
            return ExitCode::SUCCESS;
        }
    };
    eprintln!("{failed}");
    ExitCode::FAILURE
}
