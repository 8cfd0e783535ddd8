//! Who gets through the `NetworkPolicies`, by a real policy engine: kube-router, beside a real kube-apiserver, on one node whose pods are
//! network namespaces. Nothing but the pods' programs is made up: what they stand for is in the API, and kube-router reads it there.
//!
//! Needs root, iptables, ipset, and `KUBE_ROUTER` in the environment (`make test-local` sets it).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use operator_core::{
    api::RedisReplicaSet,
    desired::{Stage, desired},
    labels,
    names::SetName,
    plan::plan,
    settings::Settings,
};
use rig::local::control_plane::{ControlPlane, tool};
use serde_json::{Value, json};

/// Until the engine has taken up a change.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(30);
/// Redis, and a port that no client needs.
const PORTS: [u16; 2] = [6379, 7000];

/// Set where the network namespace is the test's own.
const INSIDE: &str = "NETWORK_POLICY_INSIDE";

/// A program that is killed with this test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) {
    let output = command(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace behind the node's bridge.
struct Host {
    holder: Process,
    address: String,
    servers: Vec<Process>,
}

impl Host {
    fn new(name: &str, address: &str, gateway: &str) -> Self {
        let mut holder =
            command(&["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "network namespaces need root");
        let pid = holder.id().to_string();
        let host = Self { holder: Process(holder), address: address.to_owned(), servers: Vec::new() };
        run(&["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run(&["ip", "link", "set", name, "master", "bridge", "up"]);
        for words in [
            vec!["ip", "address", "add", address, "dev", "eth0"],
            vec!["ip", "link", "set", "eth0", "up"],
            vec!["ip", "route", "add", "default", "via", gateway],
        ] {
            let output = host.inside(&words).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        host
    }

    fn inside(&self, words: &[&str]) -> Command {
        let pid = self.holder.0.id().to_string();
        command(&[&["nsenter", "--net", "--target", &pid, "--"], words].concat())
    }

    /// Something that answers PING at this port.
    fn serve(&mut self, port: u16) {
        let port = port.to_string();
        let words = ["redis-server", "--port", &port, "--protected-mode", "no", "--save", "", "--dir", "/"];
        self.servers.push(Process(self.inside(&words).stdout(Stdio::null()).spawn().unwrap()));
    }

    fn address(&self) -> &str {
        self.address.split('/').next().unwrap()
    }

    /// Whether it gets an answer there. What is refused is refused at once.
    fn reaches(&self, address: &str, port: u16) -> bool {
        let port = port.to_string();
        let ping = self.inside(&["timeout", "2", "redis-cli", "-h", address, "-p", &port, "PING"]).output();
        ping.unwrap().stdout == b"PONG\n"
    }
}

/// One node, its pods and what is outside of the cluster.
struct Lab {
    client: Client,
    hosts: BTreeMap<&'static str, Host>,
    _engine: Process,
}

/// Everybody who tries: name, address, namespace and labels; outside of the cluster without a namespace.
fn everybody() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let set = |name: &str| json!(labels::labels(&SetName::new("lab", name)));
    let operator = json!(labels::of_operator());
    vec![
        ("redis-0", "10.77.0.10/24", "lab", set("redis")),
        ("redis-1", "10.77.0.11/24", "lab", set("redis")),
        ("another set", "10.77.0.12/24", "lab", set("other")),
        ("the operator", "10.77.0.13/24", "ops", operator.clone()),
        ("beside the operator", "10.77.0.14/24", "ops", json!({"app": "x"})),
        ("called an operator", "10.77.0.15/24", "lab", operator),
        ("shop", "10.77.0.16/24", "lab", json!({"app": "shop"})),
        ("shop elsewhere", "10.77.0.17/24", "elsewhere", json!({"app": "shop"})),
        ("nightly", "10.77.0.18/24", "reports", json!({"app": "nightly"})),
        ("hourly", "10.77.0.19/24", "reports", json!({"app": "hourly"})),
        ("prometheus", "10.77.0.20/24", "monitoring", json!({"app": "prometheus"})),
        ("outside", "192.0.2.10/24", "", Value::Null),
        ("outside, excepted", "192.0.2.200/24", "", Value::Null),
    ]
}

impl Lab {
    async fn new() -> Self {
        // All of it is in a network namespace of the test's own, which goes with it.
        for words in [
            "link set lo up",
            "link add bridge type bridge",
            "address add 10.77.0.1/24 dev bridge",
            "address add 192.0.2.1/24 dev bridge",
            "link set bridge up",
            // The API server looks for an address where its default route is.
            "route add default via 10.77.0.254",
        ] {
            run(&[&["ip"][..], &words.split(' ').collect::<Vec<_>>()].concat());
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap();
        rig::local::sets::rustls_provider();
        let plane = ControlPlane::shared();
        let client = plane.client().await;
        let spaces: Api<Namespace> = Api::all(client.clone());
        for (name, labels) in [
            ("lab", json!({})),
            ("ops", json!({})),
            ("elsewhere", json!({})),
            ("reports", json!({"team": "reports"})),
            ("monitoring", json!({"metrics": "enabled"})),
        ] {
            let object = json!({"metadata": {"name": name, "labels": labels}});
            spaces.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        }
        // Without a range of addresses for its pods, as on the project's own cluster.
        let node = json!({"metadata": {"name": "node"}});
        let nodes: Api<Node> = Api::all(client.clone());
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let address = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.77.0.1"}]}});
        nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(address)).await.unwrap();

        let mut hosts = BTreeMap::new();
        for (index, (name, address, namespace, labels)) in everybody().into_iter().enumerate() {
            let gateway = if namespace.is_empty() { "192.0.2.1" } else { "10.77.0.1" };
            let mut host = Host::new(&format!("host{index}"), address, gateway);
            match name {
                "redis-0" => PORTS.iter().for_each(|port| host.serve(*port)),
                "the operator" => host.serve(8080),
                _ => {}
            }
            if !namespace.is_empty() {
                pod(&client, namespace, &format!("pod-{index}"), host.address(), labels).await;
            }
            hosts.insert(name, host);
        }
        let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig("admin").display());
        let log = tempfile::tempfile().unwrap();
        let engine = command(&[tool("KUBE_ROUTER").to_str().unwrap()])
            .args([&kubeconfig, "--run-firewall=true", "--run-router=false", "--run-service-proxy=false"])
            .args([
                "--enable-cni=false",
                "--hostname-override=node",
                "--service-cluster-ip-range=10.0.0.0/16",
            ])
            .args(["--health-port=0"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self { client, hosts, _engine: Process(engine.unwrap()) }
    }

    /// Who reaches this port of a host, by name.
    fn who_reaches(&self, host: &str, port: u16) -> Vec<&'static str> {
        let address = self.hosts[host].address();
        let others = self.hosts.iter().filter(|(name, _)| **name != host);
        others.filter(|(_, other)| other.reaches(address, port)).map(|(name, _)| *name).collect()
    }

    /// Waits until exactly these reach the port.
    fn reach(&self, what: &str, host: &str, port: u16, wanted: &[&'static str]) {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let begun = Instant::now();
        loop {
            let found = self.who_reaches(host, port);
            if found == wanted {
                println!("{what}: port {port} of {host} after {:.1?}: {found:?}", begun.elapsed());
                return;
            }
            assert!(begun.elapsed() < TAKEN_UP_WITHIN, "{what}, port {port}: {found:?}, wanted {wanted:?}");
        }
    }

    fn all_but(&self, host: &str) -> Vec<&'static str> {
        self.hosts.keys().copied().filter(|name| *name != host).collect()
    }

    /// Makes the policy that a set with this spec has.
    async fn apply(&self, spec: &Value) {
        let policies = Api::<NetworkPolicy>::namespaced(self.client.clone(), "lab");
        match policy(spec) {
            Some(policy) => {
                let params = PatchParams::apply("test").force();
                policies.patch("redis", &params, &Patch::Apply(&policy)).await.map(|_| ()).unwrap();
            }
            None => drop(policies.delete("redis", &DeleteParams::default()).await.unwrap()),
        }
    }
}

async fn pod(client: &Client, namespace: &str, name: &str, address: &str, labels: Value) {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace);
    let pod = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "none"}]},
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let status = json!({"status": {
        "phase": "Running", "hostIP": "10.77.0.1", "hostIPs": [{"ip": "10.77.0.1"}],
        "podIP": address, "podIPs": [{"ip": address}],
    }});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

fn policy(spec: &Value) -> Option<NetworkPolicy> {
    let set: RedisReplicaSet = serde_json::from_value(json!({
        "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
        "metadata": {"name": "redis", "namespace": "lab", "uid": "u"}, "spec": {"networkPolicy": spec},
    }))
    .unwrap();
    let settings = Settings {
        cluster_domain: "cluster.local".into(),
        agent_image: "operator:1".into(),
        operator_namespace: "ops".into(),
    };
    desired(&plan(&set, &settings).unwrap(), Stage { pods: 1, disruptions: 1 }).network_policy
}

#[test]
fn who_gets_through_is_whom_the_policies_name() {
    let itself = std::env::current_exe().unwrap();
    let inside = ["inside_a_network_of_its_own", "--exact", "--ignored", "--nocapture"];
    let words = [&["unshare", "--net", itself.to_str().unwrap()][..], &inside].concat();
    let output = command(&words).env(INSIDE, "yes").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test result: ok. 1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "the other test runs it, in a network namespace of its own"]
async fn inside_a_network_of_its_own() {
    // Whoever runs all that is ignored would have the network of his machine changed.
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let lab = Lab::new().await;
    let everybody = lab.all_but("redis-0");
    let [redis, other] = PORTS;
    lab.reach("no policy", "redis-0", redis, &everybody);
    lab.reach("no policy", "redis-0", other, &everybody);

    lab.apply(&json!({})).await;
    lab.reach("the default", "redis-0", other, &[]);
    lab.reach("the default", "redis-0", redis, &everybody);

    lab.apply(&json!({"clients": [
        {"podSelector": {"matchLabels": {"app": "shop"}}},
        {"namespaceSelector": {"matchLabels": {"team": "reports"}}, "podSelector": {"matchLabels": {"app": "nightly"}}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}},
    ]}))
    .await;
    let named = ["redis-1", "the operator", "shop", "nightly", "outside"];
    lab.reach("with clients", "redis-0", redis, &named);
    lab.reach("with clients", "redis-0", other, &[]);

    lab.apply(&json!({"clients": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]})).await;
    lab.reach("a client that is not there", "redis-0", redis, &["redis-1", "the operator"]);

    // Policies add up: what one opens, another does not close.
    let own = json!({
        "metadata": {"name": "closed"}, "spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "redis"}}},
    });
    let policies = Api::<NetworkPolicy>::namespaced(lab.client.clone(), "lab");
    policies.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await.unwrap();
    lab.apply(&json!({})).await;
    lab.reach("the default beside a person's own", "redis-0", redis, &everybody);
    lab.apply(&json!({"enabled": false})).await;
    lab.reach("disabled beside a person's own", "redis-0", redis, &[]);
    policies.delete("closed", &DeleteParams::default()).await.unwrap();
    lab.reach("disabled", "redis-0", redis, &everybody);
    lab.reach("disabled", "redis-0", other, &everybody);

    // The operator's own port.
    let text = fs::read_to_string(rig::repository("config/manager/network_policy.yaml")).unwrap();
    let policy: NetworkPolicy = serde_saphyr::from_str(&text).unwrap();
    lab.reach("no policy", "the operator", 8080, &lab.all_but("the operator"));
    let policies = Api::<NetworkPolicy>::namespaced(lab.client.clone(), "ops");
    policies.create(&PostParams::default(), &policy).await.unwrap();
    lab.reach("the metrics", "the operator", 8080, &["prometheus"]);
    // The kubelet's probes.
    let address = lab.hosts["the operator"].address();
    let probe =
        command(&["timeout", "2", "redis-cli", "-h", address, "-p", "8080", "PING"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&probe.stdout), "PONG\n", "the node itself gets through");
}
