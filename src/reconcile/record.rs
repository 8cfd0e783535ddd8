//! Writing the role record.

use tracing::info;

use super::{
    look,
    stages::{Job, Seen},
};
use crate::{
    kubernetes::record::{self, Found},
    reconcile::error::StageError,
};
use redis_node::record::Record;

/// Whether the record is the newest: asked before anything is done by it. Where it is not, the newest is taken in its place and the
/// servers are looked at by it; what was decided by the other is void.
pub(super) async fn is_newest(job: &Job<'_>, seen: &mut Seen) -> Result<bool, StageError> {
    if seen.is_fresh {
        return Ok(true);
    }
    let Some(Found::Own(newest)) = record::read_record(&job.ctx.client, job.subject).await? else {
        return Err(StageError::RecordGone);
    };
    let is_same = newest.resource_version == seen.stored.resource_version;
    seen.stored = newest;
    took(job, seen);
    if !is_same {
        look::again(job, seen).await;
    }
    Ok(is_same)
}

/// Writes the record, and the volumes that it speaks of, as they were seen last.
pub(super) async fn write(job: &Job<'_>, seen: &mut Seen, record: Record) -> Result<(), StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    info!(
        epoch = record.epoch,
        primary = record.primary.as_deref().unwrap_or_default(),
        switch_to = record.switch_to.as_ref().map(|s| s.target.as_str()),
        "writing the role record"
    );
    let listed = if subject.has_volumes { ctx.claims.claims(&subject.set, &subject.uid) } else { None };
    let is_listed = listed.is_some();
    let claims = listed.unwrap_or_else(|| seen.stored.claims.clone());
    seen.stored =
        record::write_record(&ctx.client, subject, &seen.stored.resource_version, &record, &claims).await?;
    took(job, seen);
    if is_listed {
        ctx.claims.stand_in_record(&subject.set);
    }
    Ok(())
}

fn took(job: &Job<'_>, seen: &mut Seen) {
    seen.is_fresh = true;
    job.ctx.memory.remember_record(&job.subject.set, &job.subject.uid, &seen.stored);
}
