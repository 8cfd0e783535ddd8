//! What the watches show of the objects that the operator made: the children of all sets, and their records.
//!
//! A cache may be behind. So a reconcile may find by it that nothing is to be done, and no more: before it writes anything it
//! reads what it writes over from the API server, and decides again.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt, join};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service},
        networking::v1::NetworkPolicy,
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
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::OnceCell, time::timeout};

use crate::{cache::Packed, kubernetes::children::Live, watch::pods::ours};
use operator_core::names::SetName;

/// How long the first reconciles wait for the caches.
const FILLED_WITHIN: Duration = Duration::from_secs(3);

/// The caches of all children.
#[derive(Clone)]
pub struct Stores {
    services: Store<Packed<Service>>,
    config_maps: Store<Packed<ConfigMap>>,
    stateful_sets: Store<Packed<StatefulSet>>,
    disruption_budgets: Store<Packed<PodDisruptionBudget>>,
    network_policies: Store<Packed<NetworkPolicy>>,
    /// Set once they were waited for.
    waited_for: Arc<OnceCell<()>>,
}

/// What fills them.
pub struct Writers {
    /// Services.
    pub services: Writer<Packed<Service>>,
    /// Configurations and records.
    pub config_maps: Writer<Packed<ConfigMap>>,
    /// `StatefulSet`s.
    pub stateful_sets: Writer<Packed<StatefulSet>>,
    /// `PodDisruptionBudget`s.
    pub disruption_budgets: Writer<Packed<PodDisruptionBudget>>,
    /// `NetworkPolicy`s.
    pub network_policies: Writer<Packed<NetworkPolicy>>,
}

impl Stores {
    /// Empty ones: all is read from the API server until the watches fill them.
    pub fn new() -> (Self, Writers) {
        let (services, of_services) = reflector::store();
        let (config_maps, of_config_maps) = reflector::store();
        let (stateful_sets, of_stateful_sets) = reflector::store();
        let (disruption_budgets, of_disruption_budgets) = reflector::store();
        let (network_policies, of_network_policies) = reflector::store();
        let writers = Writers {
            services: of_services,
            config_maps: of_config_maps,
            stateful_sets: of_stateful_sets,
            disruption_budgets: of_disruption_budgets,
            network_policies: of_network_policies,
        };
        let waited_for = Arc::default();
        let stores =
            Self { services, config_maps, stateful_sets, disruption_budgets, network_policies, waited_for };
        (stores, writers)
    }

    /// Waits, once after the start, until every watch has listed all that there is. Each set would otherwise read its objects by
    /// itself, some six at once over a connection each. Not for long: one of the lists may be refused.
    pub async fn wait(&self) {
        let filled = async {
            // An error is a watch that has ended, and nothing to wait for.
            let _ = join!(
                self.services.wait_until_ready(),
                self.config_maps.wait_until_ready(),
                self.stateful_sets.wait_until_ready(),
                self.disruption_budgets.wait_until_ready(),
                self.network_policies.wait_until_ready(),
            );
        };
        let filled = || async { timeout(FILLED_WITHIN, filled).await.unwrap_or_default() };
        self.waited_for.get_or_init(filled).await;
    }

    /// Whether every watch has listed all that there is: the record beside caches that are still empty would be one of a set without
    /// children.
    fn are_filled(&self) -> bool {
        [
            self.services.wait_until_ready().now_or_never().is_some(),
            self.config_maps.wait_until_ready().now_or_never().is_some(),
            self.stateful_sets.wait_until_ready().now_or_never().is_some(),
            self.disruption_budgets.wait_until_ready().now_or_never().is_some(),
            self.network_policies.wait_until_ready().now_or_never().is_some(),
        ]
        .into_iter()
        .all(|is_filled| is_filled)
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
            network_policy: get(&self.network_policies, set, &set.network_policy()),
        }
    }

    /// The record of a set; none until all caches are filled.
    pub fn record(&self, set: &SetName) -> Option<ConfigMap> {
        if self.are_filled() { get(&self.config_maps, set, &set.record()) } else { None }
    }
}

fn get<K>(store: &Store<Packed<K>>, set: &SetName, name: &str) -> Option<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + 'static,
{
    store.get(&ObjectRef::new(name).within(&set.namespace))?.unpack()
}

/// Watches one kind of child, fills its cache, and shows each change.
pub fn watch<K>(
    api: Api<K>,
    writer: Writer<Packed<K>>,
) -> impl Stream<Item = watcher::Result<Packed<K>>> + Send + 'static
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    watcher(api, ours())
        .default_backoff()
        .map(|event| event.map(Packed::of_event))
        .reflect(writer)
        .touched_objects()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::time::Instant;

    /// Regression: a record beside a `StatefulSet` that was not listed yet is that of a set of which nothing runs.
    #[test]
    fn a_cache_counts_once_all_are_filled() {
        let set = SetName::new("lab", "redis");
        let record: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": set.record(), "namespace": "lab"}})).unwrap();
        let (stores, mut writers) = Stores::new();
        for event in [Event::Init, Event::InitApply(Packed::of(record.clone())), Event::InitDone] {
            writers.config_maps.apply_watcher_event(&event);
        }
        writers.services.apply_watcher_event(&Event::InitDone);
        writers.disruption_budgets.apply_watcher_event(&Event::InitDone);
        writers.network_policies.apply_watcher_event(&Event::InitDone);
        assert_eq!(stores.record(&set), None, "the StatefulSets are not known yet");
        writers.stateful_sets.apply_watcher_event(&Event::InitDone);
        assert_eq!(stores.record(&set), Some(record));
    }

    /// A list that the API server refuses for ever holds up no set for ever.
    #[tokio::test]
    async fn the_caches_are_waited_for_once_and_not_for_long() {
        // A writer that is dropped is a watch that has ended.
        let (stores, _writers) = Stores::new();
        let waits = async |stores: &Stores| {
            let begun = Instant::now();
            stores.wait().await;
            begun.elapsed()
        };
        assert!(waits(&stores).await >= FILLED_WITHIN);
        assert!(waits(&stores).await < FILLED_WITHIN, "once");

        let (filled, mut others) = Stores::new();
        others.services.apply_watcher_event(&Event::InitDone);
        others.config_maps.apply_watcher_event(&Event::InitDone);
        others.stateful_sets.apply_watcher_event(&Event::InitDone);
        others.disruption_budgets.apply_watcher_event(&Event::InitDone);
        others.network_policies.apply_watcher_event(&Event::InitDone);
        assert!(waits(&filled).await < FILLED_WITHIN);
    }
}
