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
    observe::Connections,
    plan::{InvalidSpec, Plan},
};

/// Tells the verified servers the directives that can be changed while they run.
pub(super) async fn configure(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    connections: &mut Connections,
    look: &Look,
) -> Result<(), StageError> {
    let servers = servers(look);
    if servers.is_empty() {
        return Ok(());
    }
    let start_only = pass.file.as_ref().map(|file| file.start_only.clone()).unwrap_or_default();
    let wanted = File { start_only, ..plan.config.clone() }.live();
    let mut told = ctx.memory.told(&plan.set);
    let report = act::config::configure(connections, &servers, &wanted, &mut told).await;
    ctx.memory.remember_told(&plan.set, told);
    let mut report = report?;
    // After a switchover in the same pass the servers are told a second time.
    report.repaired.extend(pass.report.take().into_iter().flat_map(|earlier| earlier.repaired));
    pass.report = Some(report);
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
