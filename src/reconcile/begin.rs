//! What a set begins with: the role record, and the password.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use tracing::info;

use super::Pass;
use crate::{
    apply::Live,
    claims,
    context::Context,
    decide::{Hold, HoldReason, former::with_ends},
    error::StageError,
    observe::belongs,
    plan::{Plan, Storage},
    record::Record,
    store::{self, Found, Presence, Stored},
    volumes::{
        former::{Claims, taken_over},
        history::{History, begin_again},
    },
};

/// The record, made first where there is none yet. `None`: nothing may be begun yet.
pub(super) async fn record(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    live: &Live,
) -> Result<Option<Stored>, StageError> {
    let former = match store::read_record(&ctx.client, plan).await? {
        Some(Found::Own(stored)) => return Ok(Some(stored)),
        Some(Found::Former(stored)) => Some(stored),
        None => None,
    };
    if !is_there(pass, ctx, plan).await? {
        return Ok(None);
    }
    let pods: Vec<_> = ctx.pods.state().into_iter().filter(|pod| belongs(pod, &plan.set)).collect();
    let still_ends = live.stateful_set.as_ref().map_or(!pods.is_empty(), |live| is_of_another(live, plan));
    if still_ends {
        // Pods of a deleted set of the same name still end; their volumes must rest before anybody ranks them.
        pass.hold = Some(Hold {
            reason: HoldReason::FormerPods,
            message: "waiting for the pods of a former set of this name to end".to_owned(),
        });
        return Ok(None);
    }
    if plan.paused {
        return Ok(None);
    }
    let volumes = claims::former(&ctx.client, plan).await?;
    let is_on_volumes = matches!(plan.storage, Storage::Volume { .. });
    let goes_on = former
        .as_ref()
        .filter(|_| is_on_volumes)
        .and_then(|former| Some((former, taken_over(&former.record, &former.claims, &volumes.claims)?)));
    if let Some((former, record)) = goes_on {
        let record = with_ends(&record, |uid| ctx.ends.latest(uid)).unwrap_or(record);
        info!(members = ?record.members, epoch = record.epoch, primary = record.primary, "going on with the role record of before");
        ctx.claims.adopts(&plan.set);
        return Ok(Some(store::write_record(&ctx.client, plan, former, &record, &former.claims).await?));
    }
    let running = live.stateful_set.as_ref().and_then(|s| s.spec.as_ref()?.replicas).unwrap_or(0);
    let seen = pods.iter().filter_map(|pod| plan.set.ordinal(pod.metadata.name.as_deref()?)).max();
    let of_before = volumes.ordinals.max(running).max(seen.map_or(0, |ordinal| ordinal + 1));
    // A new set has all its members from the beginning; of a former one, whoever may hold its data.
    let count = if of_before == 0 { plan.replicas } else { of_before };
    let members = (0..count).map(|ordinal| plan.set.pod(ordinal)).collect();
    let first = if of_before == 0 {
        Record::first(members, true)
    } else {
        ctx.claims.adopts(&plan.set);
        let told = former.as_ref().and_then(|former| History::of(&former.record));
        begin_again(members, History::joined(volumes.history.into_iter().chain(told)))
    };
    info!(members = ?first.members, sure = first.sure, epoch = first.epoch, "beginning the role record");
    let begun = match &former {
        Some(former) => store::write_record(&ctx.client, plan, former, &first, &Claims::new()).await?,
        None => store::create_record(&ctx.client, plan, &first).await?,
    };
    Ok(Some(begun))
}

/// Asked before anything is made: what is missing may have gone with the set, and what is made for a set that is gone
/// stands in the way of its successor until it is collected too.
pub(super) async fn is_there(pass: &mut Pass, ctx: &Context, plan: &Plan) -> Result<bool, StageError> {
    if let Some(known) = pass.there {
        return Ok(known);
    }
    let there = store::presence(&ctx.client, &plan.set, Some(&plan.uid)).await? == Presence::There;
    pass.there = Some(there);
    Ok(there)
}

/// It belongs to a deleted set; the garbage collector is about to remove it.
fn is_of_another(stateful_set: &StatefulSet, plan: &Plan) -> bool {
    let controller = stateful_set.owner_references().iter().find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| owner.kind == plan.owner.kind && owner.uid != plan.owner.uid)
}

/// The password, made first for a new set. A Secret that vanished is not replaced: the servers still use its value.
pub(super) async fn password(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    live: &Live,
) -> Result<(), StageError> {
    pass.password = store::read_password(&ctx.client, plan).await?;
    let is_new = pass.password.is_none() && live.stateful_set.is_none() && !plan.paused;
    // Of a set that is gone the record can be the last thing that the garbage collector has left.
    if is_new && is_there(pass, ctx, plan).await? {
        store::create_password(&ctx.client, plan).await?;
        pass.password = store::read_password(&ctx.client, plan).await?;
    }
    pass.password_missing = pass.password.is_none();
    Ok(())
}
