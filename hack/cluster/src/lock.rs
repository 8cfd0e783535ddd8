//! One change at a time: two runs at once would build on each other's half-made things.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Lock of the machine's cluster.
pub const CLUSTER: &str = "/run/lock/redis-operator-cluster";

/// Waits for the lock and holds it until the file is dropped or the process ends.
pub fn take(path: &Path) -> Result<File> {
    let what = || format!("cannot lock {}; run this as its owner or as root", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).with_context(what)?;
    if file.try_lock().is_err() {
        println!("waiting for another run of this program to end");
        file.lock().with_context(what)?;
    }
    Ok(file)
}
