//! What the watches show of the objects that the operator made: the children of all sets, and their records.
//!
//! A cache may be behind. So a reconcile may find by it that nothing is to be done, and no more: before it writes anything it
//! reads what it writes over from the API server, and decides again.

use std::{fmt::Debug, sync::Arc};

use futures::Stream;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service},
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;

use crate::{kubernetes::children::Live, watch::pods::ours};
use operator_core::names::SetName;

/// The caches of all children.
#[derive(Clone)]
pub struct Stores {
    services: Store<Service>,
    config_maps: Store<ConfigMap>,
    stateful_sets: Store<StatefulSet>,
    disruption_budgets: Store<PodDisruptionBudget>,
}

/// What fills them.
pub struct Writers {
    /// Services.
    pub services: Writer<Service>,
    /// Configurations and records.
    pub config_maps: Writer<ConfigMap>,
    /// `StatefulSet`s.
    pub stateful_sets: Writer<StatefulSet>,
    /// `PodDisruptionBudget`s.
    pub disruption_budgets: Writer<PodDisruptionBudget>,
}

impl Stores {
    /// Empty ones: all is read from the API server until the watches fill them.
    pub fn new() -> (Self, Writers) {
        let (services, of_services) = reflector::store();
        let (config_maps, of_config_maps) = reflector::store();
        let (stateful_sets, of_stateful_sets) = reflector::store();
        let (disruption_budgets, of_disruption_budgets) = reflector::store();
        let writers = Writers {
            services: of_services,
            config_maps: of_config_maps,
            stateful_sets: of_stateful_sets,
            disruption_budgets: of_disruption_budgets,
        };
        (Self { services, config_maps, stateful_sets, disruption_budgets }, writers)
    }

    /// The children of a set. One that is missing here may be there, unseen yet or made by somebody else.
    pub fn children(&self, set: &SetName) -> Live {
        Live {
            headless: get(&self.services, set, &set.headless_service()),
            primary: get(&self.services, set, &set.primary_service()),
            replicas: get(&self.services, set, &set.replicas_service()),
            config_map: get(&self.config_maps, set, &set.config_map()),
            stateful_set: get(&self.stateful_sets, set, &set.stateful_set()),
            disruption_budget: get(&self.disruption_budgets, set, &set.disruption_budget()),
        }
    }

    /// The record of a set.
    pub fn record(&self, set: &SetName) -> Option<ConfigMap> {
        get(&self.config_maps, set, &set.record())
    }
}

fn get<K>(store: &Store<K>, set: &SetName, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.get(&ObjectRef::new(name).within(&set.namespace)).map(Arc::unwrap_or_clone)
}

/// Watches one kind of child, fills its cache, and shows each change.
pub fn watch<K>(api: Api<K>, writer: Writer<K>) -> impl Stream<Item = watcher::Result<K>> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    watcher(api, ours())
        .default_backoff()
        // A third of an object's size, and nothing reads it.
        .modify(|object| object.meta_mut().managed_fields = None)
        .reflect(writer)
        .touched_objects()
}
