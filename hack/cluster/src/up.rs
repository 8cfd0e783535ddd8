//! Brings the cluster up, step by step. Every step may be repeated, so a run that was interrupted is simply run
//! again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::{output, output_with_input, run};
use crate::image::catalogue::{BASE, Image};
use crate::image::load::on_all_nodes;
use crate::kubeconfig::kubectl;
use crate::layout::{Layout, of_node};
use crate::template::fill;
use crate::tools::{self, COREDNS, KUBERNETES, LOCAL_PATH};
use crate::topology::{CLUSTER_DOMAIN, DNS_SERVICE_IP, NODES, Node};
use crate::{control_plane, network, node, packages, pki, wait};

/// Brings the cluster up and waits until it is usable.
pub fn up(layout: &Layout, api_port: u16) -> Result<()> {
    let started = Instant::now();
    if !rustix::process::geteuid().is_root() {
        bail!("network namespaces and mounts need root; run this as root, for example with sudo -E");
    }
    packages::ensure()?;
    tools::ensure(&[KUBERNETES, COREDNS, LOCAL_PATH])?;
    layout.claim()?;
    pki::ensure()?;
    step("network");
    network::up()?;
    step("control plane");
    control_plane::up(layout, api_port)?;
    step("images");
    let images = BASE.into_iter().map(Image::build).collect::<Result<Vec<_>>>()?;
    step("nodes");
    on_all_nodes(|node| node::start(layout, node, &images))?;
    control_plane::wait_ready(layout)?;
    step("DNS and storage");
    apply(layout, &coredns()?)?;
    apply(layout, &local_path_provisioner()?)?;
    wait_usable(layout)?;
    println!(
        "up after {} s; export KUBECONFIG={}",
        started.elapsed().as_secs(),
        layout.kubeconfig().display()
    );
    Ok(())
}

/// Starts one node of a cluster that is up.
pub fn start_node(layout: &Layout, node: Node) -> Result<()> {
    let before = heartbeat(layout, node)?;
    let was_off = !node::runs(node)?;
    node::start(layout, node, &[])?;
    // The API may not have noticed that the node was gone, and still call it Ready.
    wait::until(&format!("a heartbeat of {}", node.name()), Duration::from_mins(1), || {
        if was_off && heartbeat(layout, node)? == before {
            bail!("none since {before}; see {}", log(layout, node));
        }
        Ok(())
    })?;
    wait_node(layout, node)
}

fn heartbeat(layout: &Layout, node: Node) -> Result<String> {
    of_ready(layout, node, "lastHeartbeatTime")
}

/// A field of the node's condition Ready.
fn of_ready(layout: &Layout, node: Node, field: &str) -> Result<String> {
    let path = format!(r#"jsonpath={{.status.conditions[?(@.type=="Ready")].{field}}}"#);
    output(&mut kubectl(&layout.kubeconfig(), &["get", "node", node.name(), "-o", &path])?)
}

fn step(name: &str) {
    println!("{name} …");
}

fn coredns() -> Result<String> {
    let image = Image::Coredns.reference()?;
    let values = [("domain", CLUSTER_DOMAIN), ("dns-ip", DNS_SERVICE_IP), ("image", &image)];
    fill(include_str!("../config/coredns.yaml"), &values)
}

fn local_path_provisioner() -> Result<String> {
    let image = Image::LocalPathProvisioner.reference()?;
    let path = |node: Node| {
        let path = of_node(node, "volumes");
        format!(r#"{{"node": "{}", "paths": ["{}"]}}"#, node.name(), path.display())
    };
    let paths = NODES.map(path).join(", ");
    fill(include_str!("../config/local-path-provisioner.yaml"), &[("image", &image), ("paths", &paths)])
}

fn apply(layout: &Layout, manifest: &str) -> Result<()> {
    // Just after its start the API server may still lack what a namespace or a role needs.
    wait::until("the API server to take a manifest", Duration::from_secs(30), || {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        output_with_input(&mut kubectl(&layout.kubeconfig(), &args)?, manifest)
    })?;
    Ok(())
}

fn wait_usable(layout: &Layout) -> Result<()> {
    for node in NODES {
        wait_node(layout, node)?;
    }
    let label = ["label", "--overwrite", "node", "node-0", "node-role.kubernetes.io/control-plane="];
    output(&mut kubectl(&layout.kubeconfig(), &label)?)?;
    for (namespace, name) in [("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner")] {
        let deployment = format!("deployment/{name}");
        let args = ["-n", namespace, "rollout", "status", "--timeout=90s", &deployment];
        let mut rollout = kubectl(&layout.kubeconfig(), &args)?;
        output(&mut rollout).with_context(|| {
            format!("{deployment} did not become ready; see: kubectl -n {namespace} describe pods")
        })?;
    }
    for node in NODES {
        wait_dns(node)?;
    }
    Ok(())
}

fn wait_node(layout: &Layout, node: Node) -> Result<()> {
    wait::until(&format!("{} to be Ready", node.name()), Duration::from_secs(90), || {
        let status = of_ready(layout, node, "status")?;
        if status == "True" {
            Ok(())
        } else {
            bail!("its condition Ready is {status:?}; see {}", log(layout, node))
        }
    })
}

fn log(layout: &Layout, node: Node) -> String {
    layout.log(&node::component(node, "kubelet")).display().to_string()
}

/// Asks the DNS Service from the node, which also shows that kube-proxy's rules are there.
fn wait_dns(node: Node) -> Result<()> {
    let net = format!("--net=/run/netns/{}", node.machine.namespace());
    let name = format!("kubernetes.default.svc.{CLUSTER_DOMAIN}");
    let server = format!("@{DNS_SERVICE_IP}");
    wait::until(&format!("DNS to answer on {}", node.name()), Duration::from_mins(1), || {
        let answer = run("nsenter", [&net, "dig", "+short", "+time=1", "+tries=1", &server, &name])?;
        if answer.trim().is_empty() {
            bail!("no address for {name}");
        }
        Ok(())
    })
}
