//! Wiring: what is watched, what starts a pass, and what is done with its result.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::mpsc};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, NamespaceResourceScope},
    runtime::{
        Controller,
        controller::{self, Action},
        reflector::ObjectRef,
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tracing::{Instrument, error, info_span, warn};

use crate::{
    api::RedisReplicaSet,
    context::Context,
    error::chain,
    monitor,
    names::SetName,
    pods::ours,
    reconcile::{Ended, PROGRESS_INTERVAL, PublishError, publish, reconcile},
    requeue,
    status::Learned,
};

/// Passes that run at the same time. Each set has one at most, so a set that is stuck holds up nobody else until
/// this many are stuck at once.
const CONCURRENT_PASSES: u16 = 64;

/// What the controller runs on.
pub struct Wiring {
    /// Client of the API server.
    pub client: Client,
    /// Namespace to serve; `None` for all.
    pub namespace: Option<String>,
    /// Passes asked for by changes of pods and by held connections.
    pub triggers: mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>,
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
    let Wiring { client, namespace, triggers } = wiring;
    let ns = namespace.as_deref();
    // On an empty cache every set would seem to have lost its pods.
    if ctx.pods.wait_until_ready().await.is_err() {
        error!("the watch of pods ended");
        return;
    }
    Controller::new(scoped::<DeserializeGuard<RedisReplicaSet>>(&client, ns), watcher::Config::default())
        .owns(scoped::<StatefulSet>(&client, ns), ours())
        .owns(scoped::<Service>(&client, ns), ours())
        .owns(scoped::<ConfigMap>(&client, ns), ours())
        .owns(scoped::<PodDisruptionBudget>(&client, ns), ours())
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

/// An API of the one namespace to serve, or of all.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// One pass, with its clock, span and figures, and a panic contained.
async fn pass(
    guarded: Arc<DeserializeGuard<RedisReplicaSet>>,
    ctx: Arc<Context>,
) -> Result<Action, PublishError> {
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
    let ended = match outcome {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => {
            ctx.metrics.count_error("StatusWrite");
            span.in_scope(|| warn!(error = chain(&error), "cannot write the status; it is tried again"));
            Ended { status: set.status.clone().unwrap_or_default(), failed: true, within: None }
        }
        Err(_) => {
            ctx.metrics.count_error("Panicked");
            let name = SetName::new(set.namespace().unwrap_or_default(), set.name_any());
            let learned = Learned::nothing(
                &name,
                set,
                ("Panicked", "the operator failed on this set; its log says where. Please report it"),
            );
            let (status, deferred) = publish(set, &ctx, &learned, now).await?;
            Ended { status, failed: true, within: deferred.then_some(PROGRESS_INTERVAL) }
        }
    };
    let failures = ctx.memory.count_failure(&object, ended.failed);
    let next = requeue::after(&ended.status, failures, now, jitter());
    Ok(Action::requeue(ended.within.map_or(next, |soon| next.min(soon))))
}

/// Between 0 and 1, different each time.
fn jitter() -> f64 {
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

/// The channel by which changes of pods and held connections ask for a pass.
pub fn triggers() -> (monitor::Trigger, mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>) {
    mpsc::unbounded()
}
