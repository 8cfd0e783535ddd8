//! Watching the pods of all sets: a cache for the looks, a reconcile for the set whose pod changed, and a memory of when
//! their Redis was seen to end.
//!
//! Runs in standby too. The end of a pod is shown once; an operator that takes over a moment later must know of it,
//! or it could not tell a pod that ended from one that was deleted by force and serves on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
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

use crate::{cache::Packed, error_chain::chain, http::Phase, watch::Trigger};
use operator_core::{
    labels::MANAGED_BY,
    observed::pod::{Ends, ends, what_is_read},
};

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

/// How many objects are listed at a time. All of a page are decoded at once, some 50 kB for a pod or a `StatefulSet`.
const PAGE: u32 = 100;

/// A watch of objects.
pub fn watched() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE)
}

/// Watches objects that the operator made.
pub fn ours() -> watcher::Config {
    watched().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
}

/// The ends of Redis containers that the kubelet reported, by the UID of their pod: a pod that is gone shows them no more.
#[derive(Debug, Default)]
pub struct Terminations(Mutex<VecDeque<(String, Ends)>>);

impl Terminations {
    /// Those of the pod of this UID.
    pub fn of(&self, uid: &str) -> Option<Ends> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().find(|(pod, _)| pod == uid).map(|(_, end)| *end)
    }

    fn see(&self, pod: &Pod) {
        let (Some(uid), Some(seen)) = (pod.uid(), ends(pod)) else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = all.iter_mut().find(|(pod, _)| *pod == uid) {
            let latest = seen.latest.max(known.latest);
            *known = Ends { latest, of_pod: seen.of_pod || known.of_pod };
            return;
        }
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back((uid, seen));
    }
}

/// Runs for as long as the process.
pub async fn watch(
    api: Api<Pod>,
    cache: Writer<Packed<Pod>>,
    ends: Arc<Terminations>,
    phase: watch::Receiver<Phase>,
    trigger: Trigger,
) {
    let changes = watcher(api, ours())
        .default_backoff()
        // Nobody reads the rest, and there are as many pods as servers.
        .modify(|pod| pod.spec = pod.spec.take().map(what_is_read))
        .map(|event| event.map(Packed::of_event))
        .reflect(cache)
        .touched_objects();
    changes
        .for_each(|change| {
            match change.map(|pod| pod.unpack()) {
                Ok(None) => {}
                Ok(Some(pod)) => {
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
        let ends = Terminations::default();
        ends.see(&pod(&json!({"running": {}})));
        assert_eq!(ends.of("u"), None);
        ends.see(&pod(&json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}})));
        assert_eq!(ends.of("u"), None, "the kubelet does not know");
        for (time, latest) in [(earlier, 60), (later, 120), (earlier, 120)] {
            ends.see(&at(time));
            assert_eq!(ends.of("u"), Some(Ends { latest, of_pod: false }));
        }
        let mut again = pod(&json!({"running": {}}));
        again.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].last_state =
            at("1970-01-01T00:03:00Z").status.unwrap().container_statuses.unwrap()[0].state.clone();
        ends.see(&again);
        assert_eq!(ends.of("u"), Some(Ends { latest: 180, of_pod: false }), "it was started again");
        assert_eq!(ends.of("another"), None);
    }

    /// Regression: a primary's Redis was killed, started again, followed, and its pod was deleted within the same second. Its end
    /// was not later than its start by the node's clock, so the set waited five minutes for a proof.
    #[test]
    fn a_phase_that_the_kubelet_calls_final_ends_the_whole_pod() {
        let terminated = json!({"terminated": {"exitCode": 0, "finishedAt": "1970-01-01T00:01:00Z"}});
        let of_pod = |phase: &str, state: &Value, reason: &str| {
            let mut pod = pod(state);
            let status = pod.status.as_mut().unwrap();
            status.phase = Some(phase.to_owned());
            let condition = json!([{"type": "DisruptionTarget", "status": "True", "reason": reason}]);
            status.conditions = serde_json::from_value(condition).unwrap();
            let ends = Terminations::default();
            ends.see(&pod);
            ends.of("u").is_some_and(|ends| ends.of_pod)
        };
        assert!(of_pod("Failed", &terminated, "TerminationByKubelet"));
        assert!(of_pod("Succeeded", &terminated, "EvictionByEvictionAPI"));
        assert!(!of_pod("Running", &terminated, ""), "it is started again");
        assert!(!of_pod("Failed", &terminated, "DeletionByPodGC"), "its kubelet was not asked");
        let unknown = json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}});
        assert!(!of_pod("Failed", &unknown, ""), "the kubelet does not know");
        assert!(!of_pod("Failed", &json!({"running": {}}), ""));
    }
}
