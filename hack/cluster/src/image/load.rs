//! Brings docker-archives into the containerd of every node.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use super::archive::Archive;
use crate::command::run;
use crate::layout::{make_dir, of_node, write};
use crate::topology::{NODES, Node};

/// Imports the file into all nodes at once.
pub fn file(path: &Path) -> Result<()> {
    if !path.is_file() {
        return Err(anyhow!("there is no image archive {}", path.display()));
    }
    on_all_nodes(|node| import(node, path))
}

/// Imports a made image into all nodes at once.
pub fn archive(archive: &Archive) -> Result<()> {
    let file = tempfile::Builder::new().suffix(".tar").tempfile().context("cannot make a temporary file")?;
    fs::write(file.path(), &archive.bytes)
        .with_context(|| format!("cannot write {}", file.path().display()))?;
    on_all_nodes(|node| import(node, file.path()))
}

/// Imports a made image into a node unless the node has just that one.
pub fn into(node: Node, archive: &Archive) -> Result<()> {
    let digest = archive.digest();
    let mark = mark(node, &archive.reference);
    if fs::read_to_string(&mark).is_ok_and(|known| known == digest) {
        return Ok(());
    }
    let dir = of_node(node, "images");
    make_dir(&dir)?;
    let file =
        tempfile::Builder::new().suffix(".tar").tempfile_in(&dir).context("cannot make a temporary file")?;
    fs::write(file.path(), &archive.bytes)
        .with_context(|| format!("cannot write {}", file.path().display()))?;
    import(node, file.path())?;
    write(&mark, digest)
}

/// Runs `work` for each node in a thread of its own and returns the first error.
pub fn on_all_nodes(work: impl Fn(Node) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads = NODES.map(|node| (node, scope.spawn(move || work(node))));
        threads.into_iter().try_for_each(|(node, thread)| {
            let result = thread.join().map_err(|_| anyhow!("the thread of {} ended", node.name()))?;
            result.with_context(|| format!("on {}", node.name()))
        })
    })
}

fn import(node: Node, path: &Path) -> Result<()> {
    let socket = of_node(node, "run/containerd/containerd.sock");
    if !socket.exists() {
        return Err(anyhow!("{} does not run; start it with: cluster up", node.name()));
    }
    let socket = socket.to_string_lossy();
    run("ctr", ["-a", &socket, "-n", "k8s.io", "images", "import", &path.to_string_lossy()])?;
    Ok(())
}

fn mark(node: Node, reference: &str) -> PathBuf {
    of_node(node, "images").join(reference.replace(['/', ':'], "_"))
}
