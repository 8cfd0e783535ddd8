//! Whether the status tells the truth about servers that go wrong, how soon, and whether they are mended.
//!
//! Each test prints how long the status took. Times begin before the command that brings the fault about, so those
//! done by `kubectl exec` hold its own start too.

use std::time::{Duration, Instant};

use operator_core::api::{
    RedisReplicaSet, RedisReplicaSetStatus,
    status::InstanceState::{
        self, Busy, Foreign, InSync, LinkDown, UnexpectedPrimary, Unreachable, WrongPrimary,
    },
};
use serde_json::{Value, json};

use crate::support::{
    BlackHole, Namespace, PATIENCE, Says, Set, Watch, field, is_ready, kill_redis, kubectl_in, list,
    signal_redis, text,
};

/// Bars of the project (`docs/evidence/figures.md`); each is for the 99th percentile, so a single run must keep them.
const PRIMARY_GONE_WITHIN: Duration = Duration::from_secs(1);
pub const ASTRAY_WITHIN: Duration = Duration::from_secs(6);
const SILENT_WITHIN: Duration = Duration::from_secs(15);

/// A set of three named `redis` with 100 keys, in a fresh namespace.
pub fn fresh(namespace: &str, spec: &Value) -> (Namespace, Set) {
    let namespace = Namespace::new(namespace);
    let set = Set::new(&namespace.0, "redis");
    set.up(spec.clone());
    assert_eq!(set.primary(), "redis-0");
    set.write_keys(100);
    (namespace, set)
}

pub fn ephemeral() -> Value {
    json!({"storage": {"ephemeral": {}}})
}

fn volumes() -> Value {
    json!({"storage": {"size": "64Mi"}})
}

fn append_only() -> Value {
    json!({"storage": {"size": "64Mi"}, "config": {"appendonly": "yes"}})
}

fn is(status: &RedisReplicaSetStatus, pod: &str, state: InstanceState) -> bool {
    status.instance(pod).is_some_and(|instance| instance.state == state)
}

pub fn seconds(took: Duration) -> f64 {
    took.as_secs_f64()
}

/// Waits until the status says something, and checks how long that took. The watch is older than what it is about: a
/// status that holds for a moment only is seen too.
pub fn says(
    set: &Set,
    watch: &Watch<RedisReplicaSet>,
    what: &str,
    since: Instant,
    within: Duration,
    wanted: impl Fn(&RedisReplicaSetStatus) -> bool,
) -> RedisReplicaSetStatus {
    let until = Instant::now() + PATIENCE;
    let mut statuses = std::iter::from_fn(|| watch.next(until).expect("the watch has ended"));
    let status = statuses.find_map(|event| event.object.status.filter(&wanted));
    let (took, status) =
        (since.elapsed(), status.unwrap_or_else(|| panic!("never: {what}\n{}", set.diagnosis())));
    println!("{what}: {:.2} s: {}", seconds(took), status.why("Ready"));
    assert!(took <= within, "{what}: took {took:?}, allowed {within:?}: {}", status.why("Ready"));
    status
}

/// Brings a fault about, and waits until the status has named it or the servers show that it is mended.
fn said_or_mended(
    set: &Set,
    what: &str,
    fault: impl FnOnce(),
    named: impl Fn(&RedisReplicaSetStatus) -> bool,
    is_mended: impl Fn() -> bool,
) {
    let watch = set.watch();
    let began = Instant::now();
    fault();
    let mut said = None;
    loop {
        let mended = is_mended().then(|| began.elapsed());
        for status in watch.seen().into_iter().filter_map(|event| event.object.status).filter(&named) {
            said.get_or_insert((began.elapsed(), status.why("Ready")));
        }
        if let Some((took, why)) = &said {
            println!("{what} was named: {:.2} s: {why}", seconds(*took));
        }
        if said.is_some() || mended.is_some() {
            break;
        }
        assert!(
            began.elapsed() <= ASTRAY_WITHIN + Duration::from_secs(2),
            "{what} is neither named nor mended\n{}",
            set.diagnosis()
        );
    }
    assert!(began.elapsed() <= ASTRAY_WITHIN, "{what}: took {:?}", began.elapsed());
    set.until(&format!("{what} is mended"), || is_mended().then_some(()));
    println!("{what} is mended: {:.2} s", seconds(began.elapsed()));
}

/// Ready by itself, with every key on every server.
pub fn heals(set: &Set, since: Instant) {
    set.wait_within("the set heals by itself", since, PATIENCE, is_ready);
    println!("Ready again: {:.1} s, primary {}", seconds(since.elapsed()), set.primary());
    for pod in 0..3 {
        set.assert_keys(&set.pod(pod), 100);
    }
}

fn follows(set: &Set, pod: &str, ordinal: i32) -> bool {
    set.try_redis(pod, "INFO replication").is_ok_and(|info| {
        field(&info, "master_host") == set.fqdn(ordinal) && field(&info, "master_link_status") == "up"
    })
}

fn restarts(set: &Set, pod: &str) -> u64 {
    let found = crate::support::get(&set.namespace, &["pod", pod]);
    found.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64).unwrap()
}

#[test]
fn a_replica_pointed_elsewhere() {
    let (_namespace, set) = fresh("truth-elsewhere", &ephemeral());
    said_or_mended(
        &set,
        "a replica that follows a stranger",
        || assert_eq!(set.redis("redis-1", "REPLICAOF 10.255.255.1 6379"), "OK"),
        |status| is(status, "redis-1", WrongPrimary),
        || follows(&set, "redis-1", 0),
    );
    heals(&set, Instant::now());
}

#[test]
fn a_chain() {
    let (_namespace, set) = fresh("truth-chain", &ephemeral());
    let command = format!("REPLICAOF {} 6379", set.fqdn(1));
    said_or_mended(
        &set,
        "a replica of a replica",
        || assert_eq!(set.redis("redis-2", &command), "OK"),
        |status| is(status, "redis-2", WrongPrimary),
        || follows(&set, "redis-2", 0),
    );
    heals(&set, Instant::now());
}

#[test]
fn a_circle_of_two_replicas() {
    let (_namespace, set) = fresh("truth-circle", &ephemeral());
    said_or_mended(
        &set,
        "two replicas of each other",
        || {
            for (pod, other) in [("redis-1", 2), ("redis-2", 1)] {
                assert_eq!(set.redis(pod, &format!("REPLICAOF {} 6379", set.fqdn(other))), "OK");
            }
        },
        |status| is(status, "redis-1", WrongPrimary) || is(status, "redis-2", WrongPrimary),
        || follows(&set, "redis-1", 0) && follows(&set, "redis-2", 0),
    );
    heals(&set, Instant::now());
}

#[test]
fn a_circle_with_the_primary_in_it() {
    let (_namespace, set) = fresh("truth-circle-primary", &ephemeral());
    let began = Instant::now();
    let command = format!("REPLICAOF {} 6379", set.fqdn(1));
    said_or_mended(
        &set,
        "a primary made a replica of its replica",
        || assert_eq!(set.redis("redis-0", &command), "OK"),
        |status| !status.is("Ready", "True") && !status.is("Available", "True"),
        || (0..3).any(|n| set.try_redis(&set.pod(n), "ROLE").is_ok_and(|role| role.starts_with("master"))),
    );
    heals(&set, began);
}

#[test]
fn two_primaries() {
    let (_namespace, set) = fresh("truth-two", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    let answers = set.redis("redis-1", "REPLICAOF NO ONE\nSET only:here 1");
    assert_eq!(answers, "OK\nOK");
    let status =
        says(&set, &watch, "a second primary with a write of its own", began, ASTRAY_WITHIN, |status| {
            is(status, "redis-1", UnexpectedPrimary) && status.is("Degraded", "True")
        });
    assert!(!status.is("Ready", "True"));
    assert!(status.why("Degraded").contains("redis-1"), "{}", status.why("Degraded"));
    // It may hold the only copy of a write: nobody takes it away before a person has looked.
    assert_eq!(set.redis("redis-1", "GET only:here"), "1");

    // The remedy that the condition names.
    let began = Instant::now();
    kubectl_in(&set.namespace, &["delete", "pod", "redis-1"]);
    set.wait_within("the restarted server follows again", began, PATIENCE, |found| {
        is_ready(found) && found.status.as_ref().is_some_and(|status| is(status, "redis-1", InSync))
    });
    heals(&set, began);
    assert_eq!(set.redis("redis-1", "GET only:here"), "");
}

#[test]
fn a_second_primary_without_a_write() {
    let (_namespace, set) = fresh("truth-two-idle", &ephemeral());
    said_or_mended(
        &set,
        "a second primary without a write",
        || assert_eq!(set.redis("redis-2", "REPLICAOF NO ONE"), "OK"),
        |status| is(status, "redis-2", UnexpectedPrimary),
        || follows(&set, "redis-2", 0),
    );
    heals(&set, Instant::now());
}

/// Kills the primary's process: the pod stays, and its container comes back within a second or so.
fn the_primarys_process_is_killed(namespace: &str, spec: &Value) {
    let (_namespace, set) = fresh(namespace, spec);
    let watch = set.watch();
    set.until("the watch has begun", || (!watch.seen().is_empty()).then_some(()));
    let began = kill_redis(&set, "redis-0");
    let took = loop {
        let event = watch.next(began + Duration::from_secs(10)).expect("the API server went away");
        let Some(event) = event else { panic!("the status says nothing of it\n{}", set.diagnosis()) };
        if event.object.status.is_some_and(|status| !status.is("Ready", "True")) {
            break began.elapsed();
        }
    };
    println!("primary killed, Ready is no longer True: {:.3} s", seconds(took));
    set.wait("somebody serves again", began, |status| status.is("Available", "True"));
    println!("a primary serves again: {:.1} s", seconds(began.elapsed()));
    heals(&set, began);
    assert!(took <= PRIMARY_GONE_WITHIN, "took {took:?}");
}

#[test]
fn the_primarys_process_is_killed_with_volumes() {
    the_primarys_process_is_killed("truth-kill-volumes", &volumes());
}

/// Append-only files give a restarted server a history of its own, which compares with nobody's.
#[test]
fn the_primarys_process_is_killed_with_append_only_files() {
    the_primarys_process_is_killed("truth-kill-append-only", &append_only());
}

/// What the primary had in memory is gone: an empty server comes back, and must not wipe the others.
#[test]
fn the_primarys_process_is_killed_with_ephemeral_storage() {
    the_primarys_process_is_killed("truth-kill-ephemeral", &ephemeral());
}

#[test]
fn a_replicas_process_is_killed() {
    let (_namespace, set) = fresh("truth-kill-replica", &ephemeral());
    let watch = set.begun_watch();
    let began = kill_redis(&set, "redis-2");
    says(&set, &watch, "a killed replica", began, ASTRAY_WITHIN, |status| !is(status, "redis-2", InSync));
    assert!(set.status().is("Available", "True"));
    heals(&set, began);
    assert_eq!(set.primary(), "redis-0");
}

#[test]
fn a_replica_in_a_black_hole() {
    let (_namespace, set) = fresh("truth-hole-replica", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    let hole = BlackHole::around(&set, "redis-2");
    let status = says(&set, &watch, "a replica in a black hole", began, SILENT_WITHIN, |status| {
        is(status, "redis-2", Unreachable) && status.is("Ready", "Unknown")
    });
    assert!(status.is("Available", "True"), "the primary serves: {}", status.why("Available"));
    drop(hole);
    heals(&set, Instant::now());
}

#[test]
fn the_primary_in_a_black_hole() {
    let (_namespace, set) = fresh("truth-hole-primary", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    let hole = BlackHole::around(&set, "redis-0");
    let status = says(&set, &watch, "the primary in a black hole", began, SILENT_WITHIN, |status| {
        is(status, "redis-0", Unreachable) && !status.is("Ready", "True") && !status.is("Available", "True")
    });
    assert_eq!(status.primary.unwrap().epoch, 1);
    // It may still serve somebody: nobody is promoted beside it. Both replicas notice that their link is down.
    set.until("a replica's link is down", || {
        let info = set.info("redis-1");
        (field(&info, "master_link_status") == "down" || field(&info, "master_last_io_seconds_ago") > "15")
            .then_some(())
    });
    for pod in ["redis-1", "redis-2"] {
        assert_eq!(field(&set.info(pod), "role"), "slave", "{pod}");
    }
    assert_eq!(set.status().primary.unwrap().epoch, 1);
    drop(hole);
    heals(&set, Instant::now());
    assert_eq!(set.primary(), "redis-0");
}

#[test]
fn a_frozen_server() {
    let (_namespace, set) = fresh("truth-frozen", &ephemeral());
    let watch = set.begun_watch();
    let began = signal_redis(&set, "redis-1", "-STOP");
    says(&set, &watch, "a frozen replica", began, SILENT_WITHIN, |status| {
        is(status, "redis-1", Unreachable) && !status.is("Ready", "True")
    });
    let began = signal_redis(&set, "redis-1", "-CONT");
    heals(&set, began);
    assert_eq!(restarts(&set, "redis-1"), 0);
}

#[test]
fn a_server_that_runs_a_script_is_busy_and_not_restarted() {
    let (_namespace, set) = fresh("truth-busy", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let script = scope.spawn(|| set.redis("redis-1", "EVAL \"while true do end\" 0"));
        // The first five seconds of a script are silence.
        says(&set, &watch, "a busy replica", began, SILENT_WITHIN, |status| {
            is(status, "redis-1", Busy) && !status.is("Ready", "True")
        });
        assert_eq!(set.redis("redis-1", "SCRIPT KILL"), "OK");
        assert!(script.join().unwrap().contains("killed"), "the script was to be killed");
    });
    heals(&set, Instant::now());
    assert_eq!(restarts(&set, "redis-1"), 0);
}

#[test]
fn a_server_with_another_password_gets_its_own_back() {
    let (_namespace, set) = fresh("truth-password", &ephemeral());
    let began = Instant::now();
    assert_eq!(set.redis("redis-1", "CONFIG SET requirepass another"), "OK");
    // The operator and the replicas have users of their own, which do not care.
    set.until("the set's password is taken again", || {
        set.try_redis("redis-1", "PING").is_ok_and(|said| said == "PONG").then_some(())
    });
    println!("another password: set back after {:.1} s", seconds(began.elapsed()));
    set.until("an Event tells of it", || {
        let events = list(&set.namespace, &["events.events.k8s.io"]);
        events.iter().any(|event| text(event, "/reason") == "UserDrift").then_some(())
    });
    heals(&set, began);
}

#[test]
fn a_link_that_cannot_come_back() {
    let (_namespace, set) = fresh("truth-link", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    assert_eq!(set.redis("redis-2", "CONFIG SET masterauth another"), "OK");
    set.redis("redis-0", "CLIENT KILL TYPE replica");
    says(&set, &watch, "a link that is down", began, ASTRAY_WITHIN, |status| {
        is(status, "redis-2", LinkDown) && status.is("Ready", "False")
    });
    // The operator sets it back with the next order to follow.
    heals(&set, Instant::now());
}

#[test]
fn a_server_that_calls_itself_otherwise() {
    let (_namespace, set) = fresh("truth-foreign", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    assert_eq!(set.redis("redis-2", "CONFIG SET replica-announce-ip stranger.example"), "OK");
    set.redis("redis-0", "CLIENT KILL TYPE replica");
    says(&set, &watch, "a server of another name", began, ASTRAY_WITHIN, |status| {
        is(status, "redis-2", Foreign) && status.is("Degraded", "True") && !status.is("Ready", "True")
    });
    assert_eq!(set.redis("redis-2", &format!("CONFIG SET replica-announce-ip {}", set.fqdn(2))), "OK");
    set.redis("redis-0", "CLIENT KILL TYPE replica");
    heals(&set, Instant::now());
}

#[test]
fn a_deleted_replica_comes_back_verified() {
    let (_namespace, set) = fresh("truth-pod-replica", &ephemeral());
    let watch = set.begun_watch();
    let began = Instant::now();
    let uid = set.pod_field("redis-1", "/metadata/uid");
    kubectl_in(&set.namespace, &["delete", "pod", "redis-1", "--wait=false"]);
    says(&set, &watch, "a deleted replica", began, ASTRAY_WITHIN, |status| !status.is("Ready", "True"));
    heals(&set, began);
    assert_ne!(set.pod_field("redis-1", "/metadata/uid"), uid);
}

#[test]
fn the_primarys_pod_is_deleted() {
    for (namespace, spec) in [
        ("truth-pod-volumes", volumes()),
        ("truth-pod-append-only", append_only()),
        ("truth-pod-ephemeral", ephemeral()),
    ] {
        let (_namespace, set) = fresh(namespace, &spec);
        let watch = set.begun_watch();
        let began = Instant::now();
        kubectl_in(&set.namespace, &["delete", "pod", "redis-0", "--wait=false"]);
        says(&set, &watch, "a deleted primary", began, ASTRAY_WITHIN, |status| !status.is("Ready", "True"));
        set.wait("somebody serves again", began, |status| status.is("Available", "True"));
        println!("{namespace}: a primary serves again: {:.1} s", seconds(began.elapsed()));
        heals(&set, began);
    }
}

#[test]
fn all_pods_are_deleted_at_once() {
    let (_namespace, set) = fresh("truth-all-pods", &volumes());
    let watch = set.begun_watch();
    let began = Instant::now();
    kubectl_in(&set.namespace, &["delete", "pods", "-l", "app.kubernetes.io/instance=redis", "--wait=false"]);
    says(&set, &watch, "all pods deleted", began, ASTRAY_WITHIN, |status| !status.is("Ready", "True"));
    heals(&set, began);
}

#[test]
fn all_processes_are_killed_at_once() {
    let (_namespace, set) = fresh("truth-all-killed", &volumes());
    // What is on no disk would be lost with all processes.
    for pod in 0..3 {
        assert_eq!(set.redis(&set.pod(pod), "SAVE"), "OK");
    }
    let watch = set.begun_watch();
    let began = Instant::now();
    for pod in 0..3 {
        kill_redis(&set, &set.pod(pod));
    }
    says(&set, &watch, "all processes killed", began, ASTRAY_WITHIN, |status| !status.is("Ready", "True"));
    heals(&set, began);
}
