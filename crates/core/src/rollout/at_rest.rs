//! When a set has come to rest.

use redis_node::record::Record;

use super::next_pod::Roll;
use crate::{api::status::InstanceState, election::snapshot::Snapshot, topology::Verdict};

/// Whether the set has come to rest after whatever happened, so that nothing waits behind a write of ours: a primary
/// serves, no switchover is open, and every server that answers is verified. A server that is silent may stay so.
pub fn is_at_rest(record: &Record, look: &Snapshot, roll: Option<&Roll>) -> bool {
    let is_silent = |verdict: &Verdict| {
        matches!(verdict.state, InstanceState::Unreachable | InstanceState::Pending | InstanceState::Busy)
    };
    look.primary_serves(record)
        && record.sure
        && record.switch_to.is_none()
        && matches!(roll, None | Some(Roll::Done | Roll::Wait(_)))
        && look.topology.instances.iter().all(|verdict| verdict.is_verified() || is_silent(verdict))
}
