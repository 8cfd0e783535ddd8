//! The probe and the topology against real redis-server processes, each state brought about for real.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{
    io::{Read, Write},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use operator_core::fixtures::{pod, record};
use operator_core::{
    api::status::InstanceState::{
        self, AuthFailed, Busy, ClientLimit, Foreign, InSync, Lagging, LinkDown, Loading, Parked, Primary,
        Syncing, Unconfirmed, UnexpectedPrimary, Unreachable, WrongPrimary,
    },
    observed::{NoAnswer, Observed},
    topology::{Topology, topology},
};
use redis_node::{
    PARKED,
    answer::{Answer, ProbeFailure},
    files::REDIS_PORT,
    info::Aof,
    password::Password,
};
use redis_operator::redis::server::{Logins, Target};
use rig::local::redis_server::{PATIENCE, RedisServer, free_address, listen, probe};

/// Deadline of one probe: short, since some of these servers never answer.
const DEADLINE: Duration = Duration::from_secs(1);

/// What one look at a set saw, and what it adds up to. The first server is the primary of record.
struct Snapshot {
    answers: Vec<Result<Answer, ProbeFailure>>,
    topology: Topology,
}

async fn look(targets: &[Target]) -> Snapshot {
    let mut answers = Vec::new();
    for target in targets {
        answers.push(probe(target, DEADLINE).await.map(|(answer, _)| answer));
    }
    let pods = answers
        .iter()
        .cloned()
        .zip(0..)
        .map(|(answer, n)| pod(n, answer.map_err(NoAnswer::Failed)))
        .collect();
    let host_of = |pod: &str| {
        let ordinal: usize = pod.strip_prefix("redis-").unwrap().parse().unwrap();
        targets[ordinal].host.clone()
    };
    let topology = topology(host_of, &record("redis-0"), &Observed { pods });
    Snapshot { answers, topology }
}

/// Looks until the servers are in these states.
async fn wait_for(servers: &[&RedisServer], wanted: &[InstanceState]) -> Snapshot {
    let targets: Vec<Target> = servers.iter().map(|server| server.target()).collect();
    wait_for_targets(&targets, wanted).await
}

async fn wait_for_targets(targets: &[Target], wanted: &[InstanceState]) -> Snapshot {
    let start = Instant::now();
    loop {
        let look = look(targets).await;
        let states: Vec<InstanceState> = look.topology.instances.iter().map(|found| found.state).collect();
        if states == wanted {
            return look;
        }
        assert!(start.elapsed() < PATIENCE, "wanted {wanted:?}: {:#?}\n{:#?}", look.topology, look.answers);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The faults of a pod in one text.
fn faults(look: &Snapshot, ordinal: usize) -> String {
    look.topology.instances[ordinal].faults.join("; ")
}

#[tokio::test]
async fn a_healthy_pair() {
    let primary = RedisServer::start(&[]);
    let () = primary.command(&["SET", "a", "1"]);
    let replica = primary.start_replica(&[]);
    let look = wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    assert!(look.topology.all_in_sync(2) && !look.topology.all_in_sync(3));
    assert_eq!(look.topology.in_sync_count(), 1);
    for answer in look.answers {
        let answer = answer.unwrap();
        assert_eq!(answer.info.keys, Some(1));
        assert_eq!(answer.info.server.run_id.len(), 40);
        assert_eq!(answer.info.persistence.aof, Aof::Off);
    }
}

/// Experiment E31, on the redis-server in PATH: a replica's append-only file, kill by kill. While the look says
/// `Rewriting` a restart may load what was there before the full sync; once it says `Whole`, all that was acknowledged.
#[tokio::test]
async fn an_append_only_file_is_whole_when_the_look_says_so() {
    const AOF: &[&str] = &["appendonly yes", "appendfsync always"];
    for settled in [false, true] {
        let primary = RedisServer::start(AOF);
        let () = primary.command(&["SET", "before", "1"]);
        let mut replica = primary.start_replica(AOF);
        wait_for(&[&primary, &replica], &[Primary, InSync]).await;
        aof_is(&replica, Aof::Whole).await;
        let () = primary.command(&["DEBUG", "POPULATE", "3000"]);
        // It loads its own file, and gets a full copy; the rewrite of that takes three seconds.
        let follow = format!("replicaof {} {REDIS_PORT}", primary.address);
        replica.restart(&[AOF, &[&follow, "rdb-key-save-delay 1000"]].concat());
        let look = wait_for(&[&primary, &replica], &[Primary, InSync]).await;
        let in_sync = look.answers[1].as_ref().unwrap();
        assert_eq!((in_sync.info.persistence.aof, in_sync.info.keys), (Aof::Rewriting, Some(3001)));

        let () = replica.command(&["REPLICAOF", "NO", "ONE"]);
        let () = replica.command(&["SET", "acknowledged", "1"]);
        if settled {
            aof_is(&replica, Aof::Whole).await;
            let () = replica.command(&["SET", "acknowledged", "2"]);
        }
        replica.restart(AOF);
        // It replies while it still loads its file.
        wait_for(&[&replica], &[Primary]).await;
        let keys: i64 = replica.command(&["DBSIZE"]);
        let value: Option<String> = replica.command(&["GET", "acknowledged"]);
        if settled {
            assert_eq!((keys, value.as_deref()), (3002, Some("2")));
        } else {
            assert_eq!(
                (keys, value.as_deref()),
                (1, None),
                "Redis has mended this: docs/design/redis-facts.md, E31"
            );
        }
    }
}

/// A rewrite that cannot finish (its directory is not there to be written to) never closes the window silently.
#[tokio::test]
async fn a_rewrite_that_fails_is_shown_as_one_that_is_not_done() {
    const AOF: &[&str] = &["appendonly yes"];
    let primary = RedisServer::start(AOF);
    let () = primary.command(&["DEBUG", "POPULATE", "3000"]);
    let replica = primary.start_replica(&[AOF, &["rdb-key-save-delay 1000"]].concat());
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    aof_is(&replica, Aof::Rewriting).await;
    // After the third failure Redis 7 and later wait longer and longer (a minute at first) before they try again.
    for _ in 0..2 {
        // The child that rewrites.
        let children = Command::new("pkill").args(["-KILL", "-P", &replica.process().to_string()]).status();
        assert!(children.is_ok(), "{children:?}");
        for _ in 0..10 {
            let answer = probe(&replica.target(), DEADLINE).await.unwrap().0;
            assert_eq!(answer.info.persistence.aof, Aof::Rewriting);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    let () = replica.command(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    aof_is(&replica, Aof::Whole).await;
}

async fn aof_is(server: &RedisServer, wanted: Aof) {
    let start = Instant::now();
    while probe(&server.target(), DEADLINE).await.unwrap().0.info.persistence.aof != wanted {
        assert!(start.elapsed() < PATIENCE, "never {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_loads() {
    let mut primary = RedisServer::start(&["rdbcompression no"]);
    let () = primary.command(&["DEBUG", "POPULATE", "2000", "key", "100"]);
    let () = primary.command(&["SAVE"]);
    // 2 ms a key; events are served every KiB.
    primary.restart(&["key-load-delay 2000", "loading-process-events-interval-bytes 1024"]);
    let look = wait_for(&[&primary], &[Loading]).await;
    assert!(look.answers[0].as_ref().unwrap().info.persistence.loading);
    assert_eq!(faults(&look, 0), "loads its dataset");
    wait_for(&[&primary], &[Primary]).await;
}

#[tokio::test]
async fn a_replica_that_syncs() {
    // 1 ms a key: the copy takes about four seconds.
    let primary = RedisServer::start(&["rdb-key-save-delay 1000"]);
    let () = primary.command(&["DEBUG", "POPULATE", "4000"]);
    let replica = primary.start_replica(&[]);
    let look = wait_for(&[&primary, &replica], &[Primary, Syncing]).await;
    assert!(faults(&look, 1).contains("full copy"), "{}", faults(&look, 1));
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
}

#[tokio::test]
async fn a_dead_primary() {
    let mut primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    let (_, mut held) = probe(&primary.target(), DEADLINE).await.unwrap();
    primary.kill();
    let look = wait_for(&[&primary, &replica], &[Unreachable, LinkDown]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Refused));
    assert_eq!(
        faults(&look, 1),
        "the link to its primary is down; redis-0 did not answer, so it confirms nothing"
    );

    // The held connection led to the process that ended, and never leads to another.
    primary.restart(&[]);
    assert!(matches!(held.info().await, Err(ProbeFailure::Connection(_))));
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
}

#[tokio::test]
async fn a_wrong_password_of_a_replica() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&["masterauth wrong"]);
    let look = wait_for(&[&primary, &replica], &[Primary, LinkDown]).await;
    assert!(faults(&look, 1).contains("redis-0 does not list it"), "{}", faults(&look, 1));
}

fn logins(password: &[u8]) -> Arc<Logins> {
    Arc::new(Logins::of_default(Password::from_bytes(password).unwrap()))
}

#[tokio::test]
async fn a_wrong_password_of_ours() {
    let server = RedisServer::start(&[]);
    let target = Target { logins: logins(b"wrong"), ..server.target() };
    let look = wait_for_targets(&[target], &[AuthFailed]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Auth("WRONGPASS".to_owned())));
}

#[tokio::test]
async fn error_replies_that_are_no_wrong_password() {
    let server = RedisServer::start(&[]);
    let () = server.command(&["ACL", "SETUSER", "default", "-info"]);
    let look = wait_for(&[&server], &[Unreachable]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Reply("NOPERM to INFO".to_owned())));

    // Whoever asks for no password takes every one.
    let open = RedisServer::start(&["requirepass \"\""]);
    wait_for(&[&open], &[Primary]).await;

    // "max number of clients reached" comes before our first word.
    let full = RedisServer::start(&[]);
    let mut client = full.client();
    let () = redis::cmd("CONFIG").arg(&["SET", "maxclients", "1"]).query(&mut client).unwrap();
    let look = wait_for(&[&full], &[ClientLimit]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::ClientLimit));
}

#[tokio::test]
async fn a_circle() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    let (_, mut connection) = probe(&primary.target(), DEADLINE).await.unwrap();
    connection.replicaof(&replica.address.to_string(), REDIS_PORT).await.unwrap();
    let start = Instant::now();
    loop {
        let targets = [primary.target(), replica.target()];
        let look = look(&targets).await;
        assert_eq!(look.topology.in_sync_count(), 0);
        assert!(look.topology.serving().is_empty());
        assert_eq!(look.topology.instances[0].state, WrongPrimary);
        // Its link may be down, or up with nobody to confirm it.
        assert!(matches!(look.topology.instances[1].state, WrongPrimary | LinkDown));
        if (0..2).all(|ordinal| faults(&look, ordinal).contains("in a circle, without a primary")) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{:#?}", look.topology);
    }
}

#[tokio::test]
async fn a_chain() {
    let primary = RedisServer::start(&[]);
    let middle = primary.start_replica(&[]);
    let last = middle.start_replica(&[]);
    let look = wait_for(&[&primary, &middle, &last], &[Primary, InSync, WrongPrimary]).await;
    let (wanted, follows) = (primary.address, middle.address);
    assert!(
        faults(&look, 2)
            .starts_with(&format!("follows {follows}:6379 (redis-1 is a replica too); wanted {wanted}:6379")),
        "{}",
        faults(&look, 2)
    );
}

#[tokio::test]
async fn two_primaries() {
    let primary = RedisServer::start(&[]);
    let other = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    let look = wait_for(&[&primary, &other, &replica], &[Primary, UnexpectedPrimary, InSync]).await;
    assert_eq!(look.topology.serving().len(), 2);
    assert_eq!(faults(&look, 0), "redis-1 serves as primary too");
    assert!(!look.topology.all_in_sync(1));
}

#[tokio::test]
async fn a_silent_primary() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    let (_, mut held) = probe(&primary.target(), DEADLINE).await.unwrap();
    primary.freeze();
    let look = wait_for(&[&primary, &replica], &[Unreachable, Unconfirmed]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Timeout(DEADLINE)));
    // The trap: the replica's own words are still those of a good one.
    let replica = look.answers[1].as_ref().unwrap().info.replication.upstream.clone().unwrap();
    assert!(replica.link_up && !replica.sync_in_progress);
    assert!(matches!(held.info().await, Err(ProbeFailure::Timeout(_))));
    assert!(matches!(held.replicaof_no_one().await, Err(ProbeFailure::Timeout(_))));
}

#[tokio::test]
async fn a_busy_server() {
    let server = RedisServer::start(&["busy-reply-threshold 50"]);
    let mut client = server.client();
    let script = redis::cmd("EVAL").arg("while true do end").arg(0).get_packed_command();
    client.send_packed_command(&script).unwrap();
    let look = wait_for(&[&server], &[Busy]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Busy));
}

/// Regression: the operator shares its memory with all sets, and this one's image is anybody's.
#[tokio::test]
async fn a_server_that_answers_without_end_is_hung_up_on() {
    let (address, listener) = listen();
    let stranger = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"+OK\r\n").unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let mut sent = 0_usize;
        let mut next: &[u8] = b"$4000000000\r\n";
        while let Ok(bytes) = stream.write(next) {
            sent += bytes;
            next = &[b'x'; 8192];
        }
        sent
    });
    let target = Target {
        host: address.to_string(),
        address: address.into(),
        port: REDIS_PORT,
        logins: logins(b"secret"),
    };
    let began = Instant::now();
    let failure = probe(&target, PATIENCE).await.unwrap_err();
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    assert!(matches!(&failure, ProbeFailure::Connection(_) | ProbeFailure::Malformed(_)), "{failure:?}");
    // What was read, and what the sockets' buffers hold.
    let sent = stranger.await.unwrap();
    assert!((256 << 10..16 << 20).contains(&sent), "{sent} bytes: {failure:?}");
    println!("hung up after {sent} bytes: {failure}");
}

#[tokio::test]
async fn nobody_and_strangers() {
    let target = |address: std::net::Ipv4Addr| Target {
        host: address.to_string(),
        address: address.into(),
        port: REDIS_PORT,
        logins: logins(b"secret"),
    };
    let seen = wait_for_targets(&[target(free_address())], &[Unreachable]).await;
    assert_eq!(seen.answers[0], Err(ProbeFailure::Refused));

    let another_redis = RedisServer::start(&["replica-announce-ip redis-0.elsewhere"]);
    let seen = wait_for(&[&another_redis], &[Foreign]).await;
    assert!(seen.topology.serving().is_empty(), "what a stranger serves is not ours");
    assert!(faults(&seen, 0).contains("announces redis-0.elsewhere, wanted 127."), "{}", faults(&seen, 0));

    let malformed = |words: &str| ProbeFailure::Malformed(words.to_owned());
    let strangers = [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", malformed("no valid reply in the Redis protocol"), Foreign),
        // Talks the protocol, but has no INFO of a Redis.
        ("+OK\r\n", malformed("INFO has no section Server"), Foreign),
        // Nothing that it sends may reach a status.
        (
            "-secret is what you said\r\n",
            ProbeFailure::Reply("an unknown code to AUTH".to_owned()),
            Unreachable,
        ),
        ("", ProbeFailure::Connection("broken pipe".to_owned()), Unreachable),
    ];
    for (says, failure, state) in strangers {
        let (address, listener) = listen();
        let stranger = tokio::task::spawn_blocking(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut heard = [0; 1024];
            // Says the same to everything until the other side has heard enough; to say nothing is to hang up.
            while stream.read(&mut heard).is_ok_and(|length| length > 0) && !says.is_empty() {
                let _ = stream.write_all(says.as_bytes());
            }
        });
        let seen = look(&[target(address)]).await;
        assert_eq!(seen.answers[0], Err(failure), "{says:?}");
        assert_eq!(seen.topology.instances[0].state, state, "{says:?}");
        stranger.await.unwrap();
    }
}

/// Whoever may tell a server a name chooses what stands in the status.
#[tokio::test]
async fn names_with_control_characters_are_shown_on_one_line() {
    let server =
        RedisServer::start(&[r#"replica-announce-ip "redis-0\n2026 all is well\x1b[2J\xe2\x80\xae""#]);
    let () = server.command(&["REPLICAOF", "redis-9\u{1b}[2J\u{202e}", "6379"]);
    let seen = wait_for(&[&server], &[Foreign]).await;
    let answer = seen.answers[0].as_ref().unwrap();
    assert_eq!(answer.announced, "redis-0?2026 all is well?[2J?");
    assert_eq!(answer.info.replication.upstream.as_ref().unwrap().host, "redis-9?[2J?");
    assert!(!rig::hostile_text::has_controls(&faults(&seen, 0)), "{}", faults(&seen, 0));
}

#[tokio::test]
async fn acts_over_the_connection_of_the_observation() {
    let primary = RedisServer::start(&[]);
    let pod = RedisServer::start(&[&format!("replicaof {} {}", PARKED.0, PARKED.1)]);
    wait_for(&[&primary, &pod], &[Primary, Parked]).await;
    let (_, mut connection) = probe(&pod.target(), DEADLINE).await.unwrap();

    connection.replicaof(&primary.address.to_string(), REDIS_PORT).await.unwrap();
    wait_for(&[&primary, &pod], &[Primary, InSync]).await;
    connection.replicaof(&primary.address.to_string(), REDIS_PORT).await.expect("the same again is no error");

    connection.replicaof_no_one().await.unwrap();
    assert_eq!(connection.info_replication().await.unwrap().upstream, None);
    wait_for(&[&primary, &pod], &[Primary, UnexpectedPrimary]).await;

    connection.replicaof(PARKED.0, PARKED.1).await.unwrap();
    let parked = connection.info().await.unwrap().replication.upstream.unwrap();
    assert_eq!((parked.host.as_str(), parked.port), PARKED);
}

/// Whose connection is cut, and whose is not.
#[tokio::test]
async fn clients_are_cut_and_the_replication_is_not() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    let (_, mut own) = probe(&primary.target(), DEADLINE).await.unwrap();
    let replid = own.info_replication().await.unwrap().replid;
    let full_copies = || -> String {
        let stats: String = primary.command(&["INFO", "stats"]);
        stats.lines().find(|line| line.starts_with("sync_full:")).unwrap().to_owned()
    };
    let before = full_copies();

    let mut idle = primary.client();
    let () = redis::cmd("PING").query(&mut idle).unwrap();
    let mut subscriber = primary.client();
    let mut subscription = subscriber.as_pubsub();
    subscription.subscribe("news").unwrap();
    subscription.set_read_timeout(Some(PATIENCE)).unwrap();

    assert_eq!(own.cut_clients().await.unwrap(), 2);
    let error = subscription.get_message().unwrap_err();
    assert!(error.is_connection_dropped(), "{error}");
    assert!(redis::cmd("PING").query::<()>(&mut idle).unwrap_err().is_connection_dropped());
    // Its own connection and the replica's stay.
    assert_eq!(own.info_replication().await.unwrap().replid, replid);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    assert_eq!(full_copies(), before);
    assert_eq!(own.cut_clients().await.unwrap(), 0);
}

/// Rule 1: what a former leader sent may still be on its way.
#[tokio::test]
async fn who_acts_cuts_who_acted_before_and_nobody_else() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
    let mut client = primary.client();
    let (_, mut former) = probe(&primary.target(), DEADLINE).await.unwrap();
    former.fence_other_operators().await.unwrap();
    let (_, mut looks) = probe(&primary.target(), DEADLINE).await.unwrap();
    let (_, mut leader) = probe(&primary.target(), DEADLINE).await.unwrap();
    leader.fence_other_operators().await.unwrap();
    former.info_replication().await.unwrap_err();
    leader.fence_other_operators().await.unwrap();
    // One over which nothing was done could be used at any moment.
    looks.info_replication().await.unwrap_err();
    let () = redis::cmd("PING").query(&mut client).unwrap();
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;
}

/// A replica acknowledges once a second by itself; FAILOVER pauses writes until it has.
#[tokio::test]
async fn a_switchover_does_not_wait_for_the_next_acknowledgement() {
    let [first, second] = {
        let primary = RedisServer::start(&[]);
        let replica = primary.start_replica(&[]);
        [primary, replica]
    };
    wait_for(&[&first, &second], &[Primary, InSync]).await;
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let (from, to) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let mut client = from.client();
        let () = redis::cmd("SET").arg("key").arg(round).query(&mut client).unwrap();
        let (_, mut primary) = probe(&from.target(), DEADLINE).await.unwrap();
        let (_, mut target) = probe(&to.target(), DEADLINE).await.unwrap();
        let begun = Instant::now();
        primary.failover(&to.address.to_string(), REDIS_PORT, Duration::from_secs(5)).await.unwrap();
        while target.info_replication().await.unwrap().upstream.is_some() {
            target.acknowledge_now().await.unwrap();
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest = slowest.max(begun.elapsed());
        wait_for_field(from, "master_link_status", "up");
    }
    println!("slowest of 10 switchovers: {slowest:?}");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}

/// One field of `INFO replication`.
fn replication(server: &RedisServer, field: &str) -> String {
    let info: String = server.command(&["INFO", "replication"]);
    let prefix = format!("{field}:");
    info.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

/// Waits until a field of `INFO replication` holds this.
fn wait_for_field(server: &RedisServer, field: &str, wanted: &str) {
    let start = Instant::now();
    while replication(server, field) != wanted {
        assert!(start.elapsed() < PATIENCE, "{field} is {}, wanted {wanted}", replication(server, field));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A primary whose FAILOVER has lost its target: `late` is in the primary's memory, and was in the target's; the
/// target's dump.rdb is older.
fn handover_without_a_target() -> [RedisServer; 2] {
    let primary = RedisServer::start(&[]);
    let mut target = primary.start_replica(&[]);
    wait_for_field(&target, "master_link_status", "up");
    let () = primary.command(&["SET", "late", "1"]);
    let start = Instant::now();
    // Acknowledged to the last byte: then FAILOVER needs nothing more from the target.
    while !replication(&primary, "slave0")
        .contains(&format!("offset={},", replication(&primary, "master_repl_offset")))
    {
        assert!(start.elapsed() < PATIENCE, "{}", replication(&primary, "slave0"));
        std::thread::sleep(Duration::from_millis(10));
    }
    target.freeze();
    let () = primary.command(&[
        "FAILOVER",
        "TO",
        &target.address.to_string(),
        &REDIS_PORT.to_string(),
        "TIMEOUT",
        "1000",
    ]);
    wait_for_field(&primary, "master_failover_state", "failover-in-progress");
    target.kill();
    [primary, target]
}

/// Experiment E30, and why the agent does not start Redis while a peer hands over to it.
#[test]
fn a_handover_makes_even_a_parked_server_primary_over_older_data() {
    let [primary, mut target] = handover_without_a_target();
    target.restart(&[&format!("replicaof {} {}", PARKED.0, PARKED.1)]);
    wait_for_field(&target, "role", "master");
    wait_for_field(&primary, "master_link_status", "up");
    for server in [&primary, &target] {
        let keys: i64 = server.command(&["EXISTS", "late"]);
        assert_eq!(keys, 0, "the acknowledged write is gone everywhere");
    }
}

/// Experiment E30: what ends it.
#[test]
fn failover_abort_gives_the_role_back_with_all_data() {
    let [primary, mut target] = handover_without_a_target();
    let history = replication(&primary, "master_replid");
    assert_eq!(replication(&primary, "role"), "slave");
    let () = primary.command(&["FAILOVER", "ABORT"]);
    assert_eq!((replication(&primary, "role"), replication(&primary, "master_failover_state")), {
        ("master".to_owned(), "no-failover".to_owned())
    });
    assert_ne!(replication(&primary, "master_replid"), history, "a new history begins");
    assert_eq!(replication(&primary, "master_replid2"), history, "that goes on from the old one");
    let () = primary.command(&["SET", "after", "1"]);
    target.restart(&[&format!("replicaof {} {REDIS_PORT}", primary.address)]);
    wait_for_field(&target, "master_link_status", "up");
    let keys: i64 = target.command(&["EXISTS", "late", "after"]);
    assert_eq!(keys, 2);
}

/// Says to the test inside the namespace where it must not be.
const OUTER_NAMESPACE: &str = "REDIS_LIVE_OUTER_NAMESPACE";

fn network_namespace() -> String {
    std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string()
}

/// Packets are dropped in a network namespace of the test's own, so this test runs itself again inside one.
#[test]
fn black_holes() {
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "black_holes_in_the_namespace", "--ignored", "--nocapture"])
        .env(OUTER_NAMESPACE, network_namespace())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{errors}");
}

#[tokio::test]
#[ignore = "black_holes starts it, in a network namespace"]
async fn black_holes_in_the_namespace() {
    let outer = std::env::var(OUTER_NAMESPACE).expect("black_holes starts this test");
    assert_ne!(outer, network_namespace(), "would drop packets of the machine");
    let run = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{command}");
    };
    run("ip link set lo up");
    let primary = RedisServer::start(&[]);
    let address = free_address();
    // Replication comes from an address of its own: it can be cut while we still reach both ends.
    let replica = primary.start_replica(&[&format!("bind-source-addr {address}")]);
    wait_for(&[&primary, &replica], &[Primary, InSync]).await;

    run(&format!("iptables -A INPUT -s {address} -j DROP"));
    run(&format!("iptables -A INPUT -d {address} -j DROP"));
    let look = wait_for(&[&primary, &replica], &[Primary, Lagging]).await;
    // The trap: both ends still call the link good.
    let ours = look.answers[1].as_ref().unwrap().info.replication.upstream.clone().unwrap();
    assert!(ours.link_up);
    assert_eq!(look.answers[0].as_ref().unwrap().info.replication.replicas[0].state, "online");

    run(&format!("iptables -A INPUT -d {} -j DROP", primary.address));
    let look = wait_for(&[&primary, &replica], &[Unreachable, Unconfirmed]).await;
    assert_eq!(look.answers[0], Err(ProbeFailure::Timeout(DEADLINE)));
}
