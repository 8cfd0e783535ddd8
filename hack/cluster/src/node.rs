//! A node: containerd, the kubelet and kube-proxy with a network and mounts of their own. The mounts belong to
//! the processes, so they vanish with the last of them, as on a machine that loses power.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cgroups;
use crate::command::run;
use crate::image::archive::Archive;
use crate::image::load;
use crate::layout::{Layout, make_dir, of_node, remove};
use crate::network;
use crate::node_config;
use crate::process::{self, Component};
use crate::tools;
use crate::topology::Node;
use crate::wait;

/// Directories that a node has of its own; on the host they are empty places to mount at.
pub const OWN_DIRS: [&str; 5] =
    ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"];

const PROGRAMS: [&str; 3] = ["containerd", "kubelet", "kube-proxy"];

/// Name of a node's component in records and logs.
pub fn component(node: Node, program: &str) -> String {
    format!("{}-{program}", node.name())
}

/// Whether all components of the node run.
pub fn runs(node: Node) -> Result<bool> {
    for program in PROGRAMS {
        if process::running(&component(node, program))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Starts the node unless it runs whole; a node that runs in part is started anew.
pub fn start(layout: &Layout, node: Node, images: &[Archive]) -> Result<()> {
    network::heal(node.machine)?;
    if !runs(node)? {
        halt(node)?;
        boot(layout, node)?;
    }
    for image in images {
        load::into(node, image)?;
    }
    start_kubernetes(layout, node)
}

/// The node loses power: its cable is dead and all its processes are killed.
pub fn stop(node: Node) -> Result<()> {
    network::cut(node.machine)?;
    halt(node)
}

/// Kills everything that is the node's and forgets what a real machine keeps in memory only.
pub fn halt(node: Node) -> Result<()> {
    wait::until("the node's processes to end", Duration::from_secs(30), || {
        let mut pids = network::processes(node.machine)?;
        pids.extend(cgroups::processes(node)?);
        if pids.is_empty() {
            return Ok(());
        }
        process::kill(&pids);
        bail!("{} processes of {} are left", pids.len(), node.name())
    })?;
    remove(&of_node(node, "run"))?;
    cgroups::remove(Some(node))
}

/// Starts containerd and waits for its socket.
fn boot(layout: &Layout, node: Node) -> Result<()> {
    cgroups::make(node)?;
    for dir in OWN_DIRS {
        make_dir(Path::new(dir))?;
        make_dir(&own(node, dir))?;
    }
    let config = node_config::write_all(node)?;
    let name = component(node, "containerd");
    let mut argv: Vec<String> = ["unshare", "--mount", "--propagation", "slave"].map(Into::into).into();
    argv.extend(["sh", "-c", include_str!("enter-node.sh"), "enter-node"].map(Into::into));
    argv.push(of_node(node, "").to_string_lossy().trim_end_matches('/').to_owned());
    argv.extend(["containerd".into(), "--config".into(), config.containerd]);
    process::ensure(
        layout,
        &Component { name: name.clone(), machine: node.machine, mounts_of: None, argv },
        None,
    )?;
    let socket = own(node, "/run/containerd/containerd.sock");
    wait::until("containerd to answer", Duration::from_mins(1), || {
        run("ctr", ["--connect-timeout", "2s", "-a", &socket.to_string_lossy(), "version"])
    })
    .or_else(|error| process::check(layout, &name).and(Err(error)))?;
    Ok(())
}

fn start_kubernetes(layout: &Layout, node: Node) -> Result<()> {
    let config = node_config::write_all(node)?;
    let containerd = process::check(layout, &component(node, "containerd"))?;
    let kubelet = vec![
        tools::arg("kubelet")?,
        format!("--config={}", config.kubelet),
        format!("--kubeconfig={}", config.kubelet_kubeconfig),
        format!("--hostname-override={}", node.name()),
        format!("--node-ip={}", node.machine.ip()),
    ];
    let kube_proxy = vec![tools::arg("kube-proxy")?, format!("--config={}", config.kube_proxy)];
    for (program, argv) in [("kubelet", kubelet), ("kube-proxy", kube_proxy)] {
        let name = component(node, program);
        let component = Component { name, machine: node.machine, mounts_of: Some(containerd), argv };
        process::ensure(layout, &component, None)?;
    }
    Ok(())
}

fn own(node: Node, dir: &str) -> PathBuf {
    of_node(node, dir.trim_start_matches('/'))
}

/// Runs a command in the node's network and passes its exit code on.
pub fn exec(node: Node, argv: &[String]) -> Result<std::process::ExitCode> {
    let net = format!("--net=/run/netns/{}", node.machine.namespace());
    let status = crate::command::command("nsenter", [net.as_str(), "--"])
        .args(argv)
        .status()
        .with_context(|| format!("cannot run nsenter for {}", node.name()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(code.into())
}
