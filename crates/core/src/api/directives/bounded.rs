//! Directives that a user can set within bounds: beyond them operator, probes or replicas are shut out, or a planned stop
//! loses data. Pure.
//!
//! A bound refuses what cannot work, not what is unwise. "Measured" means redis-server 7.0.15 where no other version is
//! named.

use kube_core::{Message, Rule};
use strum::EnumIter;

use super::{
    shape::Shape,
    verdicts::{self, Verdict},
};

/// Bytes of a mebibyte.
const MB: u64 = 1 << 20;

/// What a directive's value must be. Which directives, the table says (`verdicts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter)]
pub enum Bound {
    /// One spelling of `appendonly`, so that its change can be told.
    Appendonly,
    /// No sync mode that can lose data (experiments E18, E23).
    DisklessLoad,
    /// A ping period that the verdict on replicas allows for.
    PingPeriod,
    /// Connections for everybody who has to get in.
    Clients,
    /// Connections that wait to be accepted.
    AcceptQueue,
    /// Memory of all clients together.
    ClientMemory,
    /// What may wait for one client.
    OutputBuffers,
    /// What one client may send at once.
    QueryBuffer,
    /// Idle clients.
    Idle,
    /// When a silent link is given up.
    LinkTimeout,
    /// Memory of data and clients.
    Memory,
    /// What a replica may miss without a full copy.
    Backlog,
    /// How long a full copy waits for more replicas.
    SyncDelay,
    /// Replicas without which no write is taken.
    GoodReplicas,
    /// When a busy server begins to answer that it is.
    BusyAnswers,
    /// How often a loading server answers.
    LoadingAnswers,
    /// What a signal to end does.
    Shutdown,
    /// How long an ending primary waits for its replicas.
    ShutdownWait,
    /// Whether replicas evict by themselves.
    ReplicaEviction,
    /// What a replica does with a command that fails.
    PropagationErrors,
    /// Databases.
    Databases,
    /// A text that INFO repeats.
    Zone,
}

impl Bound {
    /// The values that are fine.
    #[allow(clippy::match_same_arms, reason = "the same number for another reason")]
    pub const fn shape(self) -> Shape {
        match self {
            Self::Appendonly => Shape::Words(&["yes", "no"]),
            Self::DisklessLoad => Shape::Words(&["disabled", "on-empty-db"]),
            // A replica that hears nothing for one and a half of Redis' default counts as out of sync (experiment E4).
            Self::PingPeriod => range(1, 10),
            // Eight replicas with two connections each during a full copy, 16; an operator and its successor, two each
            // (one that looks, one that acts), 4; three probes and the preStop hook of the pod, the last of each still
            // closing, 8; the agents of eight other pods that ask for the primary, 8; a person and a metrics exporter,
            // 4: 40, and half as much again. The connections of clients come on top, which nobody can bound here.
            // Redis needs 32 file descriptors of its own, and lowers maxclients where the process may not have as many.
            // Measured: with 64, eight replicas copied at once, 45 more connections came, and a person was answered.
            Self::Clients => at_least(64, false),
            // As many may come at once: after a restart all of them do.
            Self::AcceptQueue => at_least(64, false),
            // Redis closes connections, the largest first, and never those of replicas. A connection is some 20 kB, and
            // more while INFO, CONFIG GET * or CLIENT LIST is in its buffer: the 40 of above are 1 MB with those in use.
            // Measured with 40 idle connections and one that asks for all three: 1mb closed 13, 4mb none. A share is
            // one of maxmemory.
            Self::ClientMemory => Shape::SizeOrPercent { least: 4 * MB, least_percent: 5 },
            // Replicas: what is written during a full copy waits. Beyond the limit the link is cut, and the copy begins
            // again, for ever. Measured with 200 MB of data, 20 MB/s of writes and two replicas: `1kb 1kb 1` and `1kb 0
            // 0` came to 200 full copies in 10 s and no link; 16mb held. Redis 7.0 and later take the backlog's size
            // for a smaller hard limit: 1kb held with a backlog of 64mb. Normal clients: the operator reads CLIENT
            // LIST, some 350 bytes a client: 16mb are 45,000 clients.
            Self::OutputBuffers => Shape::OutputBuffers { least: 16 * MB },
            // Redis 6.2 holds the link to its primary to it as well. Measured with 6.2.14 and 1mb: a script's value of 5
            // MB cut the link and cost a full copy, at each such write.
            Self::QueryBuffer => Shape::Size { least: 64 * MB, zero: false },
            // The operator asks each 1.5 s; a reconcile may take 30 s, and does not read what is closed meanwhile.
            Self::Idle => at_least(30, true),
            // Three pings of ten seconds, Redis' default. A node that is gone without a word is waited for that long
            // before its replicas ask for the new address (experiment E4): an hour is more than anybody bears.
            Self::LinkTimeout => range(30, 3600),
            // An empty server uses 1 MB, and 2 MB with eight replicas and a full backlog of 1 MB (measured with 6.2.14,
            // 7.0.15 and 8.2.3). Valkey's backlog is 10 MB by default.
            Self::Memory => Shape::Size { least: 16 * MB, zero: true },
            // Redis' smallest default; a break of the link costs a full copy where it holds less than was missed.
            Self::Backlog => Shape::Size { least: MB, zero: false },
            // Redis waits 5 s by default.
            Self::SyncDelay => range(0, 60),
            // A set has nine members at most.
            Self::GoodReplicas => range(0, 8),
            // Redis is silent until then. The liveness probe waits 5 s; 0 is for ever.
            Self::BusyAnswers => range(1, 5000),
            // Redis takes 1024 and more, 2 MB by default; a slow disk reads 16 MB in the 2 s that a probe waits.
            Self::LoadingAnswers => range(1024, 16 * MB),
            // The others are nosave, now, force and what Valkey 9 adds.
            Self::Shutdown => Shape::Words(&["default", "save"]),
            // terminationGracePeriodSeconds counts with Redis' default of 10 s. Measured with a replica that stood still
            // for 1.5 s: 0 ended the primary without its last 3000 of 3200 keys on the replica, 10 with all of them.
            Self::ShutdownWait => range(1, 10),
            Self::ReplicaEviction => Shape::Words(&["yes"]),
            Self::PropagationErrors => Shape::Words(&["ignore"]),
            // INFO has a line of up to 100 bytes for each that holds keys, and the operator hangs up on more than 256 KiB.
            // Measured: 10,000 with one key each make 354 kB.
            Self::Databases => range(1, 1024),
            // Measured with Valkey 9.1.2: `"x\nrole:master"` in quotes became two lines of INFO.
            Self::Zone => Shape::Name,
        }
    }

    /// What the value must be, and why.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Appendonly => "appendonly must be yes or no",
            Self::DisklessLoad => {
                "repl-diskless-load must be disabled or on-empty-db: the other modes throw the replica's data away before the primary's has arrived whole"
            }
            Self::PingPeriod => {
                "repl-ping-replica-period must be 1 to 10 seconds: a replica that hears nothing for 15 s counts as out of sync"
            }
            Self::Clients => {
                "maxclients must be at least 64: replicas, operator, probes and you need some 40 connections beside your clients'"
            }
            Self::AcceptQueue => {
                "tcp-backlog must be at least 64: replicas, operator and probes may all connect at once"
            }
            Self::ClientMemory => {
                "maxmemory-clients must be 0, at least 4mb, or 5% to 100%: with less, connections of operator and probes are closed to make room"
            }
            Self::OutputBuffers => {
                "client-output-buffer-limit must be groups of `class hard soft seconds`; for normal and replica each limit must be 0 or at least 16mb: with less, replicas copy everything again and again, and the operator's answers are cut off"
            }
            Self::QueryBuffer => {
                "client-query-buffer-limit must be at least 64mb: with less, replicas lose their link at each large write"
            }
            Self::Idle => {
                "timeout must be 0 or at least 30 seconds: with less, the operator's connections are closed while it works"
            }
            Self::LinkTimeout => {
                "repl-timeout must be 30 to 3600 seconds: with less than three pings quiet links are cut, and with more a replica waits too long for a primary that is gone"
            }
            Self::Memory => {
                "maxmemory must be 0 or at least 16mb, as a number with or without k, kb, m, mb, g, gb: with less, Redis itself with its backlog and connections takes too much of it for writes"
            }
            Self::Backlog => {
                "repl-backlog-size must be at least 1mb: with less, each short break of a link costs a full copy"
            }
            Self::SyncDelay => {
                "repl-diskless-sync-delay must be 0 to 60 seconds: for that long a new replica holds no data"
            }
            Self::GoodReplicas => {
                "min-replicas-to-write must be 0 to 8: a set has at most eight replicas, and with more no write is ever taken"
            }
            Self::BusyAnswers => {
                "busy-reply-threshold (lua-time-limit) must be 1 to 5000 milliseconds: a server that does not say that it is busy is restarted for its silence"
            }
            Self::LoadingAnswers => {
                "loading-process-events-interval-bytes must be 1024 to 16777216: with more, a loading server is silent for longer than probes wait"
            }
            Self::Shutdown => {
                "shutdown-on-sigterm and shutdown-on-sigint must be default or save: the others lose writes at a planned stop"
            }
            Self::ShutdownWait => {
                "shutdown-timeout must be 1 to 10 seconds: without it replicas miss the last writes, and with more the final save is cut off"
            }
            Self::ReplicaEviction => {
                "replica-ignore-maxmemory must be yes: a replica that evicts by itself lacks keys once it is primary"
            }
            Self::PropagationErrors => {
                "propagation-error-behavior must be ignore: a replica would end at the same command after each start"
            }
            Self::Databases => {
                "databases must be 1 to 1024: with more, INFO can become longer than the operator reads"
            }
            Self::Zone => {
                "availability-zone must be at most 63 letters, digits and . _ / : - : INFO repeats it, and the operator reads INFO"
            }
        }
    }

    /// The same as a CEL rule over the map of directives.
    pub fn rule(self) -> Rule {
        let names: Vec<_> = verdicts::names(Verdict::Bounded(self)).map(|name| format!("'{name}'")).collect();
        let (names, pattern) = (names.join(", "), self.shape().pattern());
        Rule::new(format!("[{names}].all(k, !(k in self) || self[k].matches('{pattern}'))"))
            .message(Message::Message(self.why().to_owned()))
    }

    /// The rule's other form, for the plan.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        if self.shape().allows(value) { Ok(()) } else { Err(self.why().to_owned()) }
    }
}

const fn range(least: u64, most: u64) -> Shape {
    Shape::Number { zero: false, least, most: Some(most) }
}

const fn at_least(least: u64, zero: bool) -> Shape {
    Shape::Number { zero, least, most: None }
}
