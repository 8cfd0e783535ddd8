//! A node that nobody reaches and that reaches nobody: all packets but its own to itself are dropped.

use std::path::{Path, PathBuf};

use rig::{Failure, machine::output};

/// Marks our rules, so that none of anybody else's is ever removed.
const COMMENT: &str = "redis-operator-scenarios";

/// A node that is cut off; ends when dropped.
pub struct NodeCut {
    cluster: PathBuf,
    node: String,
}

impl NodeCut {
    /// Begins.
    pub fn begin(cluster: &Path, node: &str) -> Result<Self, Failure> {
        // Exists before the first rule, so that a failure of the second still removes the first.
        let cut = Self { cluster: cluster.to_owned(), node: node.to_owned() };
        for rule in RULES {
            cut.run(&format!("iptables -w -I {rule} -m comment --comment {COMMENT} -j DROP"))?;
        }
        Ok(cut)
    }

    fn run(&self, command: &str) -> Result<String, Failure> {
        output(&self.cluster.to_string_lossy(), &["node", "exec", &self.node, "--", "sh", "-c", command])
    }
}

/// What comes from others, goes to others, or passes through.
const RULES: [&str; 3] = ["INPUT ! -i lo", "OUTPUT ! -o lo", "FORWARD"];

impl Drop for NodeCut {
    fn drop(&mut self) {
        for rule in RULES {
            let removed = self.run(&format!("iptables -w -D {rule} -m comment --comment {COMMENT} -j DROP"));
            if let Err(error) = removed {
                eprintln!("  REMOVE BY HAND the iptables rules {COMMENT} on {}: {error}", self.node);
            }
        }
    }
}
