//! What a Redis says of itself: `INFO server`, `clients`, `persistence`, `replication` and `keyspace`, parsed strictly.
//!
//! Pure. `redis::Role` and `redis::InfoDict` are not used: both lose or invent numbers (a replica's offset -1).
//!
//! Strict about the fields that the operator decides on: a missing or odd one is an error that names it, never a
//! default. Tolerant of everything else: unknown sections, fields and `slaveN` parts, and lines that only some
//! versions or states have (Redis 6.2 to 8, Valkey 8 and 9).

use std::str::FromStr;

use thiserror::Error;

use crate::plain::plain;

/// Everything that one INFO answer says, as far as the operator needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Section `server`.
    pub server: Server,
    /// Section `replication`.
    pub replication: Replication,
    /// Section `persistence`.
    pub persistence: Persistence,
    /// Section `clients`, or `None` where it was not asked for, or names no limit.
    pub clients: Option<Clients>,
    /// Keys in all databases (section `keyspace`), or `None` where that section was not asked for.
    pub keys: Option<i64>,
}

impl Info {
    /// Whether the server refuses new clients.
    pub fn is_full(&self) -> bool {
        is_full(&self.replication, self.clients)
    }
}

/// Whether a server refuses new clients: `maxclients` is the limit of clients and replicas together.
pub fn is_full(replication: &Replication, clients: Option<Clients>) -> bool {
    let replicas = i64::try_from(replication.replicas.len()).unwrap_or(i64::MAX);
    clients.is_some_and(|clients| clients.connected.saturating_add(replicas) >= clients.max)
}

/// Section `clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// `connected_clients`: all but replicas.
    pub connected: i64,
    /// `maxclients`.
    pub max: i64,
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
    /// Seconds since the process started, rounded down.
    pub uptime_seconds: i64,
    /// `server_time_usec`: the clock of its node when it answered, in microseconds since 1970.
    pub time_micros: i64,
}

impl Server {
    /// When the process started, in seconds since 1970 by its node's clock; at most a second late, never early.
    pub fn started(&self) -> i64 {
        self.time_micros.div_euclid(1_000_000).saturating_add(1).saturating_sub(self.uptime_seconds)
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    /// `loading`: the dataset is being loaded, commands are refused.
    pub loading: bool,
    /// `async_loading`: a dataset is being loaded while the old one serves.
    pub async_loading: bool,
    /// The append-only file.
    pub aof: Aof,
    /// The last save of an RDB file, or the last write to the append-only file, failed: `rdb_last_bgsave_status`,
    /// `aof_last_write_status`.
    pub fails: bool,
    /// `rdb_last_save_time`: the last save that succeeded, or the start, in seconds since 1970 by its node's clock.
    pub last_save: i64,
}

/// The append-only file, by `aof_enabled`, `aof_rewrite_in_progress` and `aof_rewrite_scheduled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aof {
    /// `appendonly no`.
    #[default]
    Off,
    /// A restart loads what is served now.
    Whole,
    /// A rewrite runs or is scheduled. If it is the first after a full sync, a restart loads what was there before that:
    /// Redis writes nothing that the next start would load before that rewrite is done, and schedules one that failed
    /// again (experiment E31). An ordinary rewrite looks the same.
    Rewriting,
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

impl Replication {
    /// Up to which offset this data lies in a history, if it is part of it.
    pub fn offset_in(&self, history: &str) -> Option<i64> {
        if self.replid == history {
            Some(self.offset)
        } else if self.replid2 == history {
            // second_repl_offset is the first offset that is no longer shared.
            Some(self.second_repl_offset.saturating_sub(1))
        } else {
            None
        }
    }

    /// Whether a `FAILOVER` runs on this server: `waiting-for-sync` while it still has role master, then
    /// `failover-in-progress` with role slave of the replica that shall become primary.
    pub fn failover_runs(&self) -> bool {
        self.failover_state != "no-failover"
    }
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

/// Why a text is not the INFO of a Redis that the operator can work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The whole section is missing: not a Redis, a sentinel, or INFO was asked for something else.
    #[error("INFO has no section {0}")]
    NoSection(&'static str),
    /// A field that every supported version prints is missing.
    #[error("INFO {section} has no field {field}")]
    NoField {
        /// Section that was read.
        section: &'static str,
        /// Field, or part of a `slaveN` line (`slave0 port`).
        field: String,
    },
    /// A field holds something else than it should.
    #[error("INFO {section}: {field} holds {held:?}, wanted {wanted}")]
    Value {
        /// Section that was read.
        section: &'static str,
        /// Field, or part of a `slaveN` line (`slave0 port`).
        field: String,
        /// What it held; only the beginning of a long text.
        held: String,
        /// What it should hold.
        wanted: &'static str,
    },
}

/// Parses one INFO answer that holds the sections server, replication and persistence, and keyspace if present.
pub fn parse(text: &str) -> Result<Info, ParseError> {
    Ok(Info {
        server: parse_server(text)?,
        replication: parse_replication(text)?,
        persistence: parse_persistence(text)?,
        clients: parse_clients(text),
        keys: parse_keys(text)?,
    })
}

/// Parses section `server` of an INFO answer.
pub fn parse_server(text: &str) -> Result<Server, ParseError> {
    let server = Section::of(text, "Server")?;
    // Valkey keeps `redis_version` at the version it forked from, for its clients' sake.
    let (flavour, version) = match server.optional("server_name") {
        Some("valkey") => (Flavour::Valkey, server.words("valkey_version")?),
        _ => (Flavour::Redis, server.words("redis_version")?),
    };
    Ok(Server {
        flavour,
        version,
        run_id: server.words("run_id")?,
        uptime_seconds: server.number("uptime_in_seconds")?,
        time_micros: server.number("server_time_usec")?,
    })
}

/// Parses section `persistence` of an INFO answer.
pub fn parse_persistence(text: &str) -> Result<Persistence, ParseError> {
    let persistence = Section::of(text, "Persistence")?;
    let [runs, scheduled] =
        [persistence.flag("aof_rewrite_in_progress")?, persistence.flag("aof_rewrite_scheduled")?];
    let has_failed = |field| persistence.optional(field) == Some("err");
    Ok(Persistence {
        fails: has_failed("rdb_last_bgsave_status") || has_failed("aof_last_write_status"),
        last_save: persistence.number("rdb_last_save_time").unwrap_or_default(),
        loading: persistence.flag("loading")?,
        // Redis 6.2 does not know the field.
        async_loading: match persistence.optional("async_loading") {
            Some(_) => persistence.flag("async_loading")?,
            None => false,
        },
        aof: match (persistence.flag("aof_enabled")?, runs || scheduled) {
            (false, _) => Aof::Off,
            (true, false) => Aof::Whole,
            (true, true) => Aof::Rewriting,
        },
    })
}

/// Parses section `replication` of an INFO answer.
pub fn parse_replication(text: &str) -> Result<Replication, ParseError> {
    let replication = Section::of(text, "Replication")?;
    let upstream = match replication.text("role")? {
        "master" => None,
        "slave" => Some(Upstream {
            host: replication.words("master_host")?,
            port: replication.number("master_port")?,
            link_up: replication.one_of("master_link_status", "up", "down", "up or down")?,
            last_io_seconds: replication.number("master_last_io_seconds_ago")?,
            sync_in_progress: replication.flag("master_sync_in_progress")?,
            offset: replication.number("slave_repl_offset")?,
        }),
        other => return Err(replication.odd("role", other, "master or slave")),
    };
    Ok(Replication {
        upstream,
        replicas: replication
            .numbered("slave")
            .map(|(field, line)| replication.connected_replica(field, line))
            .collect::<Result<_, _>>()?,
        failover_state: replication.words("master_failover_state")?,
        replid: replication.words("master_replid")?,
        replid2: replication.words("master_replid2")?,
        second_repl_offset: replication.number("second_repl_offset")?,
        offset: replication.number("master_repl_offset")?,
        backlog_active: replication.flag("repl_backlog_active")?,
    })
}

/// Parses section `clients`. Nothing is decided by it, so an answer without it is good all the same.
pub fn parse_clients(text: &str) -> Option<Clients> {
    let clients = Section::of(text, "Clients").ok()?;
    let number = |field| clients.number(field).ok();
    Some(Clients { connected: number("connected_clients")?, max: number("maxclients")? })
}

/// Sums the keys of all databases, or `None` where the answer has no section `keyspace`. An empty database has
/// no line, so an empty section means 0.
pub fn parse_keys(text: &str) -> Result<Option<i64>, ParseError> {
    let Ok(keyspace) = Section::of(text, "Keyspace") else { return Ok(None) };
    let mut keys = 0_i64;
    for (field, line) in keyspace.numbered("db") {
        keys = keys.saturating_add(keyspace.part(field, line, "keys")?);
    }
    Ok(Some(keys))
}

/// The longest value of a field that is kept, in bytes (`NET_HOST_STR_LEN`).
pub const LONGEST_VALUE: usize = 256;

/// The lines of one section.
struct Section<'a> {
    name: &'static str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Section<'a> {
    fn of(text: &'a str, name: &'static str) -> Result<Self, ParseError> {
        let is_header = |line: &str| line.strip_prefix("# ").is_some_and(|title| title == name);
        // `lines` takes the CR of CRLF away.
        let mut lines = text.lines().skip_while(|line| !is_header(line));
        lines.next().ok_or(ParseError::NoSection(name))?;
        let fields =
            lines.take_while(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':')).collect();
        Ok(Self { name, fields })
    }

    fn optional(&self, field: &str) -> Option<&'a str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| *value)
    }

    fn text(&self, field: &str) -> Result<&'a str, ParseError> {
        let held = self.optional(field).ok_or_else(|| self.missing(field))?;
        self.bounded(field, held)
    }

    /// A text that is kept. Whoever may tell the server `REPLICAOF` or `REPLCONF` chooses some of these: one that is odd must not
    /// make a stranger of the server that says it.
    fn words(&self, field: &str) -> Result<String, ParseError> {
        self.text(field).map(plain)
    }

    /// What goes into a status or the record may come from any server. Redis' own longest is a host name.
    fn bounded(&self, field: &str, held: &'a str) -> Result<&'a str, ParseError> {
        if held.len() <= LONGEST_VALUE { Ok(held) } else { Err(self.odd(field, held, "at most 256 bytes")) }
    }

    fn number<N: FromStr>(&self, field: &str) -> Result<N, ParseError> {
        let held = self.text(field)?;
        held.parse().map_err(|_| self.odd(field, held, "a number"))
    }

    fn flag(&self, field: &str) -> Result<bool, ParseError> {
        self.one_of(field, "1", "0", "0 or 1")
    }

    fn one_of(&self, field: &str, yes: &str, no: &str, wanted: &'static str) -> Result<bool, ParseError> {
        match self.text(field)? {
            held if held == yes => Ok(true),
            held if held == no => Ok(false),
            held => Err(self.odd(field, held, wanted)),
        }
    }

    /// The fields `<prefix>0`, `<prefix>1`, … and not `<prefix>_priority` and the like.
    fn numbered(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.fields.iter().copied().filter(move |(field, _)| {
            field
                .strip_prefix(prefix)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|digit| digit.is_ascii_digit()))
        })
    }

    fn connected_replica(&self, field: &str, line: &'a str) -> Result<ConnectedReplica, ParseError> {
        Ok(ConnectedReplica {
            host: plain(&self.part::<String>(field, line, "ip")?),
            port: self.part(field, line, "port")?,
            state: plain(&self.part::<String>(field, line, "state")?),
            offset: self.part(field, line, "offset")?,
            lag_seconds: self.part(field, line, "lag")?,
        })
    }

    /// One part of a line `k=v,k=v,…`.
    fn part<P: FromStr>(&self, field: &str, line: &'a str, key: &str) -> Result<P, ParseError> {
        let name = format!("{field} {key}");
        let held = line
            .split(',')
            .filter_map(|part| part.split_once('='))
            .find_map(|(k, v)| (k == key).then_some(v))
            .ok_or_else(|| self.missing(&name))?;
        self.bounded(&name, held)?.parse().map_err(|_| self.odd(&name, held, "a number"))
    }

    fn missing(&self, field: &str) -> ParseError {
        ParseError::NoField { section: self.name, field: field.to_owned() }
    }

    fn odd(&self, field: &str, held: &str, wanted: &'static str) -> ParseError {
        // The text may come from any server: it must not flood a status message.
        const LONGEST: usize = 64;
        ParseError::Value {
            section: self.name,
            field: field.to_owned(),
            held: held.chars().take(LONGEST).collect(),
            wanted,
        }
    }
}
