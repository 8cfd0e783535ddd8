//! Kubernetes and its companions, built from Go modules into a cache. A result is published by one rename, so an
//! interrupted build leaves nothing half made.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::command::{command, run};
use crate::layout::{make_dir, remove};
use crate::lock;

/// A Go module under `tools/` and the programs that it gives.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    name: &'static str,
    /// Module path that carries the version.
    requires: &'static str,
    programs: &'static [&'static str],
    /// Build time on two cores, for the announcement.
    minutes: u8,
}

/// The control plane, the node components, kubectl and etcd.
pub const KUBERNETES: Module = Module {
    name: "kubernetes",
    requires: "k8s.io/kubernetes",
    programs: &[
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kubectl",
        "kubelet",
    ],
    minutes: 9,
};
/// The cluster's DNS server.
pub const COREDNS: Module =
    Module { name: "coredns", requires: "github.com/coredns/coredns", programs: &["coredns"], minutes: 3 };
/// The storage provisioner.
pub const LOCAL_PATH: Module = Module {
    name: "local-path-provisioner",
    requires: "github.com/rancher/local-path-provisioner",
    programs: &["local-path-provisioner"],
    minutes: 2,
};
/// The package manager; not needed by the cluster, but by who installs into it.
pub const HELM: Module =
    Module { name: "helm", requires: "helm.sh/helm/v3", programs: &["helm"], minutes: 2 };

/// What enforces `NetworkPolicies`: not needed by the cluster, but by the test of who gets through one.
pub const KUBE_ROUTER: Module = Module {
    name: "kube-router",
    requires: "github.com/cloudnativelabs/kube-router/v2",
    programs: &["kube-router"],
    minutes: 4,
};

/// All modules.
pub const ALL: [Module; 5] = [KUBERNETES, COREDNS, LOCAL_PATH, HELM, KUBE_ROUTER];

/// Builds those of `modules` that are not in the cache.
pub fn ensure(modules: &[Module]) -> Result<()> {
    let mut missing = Vec::new();
    for module in modules {
        if !module.cache()?.is_dir() {
            missing.push(module);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for module in &missing {
        println!(
            "to build: {} {} (about {} min on two cores)",
            module.name,
            module.version()?,
            module.minutes
        );
    }
    make_dir(&cache_root()?)?;
    let _lock = lock::take(&cache_root()?.join("lock"))?;
    missing.into_iter().try_for_each(|module| module.build())
}

/// Path of a built program.
pub fn path(program: &str) -> Result<PathBuf> {
    let Some(module) = ALL.iter().find(|module| module.programs.contains(&program)) else {
        let names: Vec<_> = ALL.iter().flat_map(|module| module.programs).copied().collect();
        bail!("there is no tool {program:?}; the tools are {}", names.join(", "));
    };
    let path = module.cache()?.join(program);
    if !path.is_file() {
        bail!("{program} is not built yet; run: cargo run -q -p cluster -- tools");
    }
    Ok(path)
}

/// Path of a built program, as an argument.
pub fn arg(program: &str) -> Result<String> {
    Ok(path(program)?.to_string_lossy().into_owned())
}

impl Module {
    /// Version without its leading `v`.
    pub fn version(self) -> Result<String> {
        let path = self.source().join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        parse_version(&text, self.requires)
            .with_context(|| format!("{} does not require {}", path.display(), self.requires))
    }

    fn source(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(self.name)
    }

    fn ldflags(self) -> Result<String> {
        let mut flags = "-s -w".to_owned();
        if self.requires == KUBERNETES.requires {
            let version = self.version()?;
            for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
                write!(flags, " -X {package}.gitVersion=v{version}")?;
                for (name, part) in ["gitMajor", "gitMinor"].iter().zip(version.split('.')) {
                    write!(flags, " -X {package}.{name}={part}")?;
                }
            }
        }
        Ok(flags)
    }

    /// Directory of the built programs; its name changes with everything that decides the result.
    fn cache(self) -> Result<PathBuf> {
        let mut hash = Sha256::new();
        for file in ["go.mod", "go.sum"] {
            let path = self.source().join(file);
            hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        hash.update(self.ldflags()?);
        let mut name = format!("{}-{}-", self.name, self.version()?);
        for byte in hash.finalize().iter().take(6) {
            write!(name, "{byte:02x}")?;
        }
        Ok(cache_root()?.join(name))
    }

    fn build(self) -> Result<()> {
        let target = self.cache()?;
        if target.is_dir() {
            // Another run built it while this one waited for the lock.
            return Ok(());
        }
        let half = PathBuf::from(format!("{}.building", target.display()));
        remove(&half)?;
        make_dir(&half)?;
        let log = half.join("log");
        let started = Instant::now();
        run("go", ["version"]).context("install Go 1.26 or newer and have it in PATH")?;
        println!("building {} …", self.name);
        // The build dies with this program; otherwise it would write into what the next run makes anew.
        let words =
            ["--pdeathsig", "KILL", "nice", "go", "build", "-trimpath", "-ldflags", &self.ldflags()?, "-o"];
        let mut child = command("setpriv", words)
            .arg(half.join(""))
            .arg("tool")
            .current_dir(self.source())
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
            .spawn()
            .context("cannot start `setpriv`, of the package util-linux")?;
        let mut told = 0;
        let status = loop {
            if let Some(status) = child.try_wait().context("cannot wait for go build")? {
                break status;
            }
            let seconds = started.elapsed().as_secs();
            if seconds / 30 > told {
                told = seconds / 30;
                println!("  {}: building for {} min {:02} s", self.name, seconds / 60, seconds % 60);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let said = fs::read_to_string(&log).unwrap_or_default();
        if !status.success() {
            bail!("building {} failed ({status}):\n{}", self.name, said.trim());
        }
        remove(&log)?;
        if self.programs.contains(&"etcd") {
            // Go names a program after the last element of its package, which for etcd is "server".
            fs::rename(half.join("server"), half.join("etcd")).context("go build gave no etcd server")?;
        }
        fs::rename(&half, &target).with_context(|| format!("cannot publish {}", target.display()))?;
        println!("built {} in {} s", self.name, started.elapsed().as_secs());
        Ok(())
    }
}

/// Cache of everything that takes long to make; `down` leaves it alone.
pub fn cache_root() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base =
        base.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set; set one, for the built tools")?;
    Ok(base.join("redis-operator"))
}

fn parse_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        let version = (words.next() == Some(module)).then(|| words.next())??.strip_prefix('v')?;
        Some(version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_the_requirement_and_not_from_a_longer_name() {
        let text = "module m\n\ntool example.com/a/cmd\n\nrequire (\n\texample.com/a/api v0.1.0\n\texample.com/a v1.2.3 // indirect\n)\n";
        assert_eq!(parse_version(text, "example.com/a").as_deref(), Some("1.2.3"));
        assert_eq!(
            parse_version("require example.com/b v2.0.0\n", "example.com/b").as_deref(),
            Some("2.0.0")
        );
        assert_eq!(parse_version(text, "example.com/c"), None);
    }

    #[test]
    fn every_module_in_the_tree_has_a_version() {
        for module in ALL {
            assert!(module.version().unwrap().split('.').count() >= 3, "{}", module.name);
        }
    }
}
