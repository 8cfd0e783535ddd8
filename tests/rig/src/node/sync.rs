//! The truth that a status is measured against: who serves and who follows, asked of the servers every 20 ms. Read
//! from INFO here again, on purpose without the operator's own reading of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Target, print, redis_client::connect};
use crate::{Failure, clock::now};

const INTERVAL: Duration = Duration::from_millis(20);

/// What the servers say together, from a moment on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// When the last of the answers came.
    pub at: Timestamp,
    /// The Pod whose Redis serves, if exactly one does.
    pub primary: Option<String>,
    /// Replicas that truly follow it.
    pub replicas: Vec<String>,
}

/// The last answer of each server, by Pod and address; none for a server that does not answer.
type Answers = BTreeMap<(String, String), Info>;

/// Lines of INFO by name.
type Info = BTreeMap<String, String>;

/// Does it until standard input ends.
pub fn run(targets: &Receiver<Target>, domain: &str) -> Result<(), Failure> {
    let answers = Arc::new(Mutex::new(Answers::new()));
    let mut told = Sync::default();
    loop {
        match targets.recv_timeout(INTERVAL / 4) {
            Ok(target) => {
                let answers = Arc::clone(&answers);
                std::thread::spawn(move || poll(&target, &answers));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let (primary, in_sync) = judge(&answers.lock().unwrap_or_else(PoisonError::into_inner), domain);
        if (&primary, &in_sync) != (&told.primary, &told.replicas) {
            told = Sync { at: now(), primary, replicas: in_sync };
            print(&told)?;
        }
    }
}

/// Asks one server for as long as this program lives.
fn poll(target: &Target, answers: &Mutex<Answers>) {
    let server = (target.pod.clone(), target.address.clone());
    loop {
        if let Ok(mut connection) = connect(target) {
            while let Ok(text) = redis::cmd("INFO").arg("replication").query::<String>(&mut connection) {
                let info = text.lines().filter_map(|line| line.split_once(':'));
                let info = info.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(server.clone(), info);
                std::thread::sleep(INTERVAL);
            }
        }
        answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
        std::thread::sleep(INTERVAL);
    }
}

/// A replica follows when both ends say so: it names the primary, its link is up and no sync runs; the primary lists
/// it as online and has the same history.
fn judge(answers: &Answers, domain: &str) -> (Option<String>, Vec<String>) {
    let says = |info: &Info, name: &str, value: &str| info.get(name).is_some_and(|found| found == value);
    let mut serving = answers.iter().filter(|(_, info)| says(info, "role", "master"));
    let (Some(((primary, _), theirs)), None) = (serving.next(), serving.next()) else {
        return (None, Vec::new());
    };
    let listed = |pod: &str| {
        let start = format!("ip={pod}.{domain},");
        theirs.iter().any(|(name, line)| {
            name.starts_with("slave") && line.starts_with(&start) && line.contains(",state=online,")
        })
    };
    let follows = |pod: &str, info: &Info| {
        says(info, "role", "slave")
            && says(info, "master_host", &format!("{primary}.{domain}"))
            && says(info, "master_link_status", "up")
            && says(info, "master_sync_in_progress", "0")
            && info.get("master_replid") == theirs.get("master_replid")
            && listed(pod)
    };
    let in_sync =
        answers.iter().filter(|((pod, _), info)| follows(pod, info)).map(|((pod, _), _)| pod.clone());
    let in_sync = in_sync.collect();
    (Some(primary.clone()), in_sync)
}
