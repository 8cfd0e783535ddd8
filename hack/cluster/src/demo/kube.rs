//! kubectl and helm: the person's where they are in PATH, those of this program otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::files::Files;
use super::steps::Steps;
use crate::command::{command, output};
use crate::layout::{remove, write};
use crate::tools;

/// Where a person's programs are looked for, and where one may be put.
const PROGRAMS: &str = "/usr/local/bin";
/// The namespace of the sample.
pub const NAMESPACE: &str = "default";

/// Programs, and the cluster that they talk to.
pub struct Kube {
    kubectl: String,
    helm: String,
    kubeconfig: PathBuf,
}

impl Kube {
    /// The programs that this program builds, which fit its cluster.
    pub fn own(files: &Files) -> Result<Self> {
        Ok(Self {
            kubectl: tools::arg("kubectl")?,
            helm: tools::arg("helm")?,
            kubeconfig: files.kubeconfig(),
        })
    }

    /// The person's programs; missing ones are built.
    pub fn of_person(files: &Files, steps: &mut Steps) -> Result<Self> {
        let missing = |name: &str| in_path(name).is_none() && tools::path(name).is_err();
        if missing("kubectl") || missing("helm") {
            build_tools(steps, "kubectl or helm is not in PATH, so they are built")?;
        }
        let program = |name: &str| match in_path(name) {
            Some(_) => Ok(name.to_owned()),
            None => tools::arg(name),
        };
        Ok(Self { kubectl: program("kubectl")?, helm: program("helm")?, kubeconfig: files.kubeconfig() })
    }

    /// The kubectl program, for what is not about the demo's cluster.
    pub fn program(&self) -> &str {
        &self.kubectl
    }

    /// A kubectl command line.
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut kubectl = command(&self.kubectl, ["--kubeconfig"]);
        kubectl.arg(&self.kubeconfig).args(args);
        kubectl
    }

    /// A helm command line.
    pub fn helm<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut helm = command(&self.helm, ["--kubeconfig"]);
        helm.arg(&self.kubeconfig).args(args);
        helm
    }

    /// What `kubectl get` prints of these objects in the sample's namespace.
    pub fn get(&self, what: &str) -> Result<String> {
        output(&mut self.kubectl(["--request-timeout=20s", "-n", NAMESPACE, "get", what]))
    }

    /// One object of the sample's namespace.
    pub fn read(&self, what: &str) -> Result<Value> {
        let args = ["--request-timeout=20s", "-n", NAMESPACE, "get", what, "-o", "json"];
        serde_json::from_str(&output(&mut self.kubectl(args))?).with_context(|| format!("reading {what}"))
    }
}

/// Builds the tools that are not in the cache, if any.
pub fn build_tools(steps: &mut Steps, why: &str) -> Result<()> {
    steps.step(&format!("{why}, from source: some 20 min on two cores, only once"), |step| {
        step.command(&mut this_program(&["tools"])?)
    })
}

/// This program with another verb.
pub fn this_program(args: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(args);
    Ok(command)
}

/// What the person types for kubectl; it is installed for those who have none.
pub fn install_client(files: &Files, kube: &Kube) -> Result<String> {
    if in_path("kubectl").is_some() {
        return Ok("kubectl".to_owned());
    }
    let target = Path::new(PROGRAMS).join("kubectl");
    if fs::copy(&kube.kubectl, &target).is_err() {
        return Ok(kube.kubectl.clone());
    }
    write(&files.installed(), target.as_os_str().as_encoded_bytes())?;
    println!("there was no kubectl here: installed {}; make demo-down removes it", target.display());
    Ok(if in_path("kubectl").is_some() { "kubectl".to_owned() } else { target.display().to_string() })
}

/// Removes the kubectl that the demo installed.
pub fn remove_client(files: &Files) -> Result<()> {
    match fs::read_to_string(files.installed()) {
        Ok(path) => remove(Path::new(&path)),
        Err(_) => Ok(()),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
