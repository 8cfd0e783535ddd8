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
    core::Status,
};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::ActError;
use crate::{error::chain, observe::Connections};
use operator_core::{
    desired::labels,
    names::CHILDREN_MANAGER,
    observed::Role,
    roles::{Change, To},
    subject::Subject,
};

/// Labels the pods, all at the same time, and cuts the clients of those that are no longer the primary. Returns the
/// changes that were made: a mark stays while the clients behind it cannot be cut.
pub async fn relabel(
    client: &Client,
    subject: &Subject,
    connections: &mut Connections,
    changes: Vec<Change>,
    now: Timestamp,
) -> Result<Vec<Change>, ActError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &subject.set.namespace);
    let (settled, mut made): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.to == To::Settled);
    let labelled = join_all(made.iter().map(|change| label(&api, change, now))).await;
    for change in made.iter().filter(|change| change.to == To::Demoted) {
        cut(connections, &change.pod).await;
    }
    labelled.into_iter().collect::<Result<(), ActError>>()?;
    for change in settled {
        // The mark goes after the last cut: an operator that ends in between leaves it to the next one.
        if cut(connections, &change.pod).await {
            label(&api, &change, now).await?;
            made.push(change);
        }
    }
    Ok(made)
}

async fn label(api: &Api<Pod>, change: &Change, now: Timestamp) -> Result<(), ActError> {
    let Change { pod, to, .. } = change;
    info!(pod, ?to, "labelling the pod");
    let params = PatchParams { field_manager: Some(CHILDREN_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(pod, &params, &Patch::Merge(patch(change, now))).await {
        Ok(_) => Ok(()),
        // Gone, or another one already: the next look finds what that one needs.
        Err(kube::Error::Api(status)) if status.is_not_found() || is_of_another(&status) => Ok(()),
        Err(source) => Err(ActError::Label { pod: pod.clone(), source }),
    }
}

/// A patch that names another UID is refused as an attempt to change the UID.
fn is_of_another(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| &details.causes);
    status.is_invalid() && causes.into_iter().flatten().any(|cause| cause.field == "metadata.uid")
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
async fn cut(connections: &mut Connections, pod: &str) -> bool {
    let Some(connection) = connections.get_mut(pod) else { return false };
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
