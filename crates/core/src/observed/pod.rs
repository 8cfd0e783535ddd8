//! What the kubelet and the scheduler say of a pod.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus, Pod, PodSpec};
use kube_core::ResourceExt;
use redis_node::{
    answer::{Answer, ProbeFailure},
    files::DEFAULT_GRACE_SECONDS,
};

use super::{NoAnswer, ObservedPod, RoleLabel, StartRule};
use crate::{
    labels::{self, Role},
    names::{REDIS_CONTAINER, START_PARKED},
};

/// The kubelet's word for it, where nobody answers because no Redis runs. A container runs some time before its Redis
/// listens: the startup probe says since when it does.
pub fn not_started(pod: &Pod, failure: &ProbeFailure) -> Option<NoAnswer> {
    let status = redis_status(pod);
    let running = status.and_then(|s| s.state.as_ref()).is_some_and(|s| s.running.is_some());
    let listened = status.is_some_and(|s| s.started == Some(true));
    (!running || !listened && *failure == ProbeFailure::Refused).then_some(NoAnswer::NotStarted)
}

/// What a pod is like by the API server's word, with what its Redis answered.
pub fn observed_pod(
    ordinal: i32,
    pod: &Pod,
    new_address: bool,
    answer: Result<Answer, NoAnswer>,
    now: Timestamp,
) -> ObservedPod {
    let status = pod.status.as_ref();
    ObservedPod {
        name: pod.name_any(),
        ordinal,
        uid: pod.uid().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        ready: status
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True")),
        start: if pod.spec.as_ref().is_some_and(starts_parked) {
            StartRule::Parked
        } else {
            StartRule::Peers
        },
        new_address,
        astray: None,
        last_end: last_end(pod),
        grace_seconds: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_SECONDS),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        overdue: pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 < now),
        revision: pod.labels().get("controller-revision-hash").cloned(),
        image: pod.spec.as_ref().and_then(image_of).unwrap_or_default().to_owned(),
        stuck: stuck(pod, now),
        label: RoleLabel {
            role: pod.labels().get(labels::ROLE).and_then(|value| Role::of(value)),
            demoted_at: pod.annotations().get(labels::DEMOTED_AT).and_then(|at| at.parse().ok()),
            version: pod.resource_version().unwrap_or_default(),
        },
        answer,
    }
}

/// Whether the Redis of this spec, or a template's, starts parked whoever serves.
pub fn starts_parked(spec: &PodSpec) -> bool {
    let redis = spec.containers.iter().find(|container| container.name == REDIS_CONTAINER);
    let command = redis.and_then(|container| container.command.as_ref());
    command.is_some_and(|command| command.iter().any(|argument| argument == START_PARKED))
}

/// What of a pod's spec is read here. The rest of it, its volumes above all, is nine tenths of the memory that a pod takes.
pub fn what_is_read(spec: PodSpec) -> PodSpec {
    let redis = spec.containers.into_iter().filter(|container| container.name == REDIS_CONTAINER);
    PodSpec {
        node_name: spec.node_name,
        termination_grace_period_seconds: spec.termination_grace_period_seconds,
        containers: redis
            .map(|container| Container {
                name: container.name,
                image: container.image,
                command: container.command,
                ..Container::default()
            })
            .collect(),
        ..PodSpec::default()
    }
}

/// The image of the Redis in a pod's spec, or a template's.
pub fn image_of(spec: &PodSpec) -> Option<&str> {
    spec.containers.iter().find(|container| container.name == REDIS_CONTAINER)?.image.as_deref()
}

/// Waiting reasons that the kubelet leaves by itself, in the course of an ordinary start.
const ORDINARY_WAITS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// A new pod is often unschedulable for a moment: its volume claim is made at the same time as it is.
const ORDINARY_SCHEDULING: SignedDuration = SignedDuration::from_secs(10);

/// Why a pod cannot start, or keeps failing.
fn stuck(pod: &Pod, now: Timestamp) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
        .filter(|c| {
            c.last_transition_time
                .as_ref()
                .is_some_and(|since| now.duration_since(since.0) > ORDINARY_SCHEDULING)
        })
        .map(|c| (c.reason.clone(), c.message.clone()));
    let containers = || {
        status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .flatten()
            .filter_map(|c| c.state.as_ref())
    };
    let waiting = containers()
        .filter_map(|state| state.waiting.as_ref())
        .map(|w| (w.reason.clone(), w.message.clone()))
        .find(|(reason, _)| reason.as_deref().is_some_and(|r| !ORDINARY_WAITS.contains(&r)));
    // A Redis that ended is restarted at once, and counts as stuck only when the kubelet waits with that.
    let failed = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref())
        .find(|t| t.exit_code != 0)
        .map(|t| (t.reason.clone(), Some(format!("exit code {}", t.exit_code))));
    let (reason, message) = waiting.or(failed).or(unschedulable)?;
    let reason = reason.unwrap_or_else(|| "Waiting".to_owned());
    Some(match message {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    })
}

fn redis_status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|c| c.name == REDIS_CONTAINER)
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

/// What the kubelet reported of the ends of one pod's Redis containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The latest, in seconds since 1970 by the node's clock.
    pub latest: i64,
    /// The kubelet ended the pod: none of its containers runs, and none is started again.
    pub of_pod: bool,
}

/// The ends of this pod's Redis containers that the kubelet reported.
///
/// The kubelet reports a phase that is final once it has ended all containers of a pod that is deleted (Kubernetes 1.27 and
/// later). The garbage collector of pods gives the same phase to a pod whose kubelet it cannot ask, and says so in a condition.
pub fn ends(pod: &Pod) -> Option<Ends> {
    let status = pod.status.as_ref()?;
    let latest = last_end(pod)?;
    let is_final = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let redis =
        status.container_statuses.iter().flatten().find(|container| container.name == REDIS_CONTAINER);
    let terminated = redis.and_then(|redis| redis.state.as_ref()?.terminated.as_ref());
    let is_reported = terminated.is_some_and(|terminated| terminated.finished_at.is_some());
    let conditions = status.conditions.iter().flatten();
    let is_collected = conditions.into_iter().any(|c| c.reason.as_deref() == Some("DeletionByPodGC"));
    Some(Ends { latest, of_pod: is_final && is_reported && !is_collected })
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
    // In a sandbox that was made again, with another address, those that prepare run again, and first.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A field that [`observed_pod`] reads and the cache does not keep would be told wrong without a word.
    #[test]
    fn what_is_not_kept_is_not_read() {
        let mut whole: Pod = serde_json::from_value(json!({
            "metadata": {"name": "redis-1", "uid": "u", "labels": {"controller-revision-hash": "r"}},
            "spec": {
                "nodeName": "node", "terminationGracePeriodSeconds": 7, "priorityClassName": "high",
                "initContainers": [{"name": "agent", "image": "agent"}],
                "containers": [{"name": "sidecar", "image": "other"}, {
                    "name": "redis", "image": "redis:8", "args": ["x"], "command": ["agent", START_PARKED],
                }],
                "volumes": [{"name": "data", "emptyDir": {}}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let seen = |pod: &Pod| observed_pod(1, pod, false, Err(NoAnswer::NotStarted), now);
        let before = seen(&whole);
        assert_eq!(
            (before.node.as_str(), before.grace_seconds, before.image.as_str()),
            ("node", 7, "redis:8")
        );
        assert_eq!(before.start, StartRule::Parked);
        let kept = what_is_read(whole.spec.take().unwrap());
        assert!(kept.volumes.is_none() && kept.init_containers.is_none() && kept.containers.len() == 1);
        whole.spec = Some(kept);
        assert_eq!(seen(&whole), before);
    }

    fn pod(state: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"uid": "u"},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "redis", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }))
        .unwrap()
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
