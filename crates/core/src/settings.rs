//! What the operator was told at its start and every set shares.

/// Settings that shape children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Domain of the cluster's DNS, for example `cluster.local`.
    pub cluster_domain: String,
    /// The operator's own image: pods copy the agent from it.
    pub agent_image: String,
}
