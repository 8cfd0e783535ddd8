//! Pods: whether one is there, its deletion, and its role label.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
    core::Status,
};
use operator_core::{
    labels::{self, Role},
    names::{CHILDREN_MANAGER, SetName},
    role_labels::{Change, To},
    subject::Subject,
};
use serde_json::{Value, json};
use tracing::info;

use super::error::{StoreError, api_error};

/// Whether the pod of this UID is there, by the API server's own word: a watch that is half open shows what was there long
/// ago.
pub async fn pod_exists(client: &Client, set: &SetName, pod: &str, uid: &str) -> Result<bool, kube::Error> {
    let named = ListParams::default().fields(&format!("metadata.name={pod}"));
    let found = Api::<Pod>::namespaced(client.clone(), &set.namespace).list_metadata(&named).await?;
    Ok(found.items.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid)))
}

/// Deletes exactly this pod; a namesake that came later is left alone.
pub async fn delete_pod(
    client: &Client,
    subject: &Subject,
    pod: &str,
    uid: &str,
    why: &str,
) -> Result<(), StoreError> {
    info!(pod, why, "replacing the pod");
    let api: Api<Pod> = Api::namespaced(client.clone(), &subject.set.namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(pod, &params).await {
        Ok(_) => Ok(()),
        // Gone, or another one already: what was wanted has happened.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(api_error("delete", "Pod", pod)(error)),
    }
}

/// Changes the role label of a pod.
pub async fn label(api: &Api<Pod>, change: &Change, now: Timestamp) -> Result<(), StoreError> {
    let Change { pod, to, .. } = change;
    info!(pod, ?to, "labelling the pod");
    let params = PatchParams { field_manager: Some(CHILDREN_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_metadata(pod, &params, &Patch::Merge(patch(change, now))).await {
        Ok(_) => Ok(()),
        // Gone, or another one already: the next look finds what that one needs.
        Err(kube::Error::Api(status)) if status.is_not_found() || is_of_another(&status) => Ok(()),
        Err(error) => Err(api_error("label", "Pod", pod)(error)),
    }
}

/// A patch that names another UID is refused as an attempt to change the UID.
fn is_of_another(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| &details.causes);
    status.is_invalid() && causes.into_iter().flatten().any(|cause| cause.field == "metadata.uid")
}

fn patch(change: &Change, now: Timestamp) -> Value {
    let role = |role: Option<Role>| json!({ labels::ROLE: role.map(Role::as_str) });
    let demoted = |at: Option<Timestamp>| json!({ labels::DEMOTED_AT: at.map(|at| at.to_string()) });
    let uid = &change.uid;
    let metadata = match change.to {
        To::Primary => {
            json!({"uid": uid, "labels": role(Some(Role::Primary)), "annotations": demoted(None)})
        }
        To::Demoted => {
            json!({"uid": uid, "labels": role(Some(Role::Replica)), "annotations": demoted(Some(now))})
        }
        // The mark stays with a pod that is silent: its clients are cut once it answers.
        To::Readable => json!({"uid": uid, "labels": role(Some(Role::Replica))}),
        To::Withdrawn => json!({"uid": uid, "labels": role(None)}),
        To::Settled => json!({"uid": uid, "annotations": demoted(None)}),
    };
    json!({ "metadata": metadata })
}
