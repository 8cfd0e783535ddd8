//! The servers' configuration and image.

use super::stages::{Job, Seen};
use crate::{act, kubernetes::children::Live, reconcile::error::StageError};
use operator_core::{
    live_config::{Report, servers},
    names::REDIS_CONTAINER,
    plan::{InvalidSpec, Plan},
    redis_conf::{self, ConfigOutcome, File},
    rollout::compatibility,
};

/// Tells the verified servers the directives that can be changed while they run, over the connections of the last look.
/// Not while it is open who the primary is. Returns what they said, if they could be told.
pub(super) async fn configure(
    job: &Job<'_>,
    seen: &mut Seen,
    plan: &Plan,
    mounted: Option<&File>,
) -> Result<Option<Report>, StageError> {
    if seen.is_open() {
        return Ok(None);
    }
    let servers = servers(&seen.look);
    // A connection over which clients were cut is used up; the change of the label brings the next reconcile.
    if servers.is_empty() || servers.iter().any(|s| seen.connections.get_mut(&s.pod).is_none()) {
        return Ok(None);
    }
    let start_only = mounted.map(|file| file.start_only.clone()).unwrap_or_default();
    let wanted = File { start_only, ..plan.config.clone() }.live();
    let mut told = job.ctx.memory.told(&job.subject.set);
    let report = act::config::configure(&mut seen.connections, &servers, &wanted, &mut told).await;
    job.ctx.memory.remember_told(&job.subject.set, told);
    Ok(Some(report?))
}

/// redis.conf as the pods are to mount it from now on.
pub(super) fn next_file(seen: &Seen, plan: &Plan, mounted: Option<&File>, report: Option<&Report>) -> File {
    let never_served = seen.stored.record.epoch == 0;
    let is_stuck = seen.look.observed.pods.iter().any(|pod| pod.stuck.is_some());
    let vetted = match report {
        Some(report) => ConfigOutcome::Told(report),
        None if never_served || is_stuck => ConfigOutcome::Nobody,
        None => ConfigOutcome::NotTold,
    };
    redis_conf::next(&plan.config, mounted, vetted, plan.subject.generation.unwrap_or_default())
}

/// The image to run. One that would not take over the data is refused, and what runs stays; an image that did not change is none.
pub(super) fn check_image(seen: &Seen, plan: &Plan, live: &Live) -> Result<String, (InvalidSpec, String)> {
    let template = live.stateful_set.as_ref().and_then(|set| set.spec.as_ref()?.template.spec.as_ref());
    let redis = template.and_then(|pod| pod.containers.iter().find(|c| c.name == REDIS_CONTAINER));
    match redis.and_then(|container| container.image.as_deref()) {
        Some(running) => compatibility::check(running, &plan.image, &seen.look)
            .map(|()| plan.image.clone())
            .map_err(|error| (error, running.to_owned())),
        None => Ok(plan.image.clone()),
    }
}
