//! Every name that the operator gives to something in the cluster is made here and nowhere else.

use std::fmt;

/// API group of the `RedisReplicaSet` kind, and prefix of our annotations and labels.
pub const GROUP: &str = "replication.redis";
/// Annotation of a `RedisReplicaSet`: the pod that is to be the primary for as long as the annotation stands.
pub const SWITCHOVER_TO: &str = "replication.redis/switchover-to";
/// Annotation of a `RedisReplicaSet`: `<pod>@<epoch>`. Ends a hold: the pod is promoted, whatever it lacks, if
/// `status.primary.epoch` is still that number.
pub const ACCEPT_DATA_LOSS: &str = "replication.redis/accept-data-loss";
/// Annotation of a set's `PersistentVolumeClaim`s: the epoch, and the histories that elections ended, as JSON. A set that is
/// begun again over these volumes ranks them by it.
pub const HISTORY: &str = "replication.redis/history";
/// Field manager under which children (Services, `StatefulSet`, …) are applied.
pub const CHILDREN_MANAGER: &str = "redis-operator/children";
/// Field manager under which `status` is applied.
pub const STATUS_MANAGER: &str = "redis-operator/status";
/// Name of that port in Services and pods; SRV records are `_redis._tcp.<headless>…`.
pub const REDIS_PORT_NAME: &str = "redis";
/// Name of the pod's main container.
pub const REDIS_CONTAINER: &str = "redis";
/// Argument of `agent start` by which Redis follows nobody before the operator says so.
pub const START_PARKED: &str = "--start=parked";
/// Name of the init container that copies the agent into the pod.
pub const AGENT_CONTAINER: &str = "agent";
/// Name of the volume (claim template) mounted at `redis_node::files::DATA_DIR`.
pub const DATA_VOLUME: &str = "data";

/// Names one `RedisReplicaSet` and makes the names of everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetName {
    /// Namespace of the set and of all its children.
    pub namespace: String,
    /// `metadata.name` of the set.
    pub name: String,
}

impl SetName {
    /// A set by namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The `StatefulSet`, named like the set.
    pub fn stateful_set(&self) -> String {
        self.name.clone()
    }

    /// The headless Service that governs the pods' DNS names.
    pub fn headless_service(&self) -> String {
        format!("{}-headless", self.name)
    }

    /// The Service that leads to the primary, named like the set.
    pub fn primary_service(&self) -> String {
        self.name.clone()
    }

    /// The Service that leads to the replicas that may be read.
    pub fn replicas_service(&self) -> String {
        format!("{}-replicas", self.name)
    }

    /// The `ConfigMap` with the user's redis.conf directives.
    pub fn config_map(&self) -> String {
        format!("{}-config", self.name)
    }

    /// The `ConfigMap` with the role record (`docs/design/protocol.md`, "The record").
    pub fn record(&self) -> String {
        format!("{}-record", self.name)
    }

    /// The Secret with the application's password, where the spec names none.
    pub fn auth_secret(&self) -> String {
        format!("{}-auth", self.name)
    }

    /// The Secret with the operator's own passwords, and all users as the servers start with them.
    pub fn internal_secret(&self) -> String {
        format!("{}-internal", self.name)
    }

    /// The `PodDisruptionBudget`, named like the set.
    pub fn disruption_budget(&self) -> String {
        self.name.clone()
    }

    /// The `NetworkPolicy`, named like the set.
    pub fn network_policy(&self) -> String {
        self.name.clone()
    }

    /// The pod with this ordinal.
    pub fn pod(&self, ordinal: i32) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The ordinal of a pod of this set, or `None` where the name is not one of ours.
    pub fn ordinal(&self, pod: &str) -> Option<i32> {
        let ordinal: i32 = pod.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()?;
        (ordinal >= 0 && self.pod(ordinal) == pod).then_some(ordinal)
    }

    /// The domain under which the headless Service publishes the pods.
    pub fn pod_domain(&self, cluster_domain: &str) -> String {
        format!("{}.{}.svc.{cluster_domain}", self.headless_service(), self.namespace)
    }

    /// The stable DNS name of a pod: what its Redis announces and what replicas report as `master_host`.
    pub fn fqdn(&self, ordinal: i32, cluster_domain: &str) -> String {
        format!("{}.{}", self.pod(ordinal), self.pod_domain(cluster_domain))
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The name of a pod's claim, by which the `StatefulSet` finds it.
pub fn claim_of(pod: &str) -> String {
    format!("{DATA_VOLUME}-{pod}")
}

/// The pod of this set that a claim of this name belongs to.
pub fn pod_of<'a>(set: &SetName, claim: &'a str) -> Option<&'a str> {
    let pod = claim.strip_prefix(DATA_VOLUME)?.strip_prefix('-')?;
    set.ordinal(pod).map(|_| pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab_names() {
        let set = SetName::new("default", "redis");
        assert_eq!(set.fqdn(0, "cluster.local"), "redis-0.redis-headless.default.svc.cluster.local");
        assert_eq!(set.headless_service(), "redis-headless");
        assert_eq!(
            (set.primary_service().as_str(), set.replicas_service().as_str()),
            ("redis", "redis-replicas")
        );
    }

    /// A Service's name is a DNS label, of at most 63 characters.
    #[test]
    fn the_longest_name_leaves_room_for_every_service() {
        let set = SetName::new("default", "x".repeat(crate::api::spec::MAX_NAME_LENGTH));
        for service in [set.primary_service(), set.replicas_service(), set.headless_service()] {
            assert!(service.len() <= 63, "{service}");
        }
    }

    #[test]
    fn ordinals() {
        let set = SetName::new("ns", "a-1");
        assert_eq!(set.ordinal("a-1-12"), Some(12));
        for foreign in ["a-1", "a-1-", "a-1-x", "a-1-01", "a-1--1", "a-11-0", "b-0"] {
            assert_eq!(set.ordinal(foreign), None, "{foreign}");
        }
    }
}
