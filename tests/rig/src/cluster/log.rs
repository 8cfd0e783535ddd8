//! What was seen and when, in order; and waiting, bounded, for what is still to be seen.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::TryStreamExt;
use jiff::Timestamp;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep_until, timeout},
};

use crate::{Failure, clock::now};

/// Entries in the order in which they were seen.
pub struct Log<T> {
    entries: Mutex<Vec<(Timestamp, T)>>,
    grown: watch::Sender<()>,
}

impl<T> Log<T> {
    /// An empty log, shared between who writes and who waits.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), grown: watch::Sender::new(()) })
    }

    /// Adds what was seen at a moment.
    pub fn push(&self, at: Timestamp, entry: T) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push((at, entry));
        self.grown.send_replace(());
    }

    /// Looks at everything seen until now.
    pub fn scan<U>(&self, look: impl FnOnce(&[(Timestamp, T)]) -> U) -> U {
        look(&self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first entry at or after `since` that `pick` takes, or an error that says `what` was not seen in time.
    pub async fn find<U>(
        &self,
        since: Timestamp,
        limit: Duration,
        what: &str,
        pick: impl Fn(&T) -> Option<U>,
    ) -> Result<(Timestamp, U), Failure> {
        let deadline = tokio::time::Instant::now() + limit;
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            let found = self.scan(|entries| {
                let mut later = entries.iter().filter(|(at, _)| *at >= since);
                later.find_map(|(at, entry)| Some((*at, pick(entry)?)))
            });
            if let Some(found) = found {
                return Ok(found);
            }
            tokio::select! {
                changed = grown.changed() => changed?,
                () = sleep_until(deadline) => return Err(format!("not seen within {limit:?}: {what}").into()),
            }
        }
    }
}

/// A watch on the API, from its first answer until it is dropped.
pub struct Watching<K> {
    /// Every state of every object that the watch showed.
    pub log: Arc<Log<K>>,
    task: JoinHandle<()>,
}

impl<K> Drop for Watching<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to watch; returns once the watch stands, so that nothing that happens later is missed.
pub async fn watch<K>(api: Api<K>, config: watcher::Config) -> Result<Watching<K>, Failure>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let log = Log::new();
    let (stands, mut standing) = watch::channel(false);
    let seen = Arc::clone(&log);
    let task = tokio::spawn(async move {
        let mut events = Box::pin(kube::runtime::watcher(api, config));
        loop {
            match events.try_next().await {
                Ok(Some(Event::Apply(object) | Event::InitApply(object))) => seen.push(now(), object),
                Ok(Some(Event::InitDone)) => {
                    stands.send_replace(true);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    eprintln!("  a watch broke and begins anew: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    let watching = Watching { log, task };
    timeout(Duration::from_secs(10), standing.wait_for(|stands| *stands)).await??;
    Ok(watching)
}
