//! Programs of a newer Debian than the machine's, for images only: their packages are unpacked below a directory of
//! the cache, with package lists and settings of their own; the machine's packages are not touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::tree::{Tree, libraries};
use crate::command::{command, output, run};
use crate::layout::{make_dir, remove, write};
use crate::lock;
use crate::tools::cache_root;

const SUITE: &str = "trixie";
/// Of the package debian-archive-keyring, which every Debian has.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const PACKAGES: [&str; 4] = ["redis-server", "redis-tools", "valkey-server", "valkey-tools"];

/// A directory with the unpacked packages.
pub struct Sysroot {
    root: PathBuf,
    loader: PathBuf,
    libraries: PathBuf,
}

impl Sysroot {
    /// Downloads and unpacks the packages unless they are in the cache.
    pub fn ensure() -> Result<Self> {
        let base = cache_root()?.join(format!("debian-{SUITE}"));
        make_dir(&base)?;
        let _lock = lock::take(&base.join("lock"))?;
        let root = base.join("root");
        if !root.is_dir() {
            download(&base)?;
            let half = base.join("root.new");
            remove(&half)?;
            for package in entries(&base.join("cache/archives"))?.iter().filter(|path| ends(path, ".deb")) {
                run("dpkg-deb", [Path::new("-x"), package, &half])?;
            }
            fs::rename(&half, &root).with_context(|| format!("cannot publish {}", root.display()))?;
        }
        Self::open(root)
    }

    fn open(root: PathBuf) -> Result<Self> {
        let mut loader = None;
        let mut libraries = None;
        for directory in entries(&root.join("usr"))? {
            for path in entries(&directory)? {
                if directory.ends_with("lib") && path.join("libc.so.6").exists() {
                    libraries = Some(path);
                } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
                {
                    loader = Some(path);
                }
            }
        }
        let (Some(loader), Some(libraries)) = (loader, libraries) else {
            bail!("{} holds no C library; remove the directory and try again", root.display());
        };
        Ok(Self { root, loader, libraries })
    }

    /// Copies a program and its libraries to their places.
    pub fn program(&self, tree: &mut Tree, path: &str) -> Result<()> {
        let file = self.root.join(path.trim_start_matches('/'));
        tree.copy(&file, path)?;
        for library in libraries(&output(self.load().arg("--list").arg(&file))?)? {
            let library = Path::new(&library);
            if let Ok(inside) = library.strip_prefix(&self.root) {
                tree.copy(library, &inside.to_string_lossy())?;
            }
        }
        // Programs name their loader by its old place, /lib or /lib64.
        let loader =
            self.loader.strip_prefix(self.root.join("usr")).context("the loader is not below /usr")?;
        tree.copy(&self.loader, &loader.to_string_lossy())
    }

    /// What the program says when it is asked for its version.
    pub fn version(&self, path: &str) -> Result<String> {
        output(self.load().arg(self.root.join(path.trim_start_matches('/'))).arg("--version"))
    }

    fn load(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.loader);
        command.arg("--library-path").arg(&self.libraries);
        command
    }
}

fn download(base: &Path) -> Result<()> {
    let source =
        archive().context("images of newer versions come from Debian's own archive, on Debian only")?;
    write(&base.join("sources.list"), source)?;
    write(&base.join("status"), "")?;
    for dir in ["state/lists/partial", "cache/archives/partial"] {
        make_dir(&base.join(dir))?;
    }
    let config = base.join("apt.conf");
    write(&config, apt_config(base))?;
    println!("downloading {} of Debian {SUITE}, some 30 MB", PACKAGES.join(", "));
    output(command("apt-get", ["update"]).env("APT_CONFIG", &config))?;
    let mut install = command("apt-get", ["install", "--download-only", "--yes"]);
    output(install.args(PACKAGES).env("APT_CONFIG", &config))?;
    Ok(())
}

/// apt's settings: everything below `base`, and nothing of the machine's counts as installed.
fn apt_config(base: &Path) -> String {
    let base = base.display();
    format!(
        r#"Dir::State "{base}/state";
Dir::State::status "{base}/status";
Dir::Cache "{base}/cache";
Dir::Etc::sourcelist "{base}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
"#
    )
}

/// The machine's source for Debian's main archive, turned to the newer suite.
fn archive() -> Result<String> {
    let format = "$(LABEL)|$(COMPONENT)|$(SITE)";
    let targets = run("apt-get", ["indextargets", "--format", format, "Identifier: Packages"])?;
    source_line(&targets).context("the machine has no apt source of Debian's main archive")
}

fn source_line(targets: &str) -> Option<String> {
    let site = targets.lines().find_map(|line| line.strip_prefix("Debian|main|"))?;
    Some(format!("deb [signed-by={KEYS}] {site} {SUITE} main\n"))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let what = || format!("cannot list {}", dir.display());
    let mut paths = fs::read_dir(dir)
        .with_context(what)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(what)?;
    paths.sort();
    Ok(paths)
}

fn ends(path: &Path, end: &str) -> bool {
    path.to_string_lossy().ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_the_machine_s_own_mirror() {
        let targets = "Other|main|http://other.test\nDebian-Security|main|http://a.test/security\n\
                       Debian|main|http://a.test/debian\n";
        let line = format!("deb [signed-by={KEYS}] http://a.test/debian trixie main\n");
        assert_eq!(source_line(targets).unwrap(), line);
        assert_eq!(source_line("Ubuntu|main|http://b.test\n"), None);
    }
}
