//! Asking one Redis who it is.

use std::time::Duration;

use crate::redis::connection::{Connection, within};
use redis_node::{
    answer::{Answer, ProbeFailure},
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
