//! The cluster and the operator in it.

use std::{process::Command, sync::Once};

use super::{
    command::{kubeconfig, program},
    get_opt, kubectl, kubectl_with, wait_until,
};

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "redis-operator-system";

/// Makes sure, once in a run, that the operator is installed and that both of its pods are up.
pub fn ready() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if get_opt(OPERATOR_NAMESPACE, &["deployment", "redis-operator"]).is_none() {
            install(&[]);
        }
        kubectl(&[
            "-n",
            OPERATOR_NAMESPACE,
            "rollout",
            "status",
            "deployment/redis-operator",
            "--timeout=120s",
        ]);
        wait_until("the CRD is served", || kubectl_with(&["get", "rrs", "-A"], "").ok());
    });
}

/// As the chart's README says, with the image that the cluster has.
pub fn install(more: &[&str]) {
    let namespace = format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {OPERATOR_NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
"
    );
    kubectl_with(&["apply", "-f", "-"], &namespace).unwrap();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/redis-operator");
    let values = "image.tag=dev,test.image=localhost/multitool:1";
    let args =
        ["upgrade", "--install", "redis-operator", chart, "--namespace", OPERATOR_NAMESPACE, "--set", values];
    helm(&[&args, ["--wait", "--timeout", "120s"].as_slice(), more].concat());
}

/// Runs helm, which must succeed.
pub fn helm(args: &[&str]) -> String {
    let output = Command::new(program("HELM", "helm"))
        .env("KUBECONFIG", kubeconfig())
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("cannot run helm (environment HELM): {e}"));
    assert!(output.status.success(), "helm {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command in a node's network.
pub fn node_exec(node: &str, command: &[&str]) -> String {
    cluster_tool(&[&["node", "exec", node, "--"], command].concat())
}

/// Runs the cluster's own program, which must succeed.
pub fn cluster_tool(args: &[&str]) -> String {
    let output = Command::new(program("CLUSTER", "target/debug/cluster"))
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("cannot run the cluster's program (environment CLUSTER): {e}"));
    assert!(
        output.status.success(),
        "cluster {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
