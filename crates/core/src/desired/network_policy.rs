//! The `NetworkPolicy`: who may connect to the pods.
//!
//! It is about ingress alone: what a pod may reach, DNS above all, differs from cluster to cluster. The kubelet's probes
//! are programs that run in the container, and need no way in.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::labels;
use crate::plan::{Access, Plan};
use redis_node::files::REDIS_PORT;

/// Label that the API server itself gives to every namespace: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Opens Redis' port to whom it is open, and no other.
pub(super) fn network_policy(plan: &Plan, access: &Access) -> NetworkPolicy {
    let from = match access {
        Access::Everybody => None,
        Access::Only(clients) => {
            let own = NetworkPolicyPeer {
                pod_selector: Some(labels::selector(&plan.subject.set)),
                ..NetworkPolicyPeer::default()
            };
            Some([vec![own, operator(&plan.operator_namespace)], clients.clone()].concat())
        }
    };
    NetworkPolicy {
        metadata: metadata(plan, plan.subject.set.network_policy()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels::selector(&plan.subject.set)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule { from, ports: Some(vec![redis_port()]) }]),
            egress: None,
        }),
    }
}

/// The operator's pods, by the labels that the chart and `config/` give them.
fn operator(namespace: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some([(NAMESPACE_NAME.to_owned(), namespace.to_owned())].into()),
            match_expressions: None,
        }),
        pod_selector: Some(LabelSelector {
            match_labels: Some(labels::of_operator()),
            match_expressions: None,
        }),
        ip_block: None,
    }
}

fn redis_port() -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(REDIS_PORT))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
