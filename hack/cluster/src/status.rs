//! Says what runs.

use anyhow::Result;

use crate::command::output;
use crate::kubeconfig::kubectl;
use crate::layout::Layout;
use crate::topology::NODES;
use crate::{control_plane, network, node, process};

/// Prints the components, the nodes' cables and what the API says of the nodes.
pub fn print() -> Result<()> {
    let Some(layout) = Layout::existing()? else {
        println!("no cluster on this machine");
        return Ok(());
    };
    println!("state directory: {}", layout.state().display());
    for name in control_plane::COMPONENTS {
        let state = process::running(name)?.map_or("stopped".into(), |pid| format!("process {pid}"));
        println!("{name}: {state}");
    }
    for node in NODES {
        let runs = if node::runs(node)? { "runs" } else { "stopped" };
        let cable = if network::is_joined(node.machine).unwrap_or(false) { "joined" } else { "cut off" };
        println!("{}: {runs}, {cable}", node.name());
    }
    let nodes = output(&mut kubectl(&layout.kubeconfig(), &["get", "nodes", "-o", "wide"])?);
    println!("{}", nodes.unwrap_or_else(|error| format!("the API does not answer: {error:#}")).trim_end());
    Ok(())
}
