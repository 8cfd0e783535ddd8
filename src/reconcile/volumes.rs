//! The volumes: they grow, and bear what a set that is begun again over them needs to know.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{
    record::{is_newest, write},
    stages::{Job, Seen},
};
use crate::{kubernetes::claims, reconcile::error::StageError};
use operator_core::{
    events,
    plan::Plan,
    rollout::{at_rest::is_at_rest, next_pod::Roll},
    status::outcome::Outcome,
};

/// Grows the volumes, leaves the history on them, and lets the record live as long as they do.
pub(super) async fn look_after_volumes(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    stateful_set: &StatefulSet,
    roll: &Roll,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let (ctx, set) = (job.ctx, &job.subject.set);
    let record = seen.stored.record.clone();
    if ctx.claims.has_adopted(set, record.sure, seen.look.primary_serves(&record)) {
        outcome.notices.push(events::data_adopted(format!(
            "the set was begun again over data of before; {} has all of it and is the primary from epoch {} on",
            record.primary.as_deref().unwrap_or_default(),
            record.epoch
        )));
    }
    let at_rest = seen.hold.is_none() && is_at_rest(&record, &seen.look, Some(roll));
    let growth =
        claims::tend(&ctx.client, &ctx.claims, plan, &record, &seen.look, stateful_set, at_rest).await?;
    if !growth.running.is_empty() {
        outcome.again_in(claims::GROWTH_INTERVAL);
    }
    outcome.growth = Some(growth);
    if !at_rest || !ctx.claims.are_new(set) {
        return Ok(());
    }
    if ctx.claims.claims(set, &job.subject.uid).is_none_or(|claims| claims == seen.stored.claims) {
        ctx.claims.stand_in_record(set);
    } else if ctx.memory.current_status(job.resource).is_some_and(|status| status.is_ready()) {
        if is_newest(job, seen).await? {
            write(job, seen, record).await?;
        }
    } else {
        // A client that waits for Ready need not wait for this; and the votes, which come soon after, are a write anyhow.
        outcome.again_in(claims::KEPT_WITHIN);
    }
    Ok(())
}
