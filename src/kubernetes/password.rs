//! The Secret with the password.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::PostParams};
use operator_core::{hash, subject::Subject};
use redis_node::{files::PASSWORD_KEY, password::Password};

use super::{
    error::{StoreError, api_error},
    record::metadata,
};

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
