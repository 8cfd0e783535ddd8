//! `spec` of a `RedisReplicaSet`: what a user asks for.
//!
//! An empty spec is valid. The API server fills in the defaults below, so `kubectl get -o yaml` shows what is
//! meant, and refuses with a reason what cannot be meant; `plan` holds the rest of the checks.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::api::resource::Quantity,
};
use kube_derive::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    auth::Auth,
    directives,
    failover::Failover,
    network::Network,
    users::{AclUser, MAX_USERS},
};
use redis_node::files::DEFAULT_GRACE_SECONDS;

/// Pods of a set at most: as many replicas as one primary feeds without a thought.
pub const MAX_REPLICAS: i32 = 9;
/// Longest name: the `StatefulSet` controller writes `<name>-<hash of ten>` into a label of at most 63 characters.
pub const MAX_NAME_LENGTH: usize = 52;
/// Image where the spec names none.
pub const DEFAULT_IMAGE: &str = "docker.io/library/redis:8.0";
/// Size of each volume where the spec names none.
pub const DEFAULT_STORAGE_SIZE: &str = "1Gi";

/// What to run: one primary and its replicas, in ordered pods behind a headless Service.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "replication.redis",
    version = "v1alpha1",
    kind = "RedisReplicaSet",
    plural = "redisreplicasets",
    shortname = "rrs",
    category = "redis",
    namespaced,
    status = "crate::api::status::RedisReplicaSetStatus",
    derive = "PartialEq",
    doc = "Replicated Redis: ordered pods with stable DNS names, one primary, and a status that says what every server itself answered. Clients write to the Service with the set's name, which leads to the primary, and read from the Service <name>-replicas; the password is in the Secret <name>-auth.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "True while every pod's Redis is verified."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "string",
        json_path = ".status.summary.replicas",
        description = "Verified pods of the wanted number."
    ),
    printcolumn(
        name = "Primary",
        type_ = "string",
        json_path = ".status.primary.pod",
        description = "The primary of record."
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.summary.synced",
        description = "Replicas that truly follow the primary, of the wanted number."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        description = "Why Ready is what it is."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.instances[0].version",
        priority = 1,
        description = "Version that the first pod's server answered."
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".spec.image",
        priority = 1,
        description = "Image that the spec asks for."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1,
        description = "The evidence behind Ready, in words."
    ),
    validation = ("size(self.metadata.name) <= 52", "metadata.name must have at most 52 characters: Kubernetes adds a hash of ten to it in a label of the pods, which holds 63. Choose a shorter name"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "metadata.name must be a DNS label (lower-case letters, digits, dashes; a letter first, no dots): Services and pods are named after it"),
    // The way back from a growth that was refused is the one case in which a smaller size shrinks nothing.
    validation = (
        "!has(self.spec.storage) || !has(oldSelf.spec.storage) || !has(self.spec.storage.size) || !has(oldSelf.spec.storage.size) || !quantity(string(self.spec.storage.size)).isLessThan(quantity(string(oldSelf.spec.storage.size))) || (has(self.status) && has(self.status.conditions) && self.status.conditions.exists(c, c.type == 'SpecValid' && c.reason == 'VolumeGrowthRefused'))",
        "spec.storage.size cannot shrink: a volume only ever grows. Create a new RedisReplicaSet with this size and copy the data into it"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "(has(self.config) && 'appendonly' in self.config ? self.config['appendonly'] : 'no') == (has(oldSelf.config) && 'appendonly' in oldSelf.config ? oldSelf.config['appendonly'] : 'no')",
        "config.appendonly cannot change on an existing set: Redis would start with an empty dataset, because it reads only the kind of file that the setting names. Create a new RedisReplicaSet with this setting and copy the data into it"
    ),
    validation = (
        "!has(self.failover) || !has(self.failover.mode) || self.failover.mode != 'Quorum' || self.replicas >= 3",
        "failover.mode Quorum needs replicas of at least 3: with one replica, losing that one would leave nobody to take over. Use Fenced, or raise replicas"
    ),
    validation = (
        "!has(self.failover) || !has(self.failover.mode) || self.failover.mode != 'Quorum' || !has(self.config) || !('min-replicas-to-write' in self.config || 'min-slaves-to-write' in self.config)",
        "config.min-replicas-to-write is the operator's where failover.mode is Quorum: it raises and lowers it with what is alive. Remove it, or use Fenced"
    )
)]
pub struct RedisReplicaSetSpec {
    /// Pods in all: one primary, the others replicas. `kubectl scale` changes it too.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,

    /// Image with redis-server (Redis 6.2 or later, or Valkey 8 or later). Neither a shell nor redis-cli is needed in it.
    /// On a running set, a version that could not take over the data is refused: an older one, and Valkey in place of
    /// Redis 7.4 and later or the other way round.
    #[serde(default = "default_image")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = ("!self.matches('\\\\s')", "image must not contain blanks: write it as registry/repository:tag"))]
    pub image: String,

    /// When the kubelet pulls the image.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,

    /// Secrets of the same namespace with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,

    /// redis.conf directives by name, each value as it would stand in redis.conf (`save: "900 1"`). An empty
    /// value is written as `""`. Quote numbers and yes/no: values are strings. What Redis can change while it runs is
    /// changed on the running servers, the primary last, and set back where somebody else changes it; the rest, and
    /// taking a directive away, restarts the pods one by one. What the operator decides itself is refused with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "directives_schema")]
    #[x_kube(
        validation = directives::name_rule(),
        validation = directives::control_rule(),
        validation = directives::quotes_rule(),
        validation = directives::Bound::Appendonly.rule(),
        validation = directives::Bound::DisklessLoad.rule(),
        validation = directives::Bound::PingPeriod.rule(),
        validation = directives::Bound::Clients.rule(),
        validation = directives::Bound::AcceptQueue.rule(),
        validation = directives::Bound::ClientMemory.rule(),
        validation = directives::Bound::OutputBuffers.rule(),
        validation = directives::Bound::QueryBuffer.rule(),
        validation = directives::Bound::Idle.rule(),
        validation = directives::Bound::LinkTimeout.rule(),
        validation = directives::Bound::Memory.rule(),
        validation = directives::Bound::Backlog.rule(),
        validation = directives::Bound::SyncDelay.rule(),
        validation = directives::Bound::GoodReplicas.rule(),
        validation = directives::Bound::BusyAnswers.rule(),
        validation = directives::Bound::LoadingAnswers.rule(),
        validation = directives::Bound::Shutdown.rule(),
        validation = directives::Bound::ShutdownWait.rule(),
        validation = directives::Bound::ReplicaEviction.rule(),
        validation = directives::Bound::PropagationErrors.rule(),
        validation = directives::Bound::Databases.rule(),
        validation = directives::Bound::Zone.rule(),
        validation = directives::Group::Role.rule(),
        validation = directives::Group::Credentials.rule(),
        validation = directives::Group::Tls.rule(),
        validation = directives::Group::Addresses.rule(),
        validation = directives::Group::AnnouncedNames.rule(),
        validation = directives::Group::Process.rule(),
        validation = directives::Group::History.rule(),
        validation = directives::Group::OtherModes.rule(),
        validation = directives::Group::Tests.rule()
    )]
    pub config: BTreeMap<String, String>,

    /// Where each pod keeps its data: a volume of its own (`size`), or the pod itself (`ephemeral`).
    #[serde(default)]
    pub storage: Storage,

    /// CPU and memory of the Redis container. `resources: {}` asks for nothing.
    #[serde(default)]
    pub resources: Resources,

    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "short_strings_schema")]
    pub node_selector: BTreeMap<String, String>,

    /// Where pods may or should run. If absent, pods of the set prefer different nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// Taints that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub tolerations: Vec<Toleration>,

    /// How the pods spread over zones or nodes. A constraint without `labelSelector` counts the pods of this set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// `PriorityClass` of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Labels for the pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    #[x_kube(
        validation = ("self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('replication.redis/'))", "podLabels must not begin with app.kubernetes.io/ or replication.redis/: the operator selects its pods by these. Use a prefix of your own"),
        validation = ("self.all(k, k.matches('^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))", "podLabels: a key is [prefix/]name, with a name of at most 63 letters, digits, dashes, underscores and dots"),
        validation = ("self.all(k, self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))", "podLabels: a value is at most 63 letters, digits, dashes, underscores and dots; use podAnnotations for other text")
    )]
    pub pod_labels: BTreeMap<String, String>,

    /// Annotations for the pods, beside the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations_schema")]
    #[x_kube(
        validation = ("self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('replication.redis/'))", "podAnnotations must not begin with app.kubernetes.io/ or replication.redis/: these are the operator's. Use a prefix of your own"),
        validation = ("self.all(k, k.matches('^([a-z0-9][-a-z0-9.]{0,252}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))", "podAnnotations: a key is [prefix/]name, with a name of at most 63 letters, digits, dashes, underscores and dots")
    )]
    pub pod_annotations: BTreeMap<String, String>,

    /// Seconds that a pod has to end: 40 for the primary to move away, 10 for Redis to wait for its replicas, and the rest
    /// for two saves of the data, since one may have to begin again. Raise it where a save takes more than half a minute:
    /// a save that is cut off loses what came after the one before. A change restarts the pods one by one.
    #[serde(default = "default_grace")]
    #[schemars(range(min = 60, max = 86400))]
    pub termination_grace_period_seconds: i64,

    /// Seconds that Redis has at each start to load its data, before the kubelet restarts it. A change restarts the pods
    /// one by one.
    #[serde(default = "default_startup")]
    #[schemars(range(min = 60, max = 86400))]
    pub startup_timeout_seconds: i32,

    /// How applications log in.
    #[serde(default)]
    pub auth: Auth,

    /// ACL users for applications, and what the user `default` may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_USERS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub users: Vec<AclUser>,

    /// Where the primary is.
    #[serde(default)]
    pub primary: PrimaryPlace,

    /// What the operator does when the primary stays silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,

    /// Who may connect to the pods.
    #[serde(default)]
    pub network_policy: Network,

    /// While true the operator changes nothing and goes on to report.
    #[serde(default)]
    pub paused: bool,
}

impl Default for RedisReplicaSetSpec {
    /// What the API server makes of an empty spec.
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            image: default_image(),
            image_pull_policy: ImagePullPolicy::default(),
            image_pull_secrets: Vec::new(),
            config: BTreeMap::new(),
            storage: Storage::default(),
            resources: Resources::default(),
            node_selector: BTreeMap::new(),
            affinity: None,
            tolerations: Vec::new(),
            topology_spread_constraints: Vec::new(),
            priority_class_name: None,
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            termination_grace_period_seconds: default_grace(),
            startup_timeout_seconds: default_startup(),
            auth: Auth::default(),
            users: Vec::new(),
            primary: PrimaryPlace::default(),
            failover: None,
            network_policy: Network::default(),
            paused: false,
        }
    }
}

/// Where the primary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrimaryPlace {
    /// Go home to the first pod by a lossless switchover, once every pod is verified and the first one has stayed up
    /// for 30 s. The annotation `replication.redis/switchover-to: <pod>` of this object names another home for as long
    /// as it stands.
    #[serde(default = "yes")]
    pub failback: bool,
}

impl Default for PrimaryPlace {
    fn default() -> Self {
        Self { failback: yes() }
    }
}

fn yes() -> bool {
    true
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start of a container.
    Always,
    /// If the node does not have it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A Secret with which images are pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImagePullSecret {
    /// Name of a Secret of type `kubernetes.io/dockerconfigjson` in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where a pod keeps its data. Fixed at creation, except for `retention` and for a larger `size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.size) != has(self.ephemeral)", "storage must have either size (a volume for each pod) or ephemeral: {} (data lives and dies with the pod)"),
    validation = ("!has(self.ephemeral) || (!has(self.storageClassName) && !has(self.retention))", "storageClassName and retention are about volumes: remove them, or give a size instead of ephemeral"),
    validation = ("has(self.ephemeral) == has(oldSelf.ephemeral)", "storage cannot change between volumes and ephemeral on an existing set: a StatefulSet's volumeClaimTemplates are immutable. Create a new RedisReplicaSet with this storage and copy the data into it"),
    validation = ("has(self.ephemeral) || has(oldSelf.ephemeral) || (has(self.storageClassName) ? self.storageClassName : '') == (has(oldSelf.storageClassName) ? oldSelf.storageClassName : '')", "storage.storageClassName cannot change on an existing set: a StatefulSet's volumeClaimTemplates are immutable. Create a new RedisReplicaSet with this class and copy the data into it")
)]
pub struct Storage {
    /// Size of each pod's volume, for example `10Gi`. A larger one grows the volumes where their `StorageClass` allows it
    /// (`allowVolumeExpansion`); a smaller one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    #[x_kube(validation = ("isQuantity(string(self)) && quantity(string(self)).isGreaterThan(quantity('0'))", "storage.size must be a quantity above zero, for example 10Gi"))]
    pub size: Option<Quantity>,

    /// `StorageClass` of the volumes. If absent, the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of the volumes. If absent, they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,

    /// Keep the data in the pod itself: it is lost with the pod, and comes back from a copy in another pod. With
    /// `replicas: 1` there is no other: an eviction, a drain or a lost node loses all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: Some(Quantity(DEFAULT_STORAGE_SIZE.to_owned())),
            storage_class_name: None,
            retention: Some(Retention::default()),
            ephemeral: None,
        }
    }
}

/// Data in the pod itself. No settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ephemeral {}

/// What becomes of the volumes when their pods go for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// When the `RedisReplicaSet` is deleted.
    #[serde(default)]
    pub when_deleted: RetentionPolicy,
    /// When `replicas` is lowered.
    #[serde(default)]
    pub when_scaled: RetentionPolicy,
}

/// Keep or delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetentionPolicy {
    /// The volumes stay, and are used again by pods of the same name.
    #[default]
    Retain,
    /// The volumes and their data are deleted.
    Delete,
}

impl RetentionPolicy {
    /// The word that Kubernetes uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

/// CPU and memory of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Resources {
    /// What the scheduler reserves, for example `cpu: 100m`, `memory: 256Mi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities_schema")]
    #[x_kube(validation = ("self.all(k, isQuantity(string(self[k])))", "resources.requests: each value must be a quantity, for example cpu: 100m, memory: 256Mi"))]
    pub requests: BTreeMap<String, Quantity>,

    /// What the container may use at most. Above `memory` Redis is killed: leave room for replication and saving,
    /// up to twice the dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities_schema")]
    #[x_kube(validation = ("self.all(k, isQuantity(string(self[k])))", "resources.limits: each value must be a quantity, for example cpu: '1', memory: 1Gi"))]
    pub limits: BTreeMap<String, Quantity>,
}

impl Default for Resources {
    /// Modest requests and no limits: enough that the kubelet does not count the pod among the first to evict.
    fn default() -> Self {
        let requests = [("cpu", "50m"), ("memory", "128Mi")];
        Self {
            requests: requests.map(|(name, value)| (name.to_owned(), Quantity(value.to_owned()))).into(),
            limits: BTreeMap::new(),
        }
    }
}

/// Time for two saves of some gigabytes.
fn default_grace() -> i64 {
    DEFAULT_GRACE_SECONDS
}

/// Time to load some hundred gigabytes from a fast disk.
fn default_startup() -> i32 {
    600
}

fn default_replicas() -> i32 {
    3
}

fn default_image() -> String {
    DEFAULT_IMAGE.to_owned()
}

fn directives_schema(_: &mut SchemaGenerator) -> Schema {
    strings_schema(directives::MAX_DIRECTIVES, directives::MAX_VALUE_LENGTH)
}

fn short_strings_schema(_: &mut SchemaGenerator) -> Schema {
    strings_schema(64, 63)
}

fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    strings_schema(32, 63)
}

fn annotations_schema(_: &mut SchemaGenerator) -> Schema {
    strings_schema(32, 4096)
}

/// A map of strings with the bounds that the API server needs to price the CEL rules over it.
fn strings_schema(max_properties: usize, max_length: usize) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": max_properties,
        "additionalProperties": {"type": "string", "maxLength": max_length},
    })
}

/// `Quantity` brings two kilobytes of description wherever it stands, and no bound.
fn size_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-int-or-string": true, "maxLength": 32})
}

fn quantities_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"x-kubernetes-int-or-string": true, "maxLength": 32},
    })
}
