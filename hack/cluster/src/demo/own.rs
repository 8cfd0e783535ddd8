//! The demo on this program's own cluster: what the verbs `tools`, `up` and `image load-operator` do, as steps.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::files::Files;
use super::kube::{Kube, build_tools, this_program};
use super::place::Place;
use super::steps::Steps;
use super::{Options, Ready};
use crate::command::command;
use crate::image::catalogue::{self, Image};
use crate::image::load;
use crate::layout::{Layout, write};
use crate::tools;

const TOOLS: [&str; 4] = ["kubectl", "coredns", "local-path-provisioner", "helm"];

/// Brings it up.
pub fn up(files: &Files, options: &Options, state_dir: Option<&Path>, steps: &mut Steps) -> Result<Ready> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "a cluster without a container engine needs root: sudo -E make demo. Others are kind (with Docker and kind \
             in PATH), and a cluster of yours: CLUSTER=current make demo"
        );
    }
    files.claim(Place::Own)?;
    if TOOLS.iter().any(|tool| tools::path(tool).is_err()) {
        build_tools(steps, "Kubernetes and its companions")?;
    }
    if options.operator_image.is_none() {
        steps.step("the operator's static binaries (the first time some 5 min)", |step| {
            // Not a part of the make that may have started this program: its flags are not meant for this one.
            step.command(command("make", ["static"]).env_remove("MAKEFLAGS").env_remove("MAKELEVEL"))
        })?;
    }
    steps.step("three nodes, each in a network namespace of its own, with DNS and storage", |step| {
        let mut up = this_program(&["up"])?;
        if let Some(dir) = state_dir {
            up.arg("--state-dir").arg(dir);
        }
        step.command(&mut up)
    })?;
    let layout = Layout::existing()?.context("the cluster was removed by somebody else meanwhile")?;
    let kubeconfig = layout.kubeconfig();
    let text = std::fs::read(&kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    write(&files.kubeconfig(), text)?;
    let (operator_image, operator_build) = match (&options.operator_image, &options.binaries) {
        (Some(image), _) => (image.clone(), String::new()),
        (None, Some(binaries)) => load_operator(binaries, steps)?,
        (None, None) => bail!("name the directory of the static binaries with --binaries"),
    };
    let redis_image = match &options.redis_image {
        Some(image) => image.clone(),
        None => Image::Redis.reference()?,
    };
    Ok(Ready {
        kube: Kube::own(files)?,
        operator_image,
        operator_build,
        redis_image: Some(redis_image),
        lab: true,
    })
}

/// Removes it.
pub fn down(steps: &mut Steps) -> Result<()> {
    steps.step("the cluster: processes, mounts, namespaces, cgroups", |step| {
        step.command(&mut this_program(&["down"])?)?;
        step.say("left: the built tools in the cache, Debian packages, and the binaries under target/");
        Ok(())
    })
}

fn load_operator(binaries: &Path, steps: &mut Steps) -> Result<(String, String)> {
    steps.step(&format!("the operator's image, {}, into all nodes", catalogue::OPERATOR), |_| {
        let archive = catalogue::operator(Path::new("Dockerfile"), binaries)?;
        load::archive(&archive)?;
        Ok((archive.reference.clone(), archive.digest()))
    })
}
