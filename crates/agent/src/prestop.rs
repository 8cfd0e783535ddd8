//! `agent prestop`: the container's preStop hook. It waits, bounded, until the operator has moved the primary away
//! from this pod, so that a deletion, an eviction or a drain ends a replica and not the primary; and then until another
//! replica follows the new primary: this Redis has the only copy until then, and `WAIT 1` would wait for nobody.
//!
//! It only asks. A `FAILOVER` from here would know neither the record nor the other members' data, and would cross
//! the operator's own, which sees the pod's `deletionTimestamp` as soon as the kubelet does.
//!
//! The kubelet runs the hook before SIGTERM and within the pod's grace period: what is waited here is missing for
//! the save. It sends SIGTERM however the hook ends, so a failure would stop nothing and only make an Event: the exit
//! code is always 0.

use std::{
    fmt, fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ::redis::cmd;
use clap::Args;

use crate::{
    ask::resolve,
    internal,
    wire::{Reply, Wire, login},
};
use redis_node::{
    answer::ProbeFailure,
    files::{INTERNAL_DIR, REDIS_PORT, RUN_DIR},
    info::{Replication, Upstream, parse_replication},
    login::Login,
    password::PasswordError,
    plain::plain,
};

/// Between two questions. Each costs the server well under a millisecond, and each millisecond here is one that a
/// drain takes longer.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Time for one answer. A Redis that is silent for longer at the first question is not worth waiting for.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// How long a Redis that turns the hook away is asked what it is. The operator needs a few seconds to move the role away.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(20);

/// How long another replica may take to follow the new primary. The operator tells it to within a tenth of a second of
/// the takeover; one that a stale DNS answer leads astray takes longer than a deletion should.
const JOIN_WITHIN: Duration = Duration::from_secs(3);

/// Time for the line in the log. A pipe that nobody empties blocks its writers, and the hook must not sit out the
/// pod's grace period for a line.
const LOG_WITHIN: Duration = Duration::from_secs(1);

/// What the hook needs to know.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How long to wait at most; the pod's grace period must leave Redis time for two saves after it
    #[arg(long, value_name = "SECONDS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: u64,
    /// Port of Redis on 127.0.0.1
    #[arg(long, default_value_t = REDIS_PORT)]
    pub port: u16,
    /// The operator's logins, as its Secret has them
    #[arg(long, default_value_t = INTERNAL_DIR.to_owned())]
    pub internal_dir: String,
    /// Where the password is with which Redis was started
    #[arg(long, default_value_t = RUN_DIR.to_owned())]
    pub run_dir: String,
    /// Append the result to this file too; the kubelet shows nobody what a hook prints
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
}

/// Waits. Returns what came of it, in one line, which it has also appended to the log.
pub fn prestop(options: &Options) -> String {
    let began = Instant::now();
    let end = match Logins::read(options) {
        Ok(logins) => {
            let here = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
            let primary = |primary: &Upstream| ask_primary(primary, &logins);
            watch(Duration::from_secs(options.wait), || ask(here, &logins), primary)
        }
        Err(error) => End::NotAsked(error.to_string()),
    };
    let line = format!("preStop, {:.2} s: {end}", began.elapsed().as_secs_f64());
    if let Some(log) = &options.log {
        append(log.clone(), line.clone());
    }
    line
}

/// With what Redis is asked.
struct Logins {
    first: Login,
    /// Tried where the first is refused.
    second: Option<Login>,
}

impl Logins {
    /// The password in the Secret, and the one that Redis was started with: the operator may have changed it since, and the kubelet
    /// not have brought it here yet.
    fn read(options: &Options) -> Result<Self, PasswordError> {
        let started = internal::agent(Path::new(&options.run_dir)).ok();
        match (internal::agent(Path::new(&options.internal_dir)), started) {
            (Ok(first), second) => Ok(Self { first, second }),
            (Err(_), Some(first)) => Ok(Self { first, second: None }),
            (Err(error), None) => Err(error),
        }
    }
}

/// Appends a line, within [`LOG_WITHIN`]. Nobody can be told that a log is gone or full.
fn append(log: PathBuf, line: String) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let log = fs::OpenOptions::new().append(true).open(log);
        let _ = done.send(log.and_then(|mut log| writeln!(log, "{line}")));
    });
    let _ = is_done.recv_timeout(LOG_WITHIN);
}

/// `ask` asks this Redis, `ask_primary` the one that it follows by then.
fn watch(
    wait: Duration,
    ask: impl Fn() -> Result<Replication, ProbeFailure>,
    ask_primary: impl Fn(&Upstream) -> Option<Replication>,
) -> End {
    let began = Instant::now();
    let mut is_first = true;
    let mut replicas = Vec::new();
    loop {
        let answer = ask();
        // It may be the primary. The operator, which holds a connection, moves the role away, and cuts the clients then.
        let is_turned_away =
            is_first && matches!(answer, Err(ProbeFailure::ClientLimit | ProbeFailure::Auth(_)));
        if is_turned_away && began.elapsed() < wait.min(TURNED_AWAY_WITHIN) {
            thread::sleep(ASK_EVERY);
            continue;
        }
        let end = end(&answer, is_first, began.elapsed() >= wait);
        match (end, answer) {
            (Some(End::Moved), Ok(Replication { upstream: Some(primary), .. })) => {
                replicas.retain(|host| *host != primary.host);
                let within = JOIN_WITHIN.min(wait.saturating_sub(began.elapsed()));
                return join(&replicas, within, || ask_primary(&primary));
            }
            (Some(end), _) => return end,
            (None, Ok(Replication { upstream: None, replicas: linked, .. })) => {
                replicas = linked.into_iter().map(|replica| replica.host).collect();
            }
            (None, _) => {}
        }
        is_first = false;
        thread::sleep(ASK_EVERY);
    }
}

/// Waits until one of these replicas follows the new primary.
fn join(replicas: &[String], within: Duration, ask: impl Fn() -> Option<Replication>) -> End {
    let began = Instant::now();
    while !replicas.is_empty() {
        if ask().is_some_and(|primary| has_one_of(&primary, replicas)) {
            return End::Joined;
        }
        if began.elapsed() >= within {
            return End::NotJoined;
        }
        thread::sleep(ASK_EVERY);
    }
    End::Moved
}

fn has_one_of(primary: &Replication, replicas: &[String]) -> bool {
    let mut online = primary.replicas.iter().filter(|replica| replica.state == "online");
    primary.upstream.is_none() && online.any(|replica| replicas.contains(&replica.host))
}

/// Asks the new primary by its name; a stale DNS answer costs [`JOIN_WITHIN`], and so does a server that has none.
fn ask_primary(primary: &Upstream, logins: &Logins) -> Option<Replication> {
    resolve(&primary.host).ok()?.into_iter().find_map(|address| ask(address, logins).ok())
}

/// Asks a Redis for its role, with the password that it takes.
fn ask(address: SocketAddr, logins: &Logins) -> Result<Replication, ProbeFailure> {
    match (ask_with(address, &logins.first), &logins.second) {
        (Err(ProbeFailure::Auth(_)), Some(second)) => ask_with(address, second),
        (answer, _) => answer,
    }
}

/// Over a connection of its own: the operator cuts the connections of a primary that it has moved away.
fn ask_with(address: SocketAddr, agent: &Login) -> Result<Replication, ProbeFailure> {
    let mut wire = Wire::connect(address, ASK_WITHIN)?;
    wire.send(&[login(agent), cmd("INFO").arg("replication").clone()]);
    wire.answer()?;
    match wire.answer()? {
        Reply::Text(info) => {
            parse_replication(&info).map_err(|error| ProbeFailure::Malformed(error.to_string()))
        }
        other => Err(ProbeFailure::Malformed(plain(&format!("unexpected reply {other:?}")))),
    }
}

/// Why the hook ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// It was no primary to begin with.
    NoPrimary,
    /// It was, and is a replica now; it had no replica but the new primary.
    Moved,
    /// It is a replica now, and not the only one.
    Joined,
    /// It is a replica now, and for too long the only one.
    NotJoined,
    /// Nobody could take over.
    Alone,
    /// The time is spent.
    Over,
    /// Redis does not say what it is, and the reason.
    NotAsked(String),
}

/// Whether this answer ends the wait. `is_first`: nothing was waited yet; `is_over`: the time is spent.
fn end(answer: &Result<Replication, ProbeFailure>, is_first: bool, is_over: bool) -> Option<End> {
    match answer {
        // While a FAILOVER runs, role slave is not the end: the replica has not taken over yet.
        Ok(replication) if replication.upstream.is_some() && !replication.failover_runs() => {
            Some(if is_first { End::NoPrimary } else { End::Moved })
        }
        Ok(replication) if replication.upstream.is_none() && replication.replicas.is_empty() => {
            Some(End::Alone)
        }
        Ok(_) => is_over.then_some(End::Over),
        // A primary that a slow command or script holds up for a moment is still the primary.
        Err(ProbeFailure::Timeout(_) | ProbeFailure::Busy | ProbeFailure::ClientLimit) if !is_first => {
            is_over.then_some(End::Over)
        }
        Err(failure) => Some(End::NotAsked(failure.to_string())),
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPrimary => f.write_str("this Redis is not the primary, nothing to wait for"),
            Self::Moved => f.write_str("the primary was moved away from here"),
            Self::Joined => {
                f.write_str("the primary was moved away from here, and another replica follows the new one")
            }
            Self::NotJoined => write!(
                f,
                "the primary was moved away from here, but no other replica follows the new one after {} s",
                JOIN_WITHIN.as_secs()
            ),
            Self::Alone => f.write_str("no replica is linked that could take over, nothing to wait for"),
            Self::Over => f.write_str(
                "the primary was not moved away in time; Redis ends as primary (does the operator run, and does the \
                 set's status say what it waits for?)",
            ),
            Self::NotAsked(why) => write!(f, "this Redis cannot be asked for its role: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_node::info::{ConnectedReplica, Upstream};

    fn replica(host: &str, state: &str) -> ConnectedReplica {
        ConnectedReplica { host: host.into(), port: 6379, state: state.into(), offset: 1, lag_seconds: 0 }
    }

    fn server(follows: bool, replicas: usize, failover_state: &str) -> Replication {
        let upstream = Upstream {
            host: "a".into(),
            port: 6379,
            link_up: true,
            last_io_seconds: 0,
            sync_in_progress: false,
            offset: 1,
        };
        Replication {
            upstream: follows.then_some(upstream),
            replicas: vec![replica("b", "online"); replicas],
            failover_state: failover_state.into(),
            replid: "x".into(),
            replid2: "y".into(),
            second_repl_offset: -1,
            offset: 1,
            backlog_active: true,
        }
    }

    fn heard(server: Replication, is_first: bool, is_over: bool) -> Option<End> {
        end(&Ok(server), is_first, is_over)
    }

    #[test]
    fn only_a_primary_with_replicas_waits() {
        for is_over in [false, true] {
            assert_eq!(heard(server(true, 0, "no-failover"), true, is_over), Some(End::NoPrimary));
            assert_eq!(heard(server(true, 2, "no-failover"), true, is_over), Some(End::NoPrimary), "a chain");
            assert_eq!(heard(server(false, 0, "no-failover"), true, is_over), Some(End::Alone));
        }
        assert_eq!(heard(server(false, 1, "no-failover"), true, false), None);
    }

    #[test]
    fn waits_to_the_end_of_a_failover_and_no_longer() {
        assert_eq!(heard(server(false, 1, "waiting-for-sync"), false, false), None);
        for is_first in [false, true] {
            assert_eq!(heard(server(true, 1, "failover-in-progress"), is_first, false), None);
            assert_eq!(heard(server(true, 0, "failover-in-progress"), is_first, false), None, "dead target");
        }
        assert_eq!(heard(server(true, 0, "no-failover"), false, false), Some(End::Moved));
    }

    #[test]
    fn a_moved_primary_waits_for_another_replica_of_the_new_one() {
        let new_primary = |hosts: &[(&str, &str)]| Replication {
            replicas: hosts.iter().map(|(host, state)| replica(host, state)).collect(),
            ..server(false, 0, "no-failover")
        };
        let others = ["c".to_owned()];
        let heard = |answer: Option<Replication>, within| {
            join(&others, Duration::from_millis(within), || answer.clone())
        };
        assert_eq!(heard(Some(new_primary(&[("b", "online"), ("c", "online")])), 60_000), End::Joined);
        assert_eq!(heard(Some(new_primary(&[("b", "online"), ("c", "wait_bgsave")])), 1), End::NotJoined);
        assert_eq!(heard(Some(new_primary(&[("b", "online")])), 1), End::NotJoined, "this one itself");
        assert_eq!(heard(Some(server(true, 0, "no-failover")), 1), End::NotJoined, "no primary");
        assert_eq!(heard(None, 1), End::NotJoined);
        assert_eq!(join(&[], Duration::ZERO, || None), End::Moved, "a set of two");
    }

    #[test]
    fn ends_when_the_last_replica_has_gone_or_the_time_is_spent() {
        assert_eq!(heard(server(false, 0, "no-failover"), false, false), Some(End::Alone));
        assert_eq!(heard(server(false, 1, "no-failover"), false, true), Some(End::Over));
        assert_eq!(heard(server(true, 1, "failover-in-progress"), false, true), Some(End::Over));
    }

    #[test]
    fn silence_ends_it_at_once_unless_a_primary_was_heard() {
        let slow = [ProbeFailure::Timeout(ASK_WITHIN), ProbeFailure::Busy, ProbeFailure::ClientLimit];
        for failure in slow {
            assert!(matches!(end(&Err(failure.clone()), true, false), Some(End::NotAsked(_))));
            assert_eq!(end(&Err(failure.clone()), false, false), None);
            assert_eq!(end(&Err(failure), false, true), Some(End::Over));
        }
        for failure in [ProbeFailure::Refused, ProbeFailure::Auth(String::new())] {
            assert!(matches!(end(&Err(failure.clone()), true, false), Some(End::NotAsked(_))));
            assert!(matches!(end(&Err(failure), false, false), Some(End::NotAsked(_))));
        }
    }

    /// The operator moves the role away from a full primary, and cuts its clients: then there is room to ask. It does so too where
    /// somebody has changed the password of a running server.
    #[test]
    fn a_server_that_turns_the_hook_away_is_asked_again() {
        for failure in [ProbeFailure::ClientLimit, ProbeFailure::Auth("WRONGPASS".to_owned())] {
            let asked = std::cell::Cell::new(0);
            let answers_later = || {
                asked.set(asked.get() + 1);
                if asked.get() < 3 { Err(failure.clone()) } else { Ok(server(true, 0, "no-failover")) }
            };
            assert_eq!(watch(Duration::from_secs(60), answers_later, |_| None), End::NoPrimary);
            let end = watch(Duration::from_millis(1), || Err(failure.clone()), |_| None);
            assert!(matches!(end, End::NotAsked(_)), "{end:?}");
        }
    }
}
