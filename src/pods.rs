//! Watching the pods of all sets: a cache for the looks, a pass for the set whose pod changed, and a memory of when
//! their Redis was seen to end.
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

use crate::{error::chain, http::Phase, monitor::Trigger};
use operator_core::{desired::labels::MANAGED_BY, names::REDIS_CONTAINER};

/// Marks every object that the operator made.
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Names the set that a pod belongs to.
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// How many ends are remembered; one is asked for within seconds, or never.
const REMEMBERED: usize = 10_000;

/// The API server ends each watch after this time, in seconds, and the operator one that was not ended a few seconds
/// later (`watcher::Config::timeout`): nothing else shows that a connection is dead. What went missing is noticed within
/// a minute.
const WATCH_SECONDS: u32 = 50;

/// A watch of objects.
pub fn watched() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Watches objects that the operator made.
pub fn ours() -> watcher::Config {
    watched().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
}

/// The latest end of a Redis container that the kubelet reported, by the UID of its pod: a pod that is gone shows it no
/// more.
#[derive(Debug, Default)]
pub struct Ends(Mutex<VecDeque<(String, i64)>>);

impl Ends {
    /// In seconds since 1970, by the clock of the pod's node.
    pub fn latest(&self, uid: &str) -> Option<i64> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().find(|(pod, _)| pod == uid).map(|(_, end)| *end)
    }

    fn see(&self, pod: &Pod) {
        let (Some(uid), Some(end)) = (pod.uid(), last_end(pod)) else { return };
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = ends.iter_mut().find(|(pod, _)| *pod == uid) {
            *known = end.max(*known);
            return;
        }
        if ends.len() == REMEMBERED {
            ends.pop_front();
        }
        ends.push_back((uid, end));
    }
}

/// The latest end of a Redis container of this pod that the kubelet reported, in seconds since 1970. A pod that is
/// merely gone, or was deleted by force, proves nothing.
pub fn last_end(pod: &Pod) -> Option<i64> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let redis = statuses.iter().find(|container| container.name == REDIS_CONTAINER)?;
    [redis.state.as_ref(), redis.last_state.as_ref()]
        .into_iter()
        .flatten()
        .filter_map(|state| Some(state.terminated.as_ref()?.finished_at.as_ref()?.0.as_second()))
        .max()
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

/// Runs for as long as the process.
pub async fn watch(
    api: Api<Pod>,
    cache: Writer<Pod>,
    ends: Arc<Ends>,
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
                    ends.see(&pod);
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
fn set_of(pod: &Pod) -> Option<ObjectRef<operator_core::api::RedisReplicaSet>> {
    Some(ObjectRef::new(pod.labels().get(INSTANCE_LABEL)?).within(&pod.namespace()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(state: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "redis", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }))
        .unwrap()
    }

    /// Regression "the end of a container that the kubelet had already started again, shown with the pod's deletion, taken
    /// for the end of the process that served": which process ended is told by when.
    #[test]
    fn the_latest_reported_end_is_remembered() {
        let at = |time: &str| pod(&json!({"terminated": {"exitCode": 0, "finishedAt": time}}));
        let [earlier, later] = ["1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"];
        let ends = Ends::default();
        ends.see(&pod(&json!({"running": {}})));
        assert_eq!(ends.latest("u"), None);
        ends.see(&pod(&json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}})));
        assert_eq!(ends.latest("u"), None, "the kubelet does not know");
        for (time, latest) in [(earlier, 60), (later, 120), (earlier, 120)] {
            ends.see(&at(time));
            assert_eq!(ends.latest("u"), Some(latest));
        }
        let mut again = pod(&json!({"running": {}}));
        again.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].last_state =
            at("1970-01-01T00:03:00Z").status.unwrap().container_statuses.unwrap()[0].state.clone();
        ends.see(&again);
        assert_eq!(ends.latest("u"), Some(180), "it was started again");
        assert_eq!(ends.latest("another"), None);
    }

    #[test]
    fn an_address_is_new_for_as_long_as_dns_answers_may_be_older() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let is_new = |pod: &Pod| has_new_address(pod, now, Duration::from_secs(35));
        let [long_ago, lately] = ["2026-01-01T00:00:20Z", "2026-01-01T00:00:30Z"];
        let pod_with = |state: Value| pod(&state);
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
