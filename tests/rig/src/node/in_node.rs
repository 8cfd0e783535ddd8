//! A program that runs inside a node's network, where Pods are reachable: this very executable, started through the
//! cluster's tool. It gets JSON lines on standard input (a password has no place in arguments), answers with JSON
//! lines, and ends when its input ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Failure;

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

/// Inside the node: what standard input says, until it ends.
pub fn told<T: DeserializeOwned + Send + 'static>() -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(order) => {
                    if sender.send(order).is_err() {
                        break;
                    }
                }
                // Not the line itself: it may hold a password.
                Err(error) => eprintln!("not what was expected on standard input: {error}"),
            }
        }
    });
    receiver
}

/// Inside the node: one line of answer.
pub fn print(answer: &impl Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The program, seen from here.
pub struct InNode {
    child: Child,
    input: Mutex<Option<ChildStdin>>,
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
        let input = Mutex::new(child.stdin.take());
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

    /// Tells it one thing more.
    pub fn send(&self, order: &impl Serialize) -> Result<(), Failure> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let input = input.as_mut().ok_or("the program in the node has ended")?;
        serde_json::to_writer(&mut *input, order)?;
        input.write_all(b"\n")?;
        Ok(input.flush()?)
    }
}

impl Drop for InNode {
    fn drop(&mut self) {
        // Its input ends, so it ends; the tool that started it ends with it.
        drop(self.input.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = self.child.wait() {
            eprintln!("  waiting for the program in the node: {error}");
        }
    }
}
