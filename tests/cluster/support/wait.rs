//! Waiting for what comes to be, always bounded.

use std::{
    process::{Child, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::command;

/// Longest wait for anything: the machine may be busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until there is an answer; panics when patience is over.
pub fn wait_until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    ask_until(ask).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Asks again and again until there is an answer, or patience is over.
pub fn ask_until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        sleep(Duration::from_millis(200));
    }
    None
}

/// What the API server says of one object or one kind in a namespace, as it happens.
pub struct Watch<T> {
    child: Child,
    received: Receiver<Event<T>>,
}

/// One change.
#[derive(Clone, Debug, Deserialize)]
pub struct Event<T> {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The object after the change.
    pub object: T,
}

impl<T: DeserializeOwned + Send + 'static> Watch<T> {
    /// Watches `kubectl get <what>`; begins with what exists.
    pub fn new(namespace: &str, what: &[&str]) -> Self {
        let args =
            [&["-n", namespace, "get", "-o", "json", "--watch", "--output-watch-events"], what].concat();
        let mut child = command::command(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run kubectl");
        let output = child.stdout.take().unwrap();
        let (sender, received) = channel();
        spawn(move || {
            let events = serde_json::Deserializer::from_reader(output).into_iter::<Event<T>>();
            for event in events.map_while(Result::ok) {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, received }
    }

    /// The next change until then; `None` when the time is over, an error when the watch has ended.
    pub fn next(&self, until: Instant) -> Result<Option<Event<T>>, WatchEnded> {
        match self.received.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(WatchEnded),
        }
    }

    /// The changes that were received by now.
    pub fn seen(&self) -> Vec<Event<T>> {
        self.received.try_iter().collect()
    }
}

/// The API server closed the watch, or went away.
#[derive(Debug)]
pub struct WatchEnded;

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
