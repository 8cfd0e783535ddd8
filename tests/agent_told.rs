//! No password in what agents print, nor in the arguments or the environment of any process in a pod.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{collections::BTreeSet, fs, os::unix::process::CommandExt as _, process::Command};

use rig::local::{
    pods::{Network, fqdn, wait_until},
    told::{Secret, Watch},
};

#[test]
fn no_password_is_told_in_a_pod() {
    // Random by the process, and changed by every way of writing it down.
    let secret = |what: &str| format!("Zq7/{what}-{:08x}+\" =%&é~", std::process::id());
    let [right, wrong, planted] = ["right", "wrong", "planted"].map(secret);
    let watch = Watch::start([&right, &wrong, &planted].map(|secret| Secret::new(secret)).to_vec());
    let network = Network::new();
    let (first, second) = (network.pod(0), network.pod(1));
    for pod in [&first, &second] {
        pod.write("password", right.as_bytes());
        pod.write("redis.conf", b"loglevel debug\n");
    }
    let mut primary = first.start_and_wait(&[]);
    first.promote();
    second.members(&[0, 1]);
    let mut replica = second.start_and_wait(&[]);
    wait_until("the link is up", || second.info("master_link_status") == "up");

    let mut texts = Vec::new();
    for password in [&right, &wrong, &right] {
        second.write("password", password.as_bytes());
        for check in ["startup", "liveness", "readiness"] {
            texts.push(second.probe(check).1);
        }
        let mut hook = second.prestop(&[]);
        assert!(hook.ended().0.success());
        texts.extend([hook.log(), fs::read_to_string(second.path("log")).unwrap()]);
    }
    // A start whose peer refuses the password, and one with a file that is no configuration.
    replica.kill();
    texts.push(replica.log());
    second.write("password", wrong.as_bytes());
    let refused = second.start(&["--wait", "1"]);
    refused.logged(&format!("asked {}: password refused: WRONGPASS", fqdn(0)));
    refused.logged("starting Redis:");
    texts.push(refused.log());
    drop(refused);
    second.write("redis.conf", format!("{wrong}\n").as_bytes());
    let mut broken = second.start(&[]);
    assert_eq!(broken.ended().0.code(), Some(1));
    broken.logged("of the configuration is not `name value`");
    texts.push(broken.log());
    primary.signal("TERM");
    assert!(primary.ended().0.success());
    texts.push(primary.log());

    let bytes: usize = texts.iter().map(String::len).sum();
    assert!(bytes > 2000, "{texts:?}");
    for (name, secret) in [("right", &right), ("wrong", &wrong)] {
        let told: Vec<_> = texts.iter().filter(|text| Secret::new(secret).found_in(text).is_some()).collect();
        assert!(told.is_empty(), "the {name} one: {told:?}");
    }
    // What is planted is found.
    let sleeps = Command::new("sleep").arg("0.5").arg0(&planted).env("PLANTED", &planted).status();
    assert!(sleeps.unwrap().success());
    let seen = watch.end();
    for program in ["agent", "redis-server", "redis-cli"] {
        assert!(seen.programs.contains(program), "{program} was not looked at: {:?}", seen.programs);
    }
    let found: BTreeSet<&str> = seen.told.iter().filter_map(|told| told.split(':').next()).collect();
    assert_eq!(found, ["cmdline of sleep", "environ of sleep"].into(), "{:?}", seen.told);
    println!("{bytes} bytes, and the processes {:?}", seen.programs);
}
