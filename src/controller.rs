//! Wiring: what is watched, what starts a pass, and what is done with its result.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::mpsc};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        Controller, WatchStreamExt,
        controller::{self, Action},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tracing::{Instrument, error, info_span, warn};

use crate::{
    api::RedisReplicaSet,
    context::Context,
    desired::labels,
    error::chain,
    monitor,
    names::SetName,
    reconcile::{publish, reconcile},
    requeue,
    status::Learned,
};

/// Passes that run at the same time. Each set has one at most, so a set that is stuck holds up nobody else until
/// this many are stuck at once.
const CONCURRENT_PASSES: u16 = 64;

/// Marks every object that the operator made.
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Names the set that a pod belongs to.
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// What the controller runs on.
pub struct Wiring {
    /// Client of the API server.
    pub client: Client,
    /// Namespace to serve; `None` for all.
    pub namespace: Option<String>,
    /// Passes asked for by held connections.
    pub triggers: mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>,
    /// Writer of the pods' cache, whose reader is in the [`Context`].
    pub pods: reflector::store::Writer<Pod>,
}

/// The only clock reading of a pass; whole seconds, since that is what `status` can hold.
#[expect(clippy::disallowed_methods, reason = "the one place where time enters a pass")]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// Runs passes until `shutdown` completes, then lets the running ones end.
pub async fn run(
    wiring: Wiring,
    ctx: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let Wiring { client, namespace, triggers, pods } = wiring;
    let ns = namespace.as_deref();
    let ours = || watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={}", labels::MANAGED_BY));
    let pods = watcher(scoped::<Pod>(&client, ns), ours())
        .default_backoff()
        .modify(|pod| {
            // A third of a pod's size, and nobody reads it.
            pod.managed_fields_mut().clear();
        })
        .reflect(pods)
        .touched_objects()
        .filter(|result| std::future::ready(result.is_ok()));

    Controller::new(scoped::<DeserializeGuard<RedisReplicaSet>>(&client, ns), watcher::Config::default())
        .owns(scoped::<StatefulSet>(&client, ns), ours())
        .owns(scoped::<Service>(&client, ns), ours())
        .owns(scoped::<ConfigMap>(&client, ns), ours())
        .owns(scoped::<PodDisruptionBudget>(&client, ns), ours())
        .watches_stream(pods, |pod| set_of(&pod))
        .reconcile_on(
            triggers
                .map(|set| ObjectRef::new(&set.name).within(set.namespace.as_deref().unwrap_or_default())),
        )
        .with_config(controller::Config::default().concurrency(CONCURRENT_PASSES))
        .graceful_shutdown_on(shutdown)
        .run(pass, |_, _, _| Action::requeue(Duration::from_secs(5)), Arc::clone(&ctx))
        .for_each(|result| {
            match result {
                Ok(_) => {}
                Err(controller::Error::ObjectNotFound(set)) => {
                    forget(&ctx, set.namespace.as_deref(), &set.name);
                }
                Err(error) => warn!(error = chain(&error), "a watch or a pass failed; it is tried again"),
            }
            std::future::ready(())
        })
        .await;
}

fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The set that a pod belongs to, by its label.
fn set_of(pod: &Pod) -> Option<ObjectRef<DeserializeGuard<RedisReplicaSet>>> {
    let set = pod.labels().get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(set).within(&pod.namespace()?))
}

/// One pass, with its clock, span and figures, and a panic contained.
async fn pass(
    guarded: Arc<DeserializeGuard<RedisReplicaSet>>,
    ctx: Arc<Context>,
) -> Result<Action, kube::Error> {
    let now = now();
    let set = match &guarded.0 {
        Ok(set) => set,
        Err(invalid) => {
            // Admission refuses such an object; it can only be older than the CRD. Other sets go on.
            error!(
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "this RedisReplicaSet cannot be read; edit it until kubectl apply accepts it"
            );
            ctx.metrics.count_error("Unreadable");
            return Ok(Action::await_change());
        }
    };
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let span = info_span!("pass", namespace = set.namespace(), name = set.name_any());
    let started = Instant::now();
    let outcome = std::panic::AssertUnwindSafe(Box::pin(reconcile(set, &ctx, now)))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    ctx.metrics.observe_pass(started.elapsed());

    let object = ObjectRef::from_obj(set);
    let (status, failed) = match outcome {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => {
            ctx.metrics.count_error("StatusWrite");
            span.in_scope(|| warn!(error = chain(&error), "cannot write the status; it is tried again"));
            (set.status.clone().unwrap_or_default(), true)
        }
        Err(_) => {
            ctx.metrics.count_error("Panicked");
            let name = SetName::new(set.namespace().unwrap_or_default(), set.name_any());
            let learned = Learned::nothing(
                &name,
                set,
                ("Panicked", "the operator failed on this set; its log says where. Please report it"),
            );
            (publish(set, &ctx, &learned, now).await?, true)
        }
    };
    let failures = ctx.memory.count_failure(&object, failed);
    Ok(Action::requeue(requeue::after(&status, failures, now, jitter(&object))))
}

/// Between 0 and 1, different for each set, and different each time.
fn jitter(_set: &ObjectRef<RedisReplicaSet>) -> f64 {
    let random = getrandom::u32().unwrap_or(0);
    f64::from(random) / f64::from(u32::MAX)
}

/// A set is gone: its children go with it, and nothing of it stays in this process.
fn forget(ctx: &Context, namespace: Option<&str>, name: &str) {
    let name = SetName::new(namespace.unwrap_or_default(), name);
    let object = ObjectRef::new(&name.name).within(&name.namespace);
    ctx.monitor.forget(&object);
    ctx.memory.forget(&object);
    let pods = (0..9).map(|ordinal| name.pod(ordinal)).collect::<Vec<_>>();
    ctx.metrics.forget(&name, pods.into_iter());
}

/// The channel by which held connections ask for a pass.
pub fn triggers() -> (monitor::Trigger, mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>) {
    mpsc::unbounded()
}
