//! Enforces `NetworkPolicies`, by kube-router on each node. `up` does not: what is measured on the cluster is measured without it.

use anyhow::{Result, bail};

use crate::layout::Layout;
use crate::process::{self, Component};
use crate::tools::{self, KUBE_ROUTER};
use crate::topology::{NODES, SERVICE_CIDR};
use crate::{kubeconfig, node};

/// Starts it on each node; it ends with the node.
pub fn enforce(layout: &Layout) -> Result<()> {
    tools::ensure(&[KUBE_ROUTER])?;
    let kubeconfig = kubeconfig::write_component("admin")?;
    for node in NODES {
        if !node::runs(node)? {
            bail!("{} does not run; start it first", node.name());
        }
        let argv = vec![
            tools::arg("kube-router")?,
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={}", node.name()),
            format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            "--run-firewall=true".into(),
            "--run-router=false".into(),
            "--run-service-proxy=false".into(),
            "--enable-cni=false".into(),
            "--health-port=0".into(),
        ];
        let name = node::component(node, "kube-router");
        process::ensure(layout, &Component { name, machine: node.machine, mounts_of: None, argv }, None)?;
    }
    println!("kube-router enforces NetworkPolicies on all nodes");
    Ok(())
}
