//! The password of a set, as its Secret holds it: read by the operator through the API, by the agent as a file.

use std::{fmt, fs, io, path::Path};

use thiserror::Error;

/// A password: any bytes, at least one. Never shows in Debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

/// Why there is no usable password.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password file {path}: {error}; mount the set's Secret there")]
    Unreadable {
        /// Path of the file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Nothing is in it.
    #[error("the password file {path} is empty: Redis would run without a password; put one into the Secret")]
    Empty {
        /// Path of the file.
        path: String,
    },
}

impl Password {
    /// The password in this file.
    pub fn read(path: &Path) -> Result<Self, PasswordError> {
        let bytes = fs::read(path)
            .map_err(|error| PasswordError::Unreadable { path: path.display().to_string(), error })?;
        Self::from_bytes(&bytes).ok_or_else(|| PasswordError::Empty { path: path.display().to_string() })
    }

    /// The password in these bytes of a Secret, or `None` where they are empty. One newline at the end is not
    /// part of it: `echo … > file` leaves one, and nobody means it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::exact(bytes.strip_suffix(b"\n").unwrap_or(bytes))
    }

    /// The password that is these bytes, all of them, or `None` where there are none.
    pub fn exact(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(bytes.to_vec()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_trimmed_and_nothing_else() {
        assert_eq!(Password::from_bytes(b"p\n").unwrap().as_bytes(), b"p");
        assert_eq!(Password::from_bytes(b" p \n\n").unwrap().as_bytes(), b" p \n");
        assert_eq!(Password::from_bytes(b"\xff\0").unwrap().as_bytes(), b"\xff\0");
        assert_eq!(Password::from_bytes(b"\n"), None);
        assert_eq!(Password::from_bytes(b""), None);
        assert_eq!(Password::exact(b"p\n").unwrap().as_bytes(), b"p\n");
        assert_eq!(Password::exact(b""), None);
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Password::from_bytes(b"secret").unwrap()), "Password(…)");
    }
}
