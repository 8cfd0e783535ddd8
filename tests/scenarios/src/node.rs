//! What a scenario runs inside a node's network.

mod check;
mod client;
mod history;
mod serving;

pub use check::Checked;
pub use client::{Heard, Order};
pub use history::{History, Span, Written};

use std::{path::PathBuf, time::Duration};

use rig::Failure;
use rig::node::{Target, in_node, print, redis_client, sync};

/// How long a single answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do inside the node.
#[derive(Debug, clap::Subcommand)]
pub enum Task {
    /// Poll INFO of every target; print a line whenever the number of replicas in sync changes.
    Sync {
        /// Domain of the Pods: a server announces itself as POD.DOMAIN.
        #[arg(long)]
        domain: String,
    },
    /// Write unique keys without pause, with an acknowledgement of a replica and without; then read all of them from
    /// every member.
    Client {
        /// Begins every key, so that no other run has it.
        #[arg(long)]
        prefix: String,
        /// Where the history of all writes is put.
        #[arg(long)]
        history: PathBuf,
    },
    /// Send one command to every target; print each answer, or the error.
    Ask {
        /// The command.
        words: Vec<String>,
    },
}

/// What a server answered to [`Task::Ask`], or why it did not.
pub type Asked = Result<String, String>;

/// Does a task until standard input ends.
pub fn run(task: &Task) -> Result<(), Failure> {
    match task {
        Task::Sync { domain } => sync::run(&in_node::told(), domain),
        Task::Client { prefix, history } => client::run(&in_node::told(), prefix, history),
        Task::Ask { words } => {
            for target in in_node::told::<Target>() {
                print(&ask(&target, words).map_err(|error| error.to_string()))?;
            }
            Ok(())
        }
    }
}

fn ask(target: &Target, words: &[String]) -> redis::RedisResult<String> {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    let mut connection = redis_client::connect_patiently(target, PATIENCE)?;
    let answer: redis::Value = command.query(&mut connection)?;
    Ok(format!("{answer:?}"))
}
