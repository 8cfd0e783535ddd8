//! From a plan to every object that the operator applies for it.
//!
//! Pure and infallible: whatever could be wrong with a spec, `plan` has refused. The Secret with the password and
//! the record are not here: their content is not made from the spec.

mod config_map;
mod disruption_budget;
mod network_policy;
pub(crate) mod pod;
mod probes;
mod service;
mod stateful_set;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub use self::disruption_budget::disruptions;
use crate::plan::Plan;

/// How far the operator has come with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Pods that may exist now: the operator adds one at a time, and only behind a verified member.
    pub pods: i32,
    /// Pods that a drain may take at a time: [`disruptions`].
    pub disruptions: i32,
}

/// The objects of one set.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// The headless Service: one DNS name for each pod.
    pub headless: Service,
    /// The Service of the primary.
    pub primary: Service,
    /// The Service of the replicas.
    pub replicas: Service,
    /// The directives of redis.conf.
    pub config_map: ConfigMap,
    /// The pods.
    pub stateful_set: StatefulSet,
    /// Keeps drains to one pod at a time; none for a single pod, which no drain could ever evict.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// Who may connect to the pods; none where the spec wants none.
    pub network_policy: Option<NetworkPolicy>,
}

/// Makes the objects.
pub fn desired(plan: &Plan, stage: Stage) -> Desired {
    Desired {
        headless: service::headless(plan),
        primary: service::primary(plan),
        replicas: service::replicas(plan),
        stateful_set: stateful_set::stateful_set(plan, stage),
        config_map: config_map::config_map(plan),
        disruption_budget: (plan.replicas > 1)
            .then(|| disruption_budget::disruption_budget(plan, stage.disruptions)),
        network_policy: plan.access.as_ref().map(|access| network_policy::network_policy(plan, access)),
    }
}

/// What every child bears: name, labels, and the set as its owner, so that Kubernetes deletes it with the set.
fn metadata(plan: &Plan, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.subject.set.namespace.clone()),
        labels: Some(crate::labels::labels(&plan.subject.set)),
        owner_references: Some(vec![plan.subject.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::RedisReplicaSet, plan::plan, settings::Settings};
    use serde_json::{Value, json};

    fn of(spec: &Value, pods: i32) -> Desired {
        let resource: RedisReplicaSet = serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "cache", "namespace": "lab", "uid": "u-1"}, "spec": spec,
        }))
        .unwrap();
        let settings = Settings {
            cluster_domain: "cluster.local".into(),
            agent_image: "operator:1".into(),
            operator_namespace: "ops".into(),
        };
        desired(&plan(&resource, &settings).unwrap(), Stage { pods, disruptions: 1 })
    }

    fn template(desired: &Desired) -> Value {
        serde_json::to_value(&desired.stateful_set).unwrap()["spec"]["template"].clone()
    }

    #[test]
    fn selectors_are_within_the_pods_labels_and_never_change() {
        let plain = of(&json!({}), 1);
        let full = of(
            &json!({"replicas": 9, "image": "x:1", "config": {"save": ""}, "podLabels": {"team": "a"},
                   "storage": {"ephemeral": {}}, "nodeSelector": {"a": "b"}}),
            4,
        );
        for desired in [&plain, &full] {
            let pod_labels = template(desired)["metadata"]["labels"].clone();
            let value = serde_json::to_value(&desired.stateful_set).unwrap();
            for selector in [
                value["spec"]["selector"]["matchLabels"].clone(),
                serde_json::to_value(&desired.headless).unwrap()["spec"]["selector"].clone(),
                serde_json::to_value(&desired.replicas).unwrap()["spec"]["selector"].clone(),
                serde_json::to_value(of(&json!({}), 1).disruption_budget).unwrap()["spec"]["selector"]["matchLabels"]
                    .clone(),
            ] {
                let selector = selector.as_object().unwrap();
                assert!(!selector.is_empty());
                for (key, wanted) in selector {
                    assert_eq!(&pod_labels[key], wanted);
                }
            }
        }
        assert_eq!(
            serde_json::to_value(&plain.stateful_set).unwrap()["spec"]["selector"],
            serde_json::to_value(&full.stateful_set).unwrap()["spec"]["selector"]
        );
    }

    #[test]
    fn the_services_by_role_choose_by_the_label_alone() {
        let desired = of(&json!({}), 3);
        let selector = |service: &Service| {
            let mut selector = service.spec.clone().unwrap().selector.unwrap();
            let role = selector.remove(crate::labels::ROLE).unwrap();
            assert_eq!(Some(selector), desired.headless.spec.clone().unwrap().selector);
            role
        };
        assert_eq!(
            (selector(&desired.primary), selector(&desired.replicas)),
            ("primary".into(), "replica".into())
        );
        // It moves from pod to pod: nothing that never changes may be made of it.
        let fixed = serde_json::to_value(&desired.stateful_set).unwrap()["spec"]["selector"].to_string()
            + &serde_json::to_value(&desired.disruption_budget).unwrap()["spec"]["selector"].to_string();
        assert!(!fixed.contains(crate::labels::ROLE), "{fixed}");
    }

    #[test]
    fn only_the_config_and_the_pod_change_the_template() {
        let first = of(&json!({}), 1);
        assert_eq!(template(&first), template(&of(&json!({"replicas": 5}), 5)));
        assert_eq!(template(&first), template(&of(&json!({"paused": true}), 1)));
        assert_ne!(template(&first), template(&of(&json!({"config": {"databases": "32"}}), 1)));
        let live = of(&json!({"config": {"maxmemory": "1gb"}}), 1);
        assert_eq!(template(&first), template(&live), "Redis changes that while it runs");
        assert_ne!(first.config_map, live.config_map);
        assert_ne!(template(&first), template(&of(&json!({"image": "x:1"}), 1)));
    }

    #[test]
    fn one_pod_has_no_budget() {
        assert_eq!(of(&json!({"replicas": 1}), 1).disruption_budget, None);
        assert!(of(&json!({"replicas": 2}), 1).disruption_budget.is_some());
    }

    #[test]
    fn a_constraint_without_a_selector_counts_this_set() {
        let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        let desired = of(&json!({"topologySpreadConstraints": [constraint]}), 1);
        assert_eq!(
            template(&desired)["spec"]["topologySpreadConstraints"][0]["labelSelector"],
            serde_json::to_value(&desired.stateful_set).unwrap()["spec"]["selector"]
        );
    }
}
