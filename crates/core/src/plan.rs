//! From what the user wrote to what is meant: every default taken, every value checked, every name made.
//!
//! Pure. What comes out has no reason to be refused by the API server. The CRD refuses most of what is refused
//! here already at `kubectl apply`; this holds for what a schema cannot say, and where an older CRD is installed.

mod access;
mod check;
pub mod memory;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Affinity, Toleration, TopologySpreadConstraint},
        networking::v1::NetworkPolicyPeer,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use thiserror::Error;

use crate::{
    api::{
        RedisReplicaSet,
        annotations::Home,
        spec::{ImagePullPolicy, Resources, Retention},
    },
    names::{SWITCHOVER_TO, SetName},
    redis_conf::File,
    settings::Settings,
    subject::Subject,
};

/// Everything that is to exist for one set, checked and named.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The set, and what holds of it without a valid spec.
    pub subject: Subject,
    /// Pods in all.
    pub replicas: i32,
    /// Image of the Redis container.
    pub image: String,
    /// When the kubelet pulls it.
    pub image_pull_policy: ImagePullPolicy,
    /// Names of the Secrets with which it is pulled.
    pub image_pull_secrets: Vec<String>,
    /// redis.conf directives of the user.
    pub directives: BTreeMap<String, String>,
    /// redis.conf as the pods are to mount it; as long as nothing is known of the live one, what the directives say.
    pub config: File,
    /// Where each pod keeps its data.
    pub storage: Storage,
    /// CPU and memory of the Redis container.
    pub resources: Resources,
    /// Which nodes the pods may and should run on.
    pub scheduling: Scheduling,
    /// Seconds that a pod has to end.
    pub grace_seconds: i64,
    /// Seconds that Redis has to load its data.
    pub startup_seconds: i32,
    /// Labels of the user for the pods.
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of the user for the pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Where the primary belongs; none where it stays wherever it is.
    pub home: Option<Home>,
    /// Image with the agent.
    pub agent_image: String,
    /// Who may connect to the pods; none where no `NetworkPolicy` is to say so.
    pub access: Option<Access>,
    /// Namespace of the operator's pods.
    pub operator_namespace: String,
}

/// Who may connect to Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// Whoever reaches the pod.
    Everybody,
    /// The set's own pods, the operator, and these.
    Only(Vec<NetworkPolicyPeer>),
}

/// Where a pod keeps its data.
#[derive(Clone, Debug, PartialEq)]
pub enum Storage {
    /// In a volume of its own.
    Volume {
        /// Its size.
        size: Quantity,
        /// Its class; the cluster's default class if none.
        class: Option<String>,
        /// What becomes of it.
        retention: Retention,
    },
    /// In the pod.
    Ephemeral,
}

/// Which nodes the pods may and should run on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scheduling {
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// As the user gave it; none asks for the default.
    pub affinity: Option<Affinity>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Spread over zones and nodes.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// `PriorityClass`.
    pub priority_class_name: Option<String>,
}

/// The spec cannot be carried out as it stands. Only an edit helps.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct InvalidSpec {
    /// Path of the field, for example `spec.storage.size`.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub problem: String,
}

impl InvalidSpec {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Reads the resource.
pub fn plan(resource: &RedisReplicaSet, settings: &Settings) -> Result<Plan, InvalidSpec> {
    let subject = Subject::of(resource, settings).ok_or_else(|| {
        InvalidSpec::new(
            "metadata",
            "has no namespace, name or uid: this resource was not read from an API server",
        )
    })?;
    let spec = &resource.spec;
    let set = &subject.set;

    check::name(set)?;
    check::replicas(spec.replicas)?;
    check::host_names(set, spec.replicas, &settings.cluster_domain)?;
    check::image(&spec.image)?;
    check::directives(&spec.config)?;
    check::users(&spec.users)?;
    check::resources(&spec.resources)?;
    check::pod_metadata("spec.podLabels", &spec.pod_labels)?;
    check::label_values("spec.podLabels", &spec.pod_labels)?;
    check::pod_metadata("spec.podAnnotations", &spec.pod_annotations)?;

    Ok(Plan {
        replicas: spec.replicas,
        image: spec.image.clone(),
        image_pull_policy: spec.image_pull_policy,
        image_pull_secrets: spec.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        directives: spec.config.clone(),
        config: File::first(&spec.config),
        storage: check::storage(&spec.storage)?,
        resources: spec.resources.clone(),
        scheduling: Scheduling {
            node_selector: spec.node_selector.clone(),
            affinity: spec.affinity.clone(),
            tolerations: spec.tolerations.clone(),
            topology_spread_constraints: spec.topology_spread_constraints.clone(),
            priority_class_name: spec.priority_class_name.clone(),
        },
        grace_seconds: spec.termination_grace_period_seconds,
        startup_seconds: spec.startup_timeout_seconds,
        pod_labels: spec.pod_labels.clone(),
        pod_annotations: spec.pod_annotations.clone(),
        home: home(set, resource.metadata.annotations.as_ref(), spec.primary.failback),
        agent_image: settings.agent_image.clone(),
        access: access::access(&spec.network_policy)?,
        operator_namespace: settings.operator_namespace.clone(),
        subject,
    })
}

/// The pod that a person named, or the first one.
fn home(set: &SetName, annotations: Option<&BTreeMap<String, String>>, failback: bool) -> Option<Home> {
    match annotations.and_then(|all| all.get(SWITCHOVER_TO)) {
        Some(pod) => Some(Home { pod: pod.clone(), asked: true }),
        None if failback => Some(Home { pod: set.pod(0), asked: false }),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings() -> Settings {
        Settings {
            cluster_domain: "cluster.local".into(),
            agent_image: "localhost/redis-operator:test".into(),
            operator_namespace: "redis-operator-system".into(),
        }
    }

    fn resource(name: &str, spec: &Value) -> RedisReplicaSet {
        serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": name, "namespace": "lab", "uid": "u-1", "generation": 7},
            "spec": spec,
        }))
        .unwrap()
    }

    fn problem(spec: &Value) -> InvalidSpec {
        plan(&resource("redis", spec), &settings()).unwrap_err()
    }

    #[test]
    fn an_empty_spec_is_a_plan() {
        let plan = plan(&resource("redis", &json!({})), &settings()).unwrap();
        assert_eq!((plan.replicas, plan.subject.generation, plan.subject.paused), (3, Some(7), false));
        assert_eq!(plan.subject.fqdn(0), "redis-0.redis-headless.lab.svc.cluster.local");
        assert_eq!(plan.subject.owner.controller, Some(true));
        assert_eq!(
            plan.storage,
            Storage::Volume { size: Quantity("1Gi".into()), class: None, retention: Retention::default() }
        );
    }

    #[test]
    fn a_bad_spec_names_the_field_and_the_remedy() {
        for (spec, field, remedy) in [
            (json!({"replicas": 0}), "spec.replicas", "1 to 9"),
            (json!({"replicas": 10}), "spec.replicas", "1 to 9"),
            (json!({"image": ""}), "spec.image", "registry/repository:tag"),
            (json!({"image": "a b"}), "spec.image", "registry/repository:tag"),
            (json!({"config": {"replicaof": "x 1"}}), "spec.config", "status.primary"),
            (json!({"storage": {}}), "spec.storage", "ephemeral: {}"),
            (json!({"storage": {"size": "1Gi", "ephemeral": {}}}), "spec.storage", "either"),
            (json!({"storage": {"ephemeral": {}, "storageClassName": "x"}}), "spec.storage", "remove"),
            (json!({"storage": {"size": "1Gib"}}), "spec.storage.size", "10Gi"),
            (json!({"storage": {"size": "0"}}), "spec.storage.size", "10Gi"),
            (json!({"resources": {"limits": {"memory": "lots"}}}), "spec.resources.limits.memory", "1Gi"),
            (json!({"resources": {"requests": {"cpu": "-1"}}}), "spec.resources.requests.cpu", "100m"),
            (
                json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}}),
                "spec.resources.requests.cpu",
                "limit",
            ),
            // An empty list would mean everybody.
            (json!({"networkPolicy": {"clients": []}}), "spec.networkPolicy.clients", "at least one client"),
            (json!({"networkPolicy": {"clients": [{}]}}), "spec.networkPolicy.clients", "or ipBlock"),
            (
                json!({"networkPolicy": {"clients": [{"podSelector": {}, "ipBlock": {"cidr": "192.0.2.0/24"}}]}}),
                "spec.networkPolicy.clients",
                "or ipBlock",
            ),
            (json!({"podLabels": {"app.kubernetes.io/name": "x"}}), "spec.podLabels", "prefix of your own"),
            (json!({"podLabels": {"a": "b c"}}), "spec.podLabels", "podAnnotations"),
            (json!({"podLabels": {"a b": "c"}}), "spec.podLabels", "[prefix/]name"),
            (
                json!({"podAnnotations": {"replication.redis/x": ""}}),
                "spec.podAnnotations",
                "prefix of your own",
            ),
        ] {
            let invalid = problem(&spec);
            assert_eq!(invalid.field, field, "{spec}: {invalid}");
            assert!(invalid.problem.contains(remedy), "{spec}: {invalid}");
        }
    }

    #[test]
    fn names_that_children_cannot_bear_are_refused() {
        let too_long = "a".repeat(53);
        for name in [too_long.as_str(), "1redis", "re.dis", "Redis", "redis-"] {
            assert_eq!(
                plan(&resource(name, &json!({})), &settings()).unwrap_err().field,
                "metadata.name",
                "{name}"
            );
        }
        assert!(plan(&resource(&"a".repeat(52), &json!({})), &settings()).is_ok());
    }

    #[test]
    fn host_names_must_fit_dns_and_redis() {
        let long_domain = Settings { cluster_domain: "d".repeat(128), ..settings() };
        let invalid =
            plan(&resource(&"a".repeat(52), &json!({})), &long_domain).map(|plan| plan.subject.fqdn(2).len());
        assert_eq!(invalid, Ok(253), "the longest that fits");
        let longer = Settings { cluster_domain: format!("x{}", long_domain.cluster_domain), ..settings() };
        let invalid = plan(&resource(&"a".repeat(52), &json!({})), &longer).unwrap_err();
        assert_eq!(invalid.field, "metadata.name");
        assert!(invalid.problem.contains("254") && invalid.problem.contains("shorter"), "{invalid}");
    }
}
