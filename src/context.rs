//! What every pass shares.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, ResourceExt,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

use tokio::time::Instant;

use crate::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    config::live::Told,
    metrics::Metrics,
    monitor::Monitor,
    names::SetName,
    pods::Ended,
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
    /// Pods whose end the watch has shown.
    pub ended: Arc<Ended>,
    /// The one publisher of Events.
    pub recorder: Recorder,
    /// Figures of the process.
    pub metrics: Arc<Metrics>,
    /// Held connections.
    pub monitor: Monitor,
    /// What the process remembers of each set between passes.
    pub memory: Memory,
}

/// A status that this process wrote.
#[derive(Debug)]
struct Written {
    /// Version of the cached object at that time: while the cache still has it, the status is newer than the cache.
    over_version: Option<String>,
    status: RedisReplicaSetStatus,
    at: Instant,
    /// How many writes of mere progress in a row this is; 0 for any other write.
    progress: u32,
}

/// What the process remembers of each set between passes. Losing it costs nothing but a needless call.
#[derive(Debug, Default)]
pub struct Memory {
    sets: Mutex<HashMap<ObjectRef<RedisReplicaSet>, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    written: Option<Written>,
    /// Passes that failed in a row.
    failures: u32,
    /// Replicas whose link is down, since when, or since they were told anew.
    unlinked: HashMap<String, Instant>,
    /// What each process was told of its configuration.
    told: Told,
}

impl Memory {
    /// The status as it stands in the cluster now, as far as this process can know.
    pub fn current_status(&self, set: &RedisReplicaSet) -> Option<RedisReplicaSetStatus> {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        match sets.get(&ObjectRef::from_obj(set)).and_then(|r| r.written.as_ref()) {
            Some(written) if written.over_version == set.resource_version() => Some(written.status.clone()),
            _ => set.status.clone(),
        }
    }

    /// Remembers a status that was just written, and whether it told of mere progress.
    pub fn wrote_status(&self, set: &RedisReplicaSet, status: RedisReplicaSetStatus, progress: bool) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let written = &mut sets.entry(ObjectRef::from_obj(set)).or_default().written;
        let in_a_row = written.as_ref().map_or(0, |before| before.progress);
        let progress = if progress { in_a_row.saturating_add(1) } else { 0 };
        *written =
            Some(Written { over_version: set.resource_version(), status, at: Instant::now(), progress });
    }

    /// Whether this process wrote the status so lately that mere progress has to wait: for `interval` at first, twice
    /// as long after each such write, four times at most.
    pub fn wrote_lately(&self, set: &RedisReplicaSet, interval: Duration) -> bool {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let written = sets.get(&ObjectRef::from_obj(set)).and_then(|r| r.written.as_ref());
        written.is_some_and(|written| {
            written.at.elapsed() < interval.saturating_mul(2_u32.pow(written.progress.min(2)))
        })
    }

    /// Counts a failed pass; returns how many failed in a row. A success starts anew.
    pub fn count_failure(&self, set: &ObjectRef<RedisReplicaSet>, failed: bool) -> u32 {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = sets.entry(set.clone()).or_default();
        remembered.failures = if failed { remembered.failures.saturating_add(1) } else { 0 };
        remembered.failures
    }

    /// Of the replicas whose link is down now, those for which that has lasted for `patience`; each again only after
    /// the same time.
    pub fn stalled(&self, set: &SetName, unlinked: Vec<String>, patience: Duration) -> Vec<String> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = ObjectRef::new(&set.name).within(&set.namespace);
        let since = &mut sets.entry(set).or_default().unlinked;
        since.retain(|pod, _| unlinked.contains(pod));
        let now = Instant::now();
        let mut stalled = unlinked;
        stalled.retain(|pod| {
            let first = *since.entry(pod.clone()).or_insert(now);
            let due = now.duration_since(first) >= patience;
            if due {
                since.insert(pod.clone(), now);
            }
            due
        });
        stalled
    }

    /// What the processes of a set were told of their configuration.
    pub fn told(&self, set: &SetName) -> Told {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = ObjectRef::new(&set.name).within(&set.namespace);
        sets.get(&set).map(|remembered| remembered.told.clone()).unwrap_or_default()
    }

    /// Remembers it.
    pub fn remember_told(&self, set: &SetName, told: Told) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = ObjectRef::new(&set.name).within(&set.namespace);
        sets.entry(set).or_default().told = told;
    }

    /// Forgets a set that is gone.
    pub fn forget(&self, set: &ObjectRef<RedisReplicaSet>) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}
