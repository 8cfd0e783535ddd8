//! Reading and writing what the operator keeps in the cluster besides the applied children: the role record and
//! the password.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret};
use kube::{
    Api, Client,
    api::{ListParams, ObjectMeta, PostParams},
};
use serde_json::json;
use thiserror::Error;

use crate::{
    desired::labels,
    hash,
    names::{DATA_VOLUME, MEMBERS_KEY, PASSWORD_KEY, RECORD_KEY},
    plan::Plan,
    record::Record,
    redis::password::Password,
};

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
}

/// Reads the record, if there is one.
pub async fn read_record(client: &Client, plan: &Plan) -> Result<Option<Stored>, StoreError> {
    let name = plan.set.record();
    let Some(map) =
        record_api(client, plan).get_opt(&name).await.map_err(api_error("read", "ConfigMap", &name))?
    else {
        return Ok(None);
    };
    stored(map, plan).map(Some)
}

/// Creates the first record of a set.
pub async fn create_record(client: &Client, plan: &Plan, record: &Record) -> Result<Stored, StoreError> {
    let name = plan.set.record();
    let created = record_api(client, plan)
        .create(&PostParams::default(), &render(plan, record, None))
        .await
        .map_err(api_error("create", "ConfigMap", &name))?;
    stored(created, plan)
}

/// Replaces the record; fails with a conflict if somebody else wrote since it was read.
pub async fn write_record(
    client: &Client,
    plan: &Plan,
    before: &Stored,
    record: &Record,
) -> Result<Stored, StoreError> {
    let name = plan.set.record();
    let written = record_api(client, plan)
        .replace(&name, &PostParams::default(), &render(plan, record, Some(&before.resource_version)))
        .await
        .map_err(api_error("update", "ConfigMap", &name))?;
    stored(written, plan)
}

/// Reads the password; `None` where the Secret or its key is missing.
pub async fn read_password(client: &Client, plan: &Plan) -> Result<Option<Password>, StoreError> {
    let name = plan.set.auth_secret();
    let secret = secret_api(client, plan).get_opt(&name).await.map_err(api_error("read", "Secret", &name))?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get(PASSWORD_KEY).and_then(|bytes| Password::from_bytes(&bytes.0)))
}

/// Makes the Secret with a random password. One that exists stays as it is.
pub async fn create_password(client: &Client, plan: &Plan) -> Result<(), StoreError> {
    let name = plan.set.auth_secret();
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(StoreError::Random)?;
    let password = hash::hex(&random);
    let secret = Secret {
        metadata: metadata(plan, name.clone(), None),
        string_data: Some([(PASSWORD_KEY.to_owned(), password)].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secret_api(client, plan).create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(|_| ()).map_err(api_error("create", "Secret", &name)),
    }
}

/// How many ordinals, counted from 0, have a data volume of an earlier set of this name.
pub async fn data_volumes(client: &Client, plan: &Plan) -> Result<i32, StoreError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &plan.set.namespace);
    let mine = ListParams::default().labels(&labels::selector_text(&plan.set));
    let claims =
        api.list_metadata(&mine).await.map_err(api_error("list", "PersistentVolumeClaim", &plan.set.name))?;
    let prefix = format!("{DATA_VOLUME}-");
    Ok(claims
        .iter()
        .filter_map(|claim| plan.set.ordinal(claim.metadata.name.as_deref()?.strip_prefix(&prefix)?))
        .max()
        .map_or(0, |ordinal| ordinal + 1))
}

fn render(plan: &Plan, record: &Record, resource_version: Option<&str>) -> ConfigMap {
    let data = [
        (RECORD_KEY.to_owned(), json!(record).to_string()),
        (MEMBERS_KEY.to_owned(), record.members.join("\n")),
    ];
    ConfigMap {
        metadata: metadata(plan, plan.set.record(), resource_version),
        data: Some(data.into()),
        ..ConfigMap::default()
    }
}

fn metadata(plan: &Plan, name: String, resource_version: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(plan.set.namespace.clone()),
        labels: Some(labels::labels(&plan.set)),
        owner_references: Some(vec![plan.owner.clone()]),
        resource_version: resource_version.map(str::to_owned),
        ..ObjectMeta::default()
    }
}

fn stored(map: ConfigMap, plan: &Plan) -> Result<Stored, StoreError> {
    let name = plan.set.record();
    let owned = map.metadata.owner_references.iter().flatten().any(|owner| owner.uid == plan.owner.uid);
    if !owned {
        return Err(StoreError::Foreign { kind: "ConfigMap", name });
    }
    let text = map.data.as_ref().and_then(|data| data.get(RECORD_KEY)).map_or("", String::as_str);
    let record = serde_json::from_str(text).map_err(|source| StoreError::Unreadable { name, source })?;
    Ok(Stored { record, resource_version: map.metadata.resource_version.unwrap_or_default() })
}

fn record_api(client: &Client, plan: &Plan) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), &plan.set.namespace)
}

fn secret_api(client: &Client, plan: &Plan) -> Api<Secret> {
    Api::namespaced(client.clone(), &plan.set.namespace)
}

fn api_error(verb: &'static str, kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> StoreError {
    let name = name.to_owned();
    move |source| StoreError::Api { verb, kind, name, source }
}
