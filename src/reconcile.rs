//! One reconcile of one set: the picture in the crate's documentation, as code.

mod begin;
mod configure;
mod credentials;
pub mod error;
mod look;
mod names;
mod park_lost;
mod publish;
mod record;
mod refusals;
mod rollout;
mod settle;
mod stages;
mod users;
mod volumes;
mod watch_servers;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::ObjectMeta;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

pub use self::publish::{PublishError, publish};
use self::{
    begin::begin,
    configure::configure,
    publish::send,
    refusals::{Wanted, refused},
    rollout::{apply_children, move_primary, replace_outdated, running},
    settle::settle,
    stages::{Beginning, Job, Seen},
    users::keep_users,
    volumes::look_after_volumes,
    watch_servers::{note_refusal, try_to_write, watch_servers},
};
use crate::{context::Context, error_chain::chain, kubernetes::children::Live, reconcile::error::StageError};
use operator_core::{
    api::{RedisReplicaSet, RedisReplicaSetStatus, spec::RedisReplicaSetSpec},
    events,
    plan::{Plan, plan},
    redis_conf::File,
    rollout::next_pod::Roll,
    status::outcome::Outcome,
    subject::Subject,
};

/// A reconcile that takes longer is given up; what it learned until then still reaches the status.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Mere progress of a start or a roll reaches the status at most this often, and less often the longer it takes: each
/// step of each pod would be a write. Short enough for a person who watches, and `requeue` looks more often than this until
/// the set is as the spec asks.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(8);

/// How a reconcile ended.
pub struct Reconciled {
    /// The status that stands in the cluster.
    pub status: RedisReplicaSetStatus,
    /// A stage failed.
    pub failed: bool,
    /// Something is to be written soon that could not be written yet: the next reconcile is not to wait for longer.
    pub within: Option<Duration>,
}

/// What a set is taken for whose spec cannot be read: a paused one, so that nothing is changed about it.
pub fn stand_in(metadata: ObjectMeta) -> RedisReplicaSet {
    let spec = RedisReplicaSetSpec { paused: true, ..RedisReplicaSetSpec::default() };
    RedisReplicaSet { metadata, spec, status: None }
}

/// One reconcile: all stages, then the status whatever came of them.
///
/// Of a set whose spec cannot be read, `unreadable` says why; `resource` is then what [`stand_in`] makes of it.
pub async fn reconcile(
    resource: &RedisReplicaSet,
    subject: &Subject,
    unreadable: Option<&str>,
    ctx: &Context,
    now: Timestamp,
) -> Result<Reconciled, PublishError> {
    let mut outcome = Outcome::default();
    let plan = plan_of(resource, unreadable, ctx, &mut outcome);
    outcome.plan.clone_from(&plan);
    let there = OnceCell::new();
    let began = Instant::now();
    let job = Job { ctx, resource, subject, plan: plan.as_ref(), now, began, there: &there };
    let deadline = began + ctx.deadline;
    let looked = timeout_at(deadline, Box::pin(first_look(&job, &mut outcome))).await;
    match looked.unwrap_or(Err(StageError::Deadline(ctx.deadline))) {
        Ok(Beginning::On((mut seen, live))) => {
            let wanted = live.as_ref().map(Wanted::of);
            let staged = async {
                // Without its record nothing is done to a set.
                if seen.acts {
                    Box::pin(stages(&job, &mut seen, live, &mut outcome)).await;
                }
            };
            let ended = timeout_at(deadline, Box::pin(staged)).await;
            if ended.is_err() {
                fail(ctx, &mut outcome, &StageError::Deadline(ctx.deadline));
            }
            let _ = timeout_at(deadline, Box::pin(keep_users(&job, &mut seen, &mut outcome))).await;
            outcome.write = try_to_write(&job, &mut seen).await;
            note_refusal(&job, &seen, &mut outcome);
            if let Some(wanted) = wanted {
                refused(&job, &seen, wanted, &mut outcome).await;
            }
            watch_servers(&job, &seen, outcome.write.as_ref());
            outcome.record = Some(seen.stored.record);
            outcome.look = Some(seen.look);
            outcome.hold = seen.hold;
        }
        Ok(Beginning::Wait) => {}
        Ok(Beginning::Gone) => {
            info!("the set was deleted");
            let status = resource.status.clone().unwrap_or_default();
            return Ok(Reconciled { status, failed: false, within: None });
        }
        Err(error) => fail(ctx, &mut outcome, &error),
    }
    // A reconcile that ended before its look at the volumes changes nothing about them.
    outcome.growth.get_or_insert_with(|| ctx.claims.growth(&subject.set));
    tell(&job, outcome).await
}

/// The plan, or why there is none.
fn plan_of(
    resource: &RedisReplicaSet,
    unreadable: Option<&str>,
    ctx: &Context,
    outcome: &mut Outcome,
) -> Option<Plan> {
    let planned = match unreadable {
        Some(why) => Err(StageError::Unreadable(why.to_owned())),
        None => plan(resource, &ctx.settings).map_err(StageError::from),
    };
    planned.inspect_err(|error| fail(ctx, outcome, error)).ok()
}

async fn first_look(
    job: &Job<'_>,
    outcome: &mut Outcome,
) -> Result<Beginning<(Seen, Option<Live>)>, StageError> {
    Ok(match Box::pin(begin(job, outcome)).await? {
        Beginning::On(begun) => Beginning::On(Box::pin(look::first(job, begun)).await),
        Beginning::Wait => Beginning::Wait,
        Beginning::Gone => Beginning::Gone,
    })
}

/// Who is primary, then what the spec asks for. A stage that fails is a line in the outcome, and what does not need it goes on.
async fn stages(job: &Job<'_>, seen: &mut Seen, live: Option<Live>, outcome: &mut Outcome) {
    // What is not known to be there is not changed, and neither are the members.
    let job = &Job { plan: job.plan.filter(|_| live.is_some()), ..*job };
    let live = live.unwrap_or_default();
    let running = running(&live);
    let mut is_fresh = seen.is_fresh;
    if let Err(error) = settle(job, seen, running, None, outcome).await {
        fail(job.ctx, outcome, &error);
        // Where the primary of record serves, what the spec asks for may be what ends the failure. By the newest record, and by what
        // the servers say after what failed.
        (seen.is_fresh, is_fresh) = (false, false);
        look::again(job, seen).await;
        if !seen.look.primary_serves(&seen.stored.record) {
            return;
        }
    }
    // Of a set that is being deleted Kubernetes removes the objects; its data is looked after for as long as it serves.
    let Some(plan) = job.plan.filter(|_| !job.subject.is_left_alone()) else { return };
    let there = live.stateful_set.clone();
    let rolled_out = Box::pin(roll_out(job, seen, plan, (live, is_fresh), outcome)).await;
    let (stateful_set, roll) = match (rolled_out, there) {
        (Ok(Some((stateful_set, roll))), _) => (stateful_set, roll),
        (Ok(None), _) => return,
        (Err(error), there) => {
            fail(job.ctx, outcome, &error);
            // A pod that is being deleted has its role moved all the same, and volumes are looked after.
            match there {
                Some(there) => (there, Roll::Unknown),
                None => return,
            }
        }
    };
    outcome.roll = Some(roll.clone());
    if let Err(error) = move_primary(job, seen, plan, &stateful_set, &roll, outcome).await {
        fail(job.ctx, outcome, &error);
    }
    if let Err(error) = look_after_volumes(job, seen, plan, &stateful_set, &roll, outcome).await {
        fail(job.ctx, outcome, &error);
    }
}

/// What the spec asks for, in the order in which one thing needs the other. `None` where the set may be gone, or what was decided
/// by is not so any more.
async fn roll_out(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    (live, is_fresh): (Live, bool),
    outcome: &mut Outcome,
) -> Result<Option<(StatefulSet, Roll)>, StageError> {
    let mounted = live.config_map.as_ref().map(File::read);
    match configure(job, seen, plan, mounted.as_ref()).await {
        Ok(report) => {
            let repaired = report.iter().flat_map(|report| &report.repaired).map(events::repaired);
            outcome.notices.extend(repaired);
            outcome.config = report;
        }
        // The file stays as it is until the servers were told.
        Err(error) => fail(job.ctx, outcome, &error),
    }
    let rolled_out = Box::pin(apply_children(job, seen, plan, (live, is_fresh), outcome)).await?;
    let Some(rolled_out) = rolled_out else { return Ok(None) };
    let roll = replace_outdated(job, seen, plan, &rolled_out).await?;
    Ok(roll.map(|roll| (rolled_out.applied.stateful_set, roll)))
}

/// A stage failed: the status, the log and a figure tell of it.
fn fail(ctx: &Context, outcome: &mut Outcome, error: &StageError) {
    let (reason, text) = (error.reason(), chain(error));
    ctx.metrics.count_error(reason.as_str());
    warn!(reason = reason.as_str(), error = text, "a stage failed");
    outcome.fail(reason, text);
}

/// Status, Events, metrics.
async fn tell(job: &Job<'_>, mut outcome: Outcome) -> Result<Reconciled, PublishError> {
    let Job { ctx, resource, subject, now, .. } = *job;
    let (status, deferred) = publish(resource, ctx, subject, &outcome, now).await?;
    for notice in &outcome.notices {
        send(resource, ctx, notice).await;
    }
    ctx.metrics.observe_set(&subject.set, &status, outcome.look.as_ref(), now);
    if deferred {
        outcome.again_in(PROGRESS_INTERVAL);
    }
    Ok(Reconciled { status, failed: !outcome.failures.is_empty(), within: outcome.again_in })
}
