//! Every key, read from every member.

use std::time::Duration;

use jiff::Timestamp;
use redis::{Cmd, Connection, FromRedisValue, Value};
use serde::{Deserialize, Serialize};

use super::{
    Target,
    history::{History, Written},
    redis_client::connect_patiently,
    serving::Serving,
};
use rig::{
    Failure,
    clock::{millis, now},
};

/// Keys that are asked for at once.
const BATCH: usize = 500;
/// How long all replicas may take to have all that was written, in milliseconds.
const CATCH_UP_MILLIS: i64 = 15_000;
/// No write waits for these answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lost keys that are told of one by one.
const EXAMPLES: usize = 10;

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Checked {
    /// Each writer's figures; the writer `base` wrote before everything else.
    pub writers: Vec<Written>,
    /// Every member.
    pub members: Vec<Member>,
    /// Servers that served, or are there at the end, without most keys; in words.
    pub wiped: Vec<String>,
    /// Some of the lost keys with their times.
    pub examples: Vec<String>,
}

/// One member at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Name of its Pod.
    pub pod: String,
    /// Number of all its keys.
    pub keys: i64,
    /// Keys that some server had promised to keep, and that this one does not have.
    pub missing: usize,
}

/// Waits until all members have all that was written, and reads it. `end` is when the writers were told to stop.
pub fn check(
    targets: &[Target],
    histories: &[History],
    serving: &Serving,
    end: Timestamp,
) -> Result<Checked, Failure> {
    let primary = catch_up(targets, histories, serving)?;
    let mut checked = Checked { wiped: serving.wiped(), ..Checked::default() };
    for target in targets {
        let mut connection = connect_patiently(target, PATIENCE)?;
        let keys: i64 = ask(target, &mut connection, &redis::cmd("DBSIZE"))?;
        if keys < serving.most_keys() / 2 {
            checked.wiped.push(format!(
                "{} has {keys} keys at the end where {} had been",
                target.pod,
                serving.most_keys()
            ));
        }
        let mut member = Member { pod: target.pod.clone(), keys, missing: 0 };
        for history in histories {
            let missing = missing(target, &mut connection, history)?;
            member.missing += missing.len();
            if target.pod == primary {
                checked.examples.extend(missing.iter().take(EXAMPLES).filter_map(|number| {
                    Some(format!(
                        "{} is not on {primary}: {:?}",
                        history.key(*number),
                        history.entry(*number)?
                    ))
                }));
                checked.writers.push(history.written(&missing, end));
            }
        }
        checked.members.push(member);
    }
    Ok(checked)
}

/// One write more that every replica must have, so that they have all before it; returns the primary's Pod.
fn catch_up(targets: &[Target], histories: &[History], serving: &Serving) -> Result<String, Failure> {
    let begun = now();
    let prefix = histories.first().map_or("", |history| history.prefix.as_str());
    let mut copies = 0;
    while millis(begun, now()) <= CATCH_UP_MILLIS {
        if let [primary] = serving.primaries().as_slice()
            && let Ok(mut connection) = connect_patiently(primary, PATIENCE)
            && redis::cmd("SET").arg(format!("{prefix}:end")).arg(0).exec(&mut connection).is_ok()
        {
            while let Ok(found) =
                redis::cmd("WAIT").arg(targets.len() - 1).arg(200).query::<usize>(&mut connection)
            {
                copies = found;
                if copies + 1 >= targets.len() {
                    return Ok(primary.pod.clone());
                }
                if millis(begun, now()) > CATCH_UP_MILLIS {
                    break;
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{copies} of {} replicas have all that was written", targets.len() - 1).into())
}

/// Numbers of the promised keys that a server does not have with their values.
fn missing(target: &Target, connection: &mut Connection, history: &History) -> Result<Vec<usize>, Failure> {
    let mut missing = Vec::new();
    for numbers in history.promised().chunks(BATCH) {
        let keys: Vec<String> = numbers.iter().map(|number| history.key(*number)).collect();
        let values: Vec<Value> = ask(target, connection, redis::cmd("MGET").arg(keys))?;
        for (number, value) in numbers.iter().zip(values) {
            let value: Option<usize> = redis::from_redis_value(value)?;
            if value != Some(*number) {
                missing.push(*number);
            }
        }
    }
    Ok(missing)
}

/// Asks, and once more over a new connection where the first was cut: the operator cuts the clients of a server that was the
/// primary some seconds ago, and this reads from it too.
fn ask<T: FromRedisValue>(target: &Target, connection: &mut Connection, command: &Cmd) -> Result<T, Failure> {
    match command.query(connection) {
        Err(error) if error.is_io_error() || error.is_connection_dropped() => {
            *connection = connect_patiently(target, PATIENCE)?;
            Ok(command.query(connection)?)
        }
        answered => Ok(answered?),
    }
}
