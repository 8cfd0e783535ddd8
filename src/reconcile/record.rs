//! Writing the role record.

use tracing::info;

use super::stages::{Job, Seen};
use crate::{error::StageError, record::Record, store};

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
    seen.stored = store::write_record(&ctx.client, subject, &seen.stored, &record, &claims).await?;
    if is_listed {
        ctx.claims.stand_in_record(&subject.set);
    }
    Ok(())
}
