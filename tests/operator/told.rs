//! No password in argv, environment, log, Event, status, any other object, or metric: the whole life of a set is searched for it.

use std::{os::unix::process::CommandExt as _, path::Path, process::Command};

use rig::local::told::{Secret as Told, Watch};

use super::*;

const NAMESPACE: &str = "told";

/// Random, and changed by every way of writing it down.
fn password() -> String {
    let mut random = [0_u8; 12];
    getrandom::fill(&mut random).unwrap();
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("Zq7/{random}+=%&é~")
}

async fn put(secrets: &Api<Secret>, password: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-auth"}, "stringData": {"password": password},
    });
    secrets.patch("redis-auth", &PatchParams::apply("user").force(), &Patch::Apply(&secret)).await.unwrap();
}

/// Every object of the namespace but Secrets, of whatever kind the API server has, as JSON.
fn objects(plane: &ControlPlane) -> String {
    let said = |arguments: &[&str]| {
        let output = plane.kubectl(arguments, "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let kinds = said(&["api-resources", "--verbs=list", "--namespaced", "--output=name"]);
    let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
    assert!(kinds.len() > 15, "{kinds:?}");
    let all =
        said(&["get", &kinds.join(","), "--namespace", NAMESPACE, "--output=json", "--show-managed-fields"]);
    for kind in [
        "ConfigMap",
        "Event",
        "Pod",
        "StatefulSet",
        "RedisReplicaSet",
        "PersistentVolumeClaim",
        "Service",
        "Lease",
    ] {
        assert!(all.contains(&format!("\"kind\": \"{kind}\"")), "no {kind} was read");
    }
    all
}

/// What the redis-servers logged, below the directory of their data.
fn logs_of_redis(directory: &Path) -> String {
    let volumes = fs::read_dir(directory).unwrap().flatten();
    let logs: Vec<String> =
        volumes.filter_map(|volume| fs::read_to_string(volume.path().join("log")).ok()).collect();
    assert!(logs.len() >= 3, "{}", logs.len());
    logs.concat()
}

/// OT-CONTAINER-KIT/redis-operator#1513 and #952: passwords as arguments of `redis-cli`, and in the log once a command failed.
#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_told_by_anybody() {
    let (plane, client, user) = plane(NAMESPACE).await;
    controllers(plane);
    let passwords = [password(), password()];
    let (in_argv, in_environ) = (password(), password());
    let all = passwords.iter().chain([&in_argv, &in_environ]);
    let watch = Watch::start(all.map(|password| Told::new(password)).collect());
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    put(&secrets, &passwords[0]).await;
    let kubelet = Kubelet::start_behind(client.clone(), NAMESPACE, Box::new(|_, address| address));
    let mut operator = Operator::start_asking(plane, &user, NAMESPACE, "only", &kubelet.hosts());
    let sets = Api::<RedisReplicaSet>::namespaced(client.clone(), NAMESPACE);
    apply(&sets, "redis", json!({"replicas": 3, "primary": {"failback": false}})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let primary = async || sets.get("redis").await.unwrap().status.unwrap().primary.unwrap();
    let annotate = async |annotations: Value| {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        sets.patch("redis", &PatchParams::default(), &patch).await.unwrap();
    };

    annotate(json!({"replication.redis/switchover-to": "redis-1"})).await;
    until("redis-1 is the primary", PATIENCE, async || (primary().await.pod == "redis-1").then_some(()))
        .await;
    annotate(json!({"replication.redis/switchover-to": null})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let epoch = primary().await.epoch;
    kubelet.kill_redis("redis-1");
    until("another epoch", PATIENCE, async || (primary().await.epoch > epoch).then_some(())).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    // A live change, one that is refused, and what somebody changed by hand.
    apply(
        &sets,
        "redis",
        json!({"replicas": 3, "primary": {"failback": false}, "config": {"hz": "20", "loglevel": "no"}}),
    )
    .await;
    wait_for(&sets, "redis", "SpecValid=False DirectiveRefused").await;
    apply(&sets, "redis", json!({"replicas": 3, "primary": {"failback": false}, "config": {"hz": "20"}}))
        .await;
    let hand =
        |name: &str, value: &str| kubelet.command::<()>("redis-2", &["CONFIG", "SET", name, value]).unwrap();
    hand("hz", "30");
    hand("masterauth", &in_argv);
    wait_for(&sets, "redis", "SpecValid=True Valid").await;

    // Another password, and another operator in the middle of the change.
    put(&secrets, &passwords[1]).await;
    annotate(json!({"example.com/look": "again"})).await;
    wait_for(&sets, "redis", "CredentialsCurrent=False Rotating").await;
    operator.kill();
    let second = Operator::start_asking(plane, &user, NAMESPACE, "second", &kubelet.hosts());
    until("it leads", PATIENCE, async || second.leads().then_some(())).await;
    until("each server takes the new one", PATIENCE, async || {
        let takes = |pod| kubelet.login(pod, "default", &passwords[1]).is_ok();
        ["redis-0", "redis-1", "redis-2"].into_iter().all(takes).then_some(())
    })
    .await;
    put(&secrets, &passwords[0]).await;
    annotate(json!({"example.com/look": "once more"})).await;
    wait_for(&sets, "redis", "Ready=True Verified").await;
    let internal = secrets.get("redis-internal").await.unwrap().data.unwrap();
    let own = ["operator-password", "replica-password", "agent-password"]
        .map(|key| String::from_utf8(internal[key].0.clone()).unwrap());

    let mut told = BTreeSet::new();
    let texts = [
        ("the log of the first operator", operator.log()),
        ("the log of the second operator", second.log()),
        ("the metrics", second.get("/metrics").unwrap().1),
        ("an object", objects(plane)),
        ("the log of a Redis", logs_of_redis(kubelet.hosts().parent().unwrap())),
    ];
    for (place, text) in &texts {
        assert!(text.len() > 500, "{place} was not read: {text}");
        for password in passwords.iter().chain([&in_argv]).chain(&own) {
            let secret = Told::new(password);
            told.extend(secret.found_in(text).map(|form| format!("{place}: {form}")));
            // The control: in this very text it would be found.
            for (_, form) in secret.forms() {
                assert!(secret.found_in(&format!("{text}{form}")).is_some());
            }
        }
    }
    assert_eq!(told, BTreeSet::new(), "a password was told");

    // The control of the watch: what is planted for a moment is found.
    let planted =
        Command::new("sleep").args(["0.5", "0"]).arg0(&in_argv).env("PLANTED", &in_environ).status();
    assert!(planted.unwrap().success());
    let seen = watch.end();
    for program in ["redis-operator", "redis-server", "kube-apiserver", "kube-controller", "etcd"] {
        let is_program = |seen: &String| seen.starts_with(program);
        assert!(seen.programs.iter().any(is_program), "{program} was not looked at: {:?}", seen.programs);
    }
    let expected = ["cmdline of sleep: secret 2 as it is", "environ of sleep: secret 3 as it is"];
    assert_eq!(seen.told, expected.map(str::to_owned).into(), "in a process");
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    println!("{bytes} bytes of five kinds of text, and the processes {:?}", seen.programs);
    assert_nothing_was_forbidden(plane, &user);
}
