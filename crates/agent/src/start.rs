//! `agent start`: ask the peers, decide, write redis.conf, become Redis. Each step is one line of the pod's log.

use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool, mpsc::RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use signal_hook::{consts::SIGTERM, flag::register_conditional_shutdown};
use thiserror::Error;

use crate::{
    ask::{ASK_WITHIN, Resolve, ask_all, resolve},
    config::{Managed, NoUsers, UnsafeDirective, Users, is_dns_name, render},
    data::{self, Load},
    dump, internal,
    lock::lock,
    start_rule::{Own, PeerAnswer, Point, Says, Silence, Start, decide},
};
use redis_node::{
    answer::ProbeFailure,
    files::{
        AGENT_PASSWORD_KEY, CONFIG_DIR, CONFIG_KEY, DATA_DIR, INTERNAL_DIR, MEMBERS_KEY, RECORD_DIR,
        RECORD_KEY, RUN_DIR, USERS_KEY,
    },
    login::Login,
    password::{Password, PasswordError},
    record::Record,
};

/// Names that the server's executable has, in order of preference. Valkey images have both or the second.
const SERVERS: [&str; 2] = ["redis-server", "valkey-server"];

/// Exit code after SIGTERM, as a shell would report it; never 0, which stands for a Redis that has saved.
const EXIT_SIGTERM: i32 = 128 + SIGTERM;

/// Where the agent finds what it needs.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Name of this pod
    #[arg(long)]
    pub pod: String,
    /// DNS domain of the pods, for example redis-headless.lab.svc.cluster.local
    #[arg(long)]
    pub domain: String,
    /// The user's redis.conf directives, one `name value` a line
    #[arg(long, default_value_t = format!("{CONFIG_DIR}/{CONFIG_KEY}"))]
    pub config: String,
    /// The set's members, one pod name a line
    #[arg(long, default_value_t = format!("{RECORD_DIR}/{MEMBERS_KEY}"))]
    pub members: String,
    /// The role record; it only ever keeps Redis from following a member that the record speaks against
    #[arg(long, default_value_t = format!("{RECORD_DIR}/{RECORD_KEY}"))]
    pub record: String,
    /// The operator's passwords and all users, as its Secret has them
    #[arg(long, default_value_t = INTERNAL_DIR.to_owned())]
    pub internal_dir: String,
    /// Where the final redis.conf is written; it holds a password, so this should be in memory
    #[arg(long, default_value_t = RUN_DIR.to_owned())]
    pub run_dir: String,
    /// Redis' working directory
    #[arg(long, default_value_t = DATA_DIR.to_owned())]
    pub data_dir: String,
    /// Whom Redis follows when it starts
    #[arg(long, value_enum, default_value_t = Rule::Peers)]
    pub start: Rule,
    /// How long to wait for members that do not answer; a Redis that parks is pointed at the primary by the operator
    /// within a second, and pods that start in order each wait for those that are not there yet
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub wait: u64,
}

/// Whom a Redis follows when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// The one other member that serves as primary; nobody where that is not clear
    Peers,
    /// Nobody, until the operator says so
    Parked,
}

/// Why Redis could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// `--pod` and `--domain` make no DNS name.
    #[error("{0:?} is not a DNS name; check --pod and --domain")]
    NotAName(String),
    /// A file cannot be read or written.
    #[error("{path}: {error}; check that the volume is mounted there")]
    File {
        /// Path of the file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// No password.
    #[error("Redis does not start until the operator's Secret is there: {0}")]
    Password(#[from] PasswordError),
    /// No users.
    #[error("Redis does not start until the operator's Secret is mended: {0}")]
    Users(#[from] NoUsers),
    /// The volume's data would not be loaded.
    #[error(transparent)]
    OtherKind(#[from] data::OtherKind),
    /// The user's configuration is not safe.
    #[error(transparent)]
    Config(#[from] UnsafeDirective),
    /// The signal handler could not be set.
    #[error("cannot handle SIGTERM: {0}")]
    Signal(io::Error),
    /// The image has no server.
    #[error(
        "found neither redis-server nor valkey-server in PATH; spec.image must be a Redis (6.2 or newer) or Valkey (8 or newer) image"
    )]
    NoServer,
    /// The server could not be executed.
    #[error("cannot execute {0}: {1}")]
    Exec(&'static str, io::Error),
}

/// Runs the whole start; on success this process is Redis.
pub fn start(options: &Options) -> Result<Infallible, StartError> {
    // PID 1 has no default signal actions: without this, a pod that is deleted while it waits would sit out its
    // whole grace period. The handler ends the process; exec takes it away again.
    register_conditional_shutdown(SIGTERM, EXIT_SIGTERM, Arc::new(AtomicBool::new(true)))
        .map_err(StartError::Signal)?;

    let mut log = |line: &str| {
        // Nobody can be told that the log is gone.
        let _ = writeln!(io::stdout(), "{line}");
    };
    let own_host = format!("{}.{}", options.pod, options.domain);
    if !is_dns_name(&own_host) {
        return Err(StartError::NotAName(own_host));
    }
    let Internal { agent, replica_password, users } = secret(options)?;
    let user_config = fs::read_to_string(&options.config)
        .map_err(|error| StartError::File { path: options.config.clone(), error })?;
    // Where files cannot be locked, Redis starts as it would without: what it needs from its volume it says itself.
    let lock = lock(Path::new(&options.data_dir), &mut log)
        .inspect_err(|error| log(&format!("cannot lock {}: {error}; starting without", options.data_dir)));
    let load = data::check(&user_config, Path::new(&options.data_dir))?;
    match load {
        Load::AsConfigured => {}
        Load::AppendOnly => log(
            "the volume holds append-only files, and no dump.rdb that is newer: Redis loads them although spec.config does \
             not say appendonly yes; the operator switches them off again",
        ),
        Load::OverOlderAppendOnly => {
            log("the volume holds append-only files that are older than dump.rdb; Redis passes over them");
        }
    }
    let appends = load == Load::AppendOnly || data::appendonly(&user_config);
    // Without a list no peer is known, and that parks; the operator can still reach a parked Redis.
    let members = fs::read_to_string(&options.members).unwrap_or_else(|error| {
        log(&format!("cannot read the member list {}: {error}", options.members));
        String::new()
    });

    let peers = peers(&members, &options.pod, &options.domain);
    log(&format!(
        "this is {own_host}; other members: {}",
        if peers.is_empty() { "none".into() } else { peers.join(", ") }
    ));
    let resolve: Arc<Resolve> = Arc::new(resolve);
    let data = if appends { None } else { loaded(Path::new(&options.data_dir), &mut log) };
    let record = mounted_record(&options.record, &mut log);
    let own = Own {
        host: &own_host,
        pod: &options.pod,
        data: data.as_ref(),
        record: record.as_ref(),
        starts_parked: options.start == Rule::Parked,
    };
    let start = choose(own, &peers, &agent, &resolve, Duration::from_secs(options.wait), &mut log);
    if let Start::Park { reason } = &start {
        log(&format!(
            "parked: {reason}; Redis keeps its data and refuses writes until the operator gives it a role"
        ));
    }

    let (host, port) = start.replica_of();
    let managed = Managed {
        announce: &own_host,
        data_dir: &options.data_dir,
        users: &users,
        replica_password: &replica_password,
        replica_of: (host, port),
        appends,
    };
    let conf = render(&user_config, managed)?;
    let path = Path::new(&options.run_dir).join(CONFIG_KEY);
    // What preStop logs in with where the mounted one has changed since, or is gone.
    let of_agent = Path::new(&options.run_dir).join(AGENT_PASSWORD_KEY);
    for (path, bytes) in [(&path, conf.as_bytes()), (&of_agent, agent.password.as_bytes())] {
        write_private(path, bytes)
            .map_err(|error| StartError::File { path: path.display().to_string(), error })?;
    }
    log(&format!("starting Redis: replicaof {host} {port}"));
    exec(&path, lock.as_ref().ok())
}

/// What the operator's Secret gives.
struct Internal {
    agent: Arc<Login>,
    replica_password: Password,
    users: Users,
}

fn secret(options: &Options) -> Result<Internal, StartError> {
    let directory = Path::new(&options.internal_dir);
    let replica_password = internal::replica_password(directory)?;
    let agent = Arc::new(internal::agent(directory)?);
    let users = internal::users(directory)
        .map_err(|error| StartError::File { path: format!("{}/{USERS_KEY}", options.internal_dir), error })?;
    Ok(Internal { agent, replica_password, users: Users::check(&users)? })
}

/// The role record as the kubelet mounted it. Without one nothing is forbidden, and the peers' answers decide alone.
fn mounted_record(path: &str, log: &mut dyn FnMut(&str)) -> Option<Record> {
    let text = fs::read_to_string(path).ok()?;
    match serde_json::from_str(&text) {
        Ok(record) => Some(record),
        Err(error) => {
            log(&format!(
                "cannot read the role record {path}: {error}; the other members' answers decide alone"
            ));
            None
        }
    }
}

/// Where the data of a dump ends that Redis will load. A file that cannot be read does not say, and Redis itself will say
/// why; nor do append-only files.
fn loaded(data_dir: &Path, log: &mut dyn FnMut(&str)) -> Option<Point> {
    let path = data_dir.join(data::DUMP);
    match dump::end(&path) {
        Ok(end) => end,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log(&format!("cannot read where {} ends: {error}", path.display()));
            None
        }
    }
}

/// DNS names of the other members. A line that is no name is nobody's.
fn peers(members: &str, own_pod: &str, domain: &str) -> Vec<String> {
    let mut peers: Vec<String> = members
        .lines()
        .map(str::trim)
        .filter(|pod| *pod != own_pod && is_dns_name(pod))
        .map(|pod| format!("{pod}.{domain}"))
        .collect();
    peers.sort();
    peers.dedup();
    peers
}

/// Asks the peers until [`decide`] has decided, at most `wait` long unless a peer hands its role over to this pod;
/// never returns [`Start::Wait`] or [`Start::Withhold`].
///
/// Says each new answer, and once a second whom it waits for.
pub fn choose(
    own: Own<'_>,
    peers: &[String],
    agent: &Arc<Login>,
    resolve: &Arc<Resolve>,
    wait: Duration,
    log: &mut dyn FnMut(&str),
) -> Start {
    let began = Instant::now();
    let answers = ask_all(peers, agent, resolve);
    let mut latest: Vec<PeerAnswer> =
        peers.iter().map(|host| PeerAnswer { host: host.clone(), says: Says::NotYet }).collect();
    let mut seconds = 0;
    loop {
        let spent = began.elapsed();
        let decision = decide(own, &latest, spent >= wait);
        let next_second = Duration::from_secs(seconds + 1);
        let (tick, why) = match &decision {
            Start::Follow { .. } | Start::Park { .. } => return decision,
            Start::Wait { peers } => {
                let (peers, wait_seconds) = (peers.join(", "), wait.as_secs());
                (
                    next_second.min(wait),
                    format!("waiting for {peers} ({} s of {wait_seconds} s)", next_second.as_secs()),
                )
            }
            Start::Withhold { peers } => {
                let peers = peers.join(", ");
                (
                    next_second,
                    format!(
                        "not starting yet ({} s): {peers} hands its role over to this pod, whose data may be \
                     older; the operator ends that",
                        next_second.as_secs()
                    ),
                )
            }
        };
        let left = tick.saturating_sub(spent);
        match answers.recv_timeout(left) {
            Ok((index, answer)) => {
                let known = latest.get_mut(index);
                let is_news = |known: &&mut PeerAnswer| {
                    **known != answer && known.says.yields_to(&answer.says, own.host)
                };
                if let Some(known) = known.filter(is_news) {
                    log(&format!("asked {answer}"));
                    *known = answer;
                }
            }
            Err(nothing) => {
                if nothing == RecvTimeoutError::Disconnected {
                    // Cannot be while a peer is left to ask; but time passes all the same.
                    thread::sleep(left);
                }
                seconds += 1;
                // A first question that is still open (a lookup that blocks, say) no longer holds up following.
                for peer in latest.iter_mut().filter(|peer| peer.says == Says::NotYet) {
                    peer.says = Says::Silent(Silence::Failed(ProbeFailure::Timeout(ASK_WITHIN)));
                    log(&format!("asked {peer}"));
                }
                log(&why);
            }
        }
    }
}

/// Writes a file that only we may read, and renames it into place.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    // Left by a start that was cut short; its mode is not to be trusted.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?.write_all(bytes)?;
    fs::rename(&part, path)
}

/// Becomes the Redis server of the image; returns only if that failed.
/// The lock's file becomes the server's standard input, which it does not read: so it stays open, and locked.
fn exec(config: &Path, lock: Option<&File>) -> Result<Infallible, StartError> {
    let stdin = || lock.and_then(|file| file.try_clone().ok()).map_or_else(Stdio::null, Stdio::from);
    for server in SERVERS {
        let error = Command::new(server).arg(config).stdin(stdin()).exec();
        if error.kind() != io::ErrorKind::NotFound {
            return Err(StartError::Exec(server, error));
        }
    }
    Err(StartError::NoServer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_the_other_members() {
        assert_eq!(
            peers("redis-1\nredis-0 \n\nredis-2\nredis-0\n", "redis-1", "d"),
            ["redis-0.d", "redis-2.d"]
        );
        assert!(peers("redis-1\n", "redis-1", "d").is_empty());
        assert!(peers("red is\n\"x\n", "redis-1", "d").is_empty());
    }
}
