//! Programs that run inside a node's network, where Pods are reachable: this very executable, started through the
//! cluster's tool. They get their targets as JSON lines on standard input (a password has no place in arguments),
//! answer with JSON lines, and end when their input ends.

mod redis_client;
mod sync;
mod write;

pub use sync::Sync;
pub use write::Written;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Failure, clock::now};

/// A Redis to talk to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Name of the Pod.
    pub pod: String,
    /// Address of the Pod.
    pub address: String,
    /// Password of the default user.
    pub password: String,
}

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
    let (sender, targets) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str::<Target>(&line) {
                Ok(target) => {
                    if sender.send(target).is_err() {
                        break;
                    }
                }
                Err(error) => eprintln!("not a target: {error}"),
            }
        }
    });
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

/// One line of answer.
fn print(answer: &impl Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// A program inside a node, seen from here.
pub struct InNode {
    child: Child,
    input: Option<ChildStdin>,
}

impl InNode {
    /// Starts this executable inside a node; `heard` gets every line of its answer.
    pub fn start<T: DeserializeOwned>(
        cluster: &Path,
        node: &str,
        arguments: &[&str],
        mut heard: impl FnMut(T) + Send + 'static,
    ) -> Result<Self, Failure> {
        let mut child = Command::new(cluster)
            .args(["node", "exec", node, "--"])
            .arg(std::env::current_exe()?)
            .arg("probe")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", cluster.display()))?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("no standard output of the program in the node")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(answer) => heard(answer),
                    Err(error) => eprintln!("  not an answer: {error}: {line}"),
                }
            }
        });
        Ok(Self { child, input })
    }

    /// Gives it one more target.
    pub fn send(&mut self, target: &Target) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or("the program in the node has ended")?;
        serde_json::to_writer(&mut *input, target)?;
        input.write_all(b"\n")?;
        Ok(input.flush()?)
    }
}

impl Drop for InNode {
    fn drop(&mut self) {
        // Its input ends, so it ends; the tool that started it ends with it.
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("  waiting for the program in the node: {error}");
        }
    }
}
