//! Why an object that the operator keeps could not be read or written.

use thiserror::Error;

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
        "ConfigMap {name} holds no role record that can be read; delete it, and the operator makes it again from what all members answer"
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

pub(super) fn api_error(
    verb: &'static str,
    kind: &'static str,
    name: &str,
) -> impl FnOnce(kube::Error) -> StoreError {
    let name = name.to_owned();
    move |source| StoreError::Api { verb, kind, name, source }
}
