//! What the operator was told at its start and every set shares.

/// Settings that shape children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Domain of the cluster's DNS, for example `cluster.local`.
    pub cluster_domain: String,
    /// The operator's own image: pods copy the agent from it.
    pub agent_image: String,
    /// Namespace of the operator's own pods, which every `NetworkPolicy` lets in.
    pub operator_namespace: String,
}
