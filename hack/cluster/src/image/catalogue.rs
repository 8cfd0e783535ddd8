//! The images that this program knows how to make.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use super::archive::{Archive, Settings};
use super::dockerfile::{self, Stage};
use super::oci::Layout;
use super::sysroot::Sysroot;
use super::tree::Tree;
use crate::command::run;
use crate::tools::{self, COREDNS, LOCAL_PATH};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Holds a Pod's namespaces.
pub const PAUSE: &str = "localhost/pause:1";
/// The operator of this project.
pub const OPERATOR: &str = "localhost/redis-operator:dev";

/// An image of the cluster's own or of the workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Image {
    /// Holds a Pod's namespaces.
    Pause,
    /// The cluster's DNS server.
    Coredns,
    /// The storage provisioner, with a shell for its helper Pods.
    LocalPathProvisioner,
    /// This machine's redis-server and redis-cli.
    Redis,
    /// dig, curl, redis-cli, a shell, and nginx on port 80.
    Multitool,
    /// Redis 8 of a newer Debian, downloaded for the image.
    #[value(name = "redis-8")]
    Redis8,
    /// Valkey of a newer Debian, downloaded for the image.
    Valkey,
}

/// What every cluster has.
pub const BASE: [Image; 5] =
    [Image::Pause, Image::Coredns, Image::LocalPathProvisioner, Image::Redis, Image::Multitool];

impl Image {
    /// Name and tag; the tag is the version of what is inside.
    pub fn reference(self) -> Result<String> {
        Ok(match self {
            Self::Pause => PAUSE.to_owned(),
            Self::Coredns => format!("localhost/coredns:{}", COREDNS.version()?),
            Self::LocalPathProvisioner => {
                format!("localhost/local-path-provisioner:{}", LOCAL_PATH.version()?)
            }
            Self::Redis => {
                format!("localhost/redis:{}", server_version(&run("redis-server", ["--version"])?)?)
            }
            Self::Redis8 => format!("localhost/redis:{}", newer_version("redis-server")?),
            Self::Valkey => format!("localhost/valkey:{}", newer_version("valkey-server")?),
            Self::Multitool => "localhost/multitool:1".to_owned(),
        })
    }

    /// Makes the image.
    pub fn build(self) -> Result<Archive> {
        let mut tree = Tree::default();
        let settings = match self {
            Self::Pause => pause(&mut tree)?,
            Self::Coredns => coredns(&mut tree)?,
            Self::LocalPathProvisioner => local_path_provisioner(&mut tree)?,
            Self::Redis => redis(&mut tree)?,
            Self::Multitool => multitool(&mut tree)?,
            Self::Redis8 => newer_server(&mut tree, "redis")?,
            Self::Valkey => newer_server(&mut tree, "valkey")?,
        };
        Archive::new(&self.reference()?, &settings, &tree)
    }
}

/// The operator's image of this machine's architecture, for the nodes of the cluster.
pub fn operator(dockerfile: &Path, binaries: &Path) -> Result<Archive> {
    let stage = final_stage(dockerfile)?;
    Archive::new(OPERATOR, &stage.settings, &operator_tree(&stage, binaries)?)
}

/// The operator's image for the architectures whose binaries are given, to be pushed to a registry.
pub fn operator_layout(dockerfile: &Path, binaries: &[(String, PathBuf)]) -> Result<Layout> {
    let stage = final_stage(dockerfile)?;
    let mut trees = Vec::new();
    for (architecture, binaries) in binaries {
        trees.push((architecture.as_str(), operator_tree(&stage, binaries)?));
    }
    Layout::new(&stage.settings, &trees).context("cannot pack the operator's image")
}

fn final_stage(dockerfile: &Path) -> Result<Stage> {
    let text = std::fs::read_to_string(dockerfile)
        .with_context(|| format!("cannot read {}; name it with --dockerfile", dockerfile.display()))?;
    dockerfile::final_stage(&text)
}

/// The Dockerfile's final stage with the files of `binaries` in place of the build stage's.
fn operator_tree(stage: &Stage, binaries: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    for (source, target) in &stage.copies {
        let name =
            Path::new(source).file_name().with_context(|| format!("COPY of {source} names no file"))?;
        let path = binaries.join(name);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Not the file's own mode: that follows the umask of who built it, or is lost in a download.
        tree.file(target, 0o755, content);
    }
    Ok(tree)
}

fn pause(tree: &mut Tree) -> Result<Settings> {
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (source, program) = (dir.path().join("pause.c"), dir.path().join("pause"));
    std::fs::write(&source, include_str!("pause.c")).context("cannot write pause.c")?;
    run("cc", [Path::new("-static"), Path::new("-Os"), Path::new("-s"), Path::new("-o"), &program, &source])
        .context("cannot compile the pause program; it needs the packages gcc and libc6-dev")?;
    tree.copy(&program, "/pause")?;
    Ok(Settings { user: "65535:65535".into(), entrypoint: vec!["/pause".into()], ..Settings::default() })
}

fn coredns(tree: &mut Tree) -> Result<Settings> {
    tree.copy(&tools::path("coredns")?, "/coredns")?;
    Ok(Settings { user: "65532:65532".into(), entrypoint: vec!["/coredns".into()], ..Settings::default() })
}

fn local_path_provisioner(tree: &mut Tree) -> Result<Settings> {
    tree.copy(&tools::path("local-path-provisioner")?, "/usr/bin/local-path-provisioner")?;
    tree.busybox()?;
    tree.base("provisioner", 1000);
    // Root: its helper Pods make directories in the node's file system.
    let command = vec!["local-path-provisioner".into()];
    Ok(Settings { user: "0:0".into(), command, environment: vec![PATH.into()], ..Settings::default() })
}

fn redis(tree: &mut Tree) -> Result<Settings> {
    for program in ["/usr/bin/redis-server", "/usr/bin/redis-cli"] {
        tree.program(program)?;
    }
    server(tree, "redis")
}

fn newer_server(tree: &mut Tree, name: &str) -> Result<Settings> {
    let sysroot = Sysroot::ensure()?;
    for program in ["server", "cli"] {
        sysroot.program(tree, &format!("/usr/bin/{name}-{program}"))?;
        if name != "redis" {
            // As Valkey's own installation does.
            tree.link(&format!("/usr/bin/redis-{program}"), &format!("{name}-{program}"));
        }
    }
    server(tree, name)
}

/// What the images of all servers have in common.
fn server(tree: &mut Tree, name: &str) -> Result<Settings> {
    tree.busybox()?;
    tree.base(name, 999);
    tree.directory("/data", 999, 0o755);
    Ok(Settings {
        user: "999:999".into(),
        directory: "/data".into(),
        command: vec![format!("{name}-server")],
        environment: vec![PATH.into()],
        ..Settings::default()
    })
}

fn multitool(tree: &mut Tree) -> Result<Settings> {
    for program in ["/usr/bin/dig", "/usr/bin/curl", "/usr/bin/redis-cli", "/usr/sbin/nginx"] {
        tree.program(program)?;
    }
    tree.file("/etc/nginx/nginx.conf", 0o644, include_str!("nginx.conf"));
    tree.busybox()?;
    tree.base("multitool", 1000);
    Ok(Settings {
        user: "1000:1000".into(),
        command: vec!["nginx".into(), "-c".into(), "/etc/nginx/nginx.conf".into()],
        environment: vec![PATH.into()],
        ..Settings::default()
    })
}

fn newer_version(program: &str) -> Result<String> {
    server_version(&Sysroot::ensure()?.version(&format!("/usr/bin/{program}"))?)
}

fn server_version(said: &str) -> Result<String> {
    parse_version(said)
        .with_context(|| format!("the server's --version said {said:?}, which holds no version"))
}

/// `Redis server v=7.0.15 sha=…`.
fn parse_version(text: &str) -> Option<String> {
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_redis_tag_is_the_server_s_version() {
        let text = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1\n";
        assert_eq!(parse_version(text).as_deref(), Some("7.0.15"));
    }

    #[test]
    fn the_operator_image_holds_the_given_binaries() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["redis-operator", "agent"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let dockerfile = dir.path().join("Dockerfile");
        let copy =
            |text: &str| std::fs::write(&dockerfile, format!("FROM scratch\n{text}\nUSER 1:1\n")).unwrap();
        copy("COPY --from=build /out/redis-operator /out/agent /");
        let archive = operator(&dockerfile, dir.path()).unwrap();
        let mut tree = Tree::default();
        for name in ["redis-operator", "agent"] {
            tree.file(name, 0o755, name);
        }
        let settings = Settings { user: "1:1".into(), ..Settings::default() };
        assert_eq!(archive, Archive::new(OPERATOR, &settings, &tree).unwrap());
        let binaries = [("amd64".to_owned(), dir.path().to_owned())];
        let layout = operator_layout(&dockerfile, &binaries).unwrap();
        assert_eq!(layout, Layout::new(&settings, &[("amd64", tree)]).unwrap());
        copy("COPY --from=build /out/absent /");
        assert!(operator(&dockerfile, dir.path()).unwrap_err().to_string().contains("absent"));
    }
}
