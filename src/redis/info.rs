//! What a Redis says of itself: `INFO server`, `persistence`, `replication` and `keyspace`, parsed strictly.
//!
//! Pure. `redis::Role` and `redis::InfoDict` are not used: both lose or invent numbers (a replica's offset -1).

/// Everything that one INFO answer says, as far as the operator needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Section `server`.
    pub server: Server,
    /// Section `replication`.
    pub replication: Replication,
    /// Section `persistence`.
    pub persistence: Persistence,
    /// Keys in all databases (section `keyspace`), or `None` where that section was not asked for.
    pub keys: Option<i64>,
}

/// Section `server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Redis or Valkey, by `server_name`.
    pub flavour: Flavour,
    /// `valkey_version` on Valkey, `redis_version` otherwise.
    pub version: String,
    /// Identity of the process.
    pub run_id: String,
    /// Seconds since the process started.
    pub uptime_seconds: i64,
}

/// Which server this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

/// Section `persistence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// `loading`: the dataset is being loaded, commands are refused.
    pub loading: bool,
    /// `async_loading`: a dataset is being loaded while the old one serves.
    pub async_loading: bool,
    /// `aof_enabled`.
    pub aof_enabled: bool,
}

/// Section `replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// `role:slave` with what it says of its primary; `None` for `role:master`.
    pub upstream: Option<Upstream>,
    /// `slaveN` lines, in order.
    pub replicas: Vec<ConnectedReplica>,
    /// `master_failover_state`.
    pub failover_state: String,
    /// `master_replid`: the history that the data belongs to.
    pub replid: String,
    /// `master_replid2`: the history before the last promotion.
    pub replid2: String,
    /// `second_repl_offset`: up to where `replid2` is shared; -1 without one.
    pub second_repl_offset: i64,
    /// `master_repl_offset`.
    pub offset: i64,
    /// `repl_backlog_active`: the process has a replication backlog, so it can serve partial resyncs.
    pub backlog_active: bool,
}

/// What a replica says of its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// `master_host`, verbatim.
    pub host: String,
    /// `master_port`.
    pub port: u16,
    /// `master_link_status:up`.
    pub link_up: bool,
    /// `master_last_io_seconds_ago`; -1 while there is no link.
    pub last_io_seconds: i64,
    /// `master_sync_in_progress`.
    pub sync_in_progress: bool,
    /// `slave_repl_offset`.
    pub offset: i64,
}

/// One `slaveN` line of a server that has replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedReplica {
    /// `ip`: the announced name.
    pub host: String,
    /// `port`.
    pub port: u16,
    /// `state`, verbatim: `online`, `wait_bgsave`, …
    pub state: String,
    /// `offset` that it acknowledged last.
    pub offset: i64,
    /// `lag`: seconds since its last acknowledgement.
    pub lag_seconds: i64,
}
