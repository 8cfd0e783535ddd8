//! Looking: the pods of a set as the watch shows them, and every Redis asked anew.
//!
//! What fails is part of the look, never an error that ends the pass.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec};
use kube::ResourceExt;

use crate::{
    context::Context,
    lease::Mandate,
    pods::{has_new_address, last_end},
    redis::{
        connection::Connection,
        probe::{Target, probe},
    },
};
use operator_core::{
    desired::labels,
    names::{REDIS_CONTAINER, SetName},
    observed::{NoAnswer, Observed, ObservedPod, Role, RoleLabel},
    subject::Subject,
};
use redis_node::{
    answer::{Answer, ProbeFailure},
    files::{DEFAULT_GRACE_SECONDS, REDIS_PORT},
    password::Password,
};

/// Time that one Redis has to answer everything: connection, password, INFO. A healthy one needs milliseconds; one
/// that is busy with a script stays silent for 5 s, and its state is unknown either way.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// How many servers of one set are asked at the same time; a set has at most nine.
const PROBES_AT_ONCE: usize = 9;

/// The connections over which a look was taken, by pod name. An act goes over these and no others, so that it
/// reaches the process that was seen, and only while this operator leads.
#[derive(Debug, Default)]
pub struct Connections {
    open: BTreeMap<String, Connection>,
    mandate: Mandate,
}

impl Connections {
    /// The pods whose servers answered.
    pub fn pods(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    /// The connection to a pod's server; none where it did not answer, or where this operator no longer leads.
    pub fn get_mut(&mut self, pod: &str) -> Option<&mut Connection> {
        if self.mandate.holds() { self.open.get_mut(pod) } else { None }
    }
}

/// Looks at all pods of a set.
pub async fn observe(
    ctx: &Context,
    subject: &Subject,
    password: Option<&Password>,
    now: Timestamp,
) -> (Observed, Connections) {
    let mut mine: Vec<(i32, std::sync::Arc<Pod>)> = ctx
        .pods
        .state()
        .into_iter()
        .filter(|pod| belongs(pod, &subject.set))
        .filter_map(|pod| Some((subject.set.ordinal(&pod.name_any())?, pod)))
        .collect();
    mine.sort_by_key(|(ordinal, _)| *ordinal);

    let asked = stream::iter(mine.into_iter().map(|(ordinal, pod)| {
        let target = target(subject, ordinal, &pod, password);
        async move {
            let answer = match target {
                Ok(target) => match probe(&target, PROBE_DEADLINE).await {
                    Ok(answered) => Ok(answered),
                    Err(failure) => Err(not_started(&pod, &failure).unwrap_or(NoAnswer::Failed(failure))),
                },
                Err(why) => Err(why),
            };
            (ordinal, pod, answer)
        }
    }))
    .buffered(PROBES_AT_ONCE)
    .collect::<Vec<_>>()
    .await;

    let mut observed = Observed::default();
    let mut connections = Connections { open: BTreeMap::new(), mandate: ctx.mandate.clone() };
    for (ordinal, pod, answer) in asked {
        let answer = answer.map(|(answer, connection)| {
            connections.open.insert(pod.name_any(), connection);
            answer
        });
        let new_address = has_new_address(&pod, now, ctx.dns_stale);
        observed.pods.push(observed_pod(ordinal, &pod, new_address, answer, now));
    }
    (observed, connections)
}

/// Whether a pod is one of the set's, by namespace and name; the watch shows only pods with the operator's labels.
pub fn belongs(pod: &Pod, set: &SetName) -> bool {
    pod.namespace().as_deref() == Some(&set.namespace) && set.ordinal(&pod.name_any()).is_some()
}

/// Whom to ask for a pod, or why nobody can be asked.
pub fn target(
    subject: &Subject,
    ordinal: i32,
    pod: &Pod,
    password: Option<&Password>,
) -> Result<Target, NoAnswer> {
    let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_ref()).and_then(|ip| ip.parse().ok());
    let Some(address) = address else { return Err(NoAnswer::NotStarted) };
    let Some(password) = password else { return Err(NoAnswer::NoPassword) };
    Ok(Target {
        host: subject.set.fqdn(ordinal, &subject.cluster_domain),
        address,
        port: REDIS_PORT,
        password: password.clone(),
    })
}

/// The kubelet's word for it, where nobody answers because no Redis runs. A container runs some time before its Redis
/// listens: the startup probe says since when it does.
fn not_started(pod: &Pod, failure: &ProbeFailure) -> Option<NoAnswer> {
    let status = redis_status(pod);
    let running = status.and_then(|s| s.state.as_ref()).is_some_and(|s| s.running.is_some());
    let listened = status.is_some_and(|s| s.started == Some(true));
    (!running || !listened && *failure == ProbeFailure::Refused).then_some(NoAnswer::NotStarted)
}

fn observed_pod(
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
        new_address,
        last_end: last_end(pod),
        grace_seconds: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(DEFAULT_GRACE_SECONDS),
        terminating: pod.metadata.deletion_timestamp.is_some(),
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
