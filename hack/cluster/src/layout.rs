//! Where things are kept. There is one cluster on a machine, so its root is fixed; what a person reads
//! (kubeconfig, audit log, component logs) is in the state directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::topology::Node;

/// Certificates, etcd's data, containerd's images and containers, Pod volumes, process records.
pub const ROOT: &str = "/var/lib/redis-operator-cluster";

/// The two directories of a cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    state: PathBuf,
}

impl Layout {
    /// A layout with its state directory at `state`.
    pub fn new(state: &Path) -> Result<Self> {
        let state = std::path::absolute(state)
            .with_context(|| format!("cannot make an absolute path of --state-dir {}", state.display()))?;
        Ok(Self { state })
    }

    /// Makes both directories and binds the cluster to this state directory.
    pub fn claim(&self) -> Result<()> {
        if let Some(owner) = owner()?
            && owner != self.state
        {
            bail!(
                "this machine's cluster belongs to the state directory {}; use it with --state-dir, or remove \
                     that cluster first with the verb `down`",
                owner.display()
            );
        }
        for dir in [Path::new(ROOT), &self.state, &self.state.join("logs")] {
            make_dir(dir)?;
        }
        write(&owner_file(), self.state.as_os_str().as_encoded_bytes())
    }

    /// The layout of the cluster that exists on this machine, whatever state directory it was made with.
    pub fn existing() -> Result<Option<Self>> {
        Ok(owner()?.map(|state| Self { state }))
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// The API server's audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.state.join("audit.log")
    }

    /// Output of the component with this name.
    pub fn log(&self, component: &str) -> PathBuf {
        self.state.join("logs").join(format!("{component}.log"))
    }
}

/// A path under the root.
pub fn root(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// A path under a node's own directory.
pub fn of_node(node: Node, path: &str) -> PathBuf {
    root("nodes").join(node.name()).join(path)
}

/// A path of certificates and keys.
pub fn pki(file: &str) -> PathBuf {
    root("pki").join(file)
}

fn owner_file() -> PathBuf {
    root("state-dir")
}

fn owner() -> Result<Option<PathBuf>> {
    match fs::read_to_string(owner_file()) {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", owner_file().display())),
    }
}

/// Makes a directory and its parents.
pub fn make_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Writes a file whole or not at all, so that an interrupted run leaves no half file.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let dir = path.parent().with_context(what)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).with_context(what)?;
    std::io::Write::write_all(&mut file, content.as_ref()).with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}

/// Removes a directory tree or a file; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let result =
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
