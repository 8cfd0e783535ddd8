//! Says what runs.

use std::fmt::Write as _;

use anyhow::Result;

use crate::command::output;
use crate::kubeconfig::kubectl;
use crate::layout::Layout;
use crate::topology::NODES;
use crate::{control_plane, network, node, process};

/// The components, the nodes' cables and what the API says of the nodes.
pub fn report() -> Result<String> {
    let Some(layout) = Layout::existing()? else {
        return Ok("no cluster on this machine\n".to_owned());
    };
    let mut text = format!("state directory: {}\n", layout.state().display());
    for name in control_plane::COMPONENTS {
        let state = process::running(name)?.map_or("stopped".into(), |pid| format!("process {pid}"));
        writeln!(text, "{name}: {state}")?;
    }
    for node in NODES {
        let runs = if node::runs(node)? { "runs" } else { "stopped" };
        let cable = if network::is_joined(node.machine).unwrap_or(false) { "joined" } else { "cut off" };
        writeln!(text, "{}: {runs}, {cable}", node.name())?;
    }
    if process::running("kube-apiserver")?.is_none() {
        return Ok(text);
    }
    let nodes = output(&mut kubectl(&layout.kubeconfig(), &["get", "nodes", "-o", "wide"])?);
    text.push_str(&nodes.unwrap_or_else(|error| format!("the API does not answer: {error:#}\n")));
    Ok(text)
}
