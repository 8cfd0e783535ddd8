//! The lab about headless Services, row by row, with its own names: the set `redis` in the namespace `default`, two
//! nginx Services, and a test pod on every node.
//!
//! All rows share one lab, which is made again once in a run. `docs/lab` is the same by hand.

use std::{collections::BTreeSet, sync::Once, time::Instant};

use operator_core::api::status::InstanceState;
use serde_json::{Value, json};

use crate::support::{
    Says, Set, Watch, field, get, kill_redis, kubectl, kubectl_in, kubectl_with, list, node_exec, ready,
    text, wait_until,
};

const NAMESPACE: &str = "default";
const HEADLESS: &str = "redis-headless.default.svc.cluster.local";

/// The lab, up and Ready.
fn lab() -> Set {
    static ONCE: Once = Once::new();
    let set = Set::new(NAMESPACE, "redis");
    ONCE.call_once(|| {
        ready();
        kubectl_in(NAMESPACE, &["delete", "rrs", "redis", "--ignore-not-found"]);
        wait_until("the pods of a former lab are gone", || set.pods().is_empty().then_some(()));
        kubectl_in(NAMESPACE, &["delete", "pvc", "-l", "app.kubernetes.io/instance=redis"]);
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "--overwrite", "namespace", NAMESPACE, restricted]);
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/config/lab");
        kubectl_in(NAMESPACE, &["apply", "-k", manifests]);
        set.up(json!({"replicas": 3}));
        for workload in ["deployment/nginx", "daemonset/multitool"] {
            kubectl_in(NAMESPACE, &["rollout", "status", workload, "--timeout=120s"]);
        }
    });
    set.wait_ready();
    set
}

fn pod_addresses(selector: &str) -> BTreeSet<String> {
    let pods = list(NAMESPACE, &["pods", "-l", selector]);
    pods.iter().map(|pod| text(pod, "/status/podIP")).collect()
}

/// The pods of the multitool `DaemonSet`, with their nodes.
fn multitools() -> Vec<(String, String)> {
    let pods = list(NAMESPACE, &["pods", "-l", "app=multitool"]);
    pods.iter().map(|pod| (text(pod, "/metadata/name"), text(pod, "/spec/nodeName"))).collect()
}

/// `dig +short` in a multitool pod: the answers.
fn dig_from(pod: &str, query: &[&str]) -> BTreeSet<String> {
    let args = [&["-n", NAMESPACE, "exec", pod, "--", "dig", "+short"], query].concat();
    kubectl(&args).lines().map(str::to_owned).collect()
}

fn dig(query: &[&str]) -> BTreeSet<String> {
    dig_from(&multitools()[0].0, query)
}

/// The cluster's DNS answers from its cache for some seconds after a change.
fn wait_for_answer(query: &[&str], wanted: &BTreeSet<String>) {
    let mut last = BTreeSet::new();
    let pod = multitools()[0].0.clone();
    let began = Instant::now();
    wait_until(&format!("dig {} answers {wanted:?}", query.join(" ")), || {
        last = dig_from(&pod, query);
        (last == *wanted).then_some(())
    });
    println!("dig {}: {last:?} ({:.1} s)", query.join(" "), began.elapsed().as_secs_f64());
}

fn set_of<const N: usize>(values: [String; N]) -> BTreeSet<String> {
    values.into()
}

/// When a pod became Ready, as the API server writes times: they sort as text.
fn ready_since(pod: &Value) -> String {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready" && c["status"] == "True");
    text(ready.expect("pod is not Ready"), "/lastTransitionTime")
}

#[test]
fn l01_three_nodes_are_ready() {
    ready();
    let nodes = list(NAMESPACE, &["nodes"]);
    let ready = nodes.iter().filter(|node| !ready_since(node).is_empty()).count();
    assert_eq!(ready, 3);
}

#[test]
fn l02_pods_come_in_order_and_go_in_reverse() {
    let set = lab();
    kubectl_in(NAMESPACE, &["delete", "rrs", "redis"]);
    wait_until("all pods are gone", || set.pods().is_empty().then_some(()));
    let took = set.up(json!({"replicas": 3}));
    println!("apply to Ready: {:.1} s", took.as_secs_f64());
    let created = set.pods();
    assert_eq!(created.len(), 3);
    for pair in created.windows(2) {
        let (before, after) = (ready_since(&pair[0]), text(&pair[1], "/metadata/creationTimestamp"));
        assert!(
            after >= before,
            "{} was created at {after}, its predecessor Ready at {before}",
            pair[1]["metadata"]["name"]
        );
    }

    let selector = "app.kubernetes.io/instance=redis";
    let watch: Watch<Value> = Watch::new(NAMESPACE, &["pods", "-l", selector]);
    set.patch(&json!({"replicas": 1}));
    wait_until("one pod is left", || (set.pods().len() == 1).then_some(()));
    set.wait_ready();
    let gone: Vec<String> = watch
        .seen()
        .iter()
        .filter(|event| event.type_ == "DELETED")
        .map(|event| text(&event.object, "/metadata/name"))
        .collect();
    assert_eq!(gone, ["redis-2", "redis-1"]);
    set.patch(&json!({"replicas": 3}));
    set.wait_ready();
}

#[test]
fn l03_the_headless_name_has_an_a_record_for_each_pod() {
    let set = lab();
    let addresses = pod_addresses("app.kubernetes.io/instance=redis");
    assert_eq!(addresses.len(), 3);
    let service = get(NAMESPACE, &["service", "redis-headless"]);
    assert_eq!(text(&service, "/spec/clusterIP"), "None", "{}", set.name);
    wait_for_answer(&["A", HEADLESS], &addresses);
}

#[test]
fn l04_a_pods_name_follows_it_to_its_new_address() {
    let set = lab();
    let replica = if set.primary() == "redis-2" { 1 } else { 2 };
    let (pod, name) = (set.pod(replica), set.fqdn(replica));
    let before = (set.pod_field(&pod, "/status/podIP"), set.pod_field(&pod, "/metadata/uid"));
    wait_for_answer(&["A", &name], &set_of([before.0.clone()]));
    kubectl_in(NAMESPACE, &["delete", "pod", &pod]);
    let address = wait_until("the new pod has an address", || {
        let pod = set.pods().into_iter().find(|p| text(p, "/metadata/name") == pod)?;
        let address = text(&pod, "/status/podIP");
        (text(&pod, "/metadata/uid") != before.1 && !address.is_empty()).then_some(address)
    });
    assert_ne!(address, before.0);
    wait_for_answer(&["A", &name], &set_of([address]));
    set.wait_ready();
    assert_eq!(set.status().instance(&pod).unwrap().state, InstanceState::InSync);
}

#[test]
fn l05_the_srv_record_lists_port_and_host_names() {
    let set = lab();
    let wanted: BTreeSet<String> = (0..3).map(|n| format!("6379 {}.", set.fqdn(n))).collect();
    wait_until("the SRV record lists all pods", || {
        let answers = dig(&["SRV", &format!("_redis._tcp.{HEADLESS}")]);
        // "priority weight port target"; the first two are CoreDNS' choice.
        let ports_and_names: BTreeSet<String> = answers
            .iter()
            .map(|answer| answer.splitn(3, ' ').last().unwrap_or_default().to_owned())
            .collect();
        (ports_and_names == wanted).then_some(())
    });
}

#[test]
fn l06_endpoints_of_the_stateful_set_have_host_names_and_a_deployments_have_none() {
    lab();
    let host_names = |service: &str| -> Vec<Option<String>> {
        let selector = format!("kubernetes.io/service-name={service}");
        list(NAMESPACE, &["endpointslices", "-l", &selector])
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
            .map(|endpoint| endpoint["hostname"].as_str().map(str::to_owned))
            .collect()
    };
    let mut ours = host_names("redis-headless");
    ours.sort();
    assert_eq!(ours, ["redis-0", "redis-1", "redis-2"].map(|name| Some(name.to_owned())));
    assert_eq!(host_names("nginx-headless"), vec![None; 3]);
}

#[test]
fn l07_one_virtual_address_against_all_pod_addresses() {
    lab();
    let service = get(NAMESPACE, &["service", "nginx-clusterip"]);
    wait_for_answer(
        &["A", "nginx-clusterip.default.svc.cluster.local"],
        &set_of([text(&service, "/spec/clusterIP")]),
    );
    let addresses = pod_addresses("app=nginx");
    assert_eq!(addresses.len(), 3);
    wait_for_answer(&["A", "nginx-headless.default.svc.cluster.local"], &addresses);
}

#[test]
fn l08_kube_proxy_has_rules_for_the_cluster_ip_and_none_for_headless_services() {
    lab();
    for node in ["node-0", "node-1", "node-2"] {
        let rules = node_exec(node, &["iptables-save", "-t", "nat"]);
        assert!(
            rules.contains("default/nginx-clusterip:http"),
            "{node} has no rule for nginx-clusterip:\n{rules}"
        );
        for headless in ["default/redis-headless", "default/nginx-headless"] {
            assert!(!rules.contains(headless), "{node} has rules for {headless}:\n{rules}");
        }
    }
}

#[test]
fn l09_every_node_has_a_test_pod_that_resolves_the_pods() {
    lab();
    let multitools = multitools();
    let nodes: BTreeSet<&String> = multitools.iter().map(|(_, node)| node).collect();
    assert_eq!(nodes.len(), 3, "{multitools:?}");
    let addresses = pod_addresses("app.kubernetes.io/instance=redis");
    for (pod, node) in &multitools {
        wait_until(&format!("{node} resolves {HEADLESS}"), || {
            (dig_from(pod, &["A", HEADLESS]) == addresses).then_some(())
        });
    }
}

#[test]
fn l10_the_primary_counts_two_replicas_online() {
    let set = lab();
    let info = set.info(&set.primary());
    assert_eq!(field(&info, "role"), "master");
    assert_eq!(field(&info, "connected_slaves"), "2");
    for line in ["slave0", "slave1"] {
        assert!(field(&info, line).contains("state=online"), "{info}");
    }
}

#[test]
fn l11_each_replica_follows_the_primarys_dns_name() {
    let set = lab();
    let primary = set.primary();
    let ordinal = primary.rsplit('-').next().unwrap().parse().unwrap();
    for replica in (0..3).filter(|n| *n != ordinal) {
        let info = set.info(&set.pod(replica));
        assert_eq!(field(&info, "role"), "slave");
        assert_eq!(field(&info, "master_host"), set.fqdn(ordinal));
        assert_eq!(field(&info, "master_link_status"), "up");
        assert_eq!(field(&info, "slave_read_only"), "1");
    }
    let status = set.status();
    assert_eq!(status.master_host, Some(set.fqdn(ordinal)));
}

#[test]
fn l12_a_key_written_to_the_primary_is_read_from_each_replica() {
    let set = lab();
    let answers = set.redis(&set.primary(), "SET lab:greeting hello\nWAIT 2 10000");
    assert_eq!(answers, "OK\n2");
    for pod in 0..3 {
        assert_eq!(set.redis(&set.pod(pod), "GET lab:greeting"), "hello");
    }
}

#[test]
fn l13_a_replica_refuses_writes() {
    let set = lab();
    let primary = set.primary();
    for pod in (0..3).map(|n| set.pod(n)).filter(|pod| *pod != primary) {
        let answer = set.redis(&pod, "SET lab:refused 1");
        assert!(answer.starts_with("READONLY "), "{pod} answered {answer:?}");
    }
}

#[test]
fn l14_the_start_step_says_whom_it_asked_and_whom_it_follows() {
    let set = Set::new(NAMESPACE, "redis");
    lab();
    // A pod of a set that already has a primary: the steps are those of any replica's start.
    let replica = if set.primary() == "redis-1" { "redis-2" } else { "redis-1" };
    let log = kubectl_in(NAMESPACE, &["logs", replica, "-c", "redis"]);
    let position = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in the log:\n{log}"));
    let this = position(&format!("this is {replica}.{HEADLESS}"));
    let asked = position("asked redis-");
    let serves = position(": serves as primary");
    // With mode Quorum the operator says whom it follows, and Redis says that.
    let parked = position("parked: the operator says whom this member follows");
    let told = position("REPLICAOF redis-");
    assert!(this < asked && asked < serves && serves < parked && parked < told, "{log}");
    let line = &log[told..].lines().next().unwrap();
    assert!(line.contains(&format!(".{HEADLESS}:6379 enabled")), "{line}");
}

#[test]
fn l15_replicas_announce_their_dns_names() {
    let set = lab();
    let primary = set.primary();
    let info = set.info(&primary);
    let announced: BTreeSet<String> = ["slave0", "slave1"]
        .iter()
        .filter_map(|line| field(&info, line).split(',').next()?.strip_prefix("ip=").map(str::to_owned))
        .collect();
    let wanted: BTreeSet<String> = (0..3).filter(|n| set.pod(*n) != primary).map(|n| set.fqdn(n)).collect();
    assert_eq!(announced, wanted, "{info}");
}

/// redis-cli in a test pod, over one connection to this host: what it printed.
fn redis_at(tool: &str, host: &str, commands: &str) -> Result<Vec<String>, String> {
    let template = "go-template={{.data.password | base64decode}}";
    let password = kubectl_in(NAMESPACE, &["get", "secret", "redis-auth", "-o", template]);
    // The password comes by standard input: in an argument everybody on the node could read it.
    let script =
        r#"read -r REDISCLI_AUTH && export REDISCLI_AUTH && exec redis-cli --no-auth-warning -h "$0""#;
    let args = ["-n", NAMESPACE, "exec", "-i", tool, "--", "sh", "-c", script, host];
    let printed = kubectl_with(&args, &format!("{password}\n{commands}\n"))?;
    Ok(printed.lines().map(|line| line.trim_end().to_owned()).collect())
}

/// Pods that a Service leads to.
fn behind(service: &str) -> BTreeSet<String> {
    let selector = format!("kubernetes.io/service-name={service}");
    list(NAMESPACE, &["endpointslices", "-l", &selector])
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
        .filter(|endpoint| endpoint["conditions"]["ready"] == true)
        .map(|endpoint| text(&endpoint, "/targetRef/name"))
        .collect()
}

/// Each Service by role leads to the pods that have the role, from every node, before and after the primary moved.
#[test]
fn l16_the_services_by_role_lead_to_the_primary_and_to_the_replicas() {
    let set = lab();
    for service in ["redis", "redis-replicas"] {
        let address = text(&get(NAMESPACE, &["service", service]), "/spec/clusterIP");
        wait_for_answer(&["A", &format!("{service}.{NAMESPACE}.svc.cluster.local")], &set_of([address]));
        for node in ["node-0", "node-1", "node-2"] {
            let rules = node_exec(node, &["iptables-save", "-t", "nat"]);
            assert!(
                rules.contains(&format!("{NAMESPACE}/{service}:redis")),
                "{node} has no rule for {service}"
            );
        }
    }
    for round in ["before", "after"] {
        // It may be on its way home meanwhile.
        wait_until("each Service leads to the pods of its role", || {
            let primary = set.primary();
            let replicas = (0..3).map(|n| set.pod(n)).filter(|pod| *pod != primary).collect();
            (behind("redis") == set_of([primary]) && behind("redis-replicas") == replicas).then_some(())
        });
        for (tool, node) in multitools() {
            let write = format!("ROLE\nSET lab:service {round}:{node}\nWAIT 2 10000");
            let wanted = format!("{round}:{node}");
            // A node's rules follow within seconds.
            wait_until(&format!("{node} writes through the Service, {round} the primary moved"), || {
                let said = redis_at(&tool, "redis", &write).ok()?;
                (said.first()? == "master" && said.ends_with(&["OK".to_owned(), "2".to_owned()]))
                    .then_some(())
            });
            for _ in 0..6 {
                wait_until(&format!("{node} reads through the Service, {round} the primary moved"), || {
                    let said = redis_at(&tool, "redis-replicas", "ROLE\nGET lab:service").ok()?;
                    (said.first()? == "slave" && said.last()? == &wanted).then_some(())
                });
            }
        }
        if round == "before" {
            let before = set.status().primary.unwrap();
            let killed = kill_redis(&set, &before.pod);
            set.wait("another primary was chosen", killed, |status| {
                status.primary.as_ref().is_some_and(|now| now.epoch > before.epoch)
            });
            set.wait_ready();
        }
    }
}

/// Takes the lab away again; the last of the rows by name.
#[test]
fn l99_the_lab_goes_without_a_trace() {
    let set = lab();
    kubectl_in(NAMESPACE, &["delete", "rrs", "redis"]);
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/config/lab");
    kubectl_with(&["-n", NAMESPACE, "delete", "-k", manifests, "--wait=false"], "").unwrap();
    wait_until("the garbage collector has removed every child", || {
        let kinds = "statefulset,pods,services,configmaps,poddisruptionbudgets";
        let left = list(NAMESPACE, &[kinds, "-l", "app.kubernetes.io/instance=redis"]);
        left.is_empty().then_some(())
    });
    assert!(set.pods().is_empty());
}
