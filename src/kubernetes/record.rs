//! The role record, in a `ConfigMap`.

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use operator_core::{labels, subject::Subject, volumes::takeover::Claims};
use redis_node::{
    files::{MEMBERS_KEY, RECORD_KEY},
    record::Record,
};
use serde_json::json;

use super::error::{StoreError, api_error};

/// Kind of the objects that keep a record alive besides its set.
const CLAIM: &str = "PersistentVolumeClaim";

/// A record as it stands in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it says.
    pub record: Record,
    /// The version that the next write must replace.
    pub resource_version: String,
    /// The volumes' claims that it speaks of: it outlives the set for as long as one of them is there.
    pub claims: Claims,
}

/// A record that was found.
#[derive(Debug)]
pub enum Found {
    /// Of this set.
    Own(Stored),
    /// Of a deleted set of this name, kept by its volumes, or left without an owner.
    Former(Stored),
    /// Of this set, and not what the operator wrote: a person changed it.
    Broken {
        /// The version that the next write must replace.
        resource_version: String,
        /// What is wrong.
        error: StoreError,
    },
}

/// Reads the record, if there is one.
pub async fn read_record(client: &Client, subject: &Subject) -> Result<Option<Found>, StoreError> {
    let name = subject.set.record();
    let Some(map) =
        record_api(client, subject).get_opt(&name).await.map_err(api_error("read", "ConfigMap", &name))?
    else {
        return Ok(None);
    };
    let is_own = owners(&map).any(|owner| owner.uid == subject.owner.uid);
    let is_ours = labels::are_of(&subject.set, map.metadata.labels.as_ref());
    // One that still belongs to a deleted set, and to no volume, is about to be collected with that set.
    let is_orphan = owners(&map).all(|owner| owner.kind == CLAIM);
    let resource_version = map.metadata.resource_version.clone().unwrap_or_default();
    match stored(map, subject) {
        Ok(stored) if is_own => Ok(Some(Found::Own(stored))),
        Ok(stored) if is_ours && is_orphan => Ok(Some(Found::Former(stored))),
        Err(error) if is_own || is_ours && is_orphan => Ok(Some(Found::Broken { resource_version, error })),
        Ok(stored) if is_ours && !stored.claims.is_empty() => Ok(Some(Found::Former(stored))),
        _ => Err(StoreError::Foreign { kind: "ConfigMap", name }),
    }
}

/// The record in a `ConfigMap` that a watch showed; `None` where it is not this set's own, or cannot be read: the API server's
/// own word is asked for then.
pub fn own_record(map: ConfigMap, subject: &Subject) -> Option<Stored> {
    let is_own = owners(&map).any(|owner| owner.uid == subject.owner.uid);
    if is_own { stored(map, subject).ok() } else { None }
}

/// Creates the first record of a set.
pub async fn create_record(
    client: &Client,
    subject: &Subject,
    record: &Record,
) -> Result<Stored, StoreError> {
    let name = subject.set.record();
    let created = record_api(client, subject)
        .create(&PostParams::default(), &render(subject, record, None, &Claims::new()))
        .await
        .map_err(api_error("create", "ConfigMap", &name))?;
    stored(created, subject)
}

/// Replaces the record of this version, and the claims that it speaks of; fails with a conflict if somebody else wrote since that
/// was read.
pub async fn write_record(
    client: &Client,
    subject: &Subject,
    before: &str,
    record: &Record,
    claims: &Claims,
) -> Result<Stored, StoreError> {
    let name = subject.set.record();
    let next = render(subject, record, Some(before), claims);
    let written = record_api(client, subject)
        .replace(&name, &PostParams::default(), &next)
        .await
        .map_err(api_error("update", "ConfigMap", &name))?;
    stored(written, subject)
}

fn render(subject: &Subject, record: &Record, resource_version: Option<&str>, claims: &Claims) -> ConfigMap {
    let data = [
        (RECORD_KEY.to_owned(), json!(record).to_string()),
        (MEMBERS_KEY.to_owned(), to_ask(record).join("\n")),
    ];
    let mut metadata = metadata(subject, subject.set.record(), resource_version);
    // The garbage collector removes an object when the last of its owners is gone.
    metadata.owner_references.get_or_insert_default().extend(claims.iter().map(|(name, uid)| {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: CLAIM.to_owned(),
            name: name.clone(),
            uid: uid.clone(),
            ..OwnerReference::default()
        }
    }));
    ConfigMap { metadata, data: Some(data.into()), ..ConfigMap::default() }
}

/// Whom a pod that starts is to ask who serves. Before the first promotion that can only be the first member, and it
/// would wait in vain for those that are made after it.
fn to_ask(record: &Record) -> &[String] {
    let nobody_yet = record.sure && record.epoch == 0;
    let count = if nobody_yet { 1 } else { record.members.len() };
    record.members.get(..count).unwrap_or(&record.members)
}

fn stored(map: ConfigMap, subject: &Subject) -> Result<Stored, StoreError> {
    let name = subject.set.record();
    let claims = owners(&map).filter(|owner| owner.kind == CLAIM);
    let claims = claims.map(|owner| (owner.name.clone(), owner.uid.clone())).collect();
    let text = map.data.as_ref().and_then(|data| data.get(RECORD_KEY)).map_or("", String::as_str);
    let record = serde_json::from_str(text).map_err(|source| StoreError::Unreadable { name, source })?;
    Ok(Stored { record, resource_version: map.metadata.resource_version.unwrap_or_default(), claims })
}

fn owners(map: &ConfigMap) -> impl Iterator<Item = &OwnerReference> {
    map.metadata.owner_references.iter().flatten()
}

fn record_api(client: &Client, subject: &Subject) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), &subject.set.namespace)
}

pub(super) fn metadata(subject: &Subject, name: String, resource_version: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(subject.set.namespace.clone()),
        labels: Some(labels::labels(&subject.set)),
        owner_references: Some(vec![subject.owner.clone()]),
        resource_version: resource_version.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::{FakeApi, a_subject};
    use serde_json::Value;

    fn config_map(owner: &str, record: &str) -> Value {
        json!({
            "metadata": {"name": "redis-record", "namespace": "lab", "resourceVersion": "8",
                         "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "redis", "uid": owner}]},
            "data": {"record.json": record},
        })
    }

    fn a_record() -> Record {
        Record {
            epoch: 4,
            primary: Some("redis-1".into()),
            ..Record::first(vec!["redis-0".into(), "redis-1".into()], true)
        }
    }

    #[tokio::test]
    async fn a_record_comes_back_as_it_was_written() {
        let text = json!(a_record()).to_string();
        let api = FakeApi::answering([(201, config_map("u-1", &text)), (200, config_map("u-1", &text))]);
        let subject = a_subject();
        let created = create_record(&api.client(), &subject, &a_record()).await.unwrap();
        assert_eq!(
            created,
            Stored { record: a_record(), resource_version: "8".into(), claims: Claims::new() }
        );
        let found = read_record(&api.client(), &subject).await.unwrap();
        assert!(matches!(found, Some(Found::Own(found)) if found == created));
        let sent = &api.requests()[0].body;
        assert_eq!(sent["data"]["members"], "redis-0\nredis-1");
        assert_eq!(sent["metadata"]["ownerReferences"][0]["uid"], "u-1");
        assert_eq!(sent["metadata"].get("resourceVersion"), None);
    }

    #[test]
    fn before_the_first_promotion_nobody_waits_for_those_who_come_later() {
        let members = || vec!["redis-0".to_owned(), "redis-1".to_owned()];
        let asked = |record: &Record| {
            render(&a_subject(), record, None, &Claims::new()).data.unwrap()["members"].clone()
        };
        assert_eq!(asked(&Record::first(members(), true)), "redis-0");
        assert_eq!(asked(&Record { epoch: 1, ..Record::first(members(), true) }), "redis-0\nredis-1");
        assert_eq!(asked(&Record::first(members(), false)), "redis-0\nredis-1", "anybody may serve");
    }

    #[tokio::test]
    async fn a_record_is_replaced_on_condition() {
        let api = FakeApi::answering([(409, FakeApi::status(409, "Conflict"))]);
        let claims: Claims = [("data-redis-1".to_owned(), "uid-1".to_owned())].into();
        let error = write_record(&api.client(), &a_subject(), "8", &a_record(), &claims).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot update ConfigMap redis-record");
        let sent = &api.requests()[0];
        assert_eq!((sent.method.as_str(), &sent.body["metadata"]["resourceVersion"]), ("PUT", &json!("8")));
        let owners = &sent.body["metadata"]["ownerReferences"];
        assert_eq!((&owners[0]["uid"], &owners[0]["controller"]), (&json!("u-1"), &json!(true)));
        let claim = json!({"apiVersion": "v1", "kind": CLAIM, "name": "data-redis-1", "uid": "uid-1"});
        assert_eq!(owners[1], claim, "it keeps the record, and nothing waits for it");
    }

    #[tokio::test]
    async fn a_record_of_a_deleted_set_is_found_where_a_volume_keeps_it() {
        let subject = a_subject();
        let claim = json!({"apiVersion": "v1", "kind": CLAIM, "name": "data-redis-1", "uid": "uid-1"});
        let of = |owners: Value, labels: Value| {
            let mut map = config_map("u-0", &json!(a_record()).to_string());
            map["metadata"]["ownerReferences"] = owners;
            map["metadata"]["labels"] = labels;
            map
        };
        let ours = json!(labels::labels(&subject.set));
        let former = json!({"apiVersion": "v1", "kind": "X", "name": "redis", "uid": "u-0"});
        for owners in [json!([claim]), json!([former, claim])] {
            let api = FakeApi::answering([(200, of(owners, ours.clone()))]);
            let claims = [("data-redis-1".to_owned(), "uid-1".to_owned())].into();
            let stored = Stored { record: a_record(), resource_version: "8".into(), claims };
            let found = read_record(&api.client(), &subject).await.unwrap();
            assert!(matches!(found, Some(Found::Former(found)) if found == stored));
        }
        // Left by a deletion with --cascade=orphan.
        let api = FakeApi::answering([(200, of(json!([]), ours.clone()))]);
        let found = read_record(&api.client(), &subject).await.unwrap();
        assert!(matches!(found, Some(Found::Former(found)) if found.claims.is_empty()));
        for (owners, labels) in [(json!([former]), ours), (json!([claim]), json!({})), (json!([]), json!({}))]
        {
            let api = FakeApi::answering([(200, of(owners, labels))]);
            let error = read_record(&api.client(), &subject).await.unwrap_err();
            assert!(matches!(error, StoreError::Foreign { kind: "ConfigMap", .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_record_of_this_set_is_refused() {
        let subject = a_subject();
        let api = FakeApi::answering([(404, FakeApi::status(404, "NotFound"))]);
        assert!(read_record(&api.client(), &subject).await.unwrap().is_none());
        let api = FakeApi::answering([(200, config_map("u-0", &json!(a_record()).to_string()))]);
        let error = read_record(&api.client(), &subject).await.unwrap_err();
        assert!(matches!(error, StoreError::Foreign { kind: "ConfigMap", .. }), "{error}");
        for text in ["", "{}", "{\"epoch\": 1"] {
            let api = FakeApi::answering([(200, config_map("u-1", text))]);
            let found = read_record(&api.client(), &subject).await.unwrap();
            let Some(Found::Broken { resource_version, error }) = found else { panic!("{text}: {found:?}") };
            assert!(matches!(error, StoreError::Unreadable { .. }), "{text}: {error}");
            assert_eq!(resource_version, "8", "it is written over, and nothing newer");
        }
    }
}
