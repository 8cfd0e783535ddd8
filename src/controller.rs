//! Wiring: what is watched, what starts a reconcile, and what is done with its result.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, channel::mpsc};
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Service},
    networking::v1::NetworkPolicy,
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
    context::Context,
    error_chain::chain,
    kubernetes::stores::{self, Writers},
    metrics::STATUS_WRITE,
    reconcile::{PROGRESS_INTERVAL, PublishError, Reconciled, publish, reconcile, stand_in},
    watch::{Trigger, pods::watched},
};
use operator_core::{
    api::{Reason, RedisReplicaSet, failover::Policy},
    names::SetName,
    requeue,
    status::outcome::Outcome,
    subject::Subject,
};

/// Reconciles that run at the same time. Each set has one at most, so a set that is stuck holds up nobody else until
/// this many are stuck at once.
const CONCURRENT_RECONCILES: u16 = 64;

/// What the controller runs on.
pub struct Wiring {
    /// Client of the API server.
    pub client: Client,
    /// Namespace to serve; `None` for all.
    pub namespace: Option<String>,
    /// Caches of the children, to fill.
    pub writers: Writers,
    /// Reconciles asked for by changes of pods and by held connections.
    pub triggers: mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>,
}

/// The only clock reading of a reconcile; whole seconds, since that is what `status` can hold.
#[expect(clippy::disallowed_methods, reason = "the one place where time enters a reconcile")]
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

/// Runs reconciles until `shutdown` completes, then lets the running ones end.
pub async fn run(
    wiring: Wiring,
    ctx: Arc<Context>,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let Wiring { client, namespace, writers, triggers } = wiring;
    let ns = namespace.as_deref();
    // On an empty cache every set would seem to have lost its pods.
    if ctx.pods.wait_until_ready().await.is_err() {
        error!("the watch of pods ended");
        return;
    }
    let (sets, of_sets) = reflector::store();
    let changes = watcher(scoped::<DeserializeGuard<RedisReplicaSet>>(&client, ns), watched())
        // Who wrote which field of each status: nothing reads it.
        .modify(|set| set.meta_mut().managed_fields = None)
        .reflect(of_sets)
        .applied_objects();
    Controller::for_stream(changes, sets)
        .owns_stream(stores::watch(scoped::<StatefulSet>(&client, ns), writers.stateful_sets))
        .owns_stream(stores::watch(scoped::<Service>(&client, ns), writers.services))
        .owns_stream(stores::watch(scoped::<ConfigMap>(&client, ns), writers.config_maps))
        .owns_stream(stores::watch(scoped::<PodDisruptionBudget>(&client, ns), writers.disruption_budgets))
        .owns_stream(stores::watch(scoped::<NetworkPolicy>(&client, ns), writers.network_policies))
        .reconcile_on(
            triggers
                .map(|set| ObjectRef::new(&set.name).within(set.namespace.as_deref().unwrap_or_default())),
        )
        .with_config(controller::Config::default().concurrency(CONCURRENT_RECONCILES))
        .graceful_shutdown_on(shutdown)
        .run(reconcile_one, |_, _, _| Action::requeue(Duration::from_secs(5)), Arc::clone(&ctx))
        .for_each(|result| {
            match result {
                Ok(_) => {}
                Err(controller::Error::ObjectNotFound(set)) => {
                    forget(&ctx, set.namespace.as_deref(), &set.name);
                }
                Err(error) => {
                    warn!(error = chain(&error), "a watch or a reconcile failed; it is tried again");
                }
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

/// One reconcile, with its clock, span and figures, and a panic contained.
async fn reconcile_one(
    guarded: Arc<DeserializeGuard<RedisReplicaSet>>,
    ctx: Arc<Context>,
) -> Result<Action, PublishError> {
    ctx.stores.wait().await;
    let now = now();
    // Admission refuses an object that cannot be read; it can only be older than the CRD.
    let (set, unreadable) = match &guarded.0 {
        Ok(set) => (Cow::Borrowed(set), None),
        Err(invalid) => {
            let mut set = stand_in(invalid.metadata.clone());
            set.status = ctx.memory.last_written(&ObjectRef::from_obj(&set));
            (Cow::Owned(set), Some(invalid.error.as_str()))
        }
    };
    let set = set.as_ref();
    let Some(subject) = Subject::of(set, &ctx.settings) else {
        // The API server gives each object a namespace, a name and a UID.
        return Ok(Action::await_change());
    };
    let failover = if unreadable.is_some() { Policy::unread() } else { subject.failover };
    let subject = Subject { failover, ..subject };
    let span = info_span!("reconcile", namespace = set.namespace(), name = set.name_any());
    let started = Instant::now();
    let outcome = std::panic::AssertUnwindSafe(Box::pin(reconcile(set, &subject, unreadable, &ctx, now)))
        .catch_unwind()
        .instrument(span.clone())
        .await;
    ctx.metrics.observe_reconcile(started.elapsed());

    let object = ObjectRef::from_obj(set);
    let ended = match outcome {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => {
            ctx.metrics.count_error(STATUS_WRITE);
            span.in_scope(|| warn!(error = chain(&error), "cannot write the status; it is tried again"));
            Reconciled { status: set.status.clone().unwrap_or_default(), failed: true, within: None }
        }
        Err(_) => {
            ctx.metrics.count_error(Reason::Panicked.as_str());
            let mut outcome = Outcome::default();
            outcome.fail(
                Reason::Panicked,
                "the operator failed on this set; its log says where. Please report it",
            );
            let (status, deferred) = publish(set, &ctx, &subject, &outcome, now).await?;
            Reconciled { status, failed: true, within: deferred.then_some(PROGRESS_INTERVAL) }
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
    ctx.servers.keep(&name, |_| false);
    ctx.memory.forget(&object);
    ctx.claims.forget(&name);
    let pods = (0..9).map(|ordinal| name.pod(ordinal)).collect::<Vec<_>>();
    ctx.metrics.forget(&name, pods.into_iter());
}

/// The channel by which changes of pods and held connections ask for a reconcile.
pub fn triggers() -> (Trigger, mpsc::UnboundedReceiver<ObjectRef<RedisReplicaSet>>) {
    mpsc::unbounded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cache::Packed,
        kubernetes::{
            fake_api::{FakeApi, Fate},
            stores::Stores,
        },
        memory::Memory,
        metrics::Metrics,
        redis::pool::Pool,
        watch::{pods, servers::Monitor},
    };
    use kube::runtime::{
        events::{Recorder, Reporter},
        reflector,
    };
    use operator_core::settings::Settings;
    use redis_node::record::Record;
    use serde_json::{Value, json};

    #[expect(clippy::disallowed_methods, reason = "the one Recorder of a test")]
    fn context_with(api: &FakeApi, stores: Stores) -> Arc<Context> {
        Arc::new(Context {
            client: api.client(),
            settings: Settings {
                cluster_domain: "cluster.local".into(),
                agent_image: "operator:1".into(),
                operator_namespace: "ops".into(),
            },
            pods: reflector::store().0,
            stores,
            mandate: crate::leadership::Leadership::default(),
            deadline: Duration::from_millis(200),
            ends: Arc::new(pods::Terminations::default()),
            dns_stale: Duration::ZERO,
            dns: crate::cluster_dns::ClusterDns { is_asked: false },
            recorder: Recorder::new(
                api.client(),
                Reporter { controller: "redis-operator".into(), instance: None },
            ),
            metrics: Arc::new(Metrics::default()),
            servers: Pool::default(),
            monitor: Monitor::new(triggers().0),
            memory: Memory::default(),
            claims: crate::kubernetes::claims::Memory::default(),
        })
    }

    fn context(api: &FakeApi) -> Arc<Context> {
        context_with(api, Stores::new().0)
    }

    fn record() -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "redis-record", "namespace": "lab", "resourceVersion": "1",
                "ownerReferences": [{
                    "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet", "name": "redis",
                    "uid": set()["metadata"]["uid"], "controller": true,
                }],
            },
            "data": {"record.json": json!(Record::first(vec!["redis-0".into()], true)).to_string()},
        })
    }

    fn set() -> Value {
        json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "redis", "namespace": "lab", "uid": "u", "generation": 1}, "spec": {},
        })
    }

    fn event() -> Value {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {}, "eventTime": null})
    }

    /// One reconcile whose reads meet with this.
    async fn pass_that_meets(fate: Fate) -> (Action, Value) {
        let api = FakeApi::failing(fate, [(200, set()), (201, event()), (201, event())]);
        let guarded: DeserializeGuard<RedisReplicaSet> = serde_json::from_value(set()).unwrap();
        let next = reconcile_one(Arc::new(guarded), context(&api)).await.unwrap();
        let status = api.requests().into_iter().find(|sent| sent.path.ends_with("/redis/status")).unwrap();
        (next, status.body["status"].clone())
    }

    fn reason(status: &Value, type_: &str) -> (String, String) {
        let all = status["conditions"].as_array().unwrap();
        let condition = all.iter().find(|c| c["type"] == type_).unwrap();
        let text = |field: &str| condition[field].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }

    #[tokio::test]
    async fn a_panic_ends_one_pass_and_stands_in_the_status() {
        let (next, status) = pass_that_meets(Fate::Panic).await;
        assert_eq!(reason(&status, "Degraded"), ("True".into(), "Panicked".into()));
        assert_eq!(reason(&status, "Ready"), ("Unknown".into(), "Panicked".into()));
        assert_ne!(next, Action::await_change(), "it is tried again");
    }

    #[tokio::test]
    async fn a_pass_that_hangs_is_given_up_and_stands_in_the_status() {
        let (next, status) = pass_that_meets(Fate::Silence).await;
        assert_eq!(reason(&status, "Degraded"), ("True".into(), "DeadlineExceeded".into()));
        assert_ne!(next, Action::await_change(), "it is tried again");
    }

    /// What is missing went with it, and must not be made for it again.
    #[tokio::test]
    async fn nothing_is_made_for_a_set_that_is_gone() {
        // Seven children, the record, and the set itself.
        let api = FakeApi::answering((0..9).map(|_| (404, FakeApi::status(404, "NotFound"))));
        let guarded: DeserializeGuard<RedisReplicaSet> = serde_json::from_value(set()).unwrap();
        reconcile_one(Arc::new(guarded), context(&api)).await.unwrap();
        let sent = api.requests();
        assert!(sent.len() == 9 && sent.iter().all(|request| request.method == "GET"), "{sent:?}");
        assert!(sent[8].path.ends_with("/redisreplicasets/redis"), "{}", sent[8].path);
    }

    /// The garbage collector has left its record for the last.
    #[tokio::test]
    async fn no_password_is_made_for_a_set_that_is_gone_though_its_record_is_there() {
        let gone = || (404, FakeApi::status(404, "NotFound"));
        // Seven children, the record, the Secret, and the set itself.
        let answers = (0..7).map(|_| gone()).chain([(200, record()), gone(), gone()]);
        let api = FakeApi::answering(answers);
        let guarded: DeserializeGuard<RedisReplicaSet> = serde_json::from_value(set()).unwrap();
        reconcile_one(Arc::new(guarded), context(&api)).await.unwrap();
        let sent = api.requests();
        assert!(sent.len() == 10 && sent.iter().all(|request| request.method == "GET"), "{sent:?}");
        assert!(sent[8].path.ends_with("/secrets/redis-auth"), "{}", sent[8].path);
        assert!(sent[9].path.ends_with("/redisreplicasets/redis"), "{}", sent[9].path);
    }

    /// Regression: with its Secret deleted, a set whose `StatefulSet` the cache did not show yet got another password than its
    /// servers have.
    #[tokio::test]
    async fn no_password_is_made_by_the_word_of_a_cache() {
        use kube::runtime::watcher::Event;
        let gone = || (404, FakeApi::status(404, "NotFound"));
        let stateful_set = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "redis", "namespace": "lab"},
        });
        // The Secret, the set, the StatefulSet; the operator's own Secret, which is made; then the record is gone, and with it the status.
        let own = (201, json!({"metadata": {"name": "redis-internal"}}));
        let answers = [gone(), (200, set()), (200, stateful_set), gone(), own, gone(), gone()];
        let api = FakeApi::answering(answers);
        let (stores, mut writers) = Stores::new();
        for event in [
            Event::Init,
            Event::InitApply(Packed::of(serde_json::from_value(record()).unwrap())),
            Event::InitDone,
        ] {
            writers.config_maps.apply_watcher_event(&event);
        }
        writers.services.apply_watcher_event(&Event::InitDone);
        writers.stateful_sets.apply_watcher_event(&Event::InitDone);
        writers.disruption_budgets.apply_watcher_event(&Event::InitDone);
        writers.network_policies.apply_watcher_event(&Event::InitDone);
        let guarded: DeserializeGuard<RedisReplicaSet> = serde_json::from_value(set()).unwrap();
        reconcile_one(Arc::new(guarded), context_with(&api, stores)).await.unwrap();
        let sent: Vec<String> =
            api.requests().iter().map(|sent| format!("{} {}", sent.method, sent.path)).collect();
        assert!(sent[2].starts_with("GET ") && sent[2].ends_with("/statefulsets/redis"), "{sent:?}");
        let requests = api.requests();
        let made = requests.iter().filter(|sent| sent.method == "POST");
        let names: Vec<&str> = made.filter_map(|sent| sent.body["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["redis-internal"], "{sent:?}");
    }
}
