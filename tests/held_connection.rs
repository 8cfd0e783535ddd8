//! The connection that the operator holds to each server: one, kept while the server lives, with real redis-servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a step that fails is the test's failure"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::runtime::reflector::ObjectRef;
use redis_node::{
    answer::{ProbeFailure, Write},
    info::Replication,
};
use redis_operator::{
    redis::{server::Server, writes::try_write},
    watch::servers::{Monitor, Watched},
};
use rig::local::redis_server::{PATIENCE, RedisServer, probe};

const DEADLINE: Duration = Duration::from_secs(1);

/// Regression: a server at `maxclients` answers each connection with an error and closes it.
#[tokio::test]
async fn a_full_server_is_not_dialled_without_a_pause() {
    let server = RedisServer::start(&[]);
    let mut client = server.client();
    let () = redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).query(&mut client).unwrap();
    let (trigger, mut passes) = futures::channel::mpsc::unbounded();
    let monitor = Monitor::new(trigger);
    let (held, target) = (Arc::new(Server::default()), server.target());
    // As if it had answered before.
    let known = Some((replication_of(&mut client), false));
    let watched = Watched { uid: "u".to_owned(), server: held, target, known, write: None };
    monitor.watch(&ObjectRef::new("redis"), vec![watched]);
    tokio::time::timeout(PATIENCE, passes.next()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stats: String = redis::cmd("INFO").arg("stats").query(&mut client).unwrap();
    let rejected = stats.lines().find_map(|line| line.strip_prefix("rejected_connections:")).unwrap();
    let rejected: u32 = rejected.trim().parse().unwrap();
    assert!((2..10).contains(&rejected), "{rejected} in 3 s");
}

/// Regression: `maxclients: 3`, or an application that takes all connections, shut the operator out for good.
#[tokio::test]
async fn a_server_that_became_full_is_still_seen_and_can_be_helped() {
    let server = RedisServer::start(&[]);
    let (held, target) = (Server::default(), server.target());
    let (answer, mut connection) = held.ask(&target, DEADLINE).await.unwrap();
    assert!(!answer.info.is_full());
    let clients: Vec<_> = (0..9).map(|_| server.client()).collect();
    connection.set_config("maxclients", b"10").await.unwrap().unwrap();

    for _ in 0..100 {
        let refused = probe(&target, DEADLINE).await.unwrap_err();
        assert_eq!(refused, ProbeFailure::ClientLimit, "in its own words each time");
    }
    let (answer, again) = held.ask(&target, DEADLINE).await.unwrap();
    assert!(answer.info.is_full(), "{:?}", answer.info.clients);
    drop(again);

    connection.set_config("maxclients", b"100").await.unwrap().unwrap();
    assert!(!held.ask(&target, DEADLINE).await.unwrap().0.info.is_full());
    drop(clients);
}

/// Watching, looking and trying to write go over one connection.
#[tokio::test]
async fn one_connection_is_held_to_a_server() {
    let server = RedisServer::start(&[]);
    let (held, target) = (Arc::new(Server::default()), server.target());
    let (trigger, _passes) = futures::channel::mpsc::unbounded();
    let monitor = Monitor::new(trigger);
    let (answer, mut connection) = held.ask(&target, DEADLINE).await.unwrap();
    let write = try_write(&held, &mut connection, &target).await;
    assert_eq!(write, Write::Taken);
    let known = Some((answer.info.replication, false));
    let watched = Watched {
        uid: "u".to_owned(),
        server: Arc::clone(&held),
        target: target.clone(),
        known,
        write: Some(write),
    };
    monitor.watch(&ObjectRef::new("redis"), vec![watched]);
    for _ in 0..20 {
        held.ask(&target, DEADLINE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A look that had to open another one: the monitor goes over to that, and the former one is closed.
    held.dial(&target, DEADLINE).await.unwrap();
    drop(connection);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut client = server.client();
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).unwrap();
    let ours: Vec<&str> = list.lines().filter(|line| line.contains("name=redis-operator")).collect();
    assert_eq!((ours.len(), list.lines().count()), (1, 2), "{list}");
    // Evicted never (flag `e`, Redis 7.0).
    let flags = ours[0].split(' ').find_map(|field| field.strip_prefix("flags=")).unwrap();
    assert!(flags.contains('e'), "{flags}");
}

/// Silence over the held connection is asked about over another one, which is held from then on where it answers.
#[tokio::test]
async fn a_connection_that_is_stuck_is_replaced_and_one_that_ended_is_noticed() {
    let mut server = RedisServer::start(&[]);
    let (held, target) = (Server::default(), server.target());
    let (_, mut stuck) = held.ask(&target, DEADLINE).await.unwrap();
    let mut client = server.client();
    let () = redis::cmd("CLIENT").arg("PAUSE").arg(20_000).arg("WRITE").query(&mut client).unwrap();
    assert!(
        stuck.write_nothing(Duration::from_millis(100)).await.is_err(),
        "it waits for the end of the pause"
    );
    let (_, other) = held.ask(&target, DEADLINE).await.unwrap();
    assert!(other.clone().info().await.is_ok());
    assert!(stuck.info().await.is_err());

    let ended = tokio::spawn(async move {
        other.ended().await;
        Instant::now()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!ended.is_finished());
    server.kill();
    let killed = Instant::now();
    let noticed = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert!(
        noticed.saturating_duration_since(killed) < Duration::from_millis(200),
        "no command is needed to notice"
    );
    assert!(held.held(&target).is_none());
}

/// Regression: Redis does not reply to REPLCONF GETACK, but for an error: each later reply was taken for that to another command.
#[tokio::test]
async fn a_connection_whose_replies_are_out_of_step_is_given_up() {
    let server = RedisServer::start(&[]);
    let (held, target) = (Server::default(), server.target());
    let (_, mut connection) = held.ask(&target, DEADLINE).await.unwrap();
    connection.acknowledge_now().await.unwrap();
    connection.info_replication().await.unwrap();

    let () = server.command(&["ACL", "SETUSER", "default", "-replconf"]);
    let refused = connection.acknowledge_now().await.unwrap_err();
    assert_eq!(refused, ProbeFailure::Reply("another reply than PONG to REPLCONF".to_owned()));
    connection.info_replication().await.unwrap_err();
    assert!(held.held(&target).is_none());

    let (_, mut again) = held.ask(&target, DEADLINE).await.unwrap();
    again.info_replication().await.unwrap();
    server.freeze();
    // Whoever waited for the answer has gone, and it comes all the same.
    let waited = tokio::time::timeout(Duration::from_millis(100), again.acknowledge_now()).await;
    assert!(waited.is_err(), "{waited:?}");
    tokio::time::timeout(Duration::from_secs(1), again.ended()).await.unwrap();
}

fn replication_of(client: &mut redis::Connection) -> Replication {
    let text: String = redis::cmd("INFO").query(client).unwrap();
    redis_node::info::parse(&text).unwrap().replication
}
