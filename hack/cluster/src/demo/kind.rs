//! The demo on kind, as config/kind/README.md does it by hand.

use std::path::Path;

use anyhow::Result;

use super::files::Files;
use super::kube::Kube;
use super::place::Place;
use super::steps::Steps;
use super::{Options, Ready};
use crate::command::{command, run};
use crate::image::catalogue::OPERATOR;

/// The name in [`CONFIG`].
const NAME: &str = "redis-operator";
const CONFIG: &str = "config/kind/kindnet.yaml";
const MULTITOOL: &str = "localhost/multitool:1";

/// Whether a Docker engine answers and kind is installed.
pub fn is_there() -> bool {
    run("docker", ["info"]).is_ok() && run("kind", ["version"]).is_ok()
}

/// Brings it up.
pub fn up(files: &Files, options: &Options, steps: &mut Steps) -> Result<Ready> {
    files.claim(Place::Kind)?;
    let kube = Kube::of_person(files, steps)?;
    let kubeconfig = files.kubeconfig();
    cluster(&kubeconfig, &kube, steps)?;
    let (operator_image, operator_build) = match &options.operator_image {
        Some(image) => (image.clone(), String::new()),
        None => build(steps)?,
    };
    steps.step("the image of the lab's workloads", |step| {
        let file = ["-f", "config/kind/multitool.Dockerfile", "-t", MULTITOOL, "hack/cluster/src/image"];
        step.command(command("docker", ["build"]).args(file))?;
        step.command(&mut load(MULTITOOL))
    })?;
    Ok(Ready { kube, operator_image, operator_build, redis_image: options.redis_image.clone(), lab: true })
}

/// Removes it.
pub fn down(steps: &mut Steps) -> Result<()> {
    steps.step("the kind cluster", |step| {
        step.command(&mut command("kind", ["delete", "cluster", "--name", NAME]))?;
        step.say(&format!("left: the images {OPERATOR} and {MULTITOOL} in Docker"));
        Ok(())
    })
}

fn cluster(kubeconfig: &Path, kube: &Kube, steps: &mut Steps) -> Result<()> {
    steps.step("three nodes, each a container", |step| {
        let exists = run("kind", ["get", "clusters"])?.lines().any(|name| name == NAME);
        let mut kind = if exists {
            command("kind", ["export", "kubeconfig", "--name", NAME])
        } else {
            command("kind", ["create", "cluster", "--config", CONFIG, "--wait", "5m"])
        };
        step.command(kind.arg("--kubeconfig").arg(kubeconfig))?;
        // The lab has three nodes that take Pods. Not `kubectl taint`: it fails where the taint is gone already.
        let node = format!("{NAME}-control-plane");
        step.command(&mut kube.kubectl(["patch", "node", &node, "-p", r#"{"spec":{"taints":null}}"#]))?;
        step.command(&mut kube.kubectl(["wait", "--for=condition=Ready", "node", "--all", "--timeout=5m"]))
    })
}

fn build(steps: &mut Steps) -> Result<(String, String)> {
    steps.step("the operator's image (the first time some 5 min)", |step| {
        step.command(&mut command("docker", ["build", "-t", OPERATOR, "."]))?;
        step.command(&mut load(OPERATOR))?;
        let id = run("docker", ["image", "inspect", "--format", "{{.Id}}", OPERATOR])?;
        Ok((OPERATOR.to_owned(), id.trim().to_owned()))
    })
}

fn load(image: &str) -> std::process::Command {
    command("kind", ["load", "docker-image", "--name", NAME, image])
}
