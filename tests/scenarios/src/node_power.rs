//! A node without power: its kubelet, its containers and its network are gone until it is started again.

use std::path::{Path, PathBuf};

use rig::{Failure, machine::output};

/// A node that is off; started again when dropped.
pub struct NodeStopped {
    cluster: PathBuf,
    node: String,
    is_off: bool,
}

impl NodeStopped {
    /// Begins: every process of the node is killed.
    pub fn begin(cluster: &Path, node: &str) -> Result<Self, Failure> {
        // Exists before the power is taken, so that a node that was stopped in part is started too.
        let stopped = Self { cluster: cluster.to_owned(), node: node.to_owned(), is_off: true };
        stopped.tell("stop")?;
        Ok(stopped)
    }

    /// Starts it, and waits until Kubernetes calls it Ready.
    pub fn end(mut self) -> Result<(), Failure> {
        self.tell("start")?;
        self.is_off = false;
        Ok(())
    }

    fn tell(&self, verb: &str) -> Result<(), Failure> {
        output(&self.cluster.to_string_lossy(), &["node", verb, &self.node]).map(|_| ())
    }
}

impl Drop for NodeStopped {
    fn drop(&mut self) {
        if self.is_off
            && let Err(error) = self.tell("start")
        {
            eprintln!("  START BY HAND the node {}: {error}", self.node);
        }
    }
}
