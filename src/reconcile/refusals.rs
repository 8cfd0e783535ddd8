//! Pods that the API server refuses: looked for only while one is missing whose turn it is.

use std::time::Duration;

use kube::ResourceExt;
use tracing::warn;

use super::{
    rollout::running,
    stages::{Job, Seen},
};
use crate::kubernetes::{children::Live, refused_pods};
use operator_core::{refusal::Wants, status::outcome::Outcome};

/// The Events are asked for at most this often.
const INTERVAL: Duration = Duration::from_secs(5);
/// Until a pod has been missing for long enough, it is looked at again after this time.
const SOON: Duration = Duration::from_secs(1);

/// The live `StatefulSet`.
pub(super) struct Wanted {
    /// Its UID; none where there is no `StatefulSet`.
    uid: Option<String>,
    pods: Wants,
}

impl Wanted {
    pub fn of(live: &Live) -> Self {
        let spec = live.stateful_set.as_ref().and_then(|set| set.spec.as_ref());
        let policy = spec.and_then(|spec| spec.pod_management_policy.as_deref());
        let pods =
            Wants { pods: running(live).unwrap_or(0), in_order: policy.is_none_or(|p| p == "OrderedReady") };
        Self { uid: live.stateful_set.as_ref().and_then(ResourceExt::uid), pods }
    }
}

/// Finds the missing pods that the API server refuses. That the Events cannot be listed, for example by the rights of an older
/// install, is a line in the log: nothing else needs them.
pub(super) async fn refused(job: &Job<'_>, seen: &Seen, wanted: Wanted, outcome: &mut Outcome) {
    let (ctx, set, now) = (job.ctx, &job.subject.set, job.now);
    let absences =
        ctx.memory.absences(set, |absences| absences.look(set, wanted.pods, &seen.look.observed, now));
    let Some(uid) = wanted.uid.filter(|_| !absences.is_empty() && !job.subject.is_left_alone()) else {
        return;
    };
    if absences.lasts(now) && ctx.memory.is_to_ask_for_events(set, INTERVAL) {
        let listed = refused_pods::list(&ctx.client, set, &uid).await;
        let failed = listed.as_ref().err().cloned();
        if ctx.memory.remember_events(set, listed.ok()) {
            warn!(
                error = failed.unwrap_or_default(),
                "cannot list the Events of the StatefulSet: the status will not say why a pod is refused; compare the roles"
            );
        }
    }
    if absences.is_awaited() {
        outcome.again_in(if absences.lasts(now) { INTERVAL } else { SOON });
    }
    outcome.refused = absences.refused(&ctx.memory.told_of_pods(set), now);
}
