//! The set itself: whether it is there.

use kube::{Api, Client};
use operator_core::{api::RedisReplicaSet, names::SetName};

use super::error::{StoreError, api_error};

/// Whether a set is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is, and stays.
    There,
    /// It is being deleted, and waits for its finalizers.
    Deleting,
    /// It is not; there may be another one of its name.
    Gone,
}

/// Whether the set of this UID is there.
pub async fn presence(client: &Client, set: &SetName, uid: Option<&str>) -> Result<Presence, StoreError> {
    let name = &set.name;
    let sets: Api<RedisReplicaSet> = Api::namespaced(client.clone(), &set.namespace);
    let set = sets.get_metadata_opt(name).await.map_err(api_error("read", "RedisReplicaSet", name))?;
    Ok(match set.filter(|set| set.metadata.uid.as_deref() == uid) {
        None => Presence::Gone,
        Some(set) if set.metadata.deletion_timestamp.is_some() => Presence::Deleting,
        Some(_) => Presence::There,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::{FakeApi, a_subject};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_successor_of_the_same_name_is_another_set() {
        let subject = a_subject();
        let set = |uid: &str, deleted: Value| json!({"metadata": {"name": "redis", "uid": uid, "deletionTimestamp": deleted}});
        let gone = FakeApi::status(404, "NotFound");
        let going = json!("2026-01-01T00:00:00Z");
        for (answer, expected) in [
            ((200, set("u-1", Value::Null)), Presence::There),
            ((200, set("u-2", Value::Null)), Presence::Gone),
            ((200, set("u-1", going)), Presence::Deleting),
            ((404, gone), Presence::Gone),
        ] {
            let api = FakeApi::answering([answer]);
            assert_eq!(presence(&api.client(), &subject.set, Some("u-1")).await.unwrap(), expected);
        }
    }
}
