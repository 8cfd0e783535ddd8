//! Removes everything that `up` made, whatever state it is in. The built tools stay in their cache.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::layout::{self, Layout, remove};
use crate::topology::{CONTROL_PLANE, NODES};
use crate::{cgroups, network, node, packages, process, wait};

/// Removes the cluster.
pub fn down(layout: &Layout) -> Result<()> {
    let layout = Layout::existing()?.unwrap_or_else(|| layout.clone());
    packages::remove_policy();
    for node in NODES {
        node::halt(node)?;
    }
    wait::until("the control plane to end", Duration::from_secs(30), || {
        let pids = network::processes(CONTROL_PLANE)?;
        if pids.is_empty() {
            return Ok(());
        }
        process::kill(&pids);
        bail!("{} processes are left", pids.len())
    })?;
    network::down()?;
    cgroups::remove(None)?;
    for path in [layout.kubeconfig(), layout.audit_log(), layout.state().join("logs")] {
        remove(&path)?;
    }
    remove(Path::new(layout::ROOT))?;
    for dir in node::OWN_DIRS.iter().map(Path::new).chain([layout.state()]) {
        // Succeeds on an empty directory only: one that others use stays.
        let _ = fs::remove_dir(dir);
    }
    println!("down");
    Ok(())
}
