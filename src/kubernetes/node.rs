//! Nodes, as far as they say something about a process that ran there.

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use operator_core::election::process_end::NodeState;

/// State of a node. Asked for rarely: only while nobody serves and the pod that served is gone.
pub async fn node_state(client: &Client, node: &str) -> NodeState {
    const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
    if node.is_empty() {
        return NodeState::Unknown("the record does not name it".to_owned());
    }
    let node = match Api::<Node>::all(client.clone()).get_opt(node).await {
        Ok(Some(node)) => node,
        Ok(None) => return NodeState::Deleted,
        Err(error) => return NodeState::Unknown(error.to_string()),
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    if taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)) {
        return NodeState::OutOfService;
    }
    let ready = conditions.and_then(|all| all.iter().find(|c| c.type_ == "Ready" && c.status == "True"));
    match ready {
        Some(ready) => NodeState::Ready {
            since: ready.last_transition_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        },
        None => NodeState::NotReady,
    }
}
