//! Before a role is handed over: whether the name of its heir leads there.

use std::time::Duration;

use kube::ResourceExt;
use tracing::warn;

use super::stages::{Job, Seen};
use crate::cache::pods_of;
use operator_core::observed::Observed;

/// A name that led astray is asked for again after this time.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// Whether it does. Where not, the look says why, and others may be chosen by that.
pub(super) async fn leads_to(job: &Job<'_>, seen: &mut Seen, heir: &str) -> bool {
    let set = &job.subject.set;
    let Some(observed) = seen.look.observed.pods.iter_mut().find(|pod| pod.name == heir) else {
        return false;
    };
    let pods = pods_of(&job.ctx.pods, set);
    let pod = pods.iter().find(|pod| pod.uid().as_deref() == Some(&observed.uid));
    let answer = match pod {
        Some(pod) => job.ctx.dns.leads_to(&job.subject.host_of(heir), pod).await,
        None => Err(format!("the pod {heir} is gone")),
    };
    let Err(why) = answer else { return true };
    warn!(heir, why, "the role is not handed over");
    job.ctx.memory.goes_astray(set, &observed.uid, why.clone());
    observed.astray = Some(why);
    false
}

/// What was answered lately, for a look that asks no names itself.
pub(super) fn remembered(job: &Job<'_>, mut observed: Observed) -> Observed {
    let astray = job.ctx.memory.astray(&job.subject.set, RETRY);
    for pod in &mut observed.pods {
        pod.astray = astray.get(&pod.uid).cloned();
    }
    observed
}
