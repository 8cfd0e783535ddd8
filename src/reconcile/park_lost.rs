//! A hold: replicas that look for a lost primary in vain are parked, so that they can be read meanwhile.

use std::time::Duration;

use super::{
    record::is_newest,
    stages::{Job, Seen},
};
use crate::{act, reconcile::error::StageError};
use operator_core::election::lost_primary::{has_left, lost};

/// A link that broke for a moment is up again by then: a replica of a living primary is left with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does it. Where something else is decided, that is what happens to them.
pub(super) async fn park_lost(job: &Job<'_>, seen: &mut Seen) -> Result<(), StageError> {
    if seen.hold.is_none() || job.subject.paused {
        return Ok(());
    }
    let lost = lost(&seen.stored.record, &seen.look, |pod| job.subject.host_of(pod));
    // To one that has left no link comes up, and each look waits for the look-ups of those that dial it.
    let patience = if has_left(&seen.stored.record, &seen.look) { Duration::ZERO } else { PATIENCE };
    let lost = job.ctx.memory.stalled(&job.subject.set, lost, patience);
    if lost.is_empty() || !is_newest(job, seen).await? {
        return Ok(());
    }
    Ok(act::park(&mut seen.connections, &lost).await?)
}
