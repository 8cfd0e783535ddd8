//! Who may connect to the pods, from `spec.networkPolicy`. Pure.

use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{Access, InvalidSpec};
use crate::api::network::{Client, Network};

/// Reads it; none where no policy is wanted.
pub(super) fn access(network: &Network) -> Result<Option<Access>, InvalidSpec> {
    match &network.clients {
        _ if !network.enabled => Ok(None),
        None => Ok(Some(Access::Everybody)),
        // In a NetworkPolicy an empty list means everybody, and whoever writes one here hardly does.
        Some(clients) if clients.is_empty() => Err(InvalidSpec::new(
            "spec.networkPolicy.clients",
            "is empty: name at least one client, or remove the list, and everybody may connect",
        )),
        Some(clients) => Ok(Some(Access::Only(clients.iter().map(peer).collect::<Result<_, _>>()?))),
    }
}

fn peer(client: &Client) -> Result<NetworkPolicyPeer, InvalidSpec> {
    let selects = client.pod_selector.is_some() || client.namespace_selector.is_some();
    if selects == client.ip_block.is_some() {
        return Err(InvalidSpec::new(
            "spec.networkPolicy.clients",
            "each client has either podSelector, namespaceSelector or both, or ipBlock",
        ));
    }
    Ok(NetworkPolicyPeer {
        pod_selector: client.pod_selector.as_ref().map(plain),
        namespace_selector: client.namespace_selector.as_ref().map(plain),
        ip_block: client.ip_block.as_ref().map(|block| IPBlock {
            cidr: block.cidr.clone(),
            except: Some(block.except.clone()).filter(|except| !except.is_empty()),
        }),
    })
}

/// Without the empty parts that the API server would drop: the policy is compared as a whole.
fn plain(selector: &LabelSelector) -> LabelSelector {
    let mut expressions = selector.match_expressions.clone().unwrap_or_default();
    for expression in &mut expressions {
        expression.values = expression.values.take().filter(|values| !values.is_empty());
    }
    LabelSelector {
        match_labels: selector.match_labels.clone().filter(|labels| !labels.is_empty()),
        match_expressions: Some(expressions).filter(|expressions| !expressions.is_empty()),
    }
}
