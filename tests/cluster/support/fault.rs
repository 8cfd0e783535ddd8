//! Faults that no Redis command can bring about.

use std::{fs, process::Command, time::Instant};

use super::{Set, node_exec};

/// Sends a signal to the Redis process of a pod; returns when.
///
/// The nodes share this machine's process table, and each process' cgroup names the UID of its pod.
pub fn signal_redis(set: &Set, pod: &str, signal: &str) -> Instant {
    let uid = set.pod_field(pod, "/metadata/uid");
    let found: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|process| belongs(*process, &uid))
        .collect();
    let [process] = found.as_slice() else { panic!("processes of redis in {pod} ({uid}): {found:?}") };
    let now = Instant::now();
    let status = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {process}");
    now
}

fn belongs(process: u32, pod_uid: &str) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    read("cgroup").contains(pod_uid) && read("comm").trim().ends_with("-server")
}

/// `kill -9` of the Redis process of a pod.
pub fn kill_redis(set: &Set, pod: &str) -> Instant {
    signal_redis(set, pod, "-KILL")
}

/// A pod whose packets are dropped, both ways; undone when dropped.
pub struct BlackHole {
    node: String,
    address: String,
}

impl BlackHole {
    /// Drops what goes to and from a pod, on its node.
    pub fn around(set: &Set, pod: &str) -> Self {
        let hole =
            Self { node: set.pod_field(pod, "/spec/nodeName"), address: set.pod_field(pod, "/status/podIP") };
        hole.iptables("-I");
        hole
    }

    fn iptables(&self, action: &str) {
        for chain in ["FORWARD", "OUTPUT"] {
            for side in ["-s", "-d"] {
                node_exec(&self.node, &["iptables", action, chain, side, &self.address, "-j", "DROP"]);
            }
        }
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.iptables("-D");
    }
}
