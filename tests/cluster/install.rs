//! Every way of installing that the README names, one after the other, on the same cluster.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::support::{
    Namespace, OPERATOR_NAMESPACE, Set, get, get_opt, helm, install, kubectl, kubectl_in, kubectl_with, list,
    ready, text,
};

const RELEASE: &str = "redis-operator";

/// Helm, cluster-wide: `helm test` passes, an upgrade brings a changed CRD back, uninstalling keeps the CRD and every
/// set. Then kubectl alone. Then Helm for one namespace. Sets go on being served from one to the next.
#[test]
fn installs_by_helm_by_kubectl_and_for_one_namespace() {
    ready();
    let namespace = Namespace::new("install");
    let set = Set::new(&namespace.0, "kept");
    set.up(json!({"replicas": 2}));
    let password = password_of(&set);

    // The release may be of an earlier run.
    install(&[]);
    helm(&["test", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--timeout", "120s"]);
    kubectl(&[
        "patch",
        "crd",
        CRD,
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/names/shortNames"}]"#,
    ]);
    install(&[]);
    assert_eq!(
        get("default", &["crd", CRD])["spec"]["names"]["shortNames"],
        json!(["rrs"]),
        "upgraded with the chart"
    );

    helm(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "120s"]);
    let pods_before = uids(&namespace.0);
    assert_eq!(pods_before.len(), 2, "Redis goes on without the operator");
    assert!(get_opt(&namespace.0, &["rrs", "kept"]).is_some(), "the CRD and the sets are kept");

    let manifests = by_kubectl();
    roll_out();
    set.patch(&json!({"replicas": 3}));
    set.wait_ready();
    assert_eq!(
        uids(&namespace.0)[..2],
        pods_before,
        "another operator of the same version restarts no Redis"
    );
    assert_eq!(password_of(&set), password);
    // The CRD stays: with it, the sets would go.
    let kinds = "deployment,serviceaccount,service,pdb,role,rolebinding";
    kubectl_in(OPERATOR_NAMESPACE, &["delete", kinds, "-l", "app.kubernetes.io/name=redis-operator"]);
    kubectl(&["delete", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=redis-operator"]);
    drop(manifests);

    let alone = Namespace::new("install-alone");
    install_in(&alone.0, &["scope=namespace", "crds.install=false"]);
    let cluster_roles = list("default", &["clusterroles", "-l", "app.kubernetes.io/name=redis-operator"]);
    assert_eq!(cluster_roles, Vec::<Value>::new(), "one namespace needs no ClusterRole");
    Set::new(&alone.0, "inside").up(json!({"replicas": 1}));
    set.patch(&json!({"replicas": 2}));
    Set::new(&alone.0, "later").up(json!({"replicas": 1}));
    assert_eq!(uids(&namespace.0).len(), 3, "a set in another namespace is left alone");
    helm(&["uninstall", RELEASE, "--namespace", &alone.0, "--wait", "--timeout", "120s"]);

    // As the other tests expect it; the CRD goes back to the release that owns it from now on.
    kubectl(&["annotate", "crd", CRD, "--overwrite", "meta.helm.sh/release-name=redis-operator"]);
    install(&["--take-ownership"]);
    set.wait_ready();
    assert_eq!(uids(&namespace.0).len(), 2);
}

const CRD: &str = "redisreplicasets.replication.redis";

fn install_in(namespace: &str, values: &[&str]) {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/redis-operator");
    let values = format!("image.tag=dev,{}", values.join(","));
    helm(&[
        "install",
        RELEASE,
        chart,
        "--namespace",
        namespace,
        "--set",
        &values,
        "--wait",
        "--timeout",
        "120s",
    ]);
}

/// As the README says: the image's name in `config/kustomization.yaml`, then `kubectl apply -k`.
fn by_kubectl() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for part in ["config", "crds"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(part);
        assert!(Command::new("cp").arg("-r").arg(from).arg(copy.path()).status().unwrap().success());
    }
    let file = copy.path().join("config/kustomization.yaml");
    let edited = fs::read_to_string(&file).unwrap().replace("newTag: 0.1.0", "newTag: dev");
    assert!(edited.contains("newTag: dev"));
    fs::write(&file, edited).unwrap();
    let config = copy.path().join("config");
    kubectl_with(&["apply", "--server-side", "--force-conflicts", "-k", &config.display().to_string()], "")
        .unwrap();
    copy
}

fn password_of(set: &Set) -> String {
    text(&get(&set.namespace, &["secret", &format!("{}-auth", set.name)]), "/data/password")
}

fn roll_out() {
    let args = ["rollout", "status", "deployment/redis-operator", "--timeout=120s"];
    kubectl_in(OPERATOR_NAMESPACE, &args);
}

/// UIDs of a namespace's Redis pods, by name.
fn uids(namespace: &str) -> Vec<String> {
    let pods = list(namespace, &["pods", "-l", "app.kubernetes.io/managed-by=redis-operator"]);
    pods.iter().map(|pod| text(pod, "/metadata/uid")).collect()
}
