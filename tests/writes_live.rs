//! Whether a primary takes writes, asked of real redis-server processes that refuse them for each cause.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a step that fails is the test's failure")]

use std::{
    fs,
    os::unix::fs::symlink,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use redis_node::answer::{Answer, Refusal, Write};
use redis_operator::{
    redis::{server::Server, writes::try_write},
    watch::servers::{Monitor, Watched},
};
use rig::local::redis_server::{PATIENCE, RedisServer};

const DEADLINE: Duration = Duration::from_secs(1);

async fn ask(server: &RedisServer) -> (Answer, Write) {
    let target = server.target();
    let held = Server::default();
    let (answer, mut connection) = held.ask(&target, DEADLINE).await.unwrap();
    (answer, try_write(&held, &mut connection, &target).await)
}

/// Tries until a write is refused for this cause; its words.
async fn refusal(server: &RedisServer, wanted: Refusal) -> String {
    let began = Instant::now();
    loop {
        match ask(server).await.1 {
            Write::Refused(why, words) if why == wanted => return words,
            other => assert!(began.elapsed() < PATIENCE, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn wait_until_taken(server: &RedisServer) {
    let began = Instant::now();
    while ask(server).await.1 != Write::Taken {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_tried_write_changes_nothing() {
    let primary = RedisServer::start(&["appendonly yes"]);
    let () = primary.command(&["SET", "a", "1"]);
    let replica = primary.start_replica(&[]);
    let began = Instant::now();
    while ask(&primary).await.0.info.replication.replicas.first().is_none_or(|r| r.state != "online") {
        assert!(began.elapsed() < PATIENCE);
    }
    let before = ask(&primary).await.0;
    for _ in 0..10 {
        assert_eq!(ask(&primary).await.1, Write::Taken);
    }
    let after = ask(&primary).await.0;
    assert_eq!(after.info.keys, Some(1));
    assert_eq!(after.info.replication.offset, before.info.replication.offset, "nothing is replicated");
    let manifest: String = primary.command(&["INFO", "persistence"]);
    assert!(manifest.contains("rdb_changes_since_last_save:1\r\n"), "{manifest}");
    // Somebody's own key of that name, of whatever type, stays what it is.
    let _: i64 = primary.command(&["RPUSH", "redis-operator:write-test", "x"]);
    assert_eq!(ask(&primary).await.1, Write::Taken);
    drop(replica);
}

#[tokio::test]
async fn a_failed_save_refuses_writes_until_one_succeeds() {
    let primary = RedisServer::start(&["save 3600 1"]);
    // What a full volume does to it, without one: the file cannot take its name.
    let taken = primary.directory().join("dump.rdb");
    fs::create_dir(&taken).unwrap();
    let () = primary.command(&["SET", "a", "1"]);
    assert_eq!(ask(&primary).await.1, Write::Taken);
    let _: String = primary.command(&["BGSAVE"]);
    let words = refusal(&primary, Refusal::SavingFails).await;
    assert!(words.starts_with("MISCONF "), "{words}");
    let () = primary.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    assert_eq!(ask(&primary).await.1, Write::Taken, "the user may have said that a save does not matter");
    let () = primary.command(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"]);
    refusal(&primary, Refusal::SavingFails).await;
    fs::remove_dir(&taken).unwrap();
    let _: String = primary.command(&["BGSAVE"]);
    wait_until_taken(&primary).await;
}

#[tokio::test]
async fn a_failed_append_refuses_writes() {
    let primary = RedisServer::start(&["appendonly yes", "auto-aof-rewrite-percentage 0"]);
    // The file that the next rewrite begins is one that is always full.
    let next = primary.directory().join("appendonlydir/appendonly.aof.2.incr.aof");
    symlink("/dev/full", next).unwrap();
    let _: String = primary.command(&["BGREWRITEAOF"]);
    let began = Instant::now();
    let mut client = primary.client();
    while redis::cmd("SET").arg("a").arg(1).query::<()>(&mut client).is_ok() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let words = refusal(&primary, Refusal::AppendingFails).await;
    assert!(words.contains("No space left on device"), "{words}");
}

#[tokio::test]
async fn too_few_replicas_and_full_memory_are_told_apart() {
    let primary = RedisServer::start(&["min-replicas-to-write 1"]);
    let words = refusal(&primary, Refusal::TooFewReplicas).await;
    assert!(words.starts_with("NOREPLICAS "), "{words}");
    let replica = primary.start_replica(&[]);
    wait_until_taken(&primary).await;
    let () = primary.command(&["CONFIG", "SET", "maxmemory", "1000000"]);
    let words = refusal(&primary, Refusal::MemoryFull).await;
    assert!(words.starts_with("OOM "), "{words}");
    let () = primary.command(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_until_taken(&primary).await;
    drop(replica);
}

#[tokio::test]
async fn paused_clients_are_told_from_a_slow_server() {
    let primary = RedisServer::start(&[]);
    let () = primary.command(&["CLIENT", "PAUSE", "20000", "WRITE"]);
    assert_eq!(ask(&primary).await.1, Write::Paused);
    let () = primary.command(&["CLIENT", "UNPAUSE"]);
    assert_eq!(ask(&primary).await.1, Write::Taken);
    let target = primary.target();
    let held = Server::default();
    let (_, mut connection) = held.ask(&target, DEADLINE).await.unwrap();
    primary.freeze();
    let write = try_write(&held, &mut connection, &target).await;
    assert!(matches!(write, Write::Unknown(_)), "{write:?}");
}

/// Regression: nothing but a pass at rest, once a minute, would have noticed.
#[tokio::test]
async fn a_held_connection_asks_for_a_pass_when_writes_are_refused() {
    let primary = RedisServer::start(&[]);
    let (answer, write) = ask(&primary).await;
    let (trigger, mut passes) = futures::channel::mpsc::unbounded();
    let monitor = Monitor::new(trigger);
    let set = ObjectRef::new("redis");
    let held = Arc::new(Server::default());
    let knows = |write: Write| Watched {
        uid: "u".to_owned(),
        server: Arc::clone(&held),
        target: primary.target(),
        known: Some((answer.info.replication.clone(), false)),
        write: Some(write),
    };
    monitor.watch(&set, vec![knows(write)]);
    let quiet = tokio::time::timeout(Duration::from_secs(4), passes.next()).await;
    assert!(quiet.is_err(), "nothing changed: {quiet:?}");

    for (command, write) in [
        (
            vec!["CONFIG", "SET", "min-replicas-to-write", "1"],
            Write::Refused(Refusal::TooFewReplicas, String::new()),
        ),
        (vec!["CONFIG", "SET", "min-replicas-to-write", "0"], Write::Taken),
        (vec!["CLIENT", "PAUSE", "60000", "WRITE"], Write::Paused),
    ] {
        let () = primary.command(&command);
        let began = Instant::now();
        tokio::time::timeout(PATIENCE, passes.next()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{command:?}: {:?}", began.elapsed());
        monitor.watch(&set, vec![knows(write)]);
        let quiet = tokio::time::timeout(Duration::from_secs(4), passes.next()).await;
        assert!(quiet.is_err(), "the pass knows it: {command:?}");
    }
}
