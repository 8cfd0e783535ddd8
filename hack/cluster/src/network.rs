//! The machines' network: a network namespace each, joined by a bridge in one more. There is no way out and no
//! route from the host. Every step may be repeated.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::command::run;
use crate::topology::{Machine, NODES, SERVICE_CIDR, SWITCH, machines};

const BRIDGE: &str = "bridge";

/// Makes or repairs the network; also heals every cut.
pub fn up() -> Result<()> {
    check_kernel()?;
    ensure_namespace(SWITCH)?;
    if !has_link(SWITCH, BRIDGE) {
        ip(SWITCH, &["link", "add", BRIDGE, "type", "bridge"])?;
    }
    ip(SWITCH, &["link", "set", BRIDGE, "up"])?;
    for machine in machines() {
        join(machine)?;
    }
    Ok(())
}

/// Removes all namespaces; the links go with them.
pub fn down() -> Result<()> {
    for namespace in namespaces() {
        if exists(&namespace) {
            run("ip", ["netns", "delete", &namespace])?;
        }
    }
    Ok(())
}

/// Processes in the machine's network namespace.
pub fn processes(machine: Machine) -> Result<Vec<i32>> {
    let namespace = machine.namespace();
    if !exists(&namespace) {
        return Ok(Vec::new());
    }
    Ok(run("ip", ["netns", "pids", &namespace])?
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect())
}

/// Pulls the machine's cable.
pub fn cut(machine: Machine) -> Result<()> {
    ip(SWITCH, &["link", "set", machine.name, "down"])
}

/// Plugs the machine's cable in again.
pub fn heal(machine: Machine) -> Result<()> {
    ip(SWITCH, &["link", "set", machine.name, "up"])
}

/// Whether the machine's cable is plugged in.
pub fn is_joined(machine: Machine) -> Result<bool> {
    Ok(run("ip", ["-n", SWITCH, "-o", "link", "show", machine.name])?.contains("state UP"))
}

fn namespaces() -> impl Iterator<Item = String> {
    machines().map(Machine::namespace).chain(std::iter::once(SWITCH.to_owned()))
}

fn join(machine: Machine) -> Result<()> {
    let namespace = machine.namespace();
    ensure_namespace(&namespace)?;
    ip(&namespace, &["link", "set", "lo", "up"])?;
    if !has_link(&namespace, "eth0") {
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &namespace];
        ip(SWITCH, &[&["link", "add", machine.name], &peer[..]].concat())?;
    }
    ip(SWITCH, &["link", "set", machine.name, "master", BRIDGE, "up"])?;
    ip(&namespace, &["addr", "replace", &format!("{}/24", machine.ip()), "dev", "eth0"])?;
    ip(&namespace, &["link", "set", "eth0", "up"])?;
    run("nsenter", [&net(&namespace), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    for other in NODES.iter().filter(|node| node.machine != machine) {
        ip(&namespace, &["route", "replace", &other.pod_cidr(), "via", &other.machine.ip()])?;
    }
    // Without any route the kernel refuses a virtual address before kube-proxy's rules can rewrite it.
    ip(&namespace, &["route", "replace", SERVICE_CIDR, "dev", "eth0"])
}

fn check_kernel() -> Result<()> {
    // On machines without modprobe these are built in, and the checks below decide.
    let _ = run("modprobe", ["--all", "overlay", "br_netfilter"]);
    if !Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() {
        bail!(
            "the kernel has no br_netfilter, which Services between Pods of one node need; run: modprobe br_netfilter"
        );
    }
    let filesystems =
        std::fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    if !filesystems.contains("\toverlay\n") {
        bail!("the kernel has no overlay file system, which containerd needs; run: modprobe overlay");
    }
    Ok(())
}

fn ensure_namespace(namespace: &str) -> Result<()> {
    if exists(namespace) {
        if run("nsenter", [&net(namespace), "true"]).is_ok() {
            return Ok(());
        }
        // A run that was killed half way leaves the name without a namespace behind it.
        run("ip", ["netns", "delete", namespace])?;
    }
    run("ip", ["netns", "add", namespace])?;
    Ok(())
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

fn has_link(namespace: &str, link: &str) -> bool {
    run("ip", ["-n", namespace, "link", "show", link]).is_ok()
}

fn net(namespace: &str) -> String {
    format!("--net=/run/netns/{namespace}")
}

fn ip(namespace: &str, args: &[&str]) -> Result<()> {
    run("ip", [&["-n", namespace], args].concat())?;
    Ok(())
}
