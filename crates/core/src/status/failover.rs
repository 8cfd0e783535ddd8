//! `status.failover`: who may take over from a primary that stays silent.

use std::collections::BTreeMap;

use crate::{
    api::{failover::Mode, status::FailoverStatus},
    election::{
        quorum::{armable, takes_over},
        snapshot::Snapshot,
    },
    status::outcome::Outcome,
};

/// What the last look shows; without one, what was said before.
pub(super) fn failover(before: Option<&FailoverStatus>, outcome: &Outcome) -> Option<FailoverStatus> {
    let (Some(look), Some(record)) = (&outcome.look, &outcome.record) else { return before.cloned() };
    let mode = look.failover.mode;
    let armed = record.armed.as_ref().filter(|_| takes_over(record, look));
    let message = match (mode, armed) {
        (Mode::Quorum, Some(_)) => shared_node(look),
        (Mode::Quorum, None) => {
            let missing = armable(record, look).err();
            Some(missing.unwrap_or_else(|| "the primary is being told to wait for its replicas".to_owned()))
        }
        (Mode::Fenced | Mode::Manual, _) => None,
    };
    Some(FailoverStatus {
        mode,
        armed: armed.is_some(),
        min_replicas_to_write: armed.map(|armed| armed.min_replicas),
        message,
    })
}

/// Where one node has several pods, losing it loses several copies.
fn shared_node(look: &Snapshot) -> Option<String> {
    let mut by_node: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pod in &look.observed.pods {
        by_node.entry(&pod.node).or_default().push(&pod.name);
    }
    let (node, pods) = by_node.into_iter().find(|(node, pods)| !node.is_empty() && pods.len() > 1)?;
    Some(format!(
        "{} run on node {node}: if that is lost with the primary, the set waits for it",
        pods.join(" and ")
    ))
}
