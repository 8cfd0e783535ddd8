//! The probe and the topology against real servers.

#[path = "support/redis_server.rs"]
mod redis_server;

use redis_operator::redis::probe::probe;
use redis_server::{PATIENCE, RedisServer};

#[tokio::test]
async fn a_healthy_pair() {
    let primary = RedisServer::start(&[]);
    let replica = primary.start_replica(&[]);
    let (answer, _) = probe(&primary.target(), PATIENCE).await.unwrap();
    dbg!(&answer);
    let (answer, _) = probe(&replica.target(), PATIENCE).await.unwrap();
    dbg!(&answer);
}
