//! With what somebody logs in to a Redis, and the names of the operator's own users.

use crate::password::Password;

/// The user that clients are before they name another one.
pub const DEFAULT_USER: &str = "default";
/// The user as whom the operator asks and acts.
pub const OPERATOR_USER: &str = "redis-operator";
/// The user as whom replicas copy from their primary.
pub const REPLICA_USER: &str = "redis-operator-replica";
/// The user as whom the agent asks: probes, preStop, and who is primary before a start.
pub const AGENT_USER: &str = "redis-operator-agent";

/// A user and the password for it. The password never shows in Debug output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name of the ACL user.
    pub user: String,
    /// Its password.
    pub password: Password,
}

impl Login {
    /// A user with a password.
    pub fn new(user: &str, password: Password) -> Self {
        Self { user: user.to_owned(), password }
    }

    /// The user that clients are before they name another one.
    pub fn of_default(password: Password) -> Self {
        Self::new(DEFAULT_USER, password)
    }
}
