//! A client that writes all the time and remembers what was acknowledged.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;

use rig::local::kubelet::Kubelet;

/// Between two writes.
const PERIOD: Duration = Duration::from_millis(20);

/// Writes from a thread of its own until it is dropped.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// Held during a write, and for as long as nobody may write.
    turn: AsyncMutex<()>,
    /// Keys, each its own value.
    acknowledged: Mutex<Vec<String>>,
}

impl Writer {
    /// Writes to whichever server of the set takes writes.
    pub fn start(kubelet: Arc<Kubelet>) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || write(&kubelet, &theirs));
        Self { shared, thread: Some(thread) }
    }

    /// Does this while nobody writes.
    pub async fn paused(&self, act: impl AsyncFnOnce()) {
        let _turn = self.shared.turn.lock().await;
        act().await;
    }

    /// Ends it; returns the keys that at least two servers had when the client was told so.
    pub fn stop(mut self) -> Vec<String> {
        self.end();
        std::mem::take(&mut self.shared.acknowledged.lock().unwrap())
    }

    fn end(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(kubelet: &Kubelet, shared: &Shared) {
    let mut primary = None;
    for number in 0.. {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        {
            let _turn = shared.turn.blocking_lock();
            if primary.is_none() {
                primary = kubelet.pods().iter().find_map(|pod| serving(kubelet, pod));
            }
            if let Some(connection) = &mut primary {
                let key = format!("key-{number}");
                match set(connection, &key) {
                    Ok(true) => shared.acknowledged.lock().unwrap().push(key),
                    Ok(false) => {}
                    Err(_) => primary = None,
                }
            }
        }
        std::thread::sleep(PERIOD);
    }
}

/// A connection to this pod's Redis, if it takes writes.
fn serving(kubelet: &Kubelet, pod: &str) -> Option<redis::Connection> {
    let mut connection = kubelet.client(pod).ok()?;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut connection).ok()?;
    (redis::from_redis_value_ref::<String>(role.first()?).ok()? == "master").then_some(connection)
}

/// Whether a replica has it too.
fn set(connection: &mut redis::Connection, key: &str) -> Result<bool, redis::RedisError> {
    redis::cmd("SET").arg(key).arg(key).exec(connection)?;
    let copies: i64 = redis::cmd("WAIT").arg(1).arg(500).query(connection)?;
    Ok(copies >= 1)
}
