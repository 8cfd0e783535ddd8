//! What the benchmark runs inside a node's network.

mod write;

pub use write::Written;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use rig::{
    Failure,
    clock::now,
    node::{in_node, print, redis_client, sync},
};

/// What to do inside the node.
#[derive(Debug, clap::Subcommand)]
pub enum Task {
    /// Poll INFO of every target; print a line whenever the number of replicas in sync changes.
    Sync {
        /// Domain of the Pods: a server announces itself as POD.DOMAIN.
        #[arg(long)]
        domain: String,
    },
    /// Write and wait for one replica's acknowledgement without pause, finding the primary among all targets; print
    /// each gap between acknowledgements.
    Write,
    /// Point every target at a host.
    Replicaof {
        /// Host that the servers shall follow.
        #[arg(long)]
        host: String,
    },
}

/// Does a task until standard input ends.
pub fn run(task: &Task) -> Result<(), Failure> {
    let targets = in_node::told();
    match task {
        Task::Sync { domain } => sync::run(&targets, domain),
        Task::Write => write::run(&targets),
        Task::Replicaof { host } => {
            for target in targets {
                let mut connection = redis_client::connect(&target)?;
                redis::cmd("REPLICAOF").arg(host).arg(6379).exec(&mut connection)?;
                print(&Repointed { at: now() })?;
            }
            Ok(())
        }
    }
}

/// A server accepted REPLICAOF.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Repointed {
    /// When it had answered.
    pub at: Timestamp,
}
