//! Clients that write unique keys without pause and keep the history of every key: two that find the primary among all
//! members, two that go through the Service, of each one that has every write acknowledged by a replica.

use std::{
    io::BufWriter,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use redis::{Connection, RedisError};
use serde::{Deserialize, Serialize};

use super::{
    Target,
    check::{self, Checked},
    history::{Entry, History},
    print,
    redis_client::connect,
    serving::Serving,
};
use rig::{
    Failure,
    clock::{millis, now},
};

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a replica has to acknowledge, in milliseconds.
const CONFIRM_MILLIS: i64 = 200;
/// Before another server is tried.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long writers go on for one more success when they are told to stop, in milliseconds.
const LAST_WORD_MILLIS: i64 = 10_000;
/// Keys that are written before anything else.
const BASE: usize = 2_000;
/// How long they may take.
const BASE_MILLIS: i64 = 10_000;

/// What the clients are told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// A member's Redis, in place of an earlier one of this name.
    Member(Target),
    /// Begin: write the first keys, then go on through all members and, if there is one, through the Service.
    Begin {
        /// The Service of the primary.
        service: Option<Target>,
    },
    /// The Service is another one from now on.
    Service(Target),
    /// Stop writing, and read every key from these members.
    Check {
        /// All members.
        members: Vec<Target>,
    },
}

/// What the clients tell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Heard {
    /// The first keys are written, acknowledged and counted.
    Base,
    /// A writer's first success.
    First {
        /// Its name.
        writer: String,
    },
    /// Everything was read.
    Checked(Checked),
    /// Something could not be done.
    Failed(String),
}

pub fn run(orders: &Receiver<Order>, prefix: &str, file: &Path) -> Result<(), Failure> {
    let serving = Serving::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut base = History::new(prefix, "base", true);
    let mut writers: Vec<JoinHandle<History>> = Vec::new();
    let behind: Arc<Mutex<Option<Target>>> = Arc::default();
    for order in orders {
        match order {
            Order::Member(target) => serving.ask(target),
            Order::Service(target) => *lock(&behind) = Some(target),
            Order::Begin { service } => {
                if let Err(error) = write_base(&mut base, &serving) {
                    print(&Heard::Failed(format!("the first {BASE} keys: {error}")))?;
                    continue;
                }
                print(&Heard::Base)?;
                let mut routes = vec![Route::Members(serving.clone())];
                if service.is_some() {
                    *lock(&behind) = service;
                    routes.push(Route::Service(Arc::clone(&behind)));
                }
                for route in routes {
                    for confirms in [true, false] {
                        let name = format!("{}{}", route.name(), if confirms { "+wait" } else { "" });
                        let history = History::new(prefix, &name, confirms);
                        let (route, stop) = (route.clone(), Arc::clone(&stop));
                        writers.push(std::thread::spawn(move || write_on(&route, history, &stop)));
                    }
                }
            }
            Order::Check { members } => {
                stop.store(true, Ordering::Relaxed);
                let asked = now();
                let mut histories = vec![std::mem::replace(&mut base, History::new(prefix, "base", true))];
                for writer in writers.drain(..) {
                    histories.push(writer.join().map_err(|_| "a writer panicked")?);
                }
                let mut out = BufWriter::new(std::fs::File::create(file)?);
                for history in &histories {
                    history.write(&mut out)?;
                }
                match check::check(&members, &histories, &serving, asked) {
                    Ok(checked) => print(&Heard::Checked(checked))?,
                    Err(error) => print(&Heard::Failed(format!("reading all keys back: {error}")))?,
                }
            }
        }
    }
    Ok(())
}

/// How a writer gets to the primary.
#[derive(Clone)]
enum Route {
    /// It asks all members who serves.
    Members(Serving),
    /// It leaves that to the Service.
    Service(Arc<Mutex<Option<Target>>>),
}

impl Route {
    fn name(&self) -> &'static str {
        match self {
            Self::Members(_) => "members",
            Self::Service(_) => "service",
        }
    }

    fn connect(&self) -> Option<Connection> {
        match self {
            Self::Members(serving) => serving.primaries().iter().find_map(|target| connect(target).ok()),
            Self::Service(service) => {
                let target = lock(service).clone()?;
                connect(&target).ok()
            }
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the first keys at once, and has them acknowledged by a replica.
fn write_base(history: &mut History, serving: &Serving) -> Result<(), Failure> {
    let begun = now();
    let mut connection = loop {
        if let Some(connection) = Route::Members(serving.clone()).connect() {
            break connection;
        }
        if millis(begun, now()) > BASE_MILLIS {
            return Err("nobody serves".into());
        }
        std::thread::sleep(RETRY_PAUSE);
    };
    // Many at once take longer than one.
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let sent = now();
    for _ in 0..BASE / 500 {
        let mut pipe = redis::pipe();
        for number in (history.next()..).take(500) {
            pipe.cmd("SET").arg(history.key(number)).arg(number).ignore();
        }
        pipe.exec(&mut connection)?;
        let ok = Some(now());
        for _ in 0..500 {
            history.push(Entry { sent, ok, acknowledged: None });
        }
    }
    while !acknowledged(&mut connection)? {
        if millis(begun, now()) > BASE_MILLIS {
            return Err("no replica acknowledges them".into());
        }
    }
    history.acknowledge_all(now());
    Ok(())
}

/// Whether a replica has all that was written on this connection.
fn acknowledged(connection: &mut Connection) -> Result<bool, RedisError> {
    let copies: i64 = redis::cmd("WAIT").arg(1).arg(CONFIRM_MILLIS).query(connection)?;
    Ok(copies >= 1)
}

/// Writes until it is to stop and has succeeded once more, or could not for long.
fn write_on(route: &Route, mut history: History, stop: &AtomicBool) -> History {
    let mut open: Option<Connection> = None;
    let mut stopping: Option<Timestamp> = None;
    let mut told = false;
    loop {
        if stop.load(Ordering::Relaxed) {
            let since = *stopping.get_or_insert_with(now);
            let has_succeeded = history.last_success().is_some_and(|at| at > since);
            if has_succeeded || millis(since, now()) > LAST_WORD_MILLIS {
                return history;
            }
        }
        let Some(connection) = &mut open else {
            open = route.connect();
            if open.is_none() {
                std::thread::sleep(RETRY_PAUSE);
            }
            continue;
        };
        let number = history.next();
        let mut entry = Entry { sent: now(), ok: None, acknowledged: None };
        let ended = write(connection, &history.key(number), number, history.confirms, &mut entry);
        history.push(entry);
        if ended.is_err() {
            open = None;
            std::thread::sleep(RETRY_PAUSE);
            continue;
        }
        if !told && history.last_success().is_some() {
            told = true;
            if print(&Heard::First { writer: history.writer.clone() }).is_err() {
                return history;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

fn write(
    connection: &mut Connection,
    key: &str,
    number: usize,
    confirms: bool,
    entry: &mut Entry,
) -> Result<(), RedisError> {
    redis::cmd("SET").arg(key).arg(number).exec(connection)?;
    entry.ok = Some(now());
    if confirms && acknowledged(connection)? {
        entry.acknowledged = Some(now());
    }
    Ok(())
}
