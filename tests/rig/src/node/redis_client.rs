//! A plain client with short time-outs.

use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError};

use super::Target;

/// A server that takes longer is treated as gone.
const TIMEOUT: Duration = Duration::from_millis(300);

/// Connects and authenticates.
pub fn connect(target: &Target) -> Result<Connection, RedisError> {
    connect_patiently(target, TIMEOUT)
}

/// The same with another limit for connecting and for each answer.
pub fn connect_patiently(target: &Target, limit: Duration) -> Result<Connection, RedisError> {
    let settings =
        RedisConnectionInfo::default().set_password(target.password.clone()).set_skip_set_lib_name();
    let address = ConnectionAddr::Tcp(target.address.clone(), 6379).into_connection_info()?;
    let client = Client::open(address.set_redis_settings(settings))?;
    let connection = client.get_connection_with_timeout(limit)?;
    connection.set_read_timeout(Some(limit))?;
    connection.set_write_timeout(Some(limit))?;
    Ok(connection)
}
