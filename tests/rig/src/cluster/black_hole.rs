//! A Pod that no other Pod reaches: its packets are dropped where its node forwards them. The kubelet goes on
//! reaching it, so nothing but the silence itself tells of it.

use std::path::{Path, PathBuf};

use crate::{Failure, machine::output};

/// Marks our rules, so that none of anybody else's is ever removed.
const COMMENT: &str = "redis-operator-bench";

/// Both directions of one address; ends when dropped.
pub struct BlackHole {
    cluster: PathBuf,
    node: String,
}

impl BlackHole {
    /// Begins, on the node that runs the Pod.
    pub fn begin(cluster: &Path, node: &str, address: &str) -> Result<Self, Failure> {
        // Exists before the first rule, so that a failure of the second still removes the first.
        let hole = Self { cluster: cluster.to_owned(), node: node.to_owned() };
        let rule = |side: &str| {
            format!("iptables -w -I FORWARD {side} {address} -m comment --comment {COMMENT} -j DROP")
        };
        in_node(cluster, node, &format!("{} && {}", rule("-s"), rule("-d")))?;
        Ok(hole)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.cluster, &self.node) {
            eprintln!("  REMOVE BY HAND the iptables rules {COMMENT} on {}: {error}", self.node);
        }
    }
}

/// Ends every black hole on a node.
pub fn remove_all(cluster: &Path, node: &str) -> Result<(), Failure> {
    let rules = in_node(cluster, node, "iptables -w -S FORWARD")?;
    for rule in rules.lines().filter(|rule| rule.contains(COMMENT)) {
        in_node(cluster, node, &format!("iptables -w {}", rule.replacen("-A", "-D", 1)))?;
    }
    Ok(())
}

fn in_node(cluster: &Path, node: &str, command: &str) -> Result<String, Failure> {
    output(&cluster.to_string_lossy(), &["node", "exec", node, "--", "sh", "-c", command])
}
