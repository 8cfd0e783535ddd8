//! Images that not every cluster has.

use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};

use rig::{Failure, cluster::lab::Lab, machine::output};

/// What the cluster's tool calls the newer Redis.
const NEWER: &str = "redis-8";

/// The newer Redis; made and brought into the nodes where they do not have it yet.
pub async fn newer(lab: &Lab) -> Result<String, Failure> {
    let nodes = Api::<Node>::all(lab.client.clone()).list(&ListParams::default()).await?;
    let images = nodes.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let mut names = images.flat_map(|image| image.names.iter().flatten());
    if let Some(name) = names.find(|name| name.starts_with("localhost/redis:8")) {
        return Ok(name.clone());
    }
    let directory = tempfile::tempdir()?;
    let archive = directory.path().join("image.tar").to_string_lossy().into_owned();
    let tool = lab.cluster.to_string_lossy();
    let said = output(&tool, &["image", "build", NEWER, "--output", &archive])?;
    output(&tool, &["image", "load", &archive])?;
    let name = said.split_whitespace().find(|word| word.starts_with("localhost/"));
    Ok(name.ok_or("the cluster's tool does not say which image it made")?.to_owned())
}
