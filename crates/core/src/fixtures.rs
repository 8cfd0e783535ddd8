//! Answers of made-up servers, for tests of what answers add up to.

use crate::observed::{NoAnswer, ObservedPod};
use redis_node::{
    answer::Answer,
    files::REDIS_PORT,
    info::{ConnectedReplica, Flavour, Info, Persistence, Replication, Server, Upstream},
    record::Record,
};

/// A record that names this primary.
pub fn record(primary: &str) -> Record {
    Record { epoch: 1, primary: Some(primary.to_owned()), ..Record::first(Vec::new(), true) }
}

/// A running pod `redis-<ordinal>` with this answer.
pub fn pod(ordinal: i32, answer: Result<Answer, NoAnswer>) -> ObservedPod {
    ObservedPod { answer, ..ObservedPod::running(ordinal) }
}

/// The answer of a server under this name.
pub fn answer(announced: &str, replication: Replication) -> Answer {
    let server = Server {
        flavour: Flavour::Redis,
        version: "7.0.15".to_owned(),
        run_id: format!("run of {announced}"),
        uptime_seconds: 1,
        time_micros: 0,
    };
    let persistence = Persistence::default();
    Answer {
        info: Info { server, replication, persistence, clients: None, keys: None },
        announced: announced.to_owned(),
        refuses_password: false,
        demands: None,
    }
}

/// A primary with this history that lists these replicas as good ones.
pub fn primary(replid: &str, replicas: &[&str]) -> Replication {
    let line = |host: &&str| ConnectedReplica {
        host: (*host).to_owned(),
        port: REDIS_PORT,
        state: "online".to_owned(),
        offset: 64,
        lag_seconds: 0,
    };
    Replication {
        upstream: None,
        replicas: replicas.iter().map(line).collect(),
        failover_state: "no-failover".to_owned(),
        replid: replid.to_owned(),
        replid2: "0".repeat(40),
        second_repl_offset: -1,
        offset: 64,
        backlog_active: true,
    }
}

/// A replica with this history whose link to that host is up.
pub fn replica(replid: &str, host: &str) -> Replication {
    let upstream = Upstream {
        host: host.to_owned(),
        port: REDIS_PORT,
        link_up: true,
        last_io_seconds: 0,
        sync_in_progress: false,
        offset: 64,
    };
    Replication { upstream: Some(upstream), ..primary(replid, &[]) }
}
