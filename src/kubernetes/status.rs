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

/// What became of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// It stands in the object, which has this version now.
    Written(Option<String>),
    /// There is no such set.
    Gone,
    /// The object has another version than the one that was asked for.
    Outdated,
}

/// Applies the status; with a version, only to the object of that version. No two objects have the same one, so it names the set as
/// well: a patch of a status cannot name the UID that it is for, as the API server takes all metadata from the stored object.
pub async fn patch(
    client: &Client,
    set: &SetName,
    version: Option<&str>,
    status: &RedisReplicaSetStatus,
) -> Result<Patched, kube::Error> {
    // The answer is the whole object, and its spec may be one that this operator cannot read.
    let kind = ApiResource::erase::<RedisReplicaSet>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &set.namespace, &kind);
    // The whole status each time: with server-side apply, what is left out is removed.
    // A version that is null is taken for one that is wrong.
    let metadata = version.map_or_else(|| json!({}), |version| json!({"resourceVersion": version}));
    let body = json!({
        "apiVersion": "replication.redis/v1alpha1",
        "kind": "RedisReplicaSet",
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(&set.name, &params, &Patch::Apply(&body)).await {
        Ok(object) => Ok(Patched::Written(object.metadata.resource_version)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Patched::Gone),
        Err(kube::Error::Api(status)) if version.is_some() && status.is_conflict() => Ok(Patched::Outdated),
        Err(error) => Err(error),
    }
}
