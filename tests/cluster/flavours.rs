//! Other servers than Redis 7.0: Redis 8 and Valkey 8, made from Debian's packages.

use operator_core::api::status::InstanceState::Primary;
use serde_json::json;

use crate::support::{Namespace, Set, cluster_tool, kill_redis};

/// Makes an image and brings it into the nodes; returns its name.
fn load(image: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("image.tar").display().to_string();
    let said = cluster_tool(&["image", "build", image, "--output", &archive]);
    cluster_tool(&["image", "load", &archive]);
    said.split_whitespace().find(|word| word.starts_with("localhost/")).unwrap().to_owned()
}

/// The routine upgrade: replicas first, the primary last (a newer primary would destroy older replicas, trap 3), and
/// every key is there afterwards.
#[test]
fn an_upgrade_from_redis_7_to_8_keeps_every_key() {
    let namespace = Namespace::new("upgrade");
    let set = Set::new(&namespace.0, "redis");
    set.up(json!({"storage": {"size": "64Mi"}}));
    set.write_keys(100);
    let image = load("redis-8");
    set.patch(&json!({"image": image}));
    let took = set.wait_ready();
    println!("upgrade of three pods to {image}: {:.1} s", took.as_secs_f64());
    let wanted = image.rsplit(':').next().unwrap();
    for instance in &set.status().instances {
        assert_eq!(instance.version.as_deref(), Some(wanted), "{instance:?}");
        set.assert_keys(&instance.pod, 100);
    }
}

/// Valkey from the first start: other name in INFO, other names of the programs, the same protocol.
#[test]
fn valkey_starts_is_verified_and_survives_its_primary() {
    let image = load("valkey");
    let namespace = Namespace::new("valkey");
    let set = Set::new(&namespace.0, "valkey");
    set.up(json!({"image": image}));
    let version = format!("valkey {}", image.rsplit(':').next().unwrap());
    assert!(
        set.status().instances.iter().all(|i| i.version.as_deref() == Some(&version)),
        "{:?}",
        set.status()
    );
    set.write_keys(100);
    let epoch = set.status().primary.map(|p| p.epoch);
    let died = kill_redis(&set, &set.primary());
    set.wait("another promotion is Ready", died, |status| {
        status.primary.as_ref().map(|p| p.epoch) > epoch
            && status.instances.iter().any(|i| i.state == Primary)
    });
    set.wait_ready();
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 100);
    }
}
