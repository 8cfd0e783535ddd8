//! Which set it is: what observing, electing, labelling and reporting need, and never a valid spec.
//!
//! Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube_core::Resource;

use crate::{
    api::{RedisReplicaSet, annotations::Consent, auth::Auth, failover::Policy, users::AclUser},
    names::{ACCEPT_DATA_LOSS, SetName},
    redis_conf::File,
    settings::Settings,
};

/// One set, and what holds of it even where its spec cannot be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// Its namespace and name.
    pub set: SetName,
    /// UID of the resource: a namesake that comes later is another set.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// Owner of every child.
    pub owner: OwnerReference,
    /// `spec.replicas`.
    pub wanted: i32,
    /// Change nothing, go on to report.
    pub paused: bool,
    /// What keeps a set that is being deleted; `None` where it is not.
    pub finalizers: Option<Vec<String>>,
    /// Who may take over from a primary that stays silent.
    pub failover: Policy,
    /// A person ends a hold.
    pub consent: Option<Consent>,
    /// Each pod keeps its data in a volume of its own.
    pub has_volumes: bool,
    /// `spec.config` switches append-only files on.
    pub appends: bool,
    /// How applications log in.
    pub auth: Auth,
    /// ACL users of the spec, but for those that cannot be meant.
    pub users: Vec<AclUser>,
    /// Domain of the cluster's DNS.
    pub cluster_domain: String,
}

impl Subject {
    /// Reads the resource; `None` for one that was not read from an API server.
    pub fn of(resource: &RedisReplicaSet, settings: &Settings) -> Option<Self> {
        let metadata = &resource.metadata;
        let spec = &resource.spec;
        Some(Self {
            set: SetName::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?),
            uid: metadata.uid.clone()?,
            generation: metadata.generation,
            owner: resource.controller_owner_ref(&())?,
            wanted: spec.replicas,
            paused: spec.paused,
            finalizers: metadata
                .deletion_timestamp
                .is_some()
                .then(|| metadata.finalizers.clone().unwrap_or_default()),
            failover: Policy::of(spec),
            consent: metadata.annotations.as_ref().and_then(consent),
            has_volumes: spec.storage.ephemeral.is_none(),
            appends: File::first(&spec.config).appendonly(),
            auth: spec.auth.clone(),
            users: spec.users.iter().filter(|user| user.problem().is_none()).cloned().collect(),
            cluster_domain: settings.cluster_domain.clone(),
        })
    }

    /// The DNS name of a pod: what its Redis announces and what replicas report as `master_host`.
    pub fn fqdn(&self, ordinal: i32) -> String {
        self.set.fqdn(ordinal, &self.cluster_domain)
    }

    /// The DNS name of a pod of this set, by the pod's name; empty for any other name.
    pub fn host_of(&self, pod: &str) -> String {
        self.set.ordinal(pod).map(|ordinal| self.fqdn(ordinal)).unwrap_or_default()
    }

    /// Whether the spec says of users more than that the operator makes a password.
    pub fn chooses_users(&self) -> bool {
        self.auth.is_chosen() || !self.users.is_empty()
    }

    /// Name of the Secret with the application's password.
    pub fn password_secret(&self) -> String {
        self.auth.secret_name.clone().unwrap_or_else(|| self.set.auth_secret())
    }

    /// Whether the operator leaves the set's objects alone: a person asked for that, or Kubernetes removes them.
    pub fn is_left_alone(&self) -> bool {
        self.paused || self.finalizers.is_some()
    }
}

/// `<pod>@<epoch>`. Anything else is no consent.
fn consent(annotations: &BTreeMap<String, String>) -> Option<Consent> {
    let (pod, epoch) = annotations.get(ACCEPT_DATA_LOSS)?.split_once('@')?;
    Some(Consent { pod: pod.to_owned(), epoch: epoch.parse().ok()? })
}
