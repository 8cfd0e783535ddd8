//! `agent probe`: what the kubelet asks of the Redis in its own container.
//!
//! Being in sync is not asked here: that is the operator's to say. Were it readiness, a replica with its link down
//! would block the ordered restart of its primary, and a dead primary would take all reads down with it.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use ::redis::{Cmd, cmd};
use clap::ValueEnum;

use crate::{
    internal,
    wire::{Reply, Wire, login},
};
use redis_node::{answer::ProbeFailure, plain::plain};

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// Redis answers and has loaded its dataset
    Startup,
    /// Redis answers, with an error or not
    Liveness,
    /// Redis answers and is not loading; its link to the primary does not matter
    Readiness,
}

impl Check {
    /// Time for the probe. The kubelet's `timeoutSeconds` must be longer, or the reason is lost.
    ///
    /// Redis is silent for the first 5 s of a long script (`busy-reply-threshold`, experiment E9): a server that is
    /// to be restarted for its silence must have had that time. The other probes only ask again.
    pub fn within(self) -> Duration {
        match self {
            Self::Liveness => Duration::from_secs(5),
            Self::Startup | Self::Readiness => Duration::from_secs(2),
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The probe succeeds.
    pub passed: bool,
    /// What was seen, in one line: the kubelet shows it in its events.
    pub seen: String,
}

/// Runs one probe, with the password in the operator's Secret, against the Redis on this port of the loopback address.
pub fn probe(check: Check, port: u16, secret: &Path) -> Verdict {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match check {
        Check::Liveness => alive(converse(address, check.within(), &[cmd("PING")])),
        Check::Startup | Check::Readiness => match internal::agent(secret) {
            Ok(agent) => ready(converse(address, check.within(), &[login(&agent), cmd("PING")])),
            // It was started with one that could be read. What became of the Secret since must not take a serving Redis out of its
            // Services.
            Err(error) => {
                let Verdict { passed, seen } = ready(converse(address, check.within(), &[cmd("PING")]));
                Verdict { passed, seen: format!("{seen}; {error}") }
            }
        },
    }
}

/// The reply to each command as far as they came, and the failure where they ended early.
type Replies = (Vec<Reply>, Option<ProbeFailure>);

fn converse(address: SocketAddr, within: Duration, commands: &[Cmd]) -> Replies {
    let mut replies = Vec::new();
    let mut talk = || {
        let mut wire = Wire::connect(address, within)?;
        wire.send(commands);
        for _ in commands {
            replies.push(wire.reply()?);
        }
        Ok(())
    };
    let failure = talk().err();
    (replies, failure)
}

/// Any reply is a sign of life: `-LOADING`, `-BUSY`, `-MISCONF`, `-MASTERDOWN`, `-NOAUTH` too (experiments E9, E12,
/// E17). A restart mends none of them and can lose data.
fn alive((replies, failure): Replies) -> Verdict {
    match (replies.last(), failure) {
        (Some(reply), _) => Verdict { passed: true, seen: format!("answers {}", Shown(reply)) },
        (None, failure) => silent(failure),
    }
}

/// Every answer but `-LOADING` is that of a server which has its dataset.
fn ready((replies, failure): Replies) -> Verdict {
    match (replies.last(), failure) {
        (Some(reply @ Reply::Error { code, .. }), _) if code == "LOADING" => {
            Verdict { passed: false, seen: format!("loads its dataset: {}", Shown(reply)) }
        }
        // Redis asks for the password before it says that it loads, so whether it does is not known. It was started with
        // the password of that time; a changed file alone must not take a serving Redis out of its Services.
        (Some(Reply::Error { code, .. }), _) if code == "NOAUTH" => {
            Verdict { passed: true, seen: "answers, but refuses the mounted password".to_owned() }
        }
        (Some(reply), None) => Verdict { passed: true, seen: format!("answers {}", Shown(reply)) },
        // One reply and then the end: an error before the command was read, like `max number of clients reached`.
        (Some(reply @ Reply::Error { .. }), Some(_)) => {
            Verdict { passed: true, seen: format!("answers {}", Shown(reply)) }
        }
        (_, failure) => silent(failure),
    }
}

fn silent(failure: Option<ProbeFailure>) -> Verdict {
    let seen = failure.map_or_else(|| "no reply".to_owned(), |failure| failure.to_string());
    Verdict { passed: false, seen }
}

/// A reply as Redis writes it, in one line.
struct Shown<'a>(&'a Reply);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reply::Text(text) => write!(f, "+{}", plain(text)),
            Reply::Error { code, text } => write!(f, "-{code} {text}"),
            Reply::List(_) | Reply::Other => f.write_str("something else than a string"),
        }
    }
}
