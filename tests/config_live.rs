//! Directives that are changed while Redis runs, on real redis-server processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use operator_core::fixtures::{pod, record};
use operator_core::{
    api::directives,
    election::snapshot::Snapshot,
    live_config::{AppliedConfig, Report, servers},
    observed::Observed,
    redis_conf::File,
    topology::{Verdict, topology},
};
use redis_operator::{act, redis::connection::Connection};
use rig::local::redis_server::{PASSWORD, PATIENCE, RedisServer, probe};

const DEADLINE: Duration = Duration::from_secs(2);

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Looks until all of these servers are verified; the first is the primary of record.
async fn look(set: &[&RedisServer]) -> (Snapshot, BTreeMap<String, Connection>) {
    let start = Instant::now();
    loop {
        let (mut pods, mut connections) = (Vec::new(), BTreeMap::new());
        for (server, ordinal) in set.iter().zip(0..) {
            let (answer, connection) = probe(&server.target(), DEADLINE).await.unwrap();
            connections.insert(format!("redis-{ordinal}"), connection);
            pods.push(pod(ordinal, Ok(answer)));
        }
        let observed = Observed { pods };
        let host_of = |pod: &str| {
            let ordinal: usize = pod.strip_prefix("redis-").unwrap().parse().unwrap();
            set[ordinal].address.to_string()
        };
        let topology = topology(host_of, &record("redis-0"), &observed);
        if topology.instances.iter().all(Verdict::is_verified) {
            return (Snapshot { observed, topology, ..Snapshot::default() }, connections);
        }
        assert!(start.elapsed() < PATIENCE, "{topology:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One pass over the servers.
async fn tell(set: &[&RedisServer], wanted: &BTreeMap<String, String>, told: &mut AppliedConfig) -> Report {
    let (look, mut connections) = look(set).await;
    let mut report = Report::default();
    for server in servers(&look) {
        let connection = connections.get_mut(&server.pod).unwrap();
        act::config::tell(connection, &server, wanted, told, &mut report).await.unwrap();
    }
    report
}

fn reading(server: &RedisServer, name: &str) -> String {
    let answer: Vec<String> = server.command(&["CONFIG", "GET", name]);
    answer[1].clone()
}

/// How often `CONFIG SET` was called on a server.
fn sets(server: &RedisServer) -> u64 {
    let stats: String = server.command(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_config|set:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_change_reaches_all_and_is_set_once() {
    let primary = RedisServer::start(&[]);
    let replicas = [primary.start_replica(&[]), primary.start_replica(&[])];
    let set = [&primary, &replicas[0], &replicas[1]];
    let (look, _) = look(&set).await;
    let order: Vec<String> = servers(&look).into_iter().map(|server| server.pod).collect();
    assert_eq!(order, ["redis-2", "redis-1", "redis-0"], "the primary last");

    // Each but the priority is read back in another spelling than it is written in.
    let wanted = map(&[
        ("maxmemory", "1gb"),
        ("save", "\"900 1\" 300  10"),
        ("client-output-buffer-limit", "replica 256mb 64mb 60"),
        ("notify-keyspace-events", "Ex"),
        ("slave-priority", "7"),
        ("proc-title-template", r#""{title} {listen-addr}""#),
    ]);
    let mut told = AppliedConfig::new();
    let report = tell(&set, &wanted, &mut told).await;
    assert_eq!(report, Report::default());
    for server in set {
        assert_eq!(reading(server, "maxmemory"), "1073741824");
        assert_eq!(reading(server, "save"), "900 1 300 10");
        assert!(reading(server, "client-output-buffer-limit").contains("slave 268435456 67108864 60"));
        assert_eq!(reading(server, "notify-keyspace-events"), "xE");
        assert_eq!(reading(server, "replica-priority"), "7");
        assert_eq!(sets(server), 6);
    }
    assert_eq!(tell(&set, &wanted, &mut told).await, Report::default());
    assert!(set.iter().all(|server| sets(server) == 6), "at rest nothing is set");

    // An operator that has just started knows of nobody: it tells each once more what it cannot recognise, which changes
    // nothing.
    let report = tell(&set, &wanted, &mut AppliedConfig::new()).await;
    assert_eq!(report, Report::default());
    assert!(set.iter().all(|server| sets(server) == 11));
}

#[tokio::test]
async fn what_one_refuses_no_other_is_told_and_the_rest_is_done() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    let set = [&primary, &replica];
    let wanted =
        map(&[("hz", "20"), ("maxmemory", "1gx"), ("nonsense", "1"), ("databases", "32"), ("timeout", "7")]);
    let mut told = AppliedConfig::new();
    let report = tell(&set, &wanted, &mut told).await;
    let refused: Vec<(&str, &str)> =
        report.refused.iter().map(|refused| (refused.name.as_str(), refused.pod.as_str())).collect();
    assert_eq!(refused, [("nonsense", "redis-1"), ("maxmemory", "redis-1")], "{report:?}");
    for refused in &report.refused {
        assert!(refused.words.starts_with("ERR ") && refused.words.contains(&refused.name), "{refused:?}");
        assert!(refused.words.len() < 210 && !refused.words.contains(PASSWORD));
    }
    assert_eq!(report.start_only, ["databases".to_owned()].into());
    for server in set {
        assert_eq!((reading(server, "hz"), reading(server, "timeout")), ("20".to_owned(), "7".to_owned()));
        assert_eq!(reading(server, "maxmemory"), "0");
    }
    assert_eq!(
        (sets(&replica), sets(&primary)),
        (5, 2),
        "the primary was not offered what the replica refused"
    );

    // A replica that may not be told keeps the primary from being told first.
    let () = replica.command(&["ACL", "SETUSER", "default", "-config|set"]);
    let report = tell(&set, &map(&[("hz", "30")]), &mut told).await;
    assert!(report.refused[0].words.starts_with("NOPERM "), "{report:?}");
    assert_eq!(reading(&primary, "hz"), "20");
}

#[tokio::test]
async fn what_somebody_changed_is_set_back_and_told_of() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    let set = [&primary, &replica];
    let wanted =
        map(&[("client-output-buffer-limit", "replica 256mb 64mb 60"), ("maxmemory", "1gb"), ("save", "")]);
    let mut told = AppliedConfig::new();
    tell(&set, &wanted, &mut told).await;
    let () = primary.command(&["CONFIG", "SET", "maxmemory", "5mb"]);
    // Not what the spec speaks of: another class of clients.
    let () = replica.command(&["CONFIG", "SET", "client-output-buffer-limit", "normal 9000000 0 0"]);
    let report = tell(&set, &wanted, &mut told).await;
    let found: Vec<(&str, &str, &str, &str)> = report
        .repaired
        .iter()
        .map(|r| (r.pod.as_str(), r.name.as_str(), r.readings.0.as_str(), r.readings.1.as_str()))
        .collect();
    assert_eq!(found, [("redis-0", "maxmemory", "5242880", "1073741824")]);
    assert_eq!(reading(&primary, "maxmemory"), "1073741824");
    assert!(reading(&replica, "client-output-buffer-limit").starts_with("normal 9000000 0 0 "));
    let before = (sets(&primary), sets(&replica));
    assert_eq!(tell(&set, &wanted, &mut told).await, Report::default());
    assert_eq!((sets(&primary), sets(&replica)), before, "it is told of once");
}

#[tokio::test]
async fn a_restart_keeps_it() {
    let mut primary = RedisServer::start(&[]);
    let user =
        map(&[("maxmemory", "1gb"), ("save", ""), ("databases", "32"), ("maxmemory-policy", "allkeys-lru")]);
    let file = File::first(&user);
    let mut told = AppliedConfig::new();
    tell(&[&primary], &file.live(), &mut told).await;
    assert_eq!(reading(&primary, "databases"), "16", "only a start changes that");

    let before = map(&["maxmemory", "save", "maxmemory-policy"].map(|name| (name, "")));
    let readings =
        |server: &RedisServer| -> Vec<String> { before.keys().map(|name| reading(server, name)).collect() };
    let live = readings(&primary);
    let text = file.text();
    primary.restart(&text.lines().collect::<Vec<_>>());
    assert_eq!(readings(&primary), live, "the file says what was set");
    assert_eq!(reading(&primary, "databases"), "32");
    let report = tell(&[&primary], &file.live(), &mut told).await;
    assert_eq!((report, readings(&primary), told.len()), (Report::default(), live, 2));
}

/// The operator's idea of what can be changed while this Redis runs is the server's own.
#[tokio::test]
async fn every_directive_of_this_redis_is_known_for_what_it_is() {
    let server = RedisServer::start(&[]);
    let (_, mut connection) = probe(&server.target(), DEADLINE).await.unwrap();
    let all: Vec<String> = server.command(&["CONFIG", "GET", "*"]);
    let mut live = 0;
    for pair in all.chunks(2) {
        let (name, value) = (pair[0].as_str(), pair[1].as_str());
        let directive = map(&[(name, value)]);
        // What nobody can set in a spec is not of interest.
        if directives::check(&directive).is_err() || value.is_empty() {
            continue;
        }
        let is_live = File::first(&directive).live().contains_key(name);
        let said = connection.set_config(name, value.as_bytes()).await.unwrap();
        // Valkey 9.1 changes io-threads live; it is rolled in all versions.
        assert!(said.is_ok() == is_live || name == "io-threads", "{name} {value:?}: {said:?}");
        live += usize::from(is_live);
    }
    assert!(live > 100, "{live}");
}
