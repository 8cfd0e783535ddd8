//! Packets that are dropped: rules in the networks of nodes, which go when the cut is dropped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};

use rig::{Failure, cluster::lab::Lab, machine::output};

/// The interface that joins a node to all others.
const CABLE: &str = "eth0";

/// Packets of one kind, in the network of one node.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The node.
    pub node: String,
    /// A chain, and which of its packets, in the words of iptables.
    pub packets: String,
}

/// Packets that are dropped; ends when dropped itself.
pub struct Cut {
    cluster: PathBuf,
    comment: String,
    /// What is dropped, by node.
    rules: BTreeMap<String, Vec<String>>,
}

impl Cut {
    /// Begins.
    pub fn begin(lab: &Lab, dropped: &[Dropped]) -> Result<Self, Failure> {
        let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in dropped {
            rules.entry(one.node.clone()).or_default().push(one.packets.clone());
        }
        // Exists before the first rule, so that a failure of the second still removes the first.
        let cut = Self { cluster: lab.cluster.clone(), comment: comment(lab), rules };
        for (node, rules) in &cut.rules {
            let all: Vec<String> = rules.iter().map(|packets| cut.rule("-I", packets)).collect();
            in_node(&cut.cluster, node, &all.join(" && "))?;
        }
        Ok(cut)
    }

    /// Begins with the cable of a node: what is on the node still reaches what is on it, as on a machine whose cable is pulled.
    pub fn of_node(lab: &Lab, node: &str) -> Result<Self, Failure> {
        let sides = ["INPUT -i", "OUTPUT -o", "FORWARD -i", "FORWARD -o"];
        let dropped = sides.map(|side| Dropped { node: node.to_owned(), packets: format!("{side} {CABLE}") });
        Self::begin(lab, &dropped)
    }

    /// The command that adds a rule or takes it away.
    fn rule(&self, verb: &str, packets: &str) -> String {
        format!("iptables -w {verb} {packets} -m comment --comment {} -j DROP", self.comment)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        for (node, rules) in &self.rules {
            // Each by itself: where one was never made, the others go all the same.
            for packets in rules {
                if let Err(error) = in_node(&self.cluster, node, &self.rule("-D", packets)) {
                    eprintln!("  REMOVE BY HAND the iptables rules {} on {node}: {error}", self.comment);
                }
            }
        }
    }
}

/// Ends every cut that an earlier run in this namespace has left, if it was killed.
pub async fn remove_left(lab: &Lab) -> Result<(), Failure> {
    let comment = comment(lab);
    for node in Api::<Node>::all(lab.client.clone()).list_metadata(&ListParams::default()).await? {
        let node = node.name_any();
        let rules = in_node(&lab.cluster, &node, "iptables -w -S")?;
        for rule in rules.lines().filter(|rule| rule.split(' ').any(|word| word == comment)) {
            in_node(&lab.cluster, &node, &format!("iptables -w {}", rule.replacen("-A", "-D", 1)))?;
        }
    }
    Ok(())
}

/// Marks our rules, so that none of anybody else's is ever removed.
fn comment(lab: &Lab) -> String {
    format!("cut-by-{}", lab.namespace)
}

fn in_node(cluster: &Path, node: &str, command: &str) -> Result<String, Failure> {
    output(&cluster.to_string_lossy(), &["node", "exec", node, "--", "sh", "-c", command])
}
