//! The set's objects and pods: its size, its children, the next pod to replace, where the primary belongs.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use tracing::info;

use super::{
    begin::{is_there, is_there_now},
    configure::{check_image, next_file},
    fail, look,
    record::{is_newest, write},
    settle::settle,
    stages::{Job, Seen},
};
use crate::{
    kubernetes::{
        children::{self, Applied, Live},
        pods,
    },
    reconcile::error::StageError,
};
use operator_core::{
    desired::{Desired, Stage, desired, disruptions},
    observed::pod::image_of,
    plan::{Plan, Storage},
    redis_conf::File,
    rollout::{
        next_pod::{Roll, Template, roll},
        placement::{Placement, wish},
        size::size,
    },
    status::outcome::Outcome,
};
use redis_node::record::Record;

/// Between looks at a primary that is to move and cannot yet.
const MOVE_RETRY: Duration = Duration::from_secs(5);

/// The children after the stage, and whether they are what the API server said, and not what the watches showed.
pub(super) struct RolledOut {
    pub applied: Applied,
    pub is_fresh: bool,
}

/// Brings the children to what the plan asks for; the record gets the members before the `StatefulSet` gets the size.
/// `None` where something is missing that may have gone with the set, or where the record is another one by now.
pub(super) async fn apply_children(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    (live, is_fresh): (Live, bool),
    outcome: &mut Outcome,
) -> Result<Option<RolledOut>, StageError> {
    let (mut live, mut is_fresh) = (live, is_fresh);
    let (mut wanted, mut members) = self::wanted(job, seen, plan, &live, outcome);
    if !is_fresh {
        let is_done = members == seen.stored.record.members
            && children::is_as_desired(&wanted.plan, &wanted.desired, &live);
        if let (true, Some(stateful_set)) = (is_done, live.stateful_set.clone()) {
            let applied = Applied { stateful_set, writes: Vec::new(), failures: Vec::new() };
            return Ok(Some(RolledOut { applied, is_fresh }));
        }
        // The caches show that something is to be written: over what there is by the API server's own word.
        live = Box::pin(children::fetch_again(&job.ctx.client, &wanted.plan, &wanted.desired, live)).await?;
        is_fresh = true;
        if !is_newest(job, seen).await? {
            return Ok(None);
        }
        (wanted, members) = self::wanted(job, seen, plan, &live, outcome);
    }
    if members != seen.stored.record.members {
        let record = Record { members, ..seen.stored.record.clone() };
        write(job, seen, record).await?;
    }
    if live.lacks(&wanted.desired) && !is_there(job).await? {
        return Ok(None);
    }
    // Objects lose their owner while a set is deleted with --cascade=orphan. Adopted by that one, they would go with it after all.
    if children::adopts(&wanted.plan, &live) && !is_there_now(job).await? {
        return Ok(None);
    }
    let mut applied = Box::pin(children::apply(&job.ctx.client, &wanted.plan, wanted.desired, live)).await?;
    for write in &applied.writes {
        info!(object = %write.object, why = ?write.why, "applied");
    }
    for failure in applied.failures.drain(..) {
        fail(job.ctx, outcome, &failure.into());
    }
    Ok(Some(RolledOut { applied, is_fresh }))
}

/// What is to be there now, and the plan with the file to mount.
struct Wanted {
    plan: Plan,
    desired: Desired,
}

/// What is to be there beside these live objects, and the members that the record is to name.
fn wanted(
    job: &Job<'_>,
    seen: &Seen,
    plan: &Plan,
    live: &Live,
    outcome: &mut Outcome,
) -> (Wanted, Vec<String>) {
    let image = check_image(seen, plan, live).unwrap_or_else(|(error, running)| {
        fail(job.ctx, outcome, &error.into());
        running
    });
    let size = size(&plan.subject.set, plan.replicas, running(live), &seen.stored.record, &seen.look);
    let (pods, members) = (size.replicas, size.members.clone());
    outcome.size = Some(size);
    let before = job.ctx.memory.current_status(job.resource).unwrap_or_default();
    let disruptions = disruptions(live.disruption_budget.as_ref(), &before, &seen.look, job.now);
    let mounted = live.config_map.as_ref().map(File::read);
    let config = next_file(seen, plan, mounted.as_ref(), outcome.config.as_ref());
    let plan = Plan { config, image, ..plan.clone() };
    let desired = desired(&plan, Stage { pods, disruptions });
    (Wanted { plan, desired }, members)
}

/// Size of the live `StatefulSet`.
pub(super) fn running(live: &Live) -> Option<i32> {
    live.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.replicas)
}

/// The next step of a roll, if one is due. `None` where what it was decided by is not so any more.
pub(super) async fn replace_outdated(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    rolled_out: &RolledOut,
) -> Result<Option<Roll>, StageError> {
    let (client, set) = (&job.ctx.client, &plan.subject.set);
    let mut next = next_step(seen, plan, &rolled_out.applied.stateful_set);
    // The watch may be behind: a pod is deleted once.
    let is_due = |next: &Roll| match next {
        Roll::Replace { uid, .. } => !job.ctx.memory.has_deleted(set, uid),
        _ => false,
    };
    if !is_due(&next) {
        return Ok(Some(next));
    }
    if !job.ctx.mandate.holds() {
        return Ok(None);
    }
    // Nor is a pod deleted by the word of a cache.
    if !is_newest(job, seen).await? {
        return Ok(None);
    }
    if !rolled_out.is_fresh {
        let Some(stateful_set) = children::fetch_stateful_set(client, set).await? else { return Ok(None) };
        next = next_step(seen, plan, &stateful_set);
    }
    if let Roll::Replace { pod, uid, why } = &next
        && is_due(&next)
    {
        pods::delete_pod(client, job.subject, pod, uid, why).await?;
        job.ctx.memory.deleted(set, uid);
    }
    Ok(Some(next))
}

/// Revision of the present pod template; none while its controller has not taken up the latest change.
fn revision(stateful_set: &StatefulSet) -> Option<String> {
    let status = stateful_set.status.as_ref();
    let is_seen = status.and_then(|s| s.observed_generation) >= stateful_set.metadata.generation;
    status.filter(|_| is_seen).and_then(|s| s.update_revision.clone())
}

fn next_step(seen: &Seen, plan: &Plan, stateful_set: &StatefulSet) -> Roll {
    if seen.look.observed.pods.is_empty() {
        return Roll::Done;
    }
    let template = Template {
        revision: revision(stateful_set),
        replicas: stateful_set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(0),
        image: stateful_set
            .spec
            .as_ref()
            .and_then(|s| image_of(s.template.spec.as_ref()?))
            .unwrap_or_default()
            .to_owned(),
        ephemeral: matches!(plan.storage, Storage::Ephemeral),
    };
    roll(&plan.subject.set, &template, &seen.stored.record, &seen.look)
}

/// Moves the primary away from a pod that goes, or home.
pub(super) async fn move_primary(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    stateful_set: &StatefulSet,
    roll: &Roll,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    if seen.hold.is_some() {
        return Ok(());
    }
    let (set, home) = (&plan.subject.set, plan.home.as_ref());
    let revision = revision(stateful_set);
    let roll = (roll, revision.as_deref());
    let wished = |seen: &Seen| wish(set, plan.replicas, home, &seen.stored.record, &seen.look, roll);
    match wished(seen) {
        Placement::Stay => Ok(()),
        Placement::Wait(what) => {
            outcome.switchover_pending = Some(what);
            outcome.again_in(MOVE_RETRY);
            Ok(())
        }
        Placement::Later(seconds) => {
            outcome.again_in(Duration::from_secs(seconds));
            Ok(())
        }
        Placement::Move { target, why } => {
            let target = target.clone();
            info!(target, why, "the primary is to move");
            look::again(job, seen).await;
            let running = stateful_set.spec.as_ref().and_then(|spec| spec.replicas);
            settle(job, seen, running, Some(&target), outcome).await?;
            let is_astray =
                seen.look.observed.pods.iter().any(|pod| pod.name == target && pod.astray.is_some());
            if is_astray && let Placement::Wait(what) = wished(seen) {
                outcome.switchover_pending = Some(what);
                outcome.again_in(MOVE_RETRY);
            }
            Ok(())
        }
    }
}
