//! Clients that write unique keys without pause and keep the history of every key: two that find the primary among all
//! members, two that go through the Service, of each one that has every write acknowledged by a replica. Or two that know one
//! server alone, and write to it from its side of a cut.

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
/// Before a server is tried again that may refuse for minutes.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
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
    /// Begin to write to this server alone, by its address.
    BeginAt {
        /// Begins the names of the two writers.
        writer: String,
        /// Who they write to.
        server: Target,
    },
    /// Stop writing, and tell what was written.
    Stop,
    /// What another program's writers wrote: it is read back too.
    Adopt(Vec<History>),
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
    /// What the writers wrote that were told to stop.
    Stopped(Vec<History>),
    /// Everything was read.
    Checked(Checked),
    /// Something could not be done.
    Failed(String),
}

pub fn run(orders: &Receiver<Order>, prefix: &str, file: &Path) -> Result<(), Failure> {
    let mut clients = Clients {
        serving: Serving::default(),
        behind: Arc::default(),
        stop: Arc::default(),
        base: History::new(prefix, "base", true),
        writers: Vec::new(),
        others: Vec::new(),
    };
    for order in orders {
        match order {
            Order::Member(target) => clients.serving.ask(target),
            Order::Service(target) => *lock(&clients.behind) = Some(target),
            Order::Begin { service } => clients.begin(service)?,
            Order::BeginAt { writer, server } => clients.write(&Route::Server(server), &writer),
            Order::Stop => print(&Heard::Stopped(clients.stop()?))?,
            Order::Adopt(histories) => clients.others.extend(histories),
            Order::Check { members } => match clients.check(&members, file)? {
                Ok(checked) => print(&Heard::Checked(checked))?,
                Err(error) => print(&Heard::Failed(format!("reading all keys back: {error}")))?,
            },
        }
    }
    Ok(())
}

/// The writers of one program, and what they wrote.
struct Clients {
    serving: Serving,
    behind: Arc<Mutex<Option<Target>>>,
    stop: Arc<AtomicBool>,
    /// The first keys.
    base: History,
    writers: Vec<JoinHandle<History>>,
    /// What writers elsewhere wrote.
    others: Vec<History>,
}

impl Clients {
    /// Writes the first keys, then goes on through all members and the Service.
    fn begin(&mut self, service: Option<Target>) -> Result<(), Failure> {
        if let Err(error) = write_base(&mut self.base, &self.serving) {
            return print(&Heard::Failed(format!("the first {BASE} keys: {error}")));
        }
        print(&Heard::Base)?;
        self.write(&Route::Members(self.serving.clone()), "members");
        if service.is_some() {
            *lock(&self.behind) = service;
            self.write(&Route::Service(Arc::clone(&self.behind)), "service");
        }
        Ok(())
    }

    /// Begins two writers: of one, a replica acknowledges every write.
    fn write(&mut self, route: &Route, writer: &str) {
        for confirms in [true, false] {
            let name = format!("{writer}{}", if confirms { "+wait" } else { "" });
            let history = History::new(&self.base.prefix, &name, confirms);
            let (route, stop) = (route.clone(), Arc::clone(&self.stop));
            self.writers.push(std::thread::spawn(move || write_on(&route, history, &stop)));
        }
    }

    /// Stops all writers; returns what they wrote.
    fn stop(&mut self) -> Result<Vec<History>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.writers.drain(..).map(JoinHandle::join);
        Ok(ended.collect::<Result<_, _>>().map_err(|_| "a writer panicked")?)
    }

    /// Stops all writers, leaves every history in the file, and reads every key from these members.
    fn check(&mut self, members: &[Target], file: &Path) -> Result<Result<Checked, Failure>, Failure> {
        let asked = now();
        let mut histories = vec![self.base.clone()];
        histories.extend(self.stop()?);
        histories.append(&mut self.others);
        let mut out = BufWriter::new(std::fs::File::create(file)?);
        for history in &histories {
            history.write(&mut out)?;
        }
        Ok(check::check(members, &histories, &self.serving, asked))
    }
}

/// How a writer gets to the primary.
#[derive(Clone)]
enum Route {
    /// It asks all members who serves.
    Members(Serving),
    /// It leaves that to the Service.
    Service(Arc<Mutex<Option<Target>>>),
    /// It knows one server, and stays with it whatever becomes of it.
    Server(Target),
}

impl Route {
    /// How long a writer goes on for one more success when it is told to stop, in milliseconds.
    fn last_word(&self) -> i64 {
        match self {
            Self::Members(_) | Self::Service(_) => LAST_WORD_MILLIS,
            // Its server may refuse for ever.
            Self::Server(_) => 0,
        }
    }

    /// Before it tries again.
    fn retry_pause(&self) -> Duration {
        match self {
            Self::Members(_) | Self::Service(_) => RETRY_PAUSE,
            Self::Server(_) => REFUSED_PAUSE,
        }
    }

    fn connect(&self) -> Option<Connection> {
        match self {
            Self::Members(serving) => serving.primaries().iter().find_map(|target| connect(target).ok()),
            Self::Service(service) => {
                let target = lock(service).clone()?;
                connect(&target).ok()
            }
            Self::Server(target) => connect(target).ok(),
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
            if has_succeeded || millis(since, now()) > route.last_word() {
                return history;
            }
        }
        let Some(connection) = &mut open else {
            open = route.connect();
            if open.is_none() {
                std::thread::sleep(route.retry_pause());
            }
            continue;
        };
        let number = history.next();
        let mut entry = Entry { sent: now(), ok: None, acknowledged: None };
        let ended = write(connection, &history.key(number), number, history.confirms, &mut entry);
        history.push(entry);
        if ended.is_err() {
            open = None;
            std::thread::sleep(route.retry_pause());
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
