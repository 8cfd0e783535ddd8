//! One change at a time: two runs at once would build on each other's half-made things.

use std::fs::File;

use anyhow::{Context as _, Result};

const PATH: &str = "/run/lock/redis-operator-cluster";

/// Holds the lock until it is dropped or the process ends.
pub fn take() -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PATH)
        .with_context(|| format!("cannot open {PATH}; run this as root"))?;
    if file.try_lock().is_err() {
        println!("waiting for another run of this program to end");
        file.lock().with_context(|| format!("cannot lock {PATH}"))?;
    }
    Ok(file)
}
