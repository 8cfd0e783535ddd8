//! What every pass shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, ResourceExt,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

use crate::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    metrics::Metrics,
    monitor::Monitor,
    settings::Settings,
};

/// Clients, caches and settings of the process.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What the operator was told at its start.
    pub settings: Settings,
    /// All pods of all sets, as the watch shows them.
    pub pods: Store<Pod>,
    /// The one publisher of Events.
    pub recorder: Recorder,
    /// Figures of the process.
    pub metrics: Arc<Metrics>,
    /// Held connections.
    pub monitor: Monitor,
    /// What the process remembers of each set between passes.
    pub memory: Memory,
}

/// What the process remembers of each set between passes. Losing it costs nothing but a needless call.
#[derive(Debug, Default)]
pub struct Memory {
    sets: Mutex<HashMap<ObjectRef<RedisReplicaSet>, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// Version of the cached object when the status was written, and the status: until the watch catches up, this
    /// is what stands in the cluster.
    written: Option<(Option<String>, RedisReplicaSetStatus)>,
    /// Passes that failed in a row.
    failures: u32,
}

impl Memory {
    /// The status as it stands in the cluster now, as far as this process can know.
    pub fn current_status(&self, set: &RedisReplicaSet) -> Option<RedisReplicaSetStatus> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        match sets.get(&ObjectRef::from_obj(set)).and_then(|r| r.written.as_ref()) {
            Some((version, status)) if *version == set.resource_version() => Some(status.clone()),
            _ => set.status.clone(),
        }
    }

    /// Remembers a status that was just written.
    pub fn wrote_status(&self, set: &RedisReplicaSet, status: RedisReplicaSetStatus) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.entry(ObjectRef::from_obj(set)).or_default().written = Some((set.resource_version(), status));
    }

    /// Counts a failed pass; returns how many failed in a row. A success starts anew.
    pub fn count_failure(&self, set: &ObjectRef<RedisReplicaSet>, failed: bool) -> u32 {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = sets.entry(set.clone()).or_default();
        remembered.failures = if failed { remembered.failures.saturating_add(1) } else { 0 };
        remembered.failures
    }

    /// Forgets a set that is gone.
    pub fn forget(&self, set: &ObjectRef<RedisReplicaSet>) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}
