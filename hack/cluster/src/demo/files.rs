//! What the demo keeps: `target/demo` with the kubeconfig, the log, and what `--down` must know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use super::place::Place;
use crate::layout::{make_dir, remove, write};

/// The demo's directory.
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// That of the repository in whose top directory this runs.
    pub fn here() -> Result<Self> {
        if !Path::new("charts/redis-operator/Chart.yaml").is_file() {
            bail!("there is no charts/redis-operator here; run this at the top of the repository: make demo");
        }
        let dir = std::path::absolute("target/demo").context("cannot find the current directory")?;
        Ok(Self { dir })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Output of all commands of the last run.
    pub fn log(&self) -> PathBuf {
        self.dir.join("demo.log")
    }

    /// For the person's kubectl.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The sample as it is applied, with a kustomization.
    pub fn sample(&self) -> PathBuf {
        self.dir.join("sample")
    }

    /// Names a program that the demo installed for the person.
    pub fn installed(&self) -> PathBuf {
        self.dir.join("installed")
    }

    /// Where the demo was made, if it was.
    pub fn place(&self) -> Result<Option<Place>> {
        let path = self.record();
        match fs::read_to_string(&path) {
            Ok(word) => match Place::from_str(&word, false) {
                Ok(place) => Ok(Some(place)),
                Err(reason) => bail!("{} is not of this program ({reason}); remove it", path.display()),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Remembers where the demo is made; to be called before anything is.
    pub fn claim(&self, place: Place) -> Result<()> {
        make_dir(&self.dir)?;
        write(&self.record(), place.word())
    }

    /// Removes all of it.
    pub fn remove(&self) -> Result<()> {
        remove(&self.dir)
    }

    fn record(&self) -> PathBuf {
        self.dir.join("place")
    }
}
