//! A client that writes without pause, has each write confirmed by a replica, and looks for the primary among all
//! Pods when a write fails.

use std::{
    sync::mpsc::{Receiver, TryRecvError},
    time::Duration,
};

use jiff::Timestamp;
use redis::{Connection, RedisError};
use serde::{Deserialize, Serialize};

use rig::node::{Target, print, redis_client::connect};
use rig::{
    Failure,
    clock::{millis, now},
};

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a replica has to confirm, in milliseconds.
const CONFIRM_MILLIS: i64 = 200;
/// Before the next server is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Gaps worth a line, in milliseconds.
const GAP_MILLIS: i64 = 50;

/// What the writer tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Written {
    /// The first acknowledged write.
    First {
        /// When it was acknowledged.
        at: Timestamp,
    },
    /// No write was acknowledged in between.
    Gap {
        /// The last acknowledgement before.
        from: Timestamp,
        /// The first one after.
        to: Timestamp,
        /// The Pod that gave it.
        by: String,
    },
}

pub fn run(targets: &Receiver<Target>) -> Result<(), Failure> {
    let mut known: Vec<Target> = Vec::new();
    let mut open: Option<(Target, Connection)> = None;
    let mut last: Option<Timestamp> = None;
    let mut number: u64 = 0;
    loop {
        match targets.try_recv() {
            Ok(target) => known.push(target),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        number += 1;
        let Some((target, connection)) = &mut open else {
            // The next in turn; a replica refuses the write, and the turn goes on.
            std::thread::sleep(RETRY_PAUSE);
            if !known.is_empty() {
                known.rotate_left(1);
                open = known.first().and_then(|next| Some((next.clone(), connect(next).ok()?)));
            }
            continue;
        };
        match write(connection, number) {
            Ok(true) => {
                let at = now();
                match last {
                    None => print(&Written::First { at })?,
                    Some(from) if millis(from, at) >= GAP_MILLIS => {
                        print(&Written::Gap { from, to: at, by: target.pod.clone() })?;
                    }
                    Some(_) => {}
                }
                last = Some(at);
                std::thread::sleep(PAUSE);
            }
            // It serves, but nobody confirms yet.
            Ok(false) => {}
            Err(_) => open = None,
        }
    }
}

/// Writes; true if a replica has it too.
fn write(connection: &mut Connection, number: u64) -> Result<bool, RedisError> {
    redis::cmd("SET").arg("bench").arg(number).exec(connection)?;
    let copies: i64 = redis::cmd("WAIT").arg(1).arg(CONFIRM_MILLIS).query(connection)?;
    Ok(copies >= 1)
}
