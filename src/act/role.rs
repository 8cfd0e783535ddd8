//! Moving the role label, and cutting the clients of a primary that was demoted.
//!
//! `FAILOVER` and `REPLICAOF` leave clients connected (experiments E7, E19): who came for the primary would stay with a
//! replica. A cut client connects anew, through the Service.

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::ActError;
use crate::{
    desired::labels,
    error::chain,
    names::CHILDREN_MANAGER,
    observe::Connections,
    observed::Role,
    plan::Plan,
    redis::connection::Connection,
    roles::{Change, To},
};

/// Labels the pods and cuts clients, each pod at the same time as the others. The connections of these pods are used up.
pub async fn relabel(
    client: &Client,
    plan: &Plan,
    connections: &mut Connections,
    changes: &[Change],
    now: Timestamp,
) -> Result<(), ActError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &plan.set.namespace);
    let carried_out = changes.iter().map(|change| {
        let connection = connections.remove(&change.pod);
        carry_out(&api, change, connection, now)
    });
    join_all(carried_out).await.into_iter().collect()
}

async fn carry_out(
    api: &Api<Pod>,
    change: &Change,
    connection: Option<Connection>,
    now: Timestamp,
) -> Result<(), ActError> {
    match change.to {
        To::Primary | To::Readable | To::Withdrawn => label(api, change, now).await,
        To::Demoted => {
            label(api, change, now).await?;
            cut(connection, &change.pod).await;
            Ok(())
        }
        // The mark goes after the last cut: an operator that ends in between leaves it to the next one.
        To::Settled if cut(connection, &change.pod).await => label(api, change, now).await,
        To::Settled => Ok(()),
    }
}

async fn label(api: &Api<Pod>, change: &Change, now: Timestamp) -> Result<(), ActError> {
    let Change { pod, to, .. } = change;
    info!(pod, ?to, "labelling the pod");
    let params = PatchParams { field_manager: Some(CHILDREN_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(pod, &params, &Patch::Merge(patch(change, now))).await {
        Ok(_) => Ok(()),
        // Gone, or another one already: the next look finds what that one needs.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(ActError::Label { pod: pod.clone(), source }),
    }
}

fn patch(change: &Change, now: Timestamp) -> Value {
    let (role, demoted_at) = match change.to {
        To::Primary => (Some(Role::Primary), None),
        To::Demoted => (Some(Role::Replica), Some(now.to_string())),
        To::Settled | To::Readable => (Some(Role::Replica), None),
        To::Withdrawn => (None, None),
    };
    json!({"metadata": {
        "uid": change.uid,
        "labels": { labels::ROLE: role.map(Role::as_str) },
        "annotations": { labels::DEMOTED_AT: demoted_at },
    }})
}

/// Whether it was done. Of a server that does not answer nobody can be cut, and nobody is served.
async fn cut(connection: Option<Connection>, pod: &str) -> bool {
    let Some(mut connection) = connection else { return false };
    match connection.cut_clients().await {
        Ok(clients) => {
            info!(pod, clients, "cut the clients of a former primary");
            true
        }
        Err(error) => {
            warn!(
                pod,
                error = chain(&error),
                "cannot cut the clients of a former primary; it is tried again"
            );
            false
        }
    }
}
