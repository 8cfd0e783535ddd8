//! One connection to one Redis. The only place that names the `redis` crate.
//!
//! A connection never reconnects: an act has to reach the very process that the observation came from
//! (`docs/design/protocol.md`, "Ideas"), and a process that ended takes its connections along.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisConnectionInfo, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cmd, pipe,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{Mutex, watch},
    task::AbortHandle,
};

use crate::redis::{
    bounded::{Allowance, Bounded},
    server::Target,
};
use redis_node::{
    answer::{Demands, ProbeFailure},
    info::{self, Info, Replication},
    login::Login,
    plain::plain,
};

/// What came of one command: no answer in time, an error reply as the crate has it, or success.
pub(super) type Raw = Result<Result<(), RedisError>, ProbeFailure>;

/// Name of the operator's connections, as `CLIENT LIST` shows it.
const OPERATOR: &str = "redis-operator";

/// A server at its client limit says so as soon as it has accepted a connection.
const GREETING_WITHIN: Duration = Duration::from_millis(200);

/// The longest answer to a command, in bytes. `INFO` is some 10 KiB, and a set has nine pods at most.
const LONGEST_ANSWER: usize = 256 << 10;
/// The longest `CLIENT LIST`: some 100,000 clients.
const LONGEST_LIST: usize = 32 << 20;

/// The ids of the operators' connections in a `CLIENT LIST`.
fn operators(list: &str) -> Vec<&str> {
    let is_operator =
        |line: &&str| line.split(' ').any(|field| field.strip_prefix("name=") == Some(OPERATOR));
    list.lines().filter(is_operator).filter_map(|line| line.strip_prefix("id=")?.split(' ').next()).collect()
}

/// An authenticated connection to one Redis process; clones go over the same one, one command at a time. Each method is
/// bounded by the deadline that the connection was opened with; after a time-out nobody knows whether the server has carried the
/// command out, and what is sent next waits behind it.
#[derive(Clone, Debug)]
pub struct Connection {
    wire: Arc<Wire>,
    inner: MultiplexedConnection,
    pub(super) deadline: Duration,
}

/// What the clones of a connection share.
#[derive(Debug)]
struct Wire {
    allowance: Allowance,
    /// Held from a command to its answer: the allowance is for one answer.
    turn: Mutex<()>,
    /// True once the server has closed it or broken the protocol, or it was given up.
    ended: watch::Receiver<bool>,
    /// As whom the server knows it.
    login: std::sync::Mutex<Login>,
    /// Reads what the server sends. One that waits for an answer would wait for ever.
    reader: AbortHandle,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Wire {
    /// Closes the connection.
    fn give_up(&self) {
        self.allowance.end();
        self.reader.abort();
    }
}

/// A question with fewer replies than commands. Unless it is answered as it should be, also where nobody waits for the answer any
/// more, the connection is given up: each later reply could be that to another command.
struct Step<'a> {
    wire: &'a Wire,
    is_kept: bool,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.wire.give_up();
        }
    }
}

impl Connection {
    /// Connects and authenticates, within `deadline`.
    pub(super) async fn open(
        target: &Target,
        login: &Login,
        deadline: Duration,
    ) -> Result<Self, ProbeFailure> {
        let (end, ended) = watch::channel(false);
        let allowance = Allowance::new(end);
        allowance.set(LONGEST_ANSWER);
        let connected = within(deadline, connect(target, allowance.clone())).await?;
        let (inner, reader) = connected.map_err(|error| classify(&error, ""))?;
        let wire = Wire {
            allowance,
            turn: Mutex::default(),
            ended,
            login: std::sync::Mutex::new(login.clone()),
            reader,
        };
        let mut connection = Self { wire: Arc::new(wire), inner, deadline };
        // AUTH is sent here, not by the crate: it calls every error reply to AUTH a wrong password, also "max
        // number of clients reached".
        let taken = connection.run("AUTH", &auth(login)).await;
        if let Err(ProbeFailure::Connection(_)) = taken
            && let Some(refusal) = within(deadline, refused_at_once(target)).await?
        {
            return Err(refusal);
        }
        taken?;
        Ok(connection)
    }

    /// Names the connection, keeps it from being closed where clients take too much memory (Redis 7.0), and its commands from
    /// counting as use of a key (Redis 7.2). A server that does not know one of the three goes on without it.
    pub(super) async fn introduce(&mut self) -> Result<(), ProbeFailure> {
        let mut all = pipe();
        all.cmd("CLIENT").arg("SETNAME").arg(OPERATOR);
        all.cmd("CLIENT").arg("NO-EVICT").arg("ON").cmd("CLIENT").arg("NO-TOUCH").arg("ON");
        match self.pipeline(&all, 3).await? {
            Err(error) if error.kind() == ErrorKind::Io => Err(classify(&error, "CLIENT")),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the server has closed it, or it was given up.
    pub(super) fn has_ended(&self) -> bool {
        *self.wire.ended.borrow()
    }

    /// Waits until the server closes it. No command need be under way for that.
    pub async fn ended(&self) {
        // There is no error: the sender lives as long as the connection.
        let _ = self.wire.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Closes it.
    pub(super) fn give_up(&self) {
        self.wire.give_up();
    }

    /// As whom the server accepted it.
    pub fn login(&self) -> Login {
        self.wire.login.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It has logged in again.
    pub(super) fn is_now(&self, login: &Login) {
        login.clone_into(&mut self.wire.login.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// `INFO`, all that the operator reads: server, persistence, replication and keyspace. The plain form, since
    /// Redis 6.2 takes one section name at most; one answer is also one moment, four would not be.
    pub async fn info(&mut self) -> Result<Info, ProbeFailure> {
        let text: String = self.query("INFO", &cmd("INFO")).await?;
        info::parse(&text).map_err(|error| ProbeFailure::Malformed(error.to_string()))
    }

    /// Whether the server turns newcomers away: it takes no more clients, or not this login.
    pub async fn turns_away(
        &mut self,
        replication: &Replication,
        login: &Login,
    ) -> Result<bool, ProbeFailure> {
        // Redis 6.2 takes one section at a time.
        let text: String = self.query("INFO", cmd("INFO").arg("clients")).await?;
        Ok(info::is_full(replication, info::parse_clients(&text)) || !self.takes(login).await?)
    }

    /// `INFO replication`, and then `after` where that is wanted by what it says; no other command over this connection comes between the
    /// two. `None` where it is not wanted.
    pub(super) async fn replication_and(
        &mut self,
        is_wanted: impl FnOnce(&Replication) -> bool,
        (after, limit): (&Cmd, Duration),
    ) -> Result<(Replication, Option<Raw>), ProbeFailure> {
        let wire = Arc::clone(&self.wire);
        let _turn = within(self.deadline, wire.turn.lock()).await?;
        wire.allowance.set(LONGEST_ANSWER);
        let mut info = cmd("INFO");
        let asked = info.arg("replication").query_async::<String>(&mut self.inner);
        let text = within(self.deadline, asked).await?.map_err(|error| classify(&error, "INFO"))?;
        let replication =
            info::parse_replication(&text).map_err(|error| ProbeFailure::Malformed(error.to_string()))?;
        if !is_wanted(&replication) {
            return Ok((replication, None));
        }
        wire.allowance.set(LONGEST_ANSWER);
        let told = within(limit, after.query_async::<()>(&mut self.inner)).await;
        Ok((replication, Some(told)))
    }

    /// `INFO replication`, for the second look before an act and for its confirmation after.
    pub async fn info_replication(&mut self) -> Result<Replication, ProbeFailure> {
        let text: String = self.query("INFO", cmd("INFO").arg("replication")).await?;
        info::parse_replication(&text).map_err(|error| ProbeFailure::Malformed(error.to_string()))
    }

    /// `replica-announce-ip` as configured, empty if it is not; and what the server demands of its replicas. One pattern covers
    /// both, and Redis 6.2 takes no more than one.
    pub async fn replication_settings(&mut self) -> Result<(String, Option<Demands>), ProbeFailure> {
        const NAME: &str = "replica-announce-ip";
        let answer: Vec<String> = self.query("CONFIG", cmd("CONFIG").arg("GET").arg("*repl*")).await?;
        let settings: BTreeMap<&str, &str> = answer
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect();
        let number = |name: &str| settings.get(name)?.parse().ok();
        let demands = || {
            Some(Demands {
                min_replicas: number("min-replicas-to-write")?,
                max_lag_seconds: number("min-replicas-max-lag")?,
                ping_seconds: number("repl-ping-replica-period")?,
            })
        };
        match settings.get(NAME) {
            Some(value) if value.len() <= info::LONGEST_VALUE => Ok((plain(value), demands())),
            _ => Err(ProbeFailure::Malformed(format!("CONFIG GET did not return {NAME}"))),
        }
    }

    /// What the server reads back of these directives, in its own spelling; what it does not know is left out.
    ///
    /// Redis 6.2 takes one pattern at a time. All directives in one answer would leave the buffer of this connection, which never
    /// shrinks, at twice its size.
    pub async fn config(
        &mut self,
        wanted: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ProbeFailure> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut all = pipe();
        for name in wanted.keys() {
            all.cmd("CONFIG").arg("GET").arg(name);
        }
        let told = self.pipeline(&all, wanted.len()).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found = BTreeMap::new();
        for answer in told.map_err(|error| classify(&error, "CONFIG"))? {
            let answer = answer.extract_error().map_err(|error| classify(&error, "CONFIG"))?;
            let answer = Vec::<Vec<u8>>::from_redis_value(answer)
                .map_err(|error| classify(&RedisError::from(error), "CONFIG"))?;
            found.extend(answer.chunks_exact(2).filter_map(|pair| match pair {
                [name, value] => Some((text(name), text(value))),
                _ => None,
            }));
        }
        found.retain(|name, _| wanted.contains_key(name));
        Ok(found)
    }

    /// `CONFIG SET`, one directive: Redis 6.2 takes no more. The inner error is the server's refusal in its own words,
    /// one short line.
    pub async fn set_config(&mut self, name: &str, value: &[u8]) -> Result<Result<(), String>, ProbeFailure> {
        let mut command = cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        match self.raw(self.deadline, &command).await? {
            Ok(()) => Ok(Ok(())),
            Err(error) => match classify(&error, "CONFIG SET") {
                ProbeFailure::Reply(_) => Ok(Err(words(&error))),
                failure => Err(failure),
            },
        }
    }

    /// `REPLICAOF host port`. The answer says that the server will try; INFO says whether it follows. The same
    /// host and port again changes nothing (experiment E6).
    pub async fn replicaof(&mut self, host: &str, port: u16) -> Result<(), ProbeFailure> {
        self.run("REPLICAOF", cmd("REPLICAOF").arg(host).arg(port)).await
    }

    /// `REPLICAOF NO ONE`: the server serves as primary from now on.
    pub async fn replicaof_no_one(&mut self) -> Result<(), ProbeFailure> {
        self.run("REPLICAOF", cmd("REPLICAOF").arg("NO").arg("ONE")).await
    }

    /// `CLIENT PAUSE … WRITE`: writes of all clients wait, reads and admin commands go on. Ends by itself.
    pub async fn pause_writes(&mut self, limit: Duration) -> Result<(), ProbeFailure> {
        self.run("CLIENT", cmd("CLIENT").arg("PAUSE").arg(limit.as_millis().to_string()).arg("WRITE")).await
    }

    /// `CLIENT UNPAUSE`.
    pub async fn resume_writes(&mut self) -> Result<(), ProbeFailure> {
        self.run("CLIENT", cmd("CLIENT").arg("UNPAUSE")).await
    }

    /// `CLIENT KILL` of every client that is neither this connection nor part of the replication, subscribers too.
    /// Returns how many.
    pub async fn cut_clients(&mut self) -> Result<u64, ProbeFailure> {
        let mut count = 0;
        for kind in ["normal", "pubsub"] {
            let command = cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes").clone();
            count += self.query::<u64>("CLIENT", &command).await?;
        }
        Ok(count)
    }

    /// `FAILOVER TO host port TIMEOUT ms`: hands the role over to this replica; nothing is lost, and where it cannot
    /// catch up in time everything stays as it was. The answer says that it began; INFO says how it ends. Name and port
    /// must be those that the replica announces (experiment E7).
    pub async fn failover(&mut self, host: &str, port: u16, limit: Duration) -> Result<(), ProbeFailure> {
        let limit = limit.as_millis().to_string();
        self.run("FAILOVER", cmd("FAILOVER").arg("TO").arg(host).arg(port).arg("TIMEOUT").arg(limit)).await
    }

    /// `REPLCONF GETACK *` to a replica: it acknowledges its offset to its primary at once.
    ///
    /// # Errors
    /// Why it is not known to have done so. The connection is given up then.
    pub async fn acknowledge_now(&mut self) -> Result<(), ProbeFailure> {
        // Redis never replies to it (`replconfCommand`), so one reply, to PING, is that of both. One that an ACL forbids it to
        // gets two, and whoever asks next would be given the second.
        let wire = Arc::clone(&self.wire);
        let mut step = Step { wire: &wire, is_kept: false };
        let mut both = pipe();
        both.cmd("REPLCONF").arg("GETACK").arg("*").cmd("PING");
        let told = self.pipeline(&both, 1).await?;
        match told.map_err(|error| classify(&error, "REPLCONF"))?.as_slice() {
            [Value::SimpleString(pong)] if pong == "PONG" => {
                step.is_kept = true;
                Ok(())
            }
            _ => Err(ProbeFailure::Reply("another reply than PONG to REPLCONF".to_owned())),
        }
    }

    /// Closes all other connections of an operator: what is still on its way over them never arrives. Named once more, since a
    /// client can rename none but itself, and a name is what the next operator finds this one by.
    pub async fn fence_other_operators(&mut self) -> Result<(), ProbeFailure> {
        self.run("CLIENT", cmd("CLIENT").arg("SETNAME").arg(OPERATOR)).await?;
        let list = cmd("CLIENT").arg("LIST").arg("TYPE").arg("normal").clone();
        let list: String = self.query_up_to(LONGEST_LIST, "CLIENT", &list).await?;
        for id in operators(&list) {
            // Its own is skipped (SKIPME is the default). One that is gone meanwhile is not found: 0 is the answer.
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("ID").arg(id);
            self.query::<i64>("CLIENT", &kill).await?;
        }
        Ok(())
    }

    /// `FAILOVER ABORT`. True if one was under way.
    pub async fn abort_failover(&mut self) -> Result<bool, ProbeFailure> {
        match self.run("FAILOVER", cmd("FAILOVER").arg("ABORT")).await {
            Ok(()) => Ok(true),
            // "No failover in progress" has no code word of its own.
            Err(ProbeFailure::Reply(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// `FAILOVER ABORT`, after which writes wait for `limit` at most. In one go: nobody writes in between. Redis 6.2 ends
    /// all pauses with the failover, later versions their own alone.
    pub async fn abort_failover_without_writes(&mut self, limit: Duration) -> Result<(), ProbeFailure> {
        let limit = limit.as_millis().to_string();
        let mut all = pipe();
        all.cmd("FAILOVER").arg("ABORT").cmd("CLIENT").arg("PAUSE").arg(limit).arg("WRITE");
        let told = self.pipeline(&all, 2).await?;
        let replies = told.map_err(|error| classify(&error, "FAILOVER"))?;
        // Of the first an error says that it had ended by itself.
        match replies.as_slice() {
            [_, Value::Okay] => Ok(()),
            _ => Err(ProbeFailure::Reply("no OK to CLIENT PAUSE".to_owned())),
        }
    }

    pub(super) async fn run(&mut self, name: &str, command: &Cmd) -> Result<(), ProbeFailure> {
        self.query(name, command).await
    }

    /// One command, and the error reply as the crate has it.
    pub(super) async fn raw(&mut self, deadline: Duration, command: &Cmd) -> Raw {
        self.ask(deadline, LONGEST_ANSWER, command).await
    }

    pub(super) async fn query<T: FromRedisValue>(
        &mut self,
        name: &str,
        command: &Cmd,
    ) -> Result<T, ProbeFailure> {
        self.query_up_to(LONGEST_ANSWER, name, command).await
    }

    async fn query_up_to<T: FromRedisValue>(
        &mut self,
        longest: usize,
        name: &str,
        command: &Cmd,
    ) -> Result<T, ProbeFailure> {
        self.ask(self.deadline, longest, command).await?.map_err(|error| classify(&error, name))
    }

    /// One command and its answer of so many bytes at most, when it is its turn.
    async fn ask<T: FromRedisValue>(
        &mut self,
        deadline: Duration,
        longest: usize,
        command: &Cmd,
    ) -> Result<Result<T, RedisError>, ProbeFailure> {
        within(deadline, async {
            let _turn = self.wire.turn.lock().await;
            self.wire.allowance.set(longest);
            command.query_async(&mut self.inner).await
        })
        .await
    }

    /// Several commands in one go, and so many answers.
    pub(super) async fn pipeline(
        &mut self,
        commands: &Pipeline,
        answers: usize,
    ) -> Result<Result<Vec<Value>, RedisError>, ProbeFailure> {
        within(self.deadline, async {
            let _turn = self.wire.turn.lock().await;
            self.wire.allowance.set(LONGEST_ANSWER);
            self.inner.req_packed_commands(commands, 0, answers).await
        })
        .await
    }
}

/// Dials the address that the API server gave: the pod that is meant is the pod that is asked, whatever the cluster's DNS
/// still says.
async fn connect(
    target: &Target,
    allowance: Allowance,
) -> Result<(MultiplexedConnection, AbortHandle), RedisError> {
    let stream = TcpStream::connect((target.address, target.port)).await?;
    stream.set_nodelay(true)?;
    // The lib name is not sent: a user with few rights need not have CLIENT SETINFO.
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    // The crate's own time-outs are off: one deadline a call, set by `within`, is easier to reason about.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let bounded = Bounded::new(stream, allowance);
    let (connection, driver) = MultiplexedConnection::new_with_config(&settings, bounded, config).await?;
    Ok((connection, tokio::spawn(driver).abort_handle()))
}

/// The command that logs in.
pub(super) fn auth(login: &Login) -> Cmd {
    cmd("AUTH").arg(&login.user).arg(login.password.as_bytes()).clone()
}

/// Whether a server refuses new clients before it reads anything. One at its limit writes that and closes, and a client that
/// sends meanwhile may learn of the closing alone: so this one listens and says nothing.
async fn refused_at_once(target: &Target) -> Option<ProbeFailure> {
    let mut greeting = [0; 128];
    let mut stream = TcpStream::connect((target.address, target.port)).await.ok()?;
    let heard = tokio::time::timeout(GREETING_WITHIN, stream.read(&mut greeting)).await.ok()?.ok()?;
    ProbeFailure::client_limit(&String::from_utf8_lossy(greeting.get(..heard)?))
}

/// Bounds a future by the deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    future: impl Future<Output = T>,
) -> Result<T, ProbeFailure> {
    tokio::time::timeout(deadline, future).await.map_err(|_| ProbeFailure::Timeout(deadline))
}

/// What an error of the crate means. By code word, not by text, since Redis and Valkey word theirs differently; but for one that has
/// none.
pub(super) fn classify(error: &RedisError, command: &str) -> ProbeFailure {
    match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => ProbeFailure::Refused,
        // The operating system's words ("Connection reset by peer"), not the server's.
        ErrorKind::Io => ProbeFailure::Connection(error.to_string()),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            ProbeFailure::Malformed("no valid reply in the Redis protocol".to_owned())
        }
        kind => match error.code().map(code_word) {
            Some(code @ ("NOAUTH" | "WRONGPASS")) => ProbeFailure::Auth(code.to_owned()),
            Some("LOADING") => ProbeFailure::Loading,
            Some("BUSY") => ProbeFailure::Busy,
            Some(code) => ProbeFailure::client_limit(error.detail().unwrap_or_default())
                .unwrap_or_else(|| ProbeFailure::Reply(format!("{code} to {command}"))),
            None => ProbeFailure::Connection(format!("{kind:?}")),
        },
    }
}

/// What a server says to a command that a user can see the arguments of: the first line, as far as it is plain text.
pub(super) fn words(error: &RedisError) -> String {
    const LONGEST: usize = 200;
    let code = error.code().map_or("an unknown code", code_word);
    let detail = error.detail().unwrap_or_default().lines().next().unwrap_or_default();
    let detail: String = detail.chars().filter(|c| matches!(c, ' '..='~')).take(LONGEST).collect();
    format!("{code} {detail}")
}

/// A code word as Redis uses them, or a stand-in: what a foreign server writes there must not reach a status.
fn code_word(code: &str) -> &str {
    const LONGEST: usize = 32;
    let is_code = !code.is_empty() && code.len() <= LONGEST && code.bytes().all(|b| b.is_ascii_uppercase());
    if is_code { code } else { "an unknown code" }
}
