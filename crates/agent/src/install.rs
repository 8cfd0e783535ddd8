//! Copies the agent into the pod: `agent install DIR`, run by an init container that has nothing but this binary.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// File name of the installed agent.
pub const FILE_NAME: &str = "agent";

/// Why the agent could not be installed.
#[derive(Debug, Error)]
#[error("cannot install the agent as {target}: {error}; mount a writable emptyDir there")]
pub struct InstallError {
    target: String,
    error: io::Error,
}

/// Copies the running executable to `dir`/[`FILE_NAME`] with mode 0755 and returns that path.
///
/// It is renamed into place: a container never sees half of it, and a restarted init container may replace one
/// that is running.
pub fn install(dir: &Path) -> Result<PathBuf, InstallError> {
    let target = dir.join(FILE_NAME);
    let copy = || -> io::Result<()> {
        let part = dir.join(format!(".{FILE_NAME}.part"));
        fs::copy(env::current_exe()?, &part)?;
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
        fs::rename(&part, &target)
    };
    match copy() {
        Ok(()) => Ok(target),
        Err(error) => Err(InstallError { target: target.display().to_string(), error }),
    }
}
