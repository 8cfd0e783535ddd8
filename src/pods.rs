//! Watching the pods of all sets: a cache for the looks, a pass for the set whose pod changed, and a memory of pods
//! whose Redis was seen to end.
//!
//! Runs in standby too. The end of a pod is shown once; an operator that takes over a moment later must know of it,
//! or it could not tell a pod that ended from one that was deleted by force and serves on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use tokio::sync::watch;
use tracing::warn;

use crate::{
    desired::labels::MANAGED_BY, error::chain, http::Phase, monitor::Trigger, names::REDIS_CONTAINER,
};

/// Marks every object that the operator made.
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Names the set that a pod belongs to.
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// How many ended pods are remembered; one is asked for within seconds, or never.
const REMEMBERED: usize = 10_000;

/// Watches objects that the operator made.
pub fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
}

/// UIDs of pods whose Redis the kubelet reported as ended for good.
#[derive(Debug, Default)]
pub struct Ended(Mutex<VecDeque<String>>);

impl Ended {
    /// Whether the end of this pod was seen.
    pub fn contains(&self, uid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|ended| ended == uid)
    }

    fn see(&self, pod: &Pod) {
        let (Some(uid), true) = (pod.uid(), has_ended(pod)) else { return };
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.contains(&uid) {
            return;
        }
        if ended.len() == REMEMBERED {
            ended.pop_front();
        }
        ended.push_back(uid);
    }
}

/// Whether the name of this pod may still be resolved to a former address, or to none. DNS answers, also that there is no
/// such name, may be out of date for `stale`.
///
/// A primary that hands over dials its successor by name, with all writes paused and no time-out. It tries a dead address
/// for `repl-timeout`, 60 s (experiment E4), and a name that nothing answers for until the cache has forgotten that.
pub fn has_new_address(pod: &Pod, now: Timestamp, stale: Duration) -> bool {
    // The creation is never later, but by another clock: of a pod that was replaced, a kubelet's that is wrong must not
    // hide that.
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let is_new = |since: Timestamp| now.duration_since(since).unsigned_abs() < stale;
    address_since(pod).is_none_or(is_new) || created.is_some_and(is_new)
}

/// The pod has had its address since then, or for longer: no container starts before. Its creation says too little, as
/// it may have waited for a node or a volume.
fn address_since(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    // In a sandbox that was made anew, with another address, those that prepare run again, and first.
    let prepared = latest_start(status.init_container_statuses.as_deref());
    prepared.or_else(|| latest_start(status.container_statuses.as_deref()))
}

fn latest_start(containers: Option<&[ContainerStatus]>) -> Option<Timestamp> {
    let start = |state: &ContainerState| {
        let running = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        let ended = state.terminated.as_ref().and_then(|ended| ended.started_at.as_ref());
        running.or(ended).map(|time| time.0)
    };
    containers?.iter().filter_map(|container| start(container.state.as_ref()?)).max()
}

/// The kubelet reports the container as terminated, and will not start it again. A pod that is merely gone, or was
/// deleted by force, proves nothing.
fn has_ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|s| s.phase.as_deref());
    let is_last = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
    let redis = status
        .and_then(|s| s.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|c| c.name == REDIS_CONTAINER));
    is_last && redis.and_then(|c| c.state.as_ref()).is_some_and(|state| state.terminated.is_some())
}

/// Runs for as long as the process.
pub async fn watch(
    api: Api<Pod>,
    cache: Writer<Pod>,
    ended: Arc<Ended>,
    phase: watch::Receiver<Phase>,
    trigger: Trigger,
) {
    let changes = watcher(api, ours())
        .default_backoff()
        .modify(|pod| {
            // A third of a pod's size, and nobody reads it.
            pod.managed_fields_mut().clear();
        })
        .reflect(cache)
        .touched_objects();
    changes
        .for_each(|change| {
            match change {
                Ok(pod) => {
                    ended.see(&pod);
                    if let (Phase::Leading, Some(set)) = (*phase.borrow(), set_of(&pod)) {
                        // Fails only at shutdown, when nobody listens any more.
                        let _ = trigger.unbounded_send(set);
                    }
                }
                Err(error) => warn!(error = chain(&error), "the watch of pods failed; it is tried again"),
            }
            std::future::ready(())
        })
        .await;
}

/// The set that a pod belongs to, by its label.
fn set_of(pod: &Pod) -> Option<ObjectRef<crate::api::RedisReplicaSet>> {
    Some(ObjectRef::new(pod.labels().get(INSTANCE_LABEL)?).within(&pod.namespace()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(deleted: bool, state: &Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "redis", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }))
        .unwrap();
        if deleted {
            pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        }
        pod
    }

    #[test]
    fn only_a_reported_end_counts() {
        let (running, terminated) = (json!({"running": {}}), json!({"terminated": {"exitCode": 0}}));
        assert!(has_ended(&pod(true, &terminated)));
        assert!(!has_ended(&pod(true, &running)), "deleted by force, or still ending");
        assert!(!has_ended(&pod(false, &terminated)), "the kubelet starts it again");
        let ended = Ended::default();
        ended.see(&pod(true, &running));
        assert!(!ended.contains("u"));
        ended.see(&pod(true, &terminated));
        assert!(ended.contains("u"));
    }

    #[test]
    fn an_address_is_new_for_as_long_as_dns_answers_may_be_older() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let is_new = |pod: &Pod| has_new_address(pod, now, Duration::from_secs(35));
        let [long_ago, lately] = ["2026-01-01T00:00:20Z", "2026-01-01T00:00:30Z"];
        let pod_with = |state: Value| pod(false, &state);
        let mut pod = pod_with(json!({"running": {"startedAt": lately}}));
        assert!(is_new(&pod));
        assert!(!has_new_address(&pod, now, Duration::ZERO), "there is no cache");
        // Created long ago, and without a node until lately.
        pod.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(is_new(&pod));
        // Redis alone was started again: what prepared the pod ran at this address.
        let prepared = |at: &str| {
            let state = json!({"terminated": {"exitCode": 0, "startedAt": at}});
            pod_with(state).status.unwrap().container_statuses
        };
        pod.status.as_mut().unwrap().init_container_statuses = prepared(long_ago);
        assert!(!is_new(&pod));
        pod.status.as_mut().unwrap().init_container_statuses = prepared(lately);
        assert!(is_new(&pod), "its sandbox was made anew");
        pod.status.as_mut().unwrap().init_container_statuses = None;
        pod.status.as_mut().unwrap().container_statuses = None;
        assert!(is_new(&pod), "nothing is known of it");
        pod.status.as_mut().unwrap().container_statuses = prepared(long_ago);
        assert!(!is_new(&pod));
        pod.metadata.creation_timestamp = serde_json::from_value(json!(lately)).unwrap();
        assert!(is_new(&pod), "its kubelet's clock is wrong");
    }
}
