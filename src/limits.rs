//! Limits of the process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Files for one pod: the held connection, and another one while it gives no answer.
const FILES_OF_A_POD: u64 = 2;

/// Raises the limit on open files as far as the system lets it. Some container runtimes give 1024, which is enough for some
/// hundred sets; then connections to healthy servers, and requests to the API server, would fail.
pub fn raise_open_files() {
    let before = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before });
    let files = getrlimit(Resource::Nofile).current;
    let shown = files.map_or_else(|| "unlimited".to_owned(), |files| files.to_string());
    let pods = files.map_or(u64::MAX, |files| files / FILES_OF_A_POD);
    match raised {
        Ok(()) => info!(
            files = shown,
            pods, "open files that this process may have, and pods that they are enough for"
        ),
        Err(error) => warn!(files = shown, pods, %error, "cannot raise the limit on open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_what_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..before }).unwrap();
        raise_open_files();
        let after = getrlimit(Resource::Nofile);
        assert_eq!((after.current, after.maximum), (before.maximum, before.maximum));
    }
}
