//! Writing `status`: one server-side apply, and only when the meaning changed.

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;

use operator_core::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    names::{STATUS_MANAGER, SetName},
};

/// Applies the status unless it is what stands there already. Returns whether it was written: not where the set is gone.
pub async fn patch(
    client: &Client,
    set: &SetName,
    before: Option<&RedisReplicaSetStatus>,
    status: &RedisReplicaSetStatus,
) -> Result<bool, kube::Error> {
    if before == Some(status) {
        return Ok(false);
    }
    // The answer is the whole object, and its spec may be one that this operator cannot read.
    let kind = ApiResource::erase::<RedisReplicaSet>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &set.namespace, &kind);
    // The whole status each time: with server-side apply, what is left out is removed.
    let body = json!({
        "apiVersion": "replication.redis/v1alpha1",
        "kind": "RedisReplicaSet",
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(&set.name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
