//! The set's objects and pods: its size, its children, the next pod to replace, where the primary belongs.

use std::time::Duration;

use tracing::info;

use super::{
    begin::is_there,
    look,
    record::write,
    settle::settle,
    stages::{Job, Seen},
};
use crate::{
    act,
    apply::{self, Applied, Live},
    decide::{
        roll::{Roll, Template, roll},
        size::size,
        switchover::{Wish, wish},
    },
    desired::{Stage, desired, disruptions},
    error::StageError,
    observe::image_of,
    plan::{Plan, Storage},
    record::Record,
    status::outcome::Outcome,
};

/// Between looks at a primary that is to move and cannot yet.
const MOVE_RETRY: Duration = Duration::from_secs(5);

/// Brings the children to what the plan asks for; the record gets the members before the `StatefulSet` gets the size.
/// `None` where something is missing that may have gone with the set.
pub(super) async fn apply_children(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    live: Live,
    outcome: &mut Outcome,
) -> Result<Option<Applied>, StageError> {
    let ctx = job.ctx;
    let size = size(&plan.subject.set, plan.replicas, running(&live), &seen.stored.record, &seen.look);
    let (pods, members) = (size.replicas, size.members.clone());
    outcome.size = Some(size);
    if members != seen.stored.record.members {
        let record = Record { members, ..seen.stored.record.clone() };
        write(job, seen, record).await?;
    }
    let before = ctx.memory.current_status(job.resource).unwrap_or_default();
    let disruptions = disruptions(live.disruption_budget.as_ref(), &before, &seen.look, job.now);
    let desired = desired(plan, Stage { pods, disruptions });
    if live.lacks(&desired) && !is_there(job).await? {
        return Ok(None);
    }
    let applied = Box::pin(apply::apply(&ctx.client, plan, desired, live)).await?;
    for write in &applied.writes {
        info!(object = %write.object, why = ?write.why, "applied");
    }
    Ok(Some(applied))
}

/// Size of the live `StatefulSet`.
pub(super) fn running(live: &Live) -> Option<i32> {
    live.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.replicas)
}

/// The next step of a roll, if one is due.
pub(super) async fn replace_outdated(
    job: &Job<'_>,
    seen: &Seen,
    plan: &Plan,
    applied: &Applied,
) -> Result<Roll, StageError> {
    let stateful_set = &applied.stateful_set;
    let status = stateful_set.status.as_ref();
    let is_seen = status.and_then(|s| s.observed_generation) >= stateful_set.metadata.generation;
    let template = Template {
        revision: status.filter(|_| is_seen).and_then(|s| s.update_revision.clone()),
        replicas: stateful_set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0),
        image: stateful_set
            .spec
            .as_ref()
            .and_then(|s| image_of(s.template.spec.as_ref()?))
            .unwrap_or_default()
            .to_owned(),
        ephemeral: matches!(plan.storage, Storage::Ephemeral),
    };
    let next = if seen.look.observed.pods.is_empty() {
        Roll::Done
    } else {
        roll(&plan.subject.set, &template, &seen.stored.record, &seen.look)
    };
    if let Roll::Replace { pod, uid, why } = &next {
        act::delete_pod(&job.ctx.client, job.subject, pod, uid, why).await?;
    }
    Ok(next)
}

/// Moves the primary away from a pod that goes, or home.
pub(super) async fn move_primary(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    running: Option<i32>,
    roll: &Roll,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    if seen.hold.is_some() {
        return Ok(());
    }
    let wish =
        wish(&plan.subject.set, plan.replicas, plan.home.as_ref(), &seen.stored.record, &seen.look, roll);
    match wish {
        Wish::Stay => Ok(()),
        Wish::Wait(what) => {
            outcome.switchover_pending = Some(what);
            outcome.again_in(MOVE_RETRY);
            Ok(())
        }
        Wish::Later(seconds) => {
            outcome.again_in(Duration::from_secs(seconds));
            Ok(())
        }
        Wish::Move { target, why } => {
            let target = target.clone();
            info!(target, why, "the primary is to move");
            look::again(job, seen).await;
            settle(job, seen, running, Some(&target), outcome).await
        }
    }
}
