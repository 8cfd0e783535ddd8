//! The configuration files of a node.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cgroups;
use crate::image::catalogue::PAUSE;
use crate::kubeconfig;
use crate::layout::{make_dir, of_node, pki, write};
use crate::template::fill;
use crate::topology::{CLUSTER_DOMAIN, DNS_SERVICE_IP, Node, POD_CIDR};

/// Paths of what was written.
pub struct Paths {
    /// containerd's configuration.
    pub containerd: String,
    /// The kubelet's configuration.
    pub kubelet: String,
    /// The kubelet's kubeconfig.
    pub kubelet_kubeconfig: String,
    /// kube-proxy's configuration.
    pub kube_proxy: String,
}

/// Writes all configuration of the node.
pub fn write_all(node: Node) -> Result<Paths> {
    let dir = of_node(node, "");
    make_dir(&of_node(node, "cni"))?;
    let file = |name: &str, content: String| -> Result<String> {
        let path = of_node(node, name);
        write(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let root = dir.to_string_lossy();
    let values = [("node", root.trim_end_matches('/')), ("pause", PAUSE)];
    file("cni/10-bridge.conflist", cni(node).to_string())?;
    Ok(Paths {
        containerd: file("containerd.toml", fill(include_str!("../config/containerd.toml"), &values)?)?,
        kubelet: file("kubelet.json", kubelet(node).to_string())?,
        kubelet_kubeconfig: kubeconfig::write_component(node.name())?.to_string_lossy().into_owned(),
        kube_proxy: file(
            "kube-proxy.json",
            kube_proxy(node, &kubeconfig::write_component("kube-proxy")?.to_string_lossy()).to_string(),
        )?,
    })
}

fn cni(node: Node) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "bridge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": node.pod_cidr() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn kubelet(node: Node) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": pki("ca.crt") } },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": pki(&format!("{}.crt", node.name())),
        "tlsPrivateKeyFile": pki(&format!("{}.key", node.name())),
        "clusterDomain": CLUSTER_DOMAIN,
        "clusterDNS": [DNS_SERVICE_IP],
        // The host's resolver cannot be reached from a node.
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups::root_of(node),
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": false,
        "failSwapOn": false,
        // The machine's disk is shared with much else, and an image that was removed cannot be pulled again.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Pods start as fast as the machine can.
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "eventRecordQPS": 0,
    })
}

fn kube_proxy(node: Node, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name(),
        "clusterCIDR": POD_CIDR,
        "clientConnection": { "kubeconfig": kubeconfig },
        // The connection tracking limits are the machine's, and not a namespace's to set.
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_range_and_cgroup() {
        let node = Node::named("node-1").unwrap();
        assert_eq!(cni(node)["plugins"][0]["ipam"]["ranges"], json!([[{ "subnet": "10.244.1.0/24" }]]));
        assert_eq!(kubelet(node)["cgroupRoot"], "/redis-operator-cluster/node-1");
        assert_eq!(kube_proxy(node, "k")["hostnameOverride"], "node-1");
    }

    #[test]
    fn containerd_keeps_a_node_s_images_below_the_node() {
        let text =
            fill(include_str!("../config/containerd.toml"), &[("node", "/n"), ("pause", PAUSE)]).unwrap();
        assert!(text.contains("\nroot = \"/n/containerd\"\n"));
        assert!(text.contains("\nsandbox_image = \"localhost/pause:1\"\n"));
    }
}
