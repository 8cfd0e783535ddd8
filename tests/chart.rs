//! The two install forms, chart and kustomize, as the real tools render them.
//!
//! Needs `helm` and `kubectl` (environment HELM and KUBECTL, else from PATH). No cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test; clippy.toml excuses only the #[test] functions themselves"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

const CHART: &str = "charts/redis-operator";
const CRD: &str = "crds/redisreplicasets.replication.redis.yaml";

/// A release of Kubernetes that the chart allows; a helm built from source without its release flags assumes 1.20.
const KUBE_VERSION: &str = "1.35.0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

fn run(variable: &str, default: &str, args: &[&str]) -> Output {
    let program = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
    Command::new(&program).args(args).current_dir(root()).output().unwrap_or_else(|e| {
        panic!(
            "cannot run {}: {e}. Set {variable} to a {default} binary; `cargo run -q -p cluster -- tools --path \
             {default}` prints the path of the one that the local cluster uses.",
            program.display()
        )
    })
}

fn stdout(what: &str, output: &Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn helm_template(values: &[&str]) -> Output {
    let mut args =
        vec!["template", "redis-operator", CHART, "--namespace", "ops", "--kube-version", KUBE_VERSION];
    for value in values {
        // A list can be empty only as JSON.
        args.extend([if value.ends_with("=[]") { "--set-json" } else { "--set" }, value]);
    }
    run("HELM", "helm", &args)
}

fn chart(values: &[&str]) -> Vec<Value> {
    documents(&stdout("helm template", &helm_template(values)))
}

fn kustomized() -> Vec<Value> {
    documents(&stdout("kubectl kustomize", &run("KUBECTL", "kubectl", &["kustomize", "config/"])))
}

fn kinds(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().filter_map(|object| object["kind"].as_str()).collect()
}

fn one<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .collect();
    assert_eq!(found.len(), 1, "objects of kind {kind} named {name}");
    found[0]
}

fn operator(objects: &[Value]) -> &Value {
    one(objects, "Deployment", "redis-operator")
}

/// Every (API group, resource, resource name, verb) that a role grants: the order in the file means nothing.
fn grants(role: &Value) -> BTreeSet<[String; 4]> {
    let strings = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let mut grants = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut names = strings(rule, "resourceNames");
        if names.is_empty() {
            names.push(String::new());
        }
        for group in strings(rule, "apiGroups") {
            for resource in strings(rule, "resources") {
                for name in &names {
                    for verb in strings(rule, "verbs") {
                        grants.insert([group.clone(), resource.clone(), name.clone(), verb]);
                    }
                }
            }
        }
    }
    assert!(!grants.is_empty());
    grants
}

/// Where a pod spec falls short of the Pod Security level "restricted", or of a read-only root file system.
fn shortfalls(pod: &Value) -> Vec<String> {
    let mut shortfalls = Vec::new();
    let mut want = |holds: bool, what: String| {
        if !holds {
            shortfalls.push(what);
        }
    };
    let context = &pod["securityContext"];
    want(context["runAsNonRoot"] == true, "runAsNonRoot".into());
    want(context["runAsUser"].as_i64().is_some_and(|uid| uid > 0), "runAsUser".into());
    want(context["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile".into());
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
        want(pod[field].is_null(), format!("{field} is not expected in the operator's pod"));
    }
    for container in pod["containers"].as_array().unwrap() {
        let name = &container["name"];
        let context = &container["securityContext"];
        want(context["allowPrivilegeEscalation"] == false, format!("{name}: allowPrivilegeEscalation"));
        want(context["readOnlyRootFilesystem"] == true, format!("{name}: readOnlyRootFilesystem"));
        want(context["capabilities"] == json!({"drop": ["ALL"]}), format!("{name}: capabilities"));
        want(context["privileged"].is_null(), format!("{name}: privileged"));
        want(container["resources"]["requests"]["memory"].is_string(), format!("{name}: requests"));
        want(container["resources"]["limits"]["memory"].is_string(), format!("{name}: limits"));
        for port in container["ports"].as_array().into_iter().flatten() {
            want(port["hostPort"].is_null(), format!("{name}: hostPort"));
        }
    }
    shortfalls
}

fn variable<'a>(deployment: &'a Value, name: &str) -> Option<&'a Value> {
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).map(|variable| &variable["value"])
}

#[test]
fn chart_passes_lint() {
    stdout("helm lint", &run("HELM", "helm", &["lint", "--strict", CHART]));
}

#[test]
fn chart_kustomization_and_package_have_one_version() {
    let chart: Value = serde_saphyr::from_str(&read("charts/redis-operator/Chart.yaml")).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&read("config/kustomization.yaml")).unwrap();
    for version in [&chart["version"], &chart["appVersion"], &kustomization["images"][0]["newTag"]] {
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn cluster_scope_is_the_default() {
    let objects = chart(&[]);
    let expected = BTreeSet::from([
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Deployment",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
    ]);
    assert_eq!(kinds(&objects), expected);
    assert_eq!(variable(operator(&objects), "WATCH_NAMESPACE"), None);
}

#[test]
fn namespace_scope_grants_the_same_rules_inside_one_namespace() {
    let objects = chart(&["scope=namespace"]);
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.starts_with("ClusterRole"), "{kind} in namespaced mode");
        if kind != "CustomResourceDefinition" {
            assert_eq!(object["metadata"]["namespace"], "ops", "{kind}");
        }
    }
    let role = one(&objects, "Role", "redis-operator");
    // Nodes belong to no namespace: a Role cannot grant them.
    let mut everywhere = grants(one(&chart(&[]), "ClusterRole", "redis-operator"));
    everywhere.retain(|[_, resource, ..]| resource != "nodes");
    assert_eq!(grants(role), everywhere);
    assert_eq!(variable(operator(&objects), "WATCH_NAMESPACE"), Some(&json!("ops")));
}

#[test]
fn every_binding_binds_a_rendered_role_to_the_operators_account() {
    for objects in [chart(&[]), chart(&["scope=namespace"]), kustomized()] {
        let account = &operator(&objects)["spec"]["template"]["spec"]["serviceAccountName"];
        let namespace = &operator(&objects)["metadata"]["namespace"];
        let is_binding =
            |object: &&Value| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding"));
        let bindings: Vec<_> = objects.iter().filter(is_binding).collect();
        assert_eq!(bindings.len(), 2);
        for binding in bindings {
            let role = &binding["roleRef"];
            one(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
            let subjects = json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
            assert_eq!(binding["subjects"], subjects);
        }
        one(&objects, "ServiceAccount", account.as_str().unwrap());
    }
}

#[test]
fn both_install_forms_grant_the_same() {
    let (chart, kustomized) = (chart(&[]), kustomized());
    for (kind, name) in [("ClusterRole", "redis-operator"), ("Role", "redis-operator-lease")] {
        assert_eq!(grants(one(&chart, kind, name)), grants(one(&kustomized, kind, name)), "{kind} {name}");
    }
}

#[test]
fn rights_are_named_one_by_one() {
    for objects in [chart(&[]), chart(&["scope=namespace"]), kustomized()] {
        let roles = objects.iter().filter(|o| o["kind"] == "Role" || o["kind"] == "ClusterRole");
        for [group, resource, name, verb] in roles.flat_map(grants) {
            let wildcard = [&group, &resource, &name, &verb].iter().any(|part| part.contains('*'));
            assert!(!wildcard, "{group}/{resource} {verb}");
            if resource == "secrets" {
                assert!(["get", "create", "update"].contains(&verb.as_str()), "{verb} secrets");
            }
        }
    }
}

#[test]
fn both_install_forms_run_the_same_pod() {
    let (chart, kustomized) = (chart(&[]), kustomized());
    let (chart, kustomized) = (&operator(&chart)["spec"], &operator(&kustomized)["spec"]);
    assert_eq!(chart["replicas"], kustomized["replicas"]);
    let (chart, kustomized) = (&chart["template"]["spec"], &kustomized["template"]["spec"]);
    assert_eq!(chart["securityContext"], kustomized["securityContext"]);
    let (chart, kustomized) = (&chart["containers"][0], &kustomized["containers"][0]);
    for field in ["args", "image", "livenessProbe", "readinessProbe", "ports", "resources", "securityContext"]
    {
        assert!(!chart[field].is_null(), "{field}");
        assert_eq!(chart[field], kustomized[field], "{field}");
    }
}

#[test]
fn the_agent_comes_from_the_operators_image() {
    for objects in [chart(&["image.repository=other", "image.tag=v1"]), kustomized()] {
        let image = &operator(&objects)["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(variable(operator(&objects), "AGENT_IMAGE"), Some(image));
    }
}

/// Whether a pod with these labels is one that the selector chooses.
fn chooses(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value)
}

/// The `NetworkPolicy` of each set lets the operator in by its labels: by those that its pods really have.
#[test]
fn the_policies_of_sets_let_the_operator_in() {
    let ours = json!({"matchLabels": operator_core::labels::of_operator()});
    for objects in [
        chart(&[]),
        // Labels of the user's own take none away.
        chart(&["podLabels.app\\.kubernetes\\.io/component=other", "podLabels.a=b"]),
        chart(&["scope=namespace"]),
        kustomized(),
    ] {
        let deployment = operator(&objects);
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert!(chooses(&ours, labels), "{labels}");
        let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        let namespace = variables.iter().find(|variable| variable["name"] == "POD_NAMESPACE").unwrap();
        assert_eq!(namespace["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace");
    }
}

#[test]
fn the_operators_port_is_open_to_whom_is_named_alone() {
    let peers = |policy: &Value| -> Vec<Value> {
        let rules = policy["spec"]["ingress"].as_array().cloned().unwrap_or_default();
        for rule in &rules {
            assert_eq!(rule["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
            assert!(
                rule["from"].as_array().is_some_and(|from| !from.is_empty()),
                "open to everybody: {rule}"
            );
        }
        rules.iter().flat_map(|rule| rule["from"].as_array().unwrap().clone()).collect()
    };
    let labelled = json!({"namespaceSelector": {"matchLabels": {"metrics": "enabled"}}});
    for objects in [chart(&[]), kustomized()] {
        let policy = one(&objects, "NetworkPolicy", "redis-operator");
        let pods = &operator(&objects)["spec"]["template"]["metadata"]["labels"];
        assert!(chooses(&policy["spec"]["podSelector"], pods), "{policy}");
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
        let peers = peers(policy);
        assert_eq!(peers[0], labelled);
        // The pod of `helm test`, which the kustomization has not.
        let test = objects.iter().find(|object| object["kind"] == "Pod");
        assert_eq!(peers.len(), 1 + usize::from(test.is_some()));
        if let Some(test) = test {
            assert!(chooses(&peers[1]["podSelector"], &test["metadata"]["labels"]), "{:?}", peers[1]);
        }
    }
    // An empty list of peers would mean everybody.
    let nobody = chart(&["metrics.networkPolicy.from=[]", "metrics.service.enabled=false"]);
    assert_eq!(peers(one(&nobody, "NetworkPolicy", "redis-operator")), Vec::<Value>::new());
}

#[test]
fn pods_are_restricted() {
    let mut seen = 0;
    for objects in [chart(&[]), kustomized()] {
        for object in &objects {
            let pod = match object["kind"].as_str() {
                Some("Deployment") => &object["spec"]["template"]["spec"],
                Some("Pod") => &object["spec"],
                _ => continue,
            };
            assert_eq!(shortfalls(pod), Vec::<String>::new(), "{}", object["metadata"]["name"]);
            seen += 1;
        }
    }
    assert_eq!(seen, 3, "the operator in both forms, and the pod of helm test");
}

#[test]
fn unknown_and_mistyped_values_are_refused() {
    let unknown = [
        "foo=1",
        "image.foo=1",
        "crds.foo=1",
        "logging.foo=1",
        "resources.foo=1",
        "resources.limits.foo=1",
        "tolerations[0].foo=1",
        "affinity.foo=1",
        "serviceAccount.foo=1",
        "metrics.foo=1",
        "metrics.service.foo=1",
        "metrics.networkPolicy.foo=1",
        "metrics.networkPolicy.from[0].foo=1",
        "test.foo=1",
    ];
    let mistyped = [
        "replicas=two",
        "scope=Namespace",
        "image.digest=v1",
        "image.pullPolicy=never",
        "logging.format=xml",
        "crds.install=1",
    ];
    for value in unknown.iter().chain(&mistyped) {
        let output = helm_template(&[value]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{value} was accepted");
        assert!(message.contains("don't meet the specifications of the schema"), "{value}: {message}");
    }
}

#[test]
fn every_value_does_something() {
    let plain = chart(&[]);
    for value in [
        "image.repository=other",
        "image.tag=other",
        "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "image.pullPolicy=Always",
        "image.pullSecrets[0]=other",
        "replicas=1",
        "scope=namespace",
        "crds.install=false",
        "clusterDomain=other",
        "dnsStaleSeconds=0",
        "logging.format=json",
        "logging.filter=debug",
        "resources.requests.cpu=1",
        "podAnnotations.other=a",
        "podLabels.other=a",
        "nodeSelector.other=a",
        "tolerations[0].operator=Exists",
        "affinity.podAffinity.other=a",
        "priorityClassName=other",
        "serviceAccount.create=false",
        "serviceAccount.name=other",
        "serviceAccount.annotations.other=a",
        "metrics.service.enabled=false",
        "metrics.service.annotations.other=a",
        "metrics.networkPolicy.enabled=false",
        "metrics.networkPolicy.from[0].ipBlock.cidr=192.0.2.0/24",
        "test.image=other",
    ] {
        assert_ne!(chart(&[value]), plain, "{value} changes nothing");
    }
}

/// As the API server would read it: `9.0` and `9` are one number, and helm and kustomize turn one into the other.
fn definition(crd: &Value) -> CustomResourceDefinition {
    serde_json::from_value(crd.clone()).unwrap()
}

#[test]
fn chart_holds_the_crd_and_keeps_it() {
    let mut crd: Value = serde_saphyr::from_str(&read(CRD)).unwrap();
    let rendered = chart(&[]);
    let rendered = one(&rendered, "CustomResourceDefinition", crd["metadata"]["name"].as_str().unwrap());
    assert_eq!(rendered["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    crd["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
    assert_eq!(definition(rendered), definition(&crd), "but for that annotation, it is the generated one");
    assert!(!kinds(&chart(&["crds.install=false"])).contains("CustomResourceDefinition"));
}

#[test]
fn kustomize_renders_the_crd_and_a_restricted_namespace() {
    let objects = kustomized();
    let crd: Value = serde_saphyr::from_str(&read(CRD)).unwrap();
    let rendered = one(&objects, "CustomResourceDefinition", crd["metadata"]["name"].as_str().unwrap());
    assert_eq!(definition(rendered), definition(&crd));
    let namespace = one(&objects, "Namespace", "redis-operator-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn lab_renders() {
    let objects =
        documents(&stdout("kubectl kustomize", &run("KUBECTL", "kubectl", &["kustomize", "config/lab"])));
    one(&objects, "Deployment", "nginx");
    one(&objects, "DaemonSet", "multitool");
    assert!(one(&objects, "Service", "nginx-clusterip")["spec"]["clusterIP"].is_null());
    assert_eq!(one(&objects, "Service", "nginx-headless")["spec"]["clusterIP"], "None");
}
