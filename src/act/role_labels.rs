//! Moving the role label, and cutting the clients of a primary that was demoted.
//!
//! `FAILOVER` and `REPLICAOF` leave clients connected (experiments E7, E19): who came for the primary would stay with a
//! replica. A cut client connects again, through the Service.

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tracing::{info, warn};

use crate::{
    error_chain::chain,
    kubernetes::{error::StoreError, pods::label},
    observe::Connections,
};
use operator_core::{
    role_labels::{Change, To},
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
) -> Result<Vec<Change>, StoreError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &subject.set.namespace);
    let (settled, mut made): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.to == To::Settled);
    let labelled = join_all(made.iter().map(|change| label(&api, change, now))).await;
    for change in made.iter().filter(|change| change.to == To::Demoted) {
        cut(connections, &change.pod).await;
    }
    labelled.into_iter().collect::<Result<(), StoreError>>()?;
    for change in settled {
        // The mark goes after the last cut: an operator that ends in between leaves it to the next one.
        if cut(connections, &change.pod).await {
            label(&api, &change, now).await?;
            made.push(change);
        }
    }
    Ok(made)
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
