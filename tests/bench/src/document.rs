//! docs/evidence/figures.md, written by the run that measured it.

use std::fmt::Write as _;

use crate::{figures::Figures, rest::Rest, start::Starts};
use rig::{Failure, clock::now, cluster::lab::Lab, machine};

/// All that a run found.
pub struct Findings {
    /// The figures.
    pub figures: Figures,
    /// At rest.
    pub rest: Rest,
    /// Starts with ephemeral storage.
    pub ephemeral: Starts,
    /// Starts with volumes.
    pub volumes: Starts,
    /// Other sets that were in the cluster meanwhile.
    pub foreign: usize,
}

const METHOD: &str = "\
How it is measured, on the cluster of `hack/cluster` (three nodes, control plane and Pods on one machine, images present):

- The status' time is when a watch on the `RedisReplicaSet` showed it. Percentiles are nearest rank; below 100 runs p99
  is the largest value.
- Each set has three Pods. A run with ephemeral storage makes a fresh set and then, each from Ready: points a replica
  elsewhere, black-holes a replica's Pod, kills the primary's process, black-holes the primary's Pod. Each set's process
  is killed once only: the kubelet restarts a container that crashed within the last ten minutes after 10 s and more.
  The moment of each fault is spread over 2 s, so that it falls into every part of an interval in which something looks.
- *In sync* is asked of the servers every 20 ms (INFO replication), by a program in a node's network: the replica names
  the primary, its link is up, no sync runs; the primary lists it as online and has the same history. A status that says
  Ready more than 0.1 s before that counts as a failed run.
- *Acknowledged*: the client got OK, and `WAIT 1` returned 1. It retries every 10 ms at all Pods in turn.
- *Repointed*: REPLICAOF to an address where nobody answers. The time ends with the first of: the status names that
  Pod, the replica follows again.
- *Black-holed*: the node drops what it would forward from and to the Pod. The kubelet goes on reaching it, so its
  probes succeed, and nothing but the silence tells.
- *Provisioned*: from a claim's creation until it is bound, overlaps counted once; that is the storage provisioner's time.
- *Mutating calls*: create, update, patch and delete by the operator's account in the API server's audit log, leases
  excepted, from apply until 2 s after Ready.
- *Bad image reverted*: an image that does not exist is set; 15 s after the first Pod is stuck on it the good one is set.
- *Memory* is the resident memory of the operator that leads.
";

/// The whole document.
///
/// `checkout` is the commit at the run's beginning.
pub fn document(
    lab: &Lab,
    command: &str,
    checkout: &str,
    rest_seconds: u64,
    findings: &Findings,
) -> Result<String, Failure> {
    let mut text = String::from("# Figures\n\n");
    let date = now().strftime("%Y-%m-%d");
    writeln!(text, "Written by `{command}` on {date}, checkout {checkout}. Do not edit.\n")?;
    writeln!(text, "- Machine: {}", machine::description()?)?;
    writeln!(text, "- {}", lab.versions)?;
    if findings.foreign > 0 {
        writeln!(text, "- **{} other sets were in the cluster meanwhile.**", findings.foreign)?;
    }
    writeln!(text, "\n{}", findings.figures.markdown())?;
    writeln!(text, "{METHOD}")?;
    for (name, starts) in [("ephemeral storage", &findings.ephemeral), ("volumes", &findings.volumes)] {
        writeln!(text, "## A start with {name}\n\nSeconds from apply until a step was first seen:\n")?;
        writeln!(text, "{}", starts.steps.markdown())?;
        writeln!(text, "Mutating calls of the operator in the last run:\n\n{}", list(&starts.calls))?;
    }
    writeln!(text, "## At rest\n\nAll requests of both operators in {rest_seconds} s with three sets:\n")?;
    writeln!(text, "{}", list(&findings.rest.requests))?;
    writeln!(text, "Leader's memory: {}.", findings.rest.process)?;
    Ok(text)
}

fn list(counts: &std::collections::BTreeMap<String, usize>) -> String {
    counts.iter().map(|(what, count)| format!("- {count} × {what}\n")).collect()
}
