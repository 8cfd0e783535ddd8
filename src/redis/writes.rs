//! Whether a primary takes writes. `role:master` does not say so: Redis refuses writes after a failed save, for want of
//! replicas, without memory. It is found out by a write that changes nothing.

use std::time::Duration;

use redis::{Cmd, ErrorKind, cmd};

use crate::redis::{
    connection::{Connection, Raw, classify, words},
    server::{Server, Target},
};
use redis_node::{
    answer::{ProbeFailure, Refusal, Write},
    info::Replication,
};

/// A healthy server answers in a millisecond; half of the time that a probe has.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(1);

/// Nobody needs to have this key: nothing is written to it.
const KEY: &str = "redis-operator:write-test";

/// Tries a write over the held connection. Where it has to wait, all that comes after it waits too, so another connection is held
/// from then on; of a server that takes no new clients, the same one.
pub async fn try_write(server: &Server, connection: &mut Connection, target: &Target) -> Write {
    let written = connection.write_nothing(WRITE_DEADLINE).await;
    outcome(server, target, written).await
}

/// Whom the server follows, and what becomes of a write where `is_wanted` by that, with no other command in between: one that makes
/// writes wait, as a switchover does, must not come before this one.
///
/// # Errors
/// Why the server does not say whom it follows.
pub async fn replication_and_write(
    server: &Server,
    connection: &mut Connection,
    target: &Target,
    is_wanted: impl FnOnce(&Replication) -> bool,
) -> Result<(Replication, Option<Write>), ProbeFailure> {
    let (replication, raw) = connection.replication_and(is_wanted, (&nothing(), WRITE_DEADLINE)).await?;
    let write = match raw {
        Some(raw) => Some(outcome(server, target, written(raw)).await),
        None => None,
    };
    Ok((replication, write))
}

async fn outcome(server: &Server, target: &Target, written: Result<(), Unwritten>) -> Write {
    match written {
        Ok(()) => Write::Taken,
        Err(Unwritten::Refused(why, words)) => Write::Refused(why, words),
        // A slow command holds up everybody, a pause only those who write.
        Err(Unwritten::Failed(ProbeFailure::Timeout(_))) => match server.dial(target, WRITE_DEADLINE).await {
            Ok(_) => Write::Paused,
            Err(failure) => Write::Unknown(failure),
        },
        Err(Unwritten::Failed(failure)) => Write::Unknown(failure),
    }
}

/// Why a write was not taken.
#[derive(Debug)]
pub enum Unwritten {
    /// The server refuses writes.
    Refused(Refusal, String),
    /// No answer, or one that says nothing about writes.
    Failed(ProbeFailure),
}

impl Connection {
    /// `SETRANGE` of nothing to a key that is not there: Redis checks all that it checks before a write, and then changes
    /// nothing, logs nothing and sends no replica anything (`setrangeCommand`; the same since 2.2).
    ///
    /// # Errors
    /// See [`Unwritten`]. After a time-out the server may still have the command before it.
    pub async fn write_nothing(&mut self, deadline: Duration) -> Result<(), Unwritten> {
        written(self.raw(deadline, &nothing()).await)
    }
}

fn nothing() -> Cmd {
    cmd("SETRANGE").arg(KEY).arg(0).arg("").clone()
}

fn written(raw: Raw) -> Result<(), Unwritten> {
    match raw.map_err(Unwritten::Failed)? {
        Ok(()) => Ok(()),
        Err(error) => Err(match (error.kind(), error.code()) {
            (ErrorKind::Io | ErrorKind::Parse, _) | (_, None) => {
                Unwritten::Failed(classify(&error, "SETRANGE"))
            }
            // Somebody uses the key for something else than a string: Redis got as far as to look at it.
            (_, Some("WRONGTYPE")) => return Ok(()),
            (_, Some(code)) => match refusal(code, error.detail().unwrap_or_default()) {
                Some(why) => Unwritten::Refused(why, words(&error)),
                None => Unwritten::Failed(classify(&error, "SETRANGE")),
            },
        }),
    }
}

/// By code word. One stands for two causes: of those the text tells, and it has named the AOF since Redis 2.6.
fn refusal(code: &str, detail: &str) -> Option<Refusal> {
    match code {
        "MISCONF" if detail.contains("AOF") => Some(Refusal::AppendingFails),
        "MISCONF" => Some(Refusal::SavingFails),
        "NOREPLICAS" => Some(Refusal::TooFewReplicas),
        "OOM" => Some(Refusal::MemoryFull),
        _ => None,
    }
}
