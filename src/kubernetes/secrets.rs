//! The two Secrets of a set: the application's password, and the operator's own passwords with all users.
//!
//! Both are read by name: a list or a watch would need the right to read every Secret.

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, ResourceExt, api::PostParams};
use operator_core::{
    credentials::{Internal, Own},
    hash, labels,
    subject::Subject,
};
use redis_node::{files::PASSWORD_KEY, password::Password};

use super::{
    error::{StoreError, api_error},
    record::metadata,
};

/// The Secret `<name>-internal` as it stands in the cluster.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it says.
    pub internal: Internal,
    /// The version that the next write must replace.
    pub resource_version: String,
    /// It holds exactly what the operator wrote, for this set.
    pub is_as_written: bool,
}

/// What was found of it.
#[derive(Debug)]
pub enum Found {
    /// It can be used.
    Usable(Box<Stored>),
    /// A person emptied it. The version that the next write must replace.
    Broken(String),
}

/// Reads a password of the application; `None` where the Secret or its key is missing, or empty.
pub async fn read_application(
    client: &Client,
    subject: &Subject,
    name: &str,
) -> Result<Option<Password>, StoreError> {
    let secret =
        secret_api(client, subject).get_opt(name).await.map_err(api_error("read", "Secret", name))?;
    let data = secret.and_then(|secret| secret.data).unwrap_or_default();
    Ok(data.get(PASSWORD_KEY).and_then(|bytes| Password::from_bytes(&bytes.0)))
}

/// Makes the application's Secret with a random password; `None` where there is one already, which stays as it is.
pub async fn create_application(client: &Client, subject: &Subject) -> Result<Option<Password>, StoreError> {
    let name = subject.set.auth_secret();
    let password = random_password()?;
    let secret = Secret {
        metadata: metadata(subject, name.clone(), None),
        data: Some([(PASSWORD_KEY.to_owned(), ByteString(password.as_bytes().to_vec()))].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secret_api(client, subject).create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
        created => created.map(|_| Some(password)).map_err(api_error("create", "Secret", &name)),
    }
}

/// Reads the operator's own Secret, if it is there.
///
/// # Errors
/// The API server does not show it, or it is somebody else's.
pub async fn read_internal(
    client: &Client,
    subject: &Subject,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    let name = subject.set.internal_secret();
    let found =
        secret_api(client, subject).get_opt(&name).await.map_err(api_error("read", "Secret", &name))?;
    let Some(secret) = found else { return Ok(None) };
    if !labels::are_of(&subject.set, secret.metadata.labels.as_ref()) {
        return Err(StoreError::Foreign { kind: "Secret", name });
    }
    let is_own = secret.owner_references().iter().any(|owner| owner.uid == subject.owner.uid);
    let resource_version = secret.metadata.resource_version.clone().unwrap_or_default();
    let data = secret.data.unwrap_or_default();
    Ok(Some(match Internal::read(&data, now) {
        Ok(internal) => Found::Usable(Box::new(Stored {
            is_as_written: is_own && internal.data() == data,
            internal,
            resource_version,
        })),
        Err(_) => Found::Broken(resource_version),
    }))
}

/// Makes the operator's own Secret, or replaces the version that was read.
///
/// # Errors
/// The API server refused: somebody else has made or changed it since, among others.
pub async fn write_internal(
    client: &Client,
    subject: &Subject,
    version: Option<&str>,
    internal: Internal,
) -> Result<Stored, StoreError> {
    let name = subject.set.internal_secret();
    let secret = Secret {
        metadata: metadata(subject, name.clone(), version),
        data: Some(internal.data()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let api = secret_api(client, subject);
    let params = PostParams::default();
    let written = match version {
        Some(_) => {
            api.replace(&name, &params, &secret).await.map_err(api_error("update", "Secret", &name))?
        }
        None => api.create(&params, &secret).await.map_err(api_error("create", "Secret", &name))?,
    };
    let resource_version = written.metadata.resource_version.unwrap_or_default();
    Ok(Stored { internal, resource_version, is_as_written: true })
}

/// Passwords for the operator's own users.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_own() -> Result<Own, StoreError> {
    Ok(Own { operator: random_password()?, replica: random_password()?, agent: random_password()? })
}

/// 192 random bits, as letters and digits.
fn random_password() -> Result<Password, StoreError> {
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(StoreError::Random)?;
    // It is never empty.
    Password::from_bytes(hash::hex(&random).as_bytes())
        .ok_or(StoreError::Random(getrandom::Error::UNEXPECTED))
}

fn secret_api(client: &Client, subject: &Subject) -> Api<Secret> {
    Api::namespaced(client.clone(), &subject.set.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::{FakeApi, a_subject};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn passwords_are_random_and_one_that_exists_stays() {
        let mut seen = Vec::new();
        for answer in [(201, json!({})), (409, FakeApi::status(409, "AlreadyExists"))] {
            let api = FakeApi::answering([answer]);
            create_application(&api.client(), &a_subject()).await.unwrap();
            let sent = &api.requests()[0];
            assert_eq!(
                (sent.method.as_str(), sent.path.as_str()),
                ("POST", "/api/v1/namespaces/lab/secrets")
            );
            let password = sent.body["data"]["password"].as_str().unwrap().to_owned();
            assert_eq!(password.len(), 64, "48 hexadecimal digits in base64");
            seen.push(password);
        }
        assert_ne!(seen[0], seen[1]);
        let api = FakeApi::answering([(403, FakeApi::status(403, "Forbidden"))]);
        let error = create_application(&api.client(), &a_subject()).await.unwrap_err();
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
            let found = read_application(&api.client(), &a_subject(), "redis-auth").await.unwrap();
            assert_eq!(found, expected.and_then(|text| Password::from_bytes(text.as_bytes())));
        }
    }
}
