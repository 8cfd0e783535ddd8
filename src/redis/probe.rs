//! Asking one Redis who it is.

use std::time::Duration;

use thiserror::Error;

use crate::redis::{
    connection::{Connection, within},
    info::Info,
    password::Password,
};

/// A Redis to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Stable DNS name of the pod.
    pub host: String,
    /// Address of the pod as the API server gave it; `host` is resolved to this and nothing else.
    pub address: std::net::IpAddr,
    /// Port.
    pub port: u16,
    /// Password of the default user.
    pub password: Password,
}

/// What one Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// INFO.
    pub info: Info,
    /// `replica-announce-ip` as configured: the name that this server believes to have. Proves whose server it is.
    pub announced: String,
}

/// Why a Redis could not be asked, or gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProbeFailure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Unreachable network, reset connection, and the like.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The password was refused, or none was accepted.
    #[error("password refused: {0}")]
    Auth(String),
    /// The server loads its dataset and answers INFO with `-LOADING`, or asks to come back.
    #[error("loading its dataset")]
    Loading,
    /// A script blocks the server.
    #[error("busy with a script")]
    Busy,
    /// Another error reply.
    #[error("answered with an error: {0}")]
    Reply(String),
    /// The answer was not what a Redis says.
    #[error("not an answer of a Redis server: {0}")]
    Malformed(String),
}

/// Asks one Redis over a fresh connection, all within `deadline`. Fresh, because that also proves that the server
/// still accepts connections and the password. Acts that follow from the answer go over the returned connection:
/// it leads to the process that answered and to no other.
pub async fn probe(target: &Target, deadline: Duration) -> Result<(Answer, Connection), ProbeFailure> {
    within(deadline, async {
        let mut connection = Connection::open(target, deadline).await?;
        let info = connection.info().await?;
        let announced = connection.announced().await?;
        Ok((Answer { info, announced }, connection))
    })
    .await?
}
