//! The shape of the cluster: its machines, their addresses and the ranges for Pods and Services.

use anyhow::{Result, bail};

/// Range of the nodes' own addresses; the control plane is .2, the nodes start at .10.
pub const CONTROL_PLANE_IP: &str = "10.240.0.2";
/// Range of all Pods; node N has 10.244.N.0/24.
pub const POD_CIDR: &str = "10.244.0.0/16";
/// Range of the Services' virtual addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Address of the Service `kubernetes`: always the first of the range.
pub const KUBERNETES_SERVICE_IP: &str = "10.96.0.1";
/// Address of the Service `kube-dns`, which every kubelet gives to its Pods.
pub const DNS_SERVICE_IP: &str = "10.96.0.10";
/// Domain of all cluster names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Network namespace of etcd, the API server, the controller manager and the scheduler.
pub const CONTROL_PLANE: Machine = Machine { name: "control-plane", host: 2 };
/// Network namespace with the bridge that joins all machines.
pub const SWITCH: &str = "redis-operator-switch";

/// One network namespace with an address on the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Name; also the name of the machine's port on the switch.
    pub name: &'static str,
    host: u8,
}

impl Machine {
    /// Name of its network namespace on the host.
    pub fn namespace(self) -> String {
        format!("redis-operator-{}", self.name)
    }

    /// Its address on the switch.
    pub fn ip(self) -> String {
        format!("10.240.0.{}", self.host)
    }
}

/// A Kubernetes node: one kubelet, one containerd and one kube-proxy on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    index: u8,
    /// The machine that it is.
    pub machine: Machine,
}

/// All nodes.
pub const NODES: [Node; 3] = [node(0, "node-0", 10), node(1, "node-1", 11), node(2, "node-2", 12)];

const fn node(index: u8, name: &'static str, host: u8) -> Node {
    Node { index, machine: Machine { name, host } }
}

impl Node {
    /// The node with this name.
    pub fn named(name: &str) -> Result<Self> {
        let Some(node) = NODES.into_iter().find(|node| node.name() == name) else {
            let names: Vec<_> = NODES.iter().map(|node| node.name()).collect();
            bail!("there is no node {name:?}; the nodes are {}", names.join(", "));
        };
        Ok(node)
    }

    /// Its name in Kubernetes.
    pub fn name(self) -> &'static str {
        self.machine.name
    }

    /// Range of its Pods' addresses.
    pub fn pod_cidr(self) -> String {
        format!("10.244.{}.0/24", self.index)
    }
}

/// All machines: the control plane and the nodes.
pub fn machines() -> impl Iterator<Item = Machine> {
    std::iter::once(CONTROL_PLANE).chain(NODES.into_iter().map(|node| node.machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_addresses_of_their_own() {
        let ips: std::collections::BTreeSet<_> = machines().map(Machine::ip).collect();
        assert_eq!(ips.len(), 4);
        assert!(ips.contains(CONTROL_PLANE_IP));
    }

    #[test]
    fn an_unknown_node_is_answered_with_the_known_names() {
        let error = Node::named("node-9").unwrap_err().to_string();
        assert!(error.contains("node-0, node-1, node-2"), "{error}");
    }
}
