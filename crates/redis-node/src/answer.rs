//! What came of asking one Redis, and of trying to write to it.

use std::time::Duration;

use thiserror::Error;

use crate::info::Info;

/// What one Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// INFO.
    pub info: Info,
    /// `replica-announce-ip` as configured: the name that this server believes to have. Proves whose server it is.
    pub announced: String,
    /// What it demands of its replicas, and how often it pings them; `None` where it did not say.
    pub demands: Option<Demands>,
    /// It does not take the set's password any more. The connection over which it answered was authenticated before.
    pub refuses_password: bool,
}

/// Directives that decide how long a primary takes writes without its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// `min-replicas-to-write`: with fewer good replicas the primary refuses writes; 0: never.
    pub min_replicas: i64,
    /// `min-replicas-max-lag`: a replica that acknowledged nothing for longer is no good one, in seconds.
    pub max_lag_seconds: i64,
    /// `repl-ping-replica-period`, in seconds.
    pub ping_seconds: i64,
}

impl Answer {
    /// Whether others who came now would be turned away, although this answer came over a connection of before.
    pub fn turns_away(&self) -> bool {
        self.info.is_full() || self.refuses_password
    }
}

/// Why a Redis could not be asked, or gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProbeFailure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer within the deadline.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Unreachable network, reset connection, and the like.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The password was refused, or none was accepted.
    #[error("password refused: {0}")]
    Auth(String),
    /// The server loads its dataset and answers INFO with `-LOADING`, or asks to come back.
    #[error("loading its dataset")]
    Loading,
    /// A script blocks the server.
    #[error("busy with a script")]
    Busy,
    /// The server has as many clients as `maxclients` allows, and closes each new connection (`acceptCommonHandler`).
    #[error("it takes no new clients: max number of clients reached")]
    ClientLimit,
    /// Another error reply.
    #[error("answered with an error: {0}")]
    Reply(String),
    /// The answer was not what a Redis says.
    #[error("not an answer of a Redis server: {0}")]
    Malformed(String),
}

impl ProbeFailure {
    /// What an error reply with this text means, if it is the one that a server at its client limit sends before it closes
    /// the connection. It has no code word of its own. Redis 6.2 to 8 and Valkey word it so; with cluster mode there is more in
    /// the middle.
    pub fn client_limit(text: &str) -> Option<Self> {
        text.contains("max number of clients").then_some(Self::ClientLimit)
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The server took it.
    Taken,
    /// The server takes no writes; why, and its own words.
    Refused(Refusal, String),
    /// The server kept it waiting while it answered another client: `CLIENT PAUSE`.
    Paused,
    /// Neither is known.
    Unknown(ProbeFailure),
}

/// Why a server refuses writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The last save of an RDB file failed (`stop-writes-on-bgsave-error`).
    SavingFails,
    /// It cannot write to its append-only file, or not sync it.
    AppendingFails,
    /// Fewer replicas follow than `min-replicas-to-write` demands.
    TooFewReplicas,
    /// `maxmemory` is reached and its policy evicts nothing, or nothing more.
    MemoryFull,
}
