//! INFO as seven real servers printed it (`fixtures/info/README.md` is the index).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{fs, path::Path};

use operator_core::fixtures::{answer, pod, primary, record, replica};
use operator_core::{api::status::InstanceState, observed::Observed, topology::topology};
use redis_node::{
    answer::Answer,
    info::{self, Replication},
};

/// Files by what they hold. The numbers are those of the directory: a file that no rule takes fails the test.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    replication: usize,
    server: usize,
    persistence: usize,
    memory: usize,
    errors: usize,
}

fn fixtures() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/info");
    let mut files: Vec<(String, String)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_fixture_parses() {
    let mut count = Count::default();
    for (name, text) in fixtures() {
        if name.ends_with("-info-server") {
            let server = info::parse_server(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let valkey = name.starts_with("valkey");
            assert_eq!(server.flavour == info::Flavour::Valkey, valkey, "{name}");
            // redis806 is 8.0.6, valkey91 is 9.1.2: Valkey's own version, not the one that it forked from.
            let digits: String = server.version.chars().filter(char::is_ascii_digit).collect();
            let major_minor = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            assert!(major_minor.starts_with(&digits[..2]), "{name}: {}", server.version);
            assert_eq!(server.run_id.len(), 40, "{name}");
            count.server += 1;
        } else if name.contains("persistence") {
            let persistence =
                info::parse_persistence(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(persistence.fails, name.ends_with("rdb-failed"), "{name}");
            assert!(persistence.last_save > 0, "{name}");
            assert_eq!(persistence.loading, name.ends_with("-loading-persistence"), "{name}");
            count.persistence += 1;
        } else if name.ends_with("-info-memory") {
            count.memory += 1;
        } else if name.ends_with("-primary-busy-script") {
            assert!(text.starts_with("(error) BUSY"), "{name}");
            assert_eq!(
                info::parse_replication(&text),
                Err(info::ParseError::NoSection("Replication")),
                "{name}"
            );
            count.errors += 1;
        } else {
            assert!(text.contains("\r\n"), "{name}: the bytes of the server were changed");
            let replication =
                info::parse_replication(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(replication.upstream.is_none(), text.contains("role:master\r\n"), "{name}");
            assert_eq!(replication.replid.len(), 40, "{name}");
            count.replication += 1;
        }
    }
    assert_eq!(count, Count { replication: 288, server: 7, persistence: 15, memory: 7, errors: 5 });
}

/// The set in which a fixture's server is put, so that its words meet a counterpart.
#[derive(Clone, Copy, Debug)]
enum Scene {
    /// The server is the primary of record; each replica that it lists says that all is well. What the primary
    /// is, and what its replicas are.
    Primary(InstanceState, InstanceState),
    /// The server follows the primary of record, and that one confirms it in every way.
    Replica(InstanceState),
    /// The server follows another replica, which follows the primary of record.
    BehindReplica,
    /// The server is the primary of record by the operator's decision, but follows another pod.
    PrimaryThatFollows,
    /// The server follows a replica that follows it back; neither is the primary of record.
    Circle,
    /// The server follows something that is no pod of the set.
    Astray,
}

/// What each state of the index means. Fixtures of a moment within a sync were captured with two INFO calls, so
/// the text is asked whether the sync was still on.
fn scene(state: &str, text: &str) -> Scene {
    use InstanceState::{InSync, Lagging, LinkDown, Loading, Parked, Primary, Syncing};
    let syncs = text.contains("master_sync_in_progress:1");
    let sends = ["wait_bgsave", "send_bulk", "bg_transfer"].iter().any(|state| text.contains(state));
    match state {
        "primary-loading" => Scene::Primary(Loading, InSync),
        "primary-partitioned-30s-stale-lag" => Scene::Primary(Primary, Lagging),
        "failover-waiting-for-sync" => Scene::Primary(Primary, InstanceState::Unconfirmed),
        "failover-in-progress-demoted-primary" | "failover-in-progress-target-frozen" => {
            Scene::PrimaryThatFollows
        }
        "after-failover-other-replica-chained"
        | "chained-replica-depth2"
        | "replica-of-disconnected-replica" => Scene::BehindReplica,
        "replica-cycle" => Scene::Circle,
        "replica-of-itself" | "replica-wrong-master-connection-refused" => Scene::Astray,
        "parked-empty-replica-of-nowhere" => Scene::Replica(Parked),
        "after-failover-old-primary-now-replica-with-chain"
        | "replica-up"
        | "replica-read-only-off"
        | "replica-with-chained-subreplica"
        | "replica-after-psync-to-promoted-primary" => Scene::Replica(InSync),
        "replica-partitioned-30s-still-up" => Scene::Replica(Lagging),
        "replica-midfullsync-disabled-loading-primary-alive"
        | "replica-midfullsync-disabled-loading-primary-died" => Scene::Replica(Loading),
        state if state.contains("midfullsync") => {
            Scene::Replica(if state.ends_with("-alive") { Syncing } else { LinkDown })
        }
        "replica-link-down-primary-gone"
        | "replica-unresolvable-host"
        | "replica-connecting-blackholed-host"
        | "replica-of-loading-primary"
        | "replica-auth-failed"
        | "replica-cannot-load-newer-rdb" => Scene::Replica(LinkDown),
        state if state.starts_with("sync-replica-") && state.ends_with("-load1") => Scene::Replica(Loading),
        state
            if state.starts_with("sync-replica-")
                || state.starts_with("swapdb-")
                || state.starts_with("dualchannel-") && state.ends_with("-replica") =>
        {
            Scene::Replica(if syncs { Syncing } else { InSync })
        }
        state
            if state.starts_with("primary-")
                || state.starts_with("sync-primary-")
                || state.starts_with("split-brain-")
                || state.starts_with("dualchannel-") && state.ends_with("-primary")
                || state == "after-failover-new-primary"
                || state == "failover-rolled-back-auth-missing" =>
        {
            Scene::Primary(Primary, if sends { Syncing } else { InSync })
        }
        other => panic!("no scene for {other}"),
    }
}

/// The fixture's server under a name, loading if the fixture was captured so (`persistence` is another section).
fn server(announced: &str, state: &str, replication: Replication) -> Answer {
    let mut answer = answer(announced, replication);
    // In the name of a primary's fixture, `load1` tells of its replica.
    answer.info.persistence.loading = state.ends_with("load1") && !state.contains("sync-primary-")
        || state.contains("disabled-loading")
        || state == "primary-loading";
    answer.info.persistence.async_loading = state.ends_with("async1");
    answer
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_state_is_told_apart() {
    let mut judged = 0;
    for (name, text) in fixtures() {
        let Ok(own) = info::parse_replication(&text) else { continue };
        let (_, state) = name.split_once('-').unwrap();
        // Names of the capture become names of pods: the fixture's server is redis-1 (redis-0 as a primary).
        let upstream = own.upstream.as_ref().map(|upstream| upstream.host.clone()).unwrap_or_default();
        let listed: Vec<String> = own.replicas.iter().map(|replica| replica.host.clone()).collect();
        let replid = own.replid.clone();
        let us = "us".to_owned();
        let (hosts, replications, expected): (Vec<String>, Vec<Replication>, Vec<InstanceState>) =
            match scene(state, &text) {
                Scene::Primary(primary, replicas) => {
                    let mut hosts = vec![us.clone()];
                    hosts.extend(listed);
                    hosts.dedup();
                    let follower = replica(&replid, &us);
                    let mut all = vec![own];
                    all.resize(hosts.len(), follower);
                    let mut expected = vec![primary];
                    expected.resize(hosts.len(), replicas);
                    (hosts, all, expected)
                }
                Scene::Replica(expected) => (
                    vec![upstream, us.clone()],
                    vec![primary(&replid, &[&us]), own],
                    vec![InstanceState::Primary, expected],
                ),
                Scene::BehindReplica => (
                    vec!["top".to_owned(), us, upstream.clone()],
                    vec![primary(&replid, &[&upstream]), own, replica(&replid, "top")],
                    vec![InstanceState::Primary, InstanceState::WrongPrimary, InstanceState::InSync],
                ),
                Scene::PrimaryThatFollows => (
                    vec![us.clone(), upstream],
                    vec![own, replica(&replid, &us)],
                    vec![InstanceState::WrongPrimary; 2],
                ),
                Scene::Circle => (
                    vec!["top".to_owned(), us.clone(), upstream],
                    vec![primary(&replid, &[]), own, replica(&replid, &us)],
                    vec![InstanceState::Primary, InstanceState::WrongPrimary, InstanceState::WrongPrimary],
                ),
                Scene::Astray => (
                    vec!["top".to_owned(), us],
                    vec![primary(&replid, &[]), own],
                    vec![InstanceState::Primary, InstanceState::WrongPrimary],
                ),
            };
        let pods = replications
            .into_iter()
            .zip(&hosts)
            .zip(0..)
            .map(|((replication, host), ordinal)| {
                // Only the fixture's own server was captured while it was loading.
                let captured = if host == "us" { state } else { "" };
                pod(ordinal, Ok(server(host, captured, replication)))
            })
            .collect();
        let host_of = |pod: &str| {
            let ordinal: usize = pod.strip_prefix("redis-").unwrap().parse().unwrap();
            hosts[ordinal].clone()
        };
        let judgement = topology(host_of, &record("redis-0"), &Observed { pods });
        let states: Vec<InstanceState> = judgement.instances.iter().map(|found| found.state).collect();
        assert_eq!(states, expected, "{name}: {judgement:#?}");
        for found in &judgement.instances {
            let good = matches!(found.state, InstanceState::Primary | InstanceState::InSync);
            let hands_over = state == "failover-waiting-for-sync";
            assert_eq!(found.faults.is_empty(), good && !hands_over, "{name}: {found:#?}");
        }
        judged += 1;
    }
    assert_eq!(judged, 288);
}

/// The fixtures that hold both ends of one sync, without any made-up server.
#[test]
fn both_ends_of_a_real_sync() {
    let all = fixtures();
    let mut pairs = 0;
    let mut in_sync = 0;
    for (name, text) in &all {
        let pair = if name.contains("-sync-primary-") {
            name.replace("-sync-primary-", "-sync-replica-")
        } else if name.contains("-dualchannel-sync-") && name.ends_with("-primary") {
            name.replace("-primary", "-replica")
        } else {
            continue;
        };
        let (_, other) = all.iter().find(|(name, _)| *name == pair).unwrap();
        let ours = info::parse_replication(text).unwrap();
        let theirs = info::parse_replication(other).unwrap();
        let hosts = [theirs.upstream.clone().unwrap().host, ours.replicas[0].host.clone()];
        let pods =
            vec![pod(0, Ok(server(&hosts[0], "", ours))), pod(1, Ok(server(&hosts[1], &pair, theirs)))];
        let host_of = |pod: &str| hosts[usize::from(pod == "redis-1")].clone();
        let judgement = topology(host_of, &record("redis-0"), &Observed { pods });
        assert_eq!(judgement.instances[0].state, InstanceState::Primary, "{name}");
        let state = judgement.instances[1].state;
        if other.contains("master_link_status:up") && text.contains("state=online") {
            assert_eq!(state, InstanceState::InSync, "{name}: {judgement:#?}");
            in_sync += 1;
        } else {
            assert!(matches!(state, InstanceState::Syncing | InstanceState::Loading), "{name}: {state:?}");
        }
        pairs += 1;
    }
    assert_eq!((pairs, in_sync), (29, 8));
}
