//! One pass over one set: the picture in the crate's documentation, as code.

mod begin;
mod config;
mod publish;
mod settle;
mod watch;

use std::time::Duration;

use jiff::Timestamp;
use kube::{ResourceExt, api::ObjectMeta};
use tokio::time::timeout;
use tracing::{info, warn};

pub use self::publish::{PublishError, publish};
use self::{
    begin::{is_there, password, record},
    publish::send,
    settle::{settle, write},
    watch::{try_to_write, watch_servers},
};
use crate::{
    act,
    api::{RedisReplicaSet, RedisReplicaSetStatus, spec::RedisReplicaSetSpec, status::DivergenceStatus},
    apply::{self, Live},
    claims,
    config::{File, live::Report},
    context::Context,
    decide::{
        Hold,
        divergence::Divergence,
        look::Look,
        roll::{Roll, Template, roll},
        size::{Size, size},
        switchover::{Wish, wish},
    },
    desired::{Stage, desired, disruptions},
    error::{StageError, chain},
    events,
    names::SetName,
    observe::{Connections, image_of},
    plan::{Plan, Storage, plan},
    record::Record,
    redis::{password::Password, writes::Write},
    status::Learned,
    store::Stored,
    volumes::{Growth, is_at_rest},
};

/// A pass that takes longer is given up; what it learned until then still reaches the status.
pub const PASS_DEADLINE: Duration = Duration::from_secs(30);

/// Mere progress of a start or a roll reaches the status at most this often, and less often the longer it takes: each
/// step of each pod would be a write. Short enough for who watches, and `requeue` looks more often than this until the
/// set is as wanted.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(8);

/// Between looks at a primary that is to move and cannot yet.
const MOVE_RETRY: Duration = Duration::from_secs(5);

/// How a pass ended.
pub struct Ended {
    /// The status that stands in the cluster.
    pub status: RedisReplicaSetStatus,
    /// A stage failed.
    pub failed: bool,
    /// Something is to be written soon that could not be written yet: the next pass is not to wait for longer.
    pub within: Option<Duration>,
}

/// What a pass has learned so far.
#[derive(Default)]
struct Pass {
    /// The set was asked for once more, and whether it is still there.
    there: Option<bool>,
    plan: Option<Plan>,
    stored: Option<Stored>,
    password: Option<Password>,
    password_missing: bool,
    look: Option<Look>,
    /// What became of a write that was tried on the primary of record.
    write: Option<Write>,
    /// redis.conf as the pods mount it now.
    file: Option<File>,
    /// What the servers said to the directives that they were told.
    report: Option<Report>,
    hold: Option<Hold>,
    size: Option<Size>,
    roll: Option<Roll>,
    /// The primary is to move, and cannot yet.
    move_waits: Option<String>,
    /// A switchover that ended without a change.
    switched_in_vain: Option<String>,
    /// Data that servers have and the primary has not: published before they are told to follow it.
    diverged: Vec<Divergence>,
    /// What the status says of such data already.
    published: Vec<DivergenceStatus>,
    /// How far the volumes are from the wanted size, if that was looked at.
    growth: Option<Growth>,
    /// Data of before was adopted.
    adopted: Option<String>,
    /// Something waits for time alone: the next pass is not to come later than this.
    within: Option<Duration>,
    /// Over which the last look was taken.
    connections: Connections,
}

impl Pass {
    fn again_in(&mut self, wait: Duration) {
        self.within = Some(self.within.map_or(wait, |within| within.min(wait)));
    }
}

/// What a set is taken for whose spec cannot be read: a paused one, so that nothing is changed about it.
pub fn stand_in(metadata: ObjectMeta) -> RedisReplicaSet {
    let spec = RedisReplicaSetSpec { paused: true, ..RedisReplicaSetSpec::default() };
    RedisReplicaSet { metadata, spec, status: None }
}

/// One pass: all stages, then the status whatever came of them. Returns the status and whether a stage failed.
///
/// Of a set whose spec cannot be read, `unreadable` says why; `set` is then what [`stand_in`] makes of it.
pub async fn reconcile(
    set: &RedisReplicaSet,
    unreadable: Option<&str>,
    ctx: &Context,
    now: Timestamp,
) -> Result<Ended, PublishError> {
    let name = SetName::new(
        set.metadata.namespace.clone().unwrap_or_default(),
        set.metadata.name.clone().unwrap_or_default(),
    );
    let published = ctx.memory.current_status(set).map(|status| status.divergences).unwrap_or_default();
    let mut pass = Pass { published, ..Pass::default() };
    let ended = timeout(ctx.pass_deadline, Box::pin(stages(&mut pass, set, ctx, now))).await;
    if pass.there == Some(false) {
        info!("the set was deleted");
        return Ok(Ended { status: set.status.clone().unwrap_or_default(), failed: false, within: None });
    }
    let failure = match ended {
        Ok(Ok(())) => unreadable.map(|why| StageError::Unreadable(why.to_owned())),
        Ok(Err(error)) => Some(error),
        Err(_) => Some(StageError::Deadline(ctx.pass_deadline)),
    };
    let failure = failure.map(|error| (error.category(), chain(&error)));
    if let Some((category, text)) = &failure {
        ctx.metrics.count_error(category);
        warn!(category, error = text, "pass ended early");
    }
    pass.write = try_to_write(&mut pass, ctx, &name).await;
    watch_servers(&pass, set, ctx);

    // A pass that ended before its look at the volumes changes nothing about them.
    let growth = pass.growth.take().unwrap_or_else(|| ctx.claims.growth(&name));
    let learned = Learned {
        set: &name,
        generation: set.metadata.generation,
        wanted: match (unreadable, &pass.stored) {
            (Some(_), Some(stored)) => i32::try_from(stored.record.members.len()).unwrap_or(i32::MAX),
            _ => set.spec.replicas,
        },
        plan: pass.plan.as_ref().filter(|_| unreadable.is_none()),
        record: pass.stored.as_ref().map(|s| &s.record),
        look: pass.look.as_ref(),
        write: pass.write.as_ref(),
        report: pass.report.as_ref(),
        hold: pass.hold.as_ref(),
        size: pass.size.as_ref(),
        roll: pass.roll.as_ref(),
        move_waits: pass.move_waits.as_deref(),
        diverged: &pass.diverged,
        growth: Some(&growth),
        password_missing: pass.password_missing,
        finalizers: set.metadata.deletion_timestamp.as_ref().map(|_| set.finalizers()),
        failure: failure.as_ref().map(|(category, text)| (*category, text.as_str())),
    };
    let (status, deferred) = publish(set, ctx, &learned, now).await?;
    if let Some(note) = &pass.switched_in_vain {
        send(set, ctx, &events::switchover_failed(note)).await;
    }
    for repaired in pass.report.iter().flat_map(|report| &report.repaired) {
        send(set, ctx, &events::repaired(repaired)).await;
    }
    if let Some(note) = &pass.adopted {
        send(set, ctx, &events::data_adopted(note)).await;
    }
    ctx.metrics.observe_set(&name, &status, pass.look.as_ref(), now);
    if deferred {
        pass.again_in(PROGRESS_INTERVAL);
    }
    Ok(Ended { status, failed: failure.is_some(), within: pass.within })
}

async fn stages(
    pass: &mut Pass,
    set: &RedisReplicaSet,
    ctx: &Context,
    now: Timestamp,
) -> Result<(), StageError> {
    let plan = plan(set, &ctx.settings)?;
    pass.plan = Some(plan.clone());
    let live = apply::fetch(&ctx.client, &plan.set).await?;
    pass.file = live.config_map.as_ref().map(File::read);
    let Some(stored) = record(pass, ctx, &plan, &live).await? else { return Ok(()) };
    pass.stored = Some(stored);
    password(pass, ctx, &plan, &live).await?;
    if pass.there == Some(false) {
        return Ok(());
    }
    let running = live.stateful_set.as_ref().and_then(|s| s.spec.as_ref()?.replicas);
    settle(pass, ctx, &plan, running, None, now).await?;
    // Of a set that is being deleted Kubernetes removes the objects; its data is looked after for as long as it serves.
    if plan.paused || set.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    config::configure(pass, ctx, &plan).await?;
    config::check_image(pass, &plan, &live)?;
    let applied = Box::pin(resize_and_apply(pass, ctx, set, &plan, live, now)).await?;
    let Some(applied) = applied else { return Ok(()) };
    replace_outdated(pass, ctx, &plan, &applied).await?;
    move_primary(pass, ctx, &plan, running, now).await?;
    tend_volumes(pass, ctx, set, &plan, &applied).await
}

/// The record gets the members before the `StatefulSet` gets the size.
async fn resize_and_apply(
    pass: &mut Pass,
    ctx: &Context,
    set: &RedisReplicaSet,
    plan: &Plan,
    live: Live,
    now: Timestamp,
) -> Result<Option<apply::Applied>, StageError> {
    let Some(stored) = pass.stored.clone() else { return Err(StageError::NoRecord) };
    let look = pass.look.clone().unwrap_or_default();
    let running = live.stateful_set.as_ref().and_then(|s| s.spec.as_ref()?.replicas);
    let size = size(&plan.set, plan.replicas, running, &stored.record, &look);
    let (replicas, members) = (size.replicas, size.members.clone());
    pass.size = Some(size);
    if members != stored.record.members {
        write(pass, ctx, plan, &stored, Record { members, ..stored.record.clone() }).await?;
    }
    let before = ctx.memory.current_status(set).unwrap_or_default();
    let stage = Stage {
        pods: replicas,
        disruptions: disruptions(live.disruption_budget.as_ref(), &before, &look, now),
    };
    let plan = Plan { config: config::next_file(pass, plan), ..plan.clone() };
    let desired = desired(&plan, stage);
    if live.lacks(&desired) && !is_there(pass, ctx, &plan).await? {
        return Ok(None);
    }
    let applied = Box::pin(apply::apply(&ctx.client, &plan, desired, live)).await?;
    for write in &applied.writes {
        info!(object = %write.object, why = ?write.why, "applied");
    }
    Ok(Some(applied))
}

/// The next step of a roll, if one is due.
async fn replace_outdated(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    applied: &apply::Applied,
) -> Result<(), StageError> {
    let (Some(stored), Some(look)) = (&pass.stored, &pass.look) else { return Ok(()) };
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
    let next = if look.observed.pods.is_empty() {
        Roll::Done
    } else {
        roll(&plan.set, &template, &stored.record, look)
    };
    if let Roll::Replace { pod, uid, why } = &next {
        act::delete_pod(&ctx.client, plan, pod, uid, why).await?;
    }
    pass.roll = Some(next);
    Ok(())
}

/// Moves the primary away from a pod that goes, or home.
async fn move_primary(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    running: Option<i32>,
    now: Timestamp,
) -> Result<(), StageError> {
    let (Some(stored), Some(look), Some(roll), None) = (&pass.stored, &pass.look, &pass.roll, &pass.hold)
    else {
        return Ok(());
    };
    match wish(&plan.set, plan.replicas, plan.home.as_ref(), &stored.record, look, roll) {
        Wish::Stay => Ok(()),
        Wish::Wait(what) => {
            pass.move_waits = Some(what);
            pass.again_in(MOVE_RETRY);
            Ok(())
        }
        Wish::Later(seconds) => {
            pass.again_in(Duration::from_secs(seconds));
            Ok(())
        }
        Wish::Move { target, why } => {
            info!(target, why, "the primary is to move");
            settle(pass, ctx, plan, running, Some(&target), now).await
        }
    }
}

/// Grows the volumes, leaves on them what a set that is begun again over them needs to know, and lets the record live
/// as long as they do.
async fn tend_volumes(
    pass: &mut Pass,
    ctx: &Context,
    set: &RedisReplicaSet,
    plan: &Plan,
    applied: &apply::Applied,
) -> Result<(), StageError> {
    let (Some(stored), Some(look)) = (pass.stored.clone(), &pass.look) else { return Ok(()) };
    let record = &stored.record;
    if ctx.claims.has_adopted(&plan.set, record.sure, look.primary_serves(record)) {
        pass.adopted = Some(format!(
            "the set was begun again over data of before; {} has all of it and is the primary from epoch {} on",
            record.primary.as_deref().unwrap_or_default(),
            record.epoch
        ));
    }
    let at_rest = pass.hold.is_none() && is_at_rest(record, look, pass.roll.as_ref());
    let tended =
        claims::tend(&ctx.client, &ctx.claims, plan, record, look, &applied.stateful_set, at_rest).await;
    let growth = tended?;
    if !growth.running.is_empty() {
        pass.again_in(claims::GROWTH_INTERVAL);
    }
    pass.growth = Some(growth);
    if !at_rest || !ctx.claims.are_new(&plan.set) {
        return Ok(());
    }
    if ctx.claims.claims(&plan.set, &plan.uid).is_none_or(|claims| claims == stored.claims) {
        ctx.claims.stand_in_record(&plan.set);
    } else if ctx.memory.current_status(set).is_some_and(|status| status.is_ready()) {
        write(pass, ctx, plan, &stored, stored.record.clone()).await?;
    } else {
        // Whoever waits for Ready need not wait for this; and the votes, which come soon after, are a write anyhow.
        pass.again_in(claims::KEPT_WITHIN);
    }
    Ok(())
}
