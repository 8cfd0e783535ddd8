//! The part of a pass that is about the servers' configuration and image.

use super::Pass;
use crate::{
    act,
    apply::Live,
    config::{self, File, Vetted, live::servers},
    context::Context,
    decide::look::Look,
    error::StageError,
    image,
    names::REDIS_CONTAINER,
    plan::{InvalidSpec, Plan},
    store::Stored,
};

/// Tells the verified servers the directives that can be changed while they run, over the connections of the last look.
/// Not while it is open who the primary is.
pub(super) async fn configure(pass: &mut Pass, ctx: &Context, plan: &Plan) -> Result<(), StageError> {
    let is_open = |stored: &Stored| pass.hold.is_some() || stored.record.switch_to.is_some();
    if pass.stored.as_ref().is_none_or(is_open) {
        return Ok(());
    }
    let servers = pass.look.as_ref().map(servers).unwrap_or_default();
    // A connection over which clients were cut is used up; the change of the label brings the next pass.
    if servers.is_empty() || servers.iter().any(|s| pass.connections.get_mut(&s.pod).is_none()) {
        return Ok(());
    }
    let start_only = pass.file.as_ref().map(|file| file.start_only.clone()).unwrap_or_default();
    let wanted = File { start_only, ..plan.config.clone() }.live();
    let mut told = ctx.memory.told(&plan.set);
    let report = act::config::configure(&mut pass.connections, &servers, &wanted, &mut told).await;
    ctx.memory.remember_told(&plan.set, told);
    pass.report = Some(report?);
    Ok(())
}

/// redis.conf as the pods are to mount it from now on.
pub(super) fn next_file(pass: &Pass, plan: &Plan) -> File {
    let never_served = pass.stored.as_ref().is_none_or(|stored| stored.record.epoch == 0);
    let is_stuck = |look: &Look| look.observed.pods.iter().any(|pod| pod.stuck.is_some());
    let vetted = match &pass.report {
        Some(report) => Vetted::Told(report),
        None if never_served || pass.look.as_ref().is_some_and(is_stuck) => Vetted::Nobody,
        None => Vetted::NotTold,
    };
    config::next(&plan.config, pass.file.as_ref(), vetted, plan.generation)
}

/// Refuses an image that would not take over the data; an image that did not change is none.
pub(super) fn check_image(pass: &Pass, plan: &Plan, live: &Live) -> Result<(), InvalidSpec> {
    let template = live.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.template.spec.as_ref());
    let redis = template.and_then(|pod| pod.containers.iter().find(|c| c.name == REDIS_CONTAINER));
    match (&pass.look, redis.and_then(|container| container.image.as_deref())) {
        (Some(look), Some(running)) => image::check(running, &plan.image, look),
        _ => Ok(()),
    }
}
