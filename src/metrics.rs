//! Figures for Prometheus. The catalogue with meanings and alerts is `docs/use/metrics.md`.

use std::{
    sync::{PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use operator_core::{
    api::{RedisReplicaSetStatus, status::InstanceState},
    election::snapshot::Snapshot,
    names::SetName,
    observed::{NoAnswer, Observed},
};
use redis_node::answer::ProbeFailure;

/// Upper bounds of the duration buckets, in seconds: a reconcile takes milliseconds, and 30 s at most.
const BUCKETS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// The status could not be written: there is no condition to say so in.
pub const STATUS_WRITE: &str = "StatusWrite";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CategoryLabel {
    category: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    verb: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SetLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PodLabels {
    namespace: String,
    name: String,
    pod: String,
}

/// The process' figures.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    reconcile_seconds: Histogram,
    errors: Family<CategoryLabel, Counter>,
    probes: Family<ResultLabel, Counter>,
    api_calls: Family<CallLabels, Counter>,
    ready: Family<SetLabels, Gauge>,
    synced: Family<SetLabels, Gauge>,
    lag_bytes: Family<PodLabels, Gauge>,
    last_probe: Family<SetLabels, Gauge<f64, AtomicU64>>,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("redis_operator");
        let reconcile_seconds = Histogram::new(BUCKETS);
        let (errors, probes, api_calls) = (Family::default(), Family::default(), Family::default());
        let (ready, synced, lag_bytes, last_probe) =
            (Family::default(), Family::default(), Family::default(), Family::default());
        let leader = Gauge::default();
        registry.register_with_unit(
            "reconcile_duration",
            "Time that one reconcile over one set took",
            Unit::Seconds,
            reconcile_seconds.clone(),
        );
        registry.register("errors", "Stages of a reconcile that failed, by category", errors.clone());
        registry.register("probes", "Redis servers asked, by what came of it", probes.clone());
        registry.register("api_calls", "Calls to the API server, by verb and HTTP code", api_calls.clone());
        registry.register("set_ready", "1 while the set's Ready condition is True", ready.clone());
        registry.register("set_synced_replicas", "Replicas verified in sync", synced.clone());
        registry.register(
            "replica_lag_bytes",
            "Bytes that a replica is behind its primary",
            lag_bytes.clone(),
        );
        registry.register(
            "set_last_look_timestamp_seconds",
            "When the set's servers were asked last, in seconds since 1970",
            last_probe.clone(),
        );
        registry.register("leader", "1 in the process that holds the Lease", leader.clone());
        Self {
            registry: RwLock::new(registry),
            reconcile_seconds,
            errors,
            probes,
            api_calls,
            ready,
            synced,
            lag_bytes,
            last_probe,
            leader,
        }
    }
}

impl Metrics {
    /// All figures in the `OpenMetrics` text format.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.read().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }

    /// One reconcile took this long.
    pub fn observe_reconcile(&self, took: Duration) {
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// A stage failed: the reason as in conditions, or [`STATUS_WRITE`].
    pub fn count_error(&self, category: &str) {
        self.errors.get_or_create(&CategoryLabel { category: category.to_owned() }).inc();
    }

    /// A call to the API server was answered, or failed (`code` is then `error`).
    pub fn count_api_call(&self, verb: &str, code: String) {
        self.api_calls.get_or_create(&CallLabels { verb: verb.to_owned(), code }).inc();
    }

    /// This process holds the Lease, or does not.
    pub fn set_leader(&self, leading: bool) {
        self.leader.set(i64::from(leading));
    }

    /// Servers were asked.
    pub fn count_probes(&self, observed: &Observed) {
        for pod in &observed.pods {
            let result = match &pod.answer {
                Ok(_) => "ok",
                Err(NoAnswer::NotStarted | NoAnswer::NoPassword) => continue,
                Err(NoAnswer::Failed(failure)) => result_of(failure),
            };
            self.probes.get_or_create(&ResultLabel { result }).inc();
        }
    }

    /// What a reconcile found out about a set.
    pub fn observe_set(
        &self,
        set: &SetName,
        status: &RedisReplicaSetStatus,
        look: Option<&Snapshot>,
        now: jiff::Timestamp,
    ) {
        let labels = SetLabels { namespace: set.namespace.clone(), name: set.name.clone() };
        let ready = status.is_ready();
        self.ready.get_or_create(&labels).set(i64::from(ready));
        self.synced.get_or_create(&labels).set(i64::from(status.synced_replicas));
        let Some(look) = look else { return };
        self.last_probe.get_or_create(&labels).set(now.as_duration().as_secs_f64());
        let offset = |pod: &str| {
            let pod = look.observed.pods.iter().find(|p| p.name == pod)?;
            Some(pod.answer.as_ref().ok()?.info.replication.offset)
        };
        let labels_of =
            |pod: String| PodLabels { namespace: set.namespace.clone(), name: set.name.clone(), pod };
        for gone in (0..9)
            .map(|ordinal| set.pod(ordinal))
            .filter(|pod| !status.instances.iter().any(|i| i.pod == *pod))
        {
            self.lag_bytes.remove(&labels_of(gone));
        }
        let head = status.primary.as_ref().and_then(|p| offset(&p.pod));
        for instance in &status.instances {
            let labels = labels_of(instance.pod.clone());
            // Offsets compare only within one history, so only a replica in sync has a lag.
            match head.zip(offset(&instance.pod)) {
                Some((head, own)) if instance.state == InstanceState::InSync => {
                    self.lag_bytes.get_or_create(&labels).set((head - own).max(0));
                }
                _ => {
                    self.lag_bytes.remove(&labels);
                }
            }
        }
    }

    /// A set is gone.
    pub fn forget(&self, set: &SetName, pods: impl Iterator<Item = String>) {
        let labels = SetLabels { namespace: set.namespace.clone(), name: set.name.clone() };
        self.ready.remove(&labels);
        self.synced.remove(&labels);
        self.last_probe.remove(&labels);
        for pod in pods {
            self.lag_bytes.remove(&PodLabels {
                namespace: set.namespace.clone(),
                name: set.name.clone(),
                pod,
            });
        }
    }
}

fn result_of(failure: &ProbeFailure) -> &'static str {
    match failure {
        ProbeFailure::Refused => "refused",
        ProbeFailure::Timeout(_) => "timeout",
        ProbeFailure::Connection(_) => "connection",
        ProbeFailure::Auth(_) => "auth",
        ProbeFailure::Loading => "loading",
        ProbeFailure::Busy => "busy",
        ProbeFailure::ClientLimit => "client-limit",
        ProbeFailure::Reply(_) => "error-reply",
        ProbeFailure::Malformed(_) => "malformed",
    }
}

/// A client whose calls are counted by verb and code.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: std::sync::Arc<Metrics>,
}

impl<S> Counted<S> {
    /// Counts the calls that go through `inner`.
    pub fn new(inner: S, metrics: std::sync::Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S, Req, Res> tower::Service<http::Request<Req>> for Counted<S>
where
    S: tower::Service<http::Request<Req>, Response = http::Response<Res>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    Res: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Req>) -> Self::Future {
        let is_watch = request.uri().query().is_some_and(|q| q.contains("watch=true"));
        let verb = if is_watch { "WATCH".to_owned() } else { request.method().to_string() };
        let (metrics, answer) = (std::sync::Arc::clone(&self.metrics), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await;
            let code =
                answer.as_ref().map_or_else(|_| "error".to_owned(), |r| r.status().as_u16().to_string());
            metrics.count_api_call(&verb, code);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use operator_core::{
        api::status::{InstanceStatus, Primary},
        observed::ObservedPod,
        topology::Topology,
    };
    use redis_node::{
        answer::Answer,
        info::{Flavour, Info, Persistence, Replication, Server},
    };
    use serde_json::json;
    use std::sync::Arc;
    use tower::{Service, ServiceExt};

    fn set() -> SetName {
        SetName::new("lab", "redis")
    }

    fn answered(offset: i64) -> Answer {
        let replication = Replication {
            upstream: None,
            replicas: Vec::new(),
            failover_state: "no-failover".into(),
            replid: "r".into(),
            replid2: "0".into(),
            second_repl_offset: -1,
            offset,
            backlog_active: true,
        };
        let server = Server {
            flavour: Flavour::Redis,
            version: "7.0.15".into(),
            run_id: "run".into(),
            uptime_seconds: 1,
            time_micros: 0,
        };
        let persistence = Persistence::default();
        Answer {
            info: Info { server, replication, persistence, clients: None, keys: None },
            announced: String::new(),
            refuses_password: false,
            demands: None,
        }
    }

    fn look(answers: Vec<Result<Answer, NoAnswer>>) -> Snapshot {
        let pods = answers
            .into_iter()
            .zip(0..)
            .map(|(answer, ordinal)| ObservedPod { answer, ..ObservedPod::running(ordinal) });
        Snapshot {
            observed: Observed { pods: pods.collect() },
            topology: Topology::default(),
            ..Snapshot::default()
        }
    }

    fn status(states: &[InstanceState]) -> RedisReplicaSetStatus {
        let instances = states.iter().zip(0..).map(|(state, ordinal)| -> InstanceStatus {
            serde_json::from_value(json!({"pod": set().pod(ordinal), "state": state})).unwrap()
        });
        RedisReplicaSetStatus {
            primary: Some(Primary { pod: "redis-0".into(), epoch: 1 }),
            synced_replicas: 1,
            instances: instances.collect(),
            conditions: vec![Condition {
                type_: "Ready".into(),
                status: "True".into(),
                reason: "Verified".into(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            }],
            ..RedisReplicaSetStatus::default()
        }
    }

    /// The samples, without help texts.
    fn samples(metrics: &Metrics) -> Vec<String> {
        metrics.render().unwrap().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_set_appears_and_goes() {
        let metrics = Metrics::default();
        let empty = samples(&metrics);
        let states = [InstanceState::Primary, InstanceState::InSync, InstanceState::LinkDown];
        let look = look([100, 70, 1].map(|offset| Ok(answered(offset))).to_vec());
        metrics.observe_set(
            &set(),
            &status(&states),
            Some(&look),
            jiff::Timestamp::from_second(1_800_000_000).unwrap(),
        );
        let mut shown: Vec<String> =
            samples(&metrics).into_iter().filter(|line| !empty.contains(line)).collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                r#"redis_operator_replica_lag_bytes{namespace="lab",name="redis",pod="redis-1"} 30"#,
                r#"redis_operator_set_last_look_timestamp_seconds{namespace="lab",name="redis"} 1800000000.0"#,
                r#"redis_operator_set_ready{namespace="lab",name="redis"} 1"#,
                r#"redis_operator_set_synced_replicas{namespace="lab",name="redis"} 1"#,
            ]
        );
        // A lag that cannot be told any more is not shown as it was.
        let states = [InstanceState::Primary, InstanceState::Unreachable];
        metrics.observe_set(&set(), &status(&states), Some(&look), jiff::Timestamp::UNIX_EPOCH);
        assert!(!metrics.render().unwrap().contains("lag_bytes{"));
        metrics.forget(&set(), (0..9).map(|ordinal| set().pod(ordinal)));
        assert_eq!(samples(&metrics), empty);
    }

    #[test]
    fn probes_are_counted_by_what_came_of_them() {
        let metrics = Metrics::default();
        let failures = [
            (ProbeFailure::Refused, "refused"),
            (ProbeFailure::Timeout(Duration::from_secs(2)), "timeout"),
            (ProbeFailure::Connection(String::new()), "connection"),
            (ProbeFailure::Auth(String::new()), "auth"),
            (ProbeFailure::Loading, "loading"),
            (ProbeFailure::Busy, "busy"),
            (ProbeFailure::Reply(String::new()), "error-reply"),
            (ProbeFailure::Malformed(String::new()), "malformed"),
        ];
        let mut answers: Vec<_> =
            failures.iter().map(|(why, _)| Err(NoAnswer::Failed(why.clone()))).collect();
        answers.extend([Ok(answered(1)), Err(NoAnswer::NotStarted), Err(NoAnswer::NoPassword)]);
        metrics.count_probes(&look(answers).observed);
        let mut counted: Vec<String> =
            samples(&metrics).into_iter().filter(|line| line.starts_with("redis_operator_probes")).collect();
        counted.sort();
        let mut expected: Vec<String> = failures
            .iter()
            .map(|(_, result)| *result)
            .chain(["ok"])
            .map(|result| format!("redis_operator_probes_total{{result=\"{result}\"}} 1"))
            .collect();
        expected.sort();
        assert_eq!(counted, expected, "who was not asked is not counted");
    }

    #[tokio::test]
    async fn calls_are_counted_by_verb_and_code() {
        let metrics = Arc::new(Metrics::default());
        let inner = tower::service_fn(|request: http::Request<()>| async move {
            match request.uri().path() {
                "/hangs-up" => Err(std::io::Error::other("no answer")),
                "/missing" => Ok(http::Response::builder().status(404).body(()).unwrap()),
                _ => Ok(http::Response::new(())),
            }
        });
        let mut counted = Counted::new(inner, Arc::clone(&metrics));
        for (method, uri) in [
            ("GET", "/x"),
            ("GET", "/x?watch=true&allowWatchBookmarks=true"),
            ("PATCH", "/x"),
            ("GET", "/missing"),
            ("PUT", "/hangs-up"),
        ] {
            let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
            let _ = counted.ready().await.unwrap().call(request).await;
        }
        let calls: Vec<String> = samples(&metrics)
            .into_iter()
            .filter(|line| line.starts_with("redis_operator_api_calls"))
            .collect();
        assert_eq!(calls.len(), 5);
        for (verb, code) in
            [("GET", "200"), ("WATCH", "200"), ("PATCH", "200"), ("GET", "404"), ("PUT", "error")]
        {
            let sample = format!("redis_operator_api_calls_total{{verb=\"{verb}\",code=\"{code}\"}} 1");
            assert!(calls.contains(&sample), "{sample} is not in {calls:?}");
        }
    }
}
