//! Writing `status`: one server-side apply, and only when the meaning changed.

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    error::is_of_another,
    names::{STATUS_MANAGER, SetName},
};

/// Applies the status unless it is what stands there already. Returns whether it was written: it is not where this very
/// set is gone, as nothing that was learned of it is true of its successor.
pub async fn patch(
    client: &Client,
    set: &SetName,
    uid: Option<&str>,
    before: Option<&RedisReplicaSetStatus>,
    status: &RedisReplicaSetStatus,
) -> Result<bool, kube::Error> {
    if before == Some(status) {
        return Ok(false);
    }
    let api: Api<RedisReplicaSet> = Api::namespaced(client.clone(), &set.namespace);
    // The whole status each time: with server-side apply, what is left out is removed.
    let body = json!({
        "apiVersion": "replication.redis/v1alpha1",
        "kind": "RedisReplicaSet",
        "metadata": { "uid": uid },
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(&set.name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() || is_of_another(&status) => Ok(false),
        Err(error) => Err(error),
    }
}
