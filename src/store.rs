//! Reading and writing what the operator keeps in the cluster besides the applied children: the role record and
//! the password.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Node, Pod, Secret},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde_json::json;
use thiserror::Error;

use operator_core::{
    api::RedisReplicaSet, decide::former::NodeState, desired::labels, hash, names::SetName, subject::Subject,
    volumes::former::Claims,
};
use redis_node::{
    files::{MEMBERS_KEY, PASSWORD_KEY, RECORD_KEY},
    password::Password,
    record::Record,
};

/// Kind of the objects that keep a record alive besides its set.
const CLAIM: &str = "PersistentVolumeClaim";

/// Why the record or the password could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The API server refused or did not answer.
    #[error("cannot {verb} {kind} {name}")]
    Api {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Answer of the API server.
        source: kube::Error,
    },
    /// The record is not what the operator wrote.
    #[error(
        "ConfigMap {name} holds no role record that can be read; delete it, and the operator rebuilds it from what the servers say"
    )]
    Unreadable {
        /// Name of the `ConfigMap`.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The object exists and belongs to somebody else.
    #[error("{kind} {name} exists and was not made for this RedisReplicaSet; rename or delete it")]
    Foreign {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The random number generator of the system failed.
    #[error("cannot make a random password: {0}")]
    Random(getrandom::Error),
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Of this set.
    Own(Stored),
    /// Of a deleted set of this name, kept by its volumes.
    Former(Stored),
}

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

/// Reads the record, if there is one.
pub async fn read_record(client: &Client, subject: &Subject) -> Result<Option<Found>, StoreError> {
    let name = subject.set.record();
    let Some(map) =
        record_api(client, subject).get_opt(&name).await.map_err(api_error("read", "ConfigMap", &name))?
    else {
        return Ok(None);
    };
    let is_own = owners(&map).any(|owner| owner.uid == subject.owner.uid);
    let is_ours = labels::labels(&subject.set)
        .iter()
        .all(|(label, value)| map.metadata.labels.as_ref().and_then(|all| all.get(label)) == Some(value));
    let stored = stored(map, subject);
    match stored {
        Ok(stored) if is_own => Ok(Some(Found::Own(stored))),
        // One that no volume keeps goes by itself, with the set that it was of.
        Ok(stored) if is_ours && !stored.claims.is_empty() => Ok(Some(Found::Former(stored))),
        Err(error) if is_own => Err(error),
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

/// Replaces the record and the claims that it speaks of; fails with a conflict if somebody else wrote since it was
/// read.
pub async fn write_record(
    client: &Client,
    subject: &Subject,
    before: &Stored,
    record: &Record,
    claims: &Claims,
) -> Result<Stored, StoreError> {
    let name = subject.set.record();
    let next = render(subject, record, Some(&before.resource_version), claims);
    let written = record_api(client, subject)
        .replace(&name, &PostParams::default(), &next)
        .await
        .map_err(api_error("update", "ConfigMap", &name))?;
    stored(written, subject)
}

/// Reads the password; `None` where the Secret or its key is missing.
pub async fn read_password(client: &Client, subject: &Subject) -> Result<Option<Password>, StoreError> {
    let name = subject.set.auth_secret();
    let secret =
        secret_api(client, subject).get_opt(&name).await.map_err(api_error("read", "Secret", &name))?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get(PASSWORD_KEY).and_then(|bytes| Password::from_bytes(&bytes.0)))
}

/// Makes the Secret with a random password. One that exists stays as it is.
pub async fn create_password(client: &Client, subject: &Subject) -> Result<(), StoreError> {
    let name = subject.set.auth_secret();
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(StoreError::Random)?;
    let password = hash::hex(&random);
    let secret = Secret {
        metadata: metadata(subject, name.clone(), None),
        string_data: Some([(PASSWORD_KEY.to_owned(), password)].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secret_api(client, subject).create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(|_| ()).map_err(api_error("create", "Secret", &name)),
    }
}

/// State of a node. Asked for rarely: only while nobody serves and the pod that served is gone.
pub async fn node_state(client: &Client, node: &str) -> NodeState {
    const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
    if node.is_empty() {
        return NodeState::Unknown("the record does not name it".to_owned());
    }
    let node = match Api::<Node>::all(client.clone()).get_opt(node).await {
        Ok(Some(node)) => node,
        Ok(None) => return NodeState::Deleted,
        Err(error) => return NodeState::Unknown(error.to_string()),
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    if taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE)) {
        return NodeState::OutOfService;
    }
    let ready = conditions.and_then(|all| all.iter().find(|c| c.type_ == "Ready" && c.status == "True"));
    match ready {
        Some(ready) => NodeState::Ready {
            since: ready.last_transition_time.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        },
        None => NodeState::NotReady,
    }
}

/// Whether the pod of this UID is there, by the API server's own word: a watch that is half open shows what was there long
/// ago.
pub async fn pod_exists(client: &Client, set: &SetName, pod: &str, uid: &str) -> Result<bool, kube::Error> {
    let named = ListParams::default().fields(&format!("metadata.name={pod}"));
    let found = Api::<Pod>::namespaced(client.clone(), &set.namespace).list_metadata(&named).await?;
    Ok(found.items.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid)))
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

fn metadata(subject: &Subject, name: String, resource_version: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(subject.set.namespace.clone()),
        labels: Some(labels::labels(&subject.set)),
        owner_references: Some(vec![subject.owner.clone()]),
        resource_version: resource_version.map(str::to_owned),
        ..ObjectMeta::default()
    }
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

fn secret_api(client: &Client, subject: &Subject) -> Api<Secret> {
    Api::namespaced(client.clone(), &subject.set.namespace)
}

fn api_error(verb: &'static str, kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> StoreError {
    let name = name.to_owned();
    move |source| StoreError::Api { verb, kind, name, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::FakeApi;
    use operator_core::settings::Settings;
    use serde_json::Value;

    fn a_subject() -> Subject {
        let resource: RedisReplicaSet = serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "redis", "namespace": "lab", "uid": "u-1"}, "spec": {},
        }))
        .unwrap();
        let settings = Settings { cluster_domain: "cluster.local".into(), agent_image: "operator:1".into() };
        Subject::of(&resource, &settings).unwrap()
    }

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
        assert_eq!(read_record(&api.client(), &subject).await.unwrap(), Some(Found::Own(created)));
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

    #[tokio::test]
    async fn a_record_is_replaced_on_condition() {
        let api = FakeApi::answering([(409, FakeApi::status(409, "Conflict"))]);
        let claims: Claims = [("data-redis-1".to_owned(), "uid-1".to_owned())].into();
        let before = Stored { record: a_record(), resource_version: "8".into(), claims: Claims::new() };
        let error =
            write_record(&api.client(), &a_subject(), &before, &a_record(), &claims).await.unwrap_err();
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
            assert_eq!(read_record(&api.client(), &subject).await.unwrap(), Some(Found::Former(stored)));
        }
        for (owners, labels) in [(json!([former]), ours), (json!([claim]), json!({}))] {
            let api = FakeApi::answering([(200, of(owners, labels))]);
            let error = read_record(&api.client(), &subject).await.unwrap_err();
            assert!(matches!(error, StoreError::Foreign { kind: "ConfigMap", .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_record_of_this_set_is_refused() {
        let subject = a_subject();
        let api = FakeApi::answering([(404, FakeApi::status(404, "NotFound"))]);
        assert_eq!(read_record(&api.client(), &subject).await.unwrap(), None);
        let api = FakeApi::answering([(200, config_map("u-0", &json!(a_record()).to_string()))]);
        let error = read_record(&api.client(), &subject).await.unwrap_err();
        assert!(matches!(error, StoreError::Foreign { kind: "ConfigMap", .. }), "{error}");
        for text in ["", "{}", "{\"epoch\": 1"] {
            let api = FakeApi::answering([(200, config_map("u-1", text))]);
            let error = read_record(&api.client(), &subject).await.unwrap_err();
            assert!(matches!(error, StoreError::Unreadable { .. }), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn passwords_are_random_and_one_that_exists_stays() {
        let mut seen = Vec::new();
        for answer in [(201, json!({})), (409, FakeApi::status(409, "AlreadyExists"))] {
            let api = FakeApi::answering([answer]);
            create_password(&api.client(), &a_subject()).await.unwrap();
            let sent = &api.requests()[0];
            assert_eq!(
                (sent.method.as_str(), sent.path.as_str()),
                ("POST", "/api/v1/namespaces/lab/secrets")
            );
            let password = sent.body["stringData"]["password"].as_str().unwrap().to_owned();
            assert!(password.len() == 48 && password.chars().all(|c| c.is_ascii_hexdigit()));
            seen.push(password);
        }
        assert_ne!(seen[0], seen[1]);
        let api = FakeApi::answering([(403, FakeApi::status(403, "Forbidden"))]);
        let error = create_password(&api.client(), &a_subject()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot create Secret redis-auth");
    }

    #[tokio::test]
    async fn a_password_is_read_or_missing() {
        let secret = |data: Value| json!({"metadata": {"name": "redis-auth"}, "data": data});
        for (code, body, expected) in [
            (200, secret(json!({"password": "c2VjcmV0Cg=="})), Some("secret")),
            (200, secret(json!({"password": ""})), None),
            (200, secret(json!({"other": "c2VjcmV0"})), None),
            (200, secret(Value::Null), None),
            (404, FakeApi::status(404, "NotFound"), None),
        ] {
            let api = FakeApi::answering([(code, body)]);
            let found = read_password(&api.client(), &a_subject()).await.unwrap();
            assert_eq!(found, expected.and_then(|text| Password::from_bytes(text.as_bytes())));
        }
    }
}
