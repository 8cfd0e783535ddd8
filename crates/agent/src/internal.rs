//! What the Secret `<name>-internal` mounts.

use std::{fs, io, path::Path};

use redis_node::{
    files::{AGENT_PASSWORD_KEY, REPLICA_PASSWORD_KEY, USERS_KEY},
    login::{AGENT_USER, Login},
    password::{Password, PasswordError},
};

/// As whom the agent asks, with the password under this directory.
///
/// # Errors
/// The file cannot be read, or is empty.
pub fn agent(directory: &Path) -> Result<Login, PasswordError> {
    Ok(Login::new(AGENT_USER, Password::read(&directory.join(AGENT_PASSWORD_KEY))?))
}

/// With what Redis logs in to its primary.
///
/// # Errors
/// The file cannot be read, or is empty.
pub fn replica_password(directory: &Path) -> Result<Password, PasswordError> {
    Password::read(&directory.join(REPLICA_PASSWORD_KEY))
}

/// The lines with all users.
///
/// # Errors
/// The file cannot be read, or is no text.
pub fn users(directory: &Path) -> io::Result<String> {
    fs::read_to_string(directory.join(USERS_KEY))
}
