//! Watching the servers between reconciles, over the connection that is held to each, so that a dead process, a broken link or
//! a repointed replica starts a reconcile at once instead of at the next scheduled one.
//!
//! The monitor decides nothing and reports nothing: it only says "look now". What is true is found by the reconcile.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use tokio::{task::AbortHandle, time::sleep};
use tracing::debug;

use crate::{
    observe::PROBE_DEADLINE,
    redis::{
        connection::Connection,
        server::{Server, Target},
        writes::replication_and_write,
    },
    watch::Trigger,
};
use operator_core::{
    api::RedisReplicaSet,
    topology::{MAX_ACK_LAG_SECONDS, MAX_LINK_SILENCE_SECONDS},
};
use redis_node::{
    answer::{Answer, ProbeFailure, Refusal, Write},
    info::Replication,
};

/// How often a held connection asks whom the server follows. With the probe's deadline twice (here and in the reconcile)
/// a change is in the status within 6 s at the latest.
const POLL_INTERVAL: Duration = Duration::from_millis(1500);

/// How long to wait before connecting again to a server that does not answer.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// What a replica that acknowledges once a second never lags behind, in seconds (`min-replicas-max-lag` by default).
const SOON: i64 = 3;

/// One process to watch, and what the last reconcile knew of it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// UID of the pod: another pod is another watch.
    pub uid: String,
    /// The connection to it.
    pub server: Arc<Server>,
    /// Where it answers.
    pub target: Target,
    /// What it said in the last look, and whether it turned newcomers away; `None` where it did not answer.
    pub known: Option<(Replication, bool)>,
    /// What became of a write in the last look; `None` where none was tried.
    pub write: Option<Write>,
}

/// The held connections of all sets.
#[derive(Debug)]
pub struct Monitor {
    trigger: Trigger,
    sets: Mutex<HashMap<ObjectRef<RedisReplicaSet>, HashMap<String, Held>>>,
}

#[derive(Debug)]
struct Held {
    task: AbortHandle,
    target: Target,
    known: Arc<Mutex<Option<Meaning>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The part of an answer whose change is worth a reconcile; numbers that move by themselves are not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meaning {
    upstream: Option<(String, u16, bool, bool, bool)>,
    replicas: Vec<(String, String, bool)>,
    /// A replica has acknowledged lately: without one a primary may refuse writes.
    acknowledged: bool,
    replid: String,
    failover_state: String,
    /// It turns newcomers away.
    closed: bool,
    /// What became of a write; the same cause in other words is no news.
    write: Option<Discriminant<Write>>,
    refusal: Option<Refusal>,
}

impl Meaning {
    fn of(replication: &Replication, closed: bool, write: Option<&Write>) -> Self {
        let mut replicas: Vec<_> = replication
            .replicas
            .iter()
            .map(|r| (r.host.clone(), r.state.clone(), r.lag_seconds > MAX_ACK_LAG_SECONDS))
            .collect();
        replicas.sort();
        Self {
            upstream: replication.upstream.as_ref().map(|u| {
                let silent = u.last_io_seconds > MAX_LINK_SILENCE_SECONDS;
                (u.host.clone(), u.port, u.link_up, u.sync_in_progress, silent)
            }),
            replicas,
            acknowledged: replication.replicas.iter().any(|r| r.lag_seconds <= SOON),
            replid: replication.replid.clone(),
            failover_state: replication.failover_state.clone(),
            closed,
            write: write.map(discriminant),
            refusal: match write {
                Some(Write::Refused(why, _)) => Some(*why),
                _ => None,
            },
        }
    }

    /// With what was known of a write, where none was tried.
    fn or_write_of(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) if self.write.is_none() && self.upstream.is_none() => {
                Self { write: before.write, refusal: before.refusal, ..self }
            }
            _ => self,
        }
    }
}

impl Monitor {
    /// A monitor that asks for reconciles through `trigger`.
    pub fn new(trigger: Trigger) -> Self {
        Self { trigger, sets: Mutex::default() }
    }

    /// Watches exactly these processes of a set from now on.
    pub fn watch(&self, set: &ObjectRef<RedisReplicaSet>, watched: Vec<Watched>) {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sets.remove(set).unwrap_or_default();
        let mut held = before;
        // Another pod, address or password is another watch.
        // A task ends only by a fault of its own: another one begins.
        held.retain(|uid, held| {
            !held.task.is_finished() && watched.iter().any(|w| w.uid == *uid && w.target == held.target)
        });
        for one in watched {
            let meaning = one.known.as_ref();
            let meaning = meaning.map(|(known, closed)| Meaning::of(known, *closed, one.write.as_ref()));
            if let Some(existing) = held.get(&one.uid) {
                // The reconcile knows more than the task: what it saw is no news.
                *existing.known.lock().unwrap_or_else(PoisonError::into_inner) = meaning;
                continue;
            }
            let known = Arc::new(Mutex::new(meaning));
            let server = (one.server, one.target.clone());
            let task = tokio::spawn(hold(set.clone(), server, Arc::clone(&known), self.trigger.clone()));
            held.insert(one.uid, Held { task: task.abort_handle(), target: one.target, known });
        }
        if !held.is_empty() {
            sets.insert(set.clone(), held);
        }
    }

    /// Ends all watches of a set that is gone.
    pub fn forget(&self, set: &ObjectRef<RedisReplicaSet>) {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}

/// Watches one server for as long as the task lives.
async fn hold(
    set: ObjectRef<RedisReplicaSet>,
    (server, target): (Arc<Server>, Target),
    known: Arc<Mutex<Option<Meaning>>>,
    trigger: Trigger,
) {
    let news = |now: Option<Meaning>| {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.map(|now| now.or_write_of(known.as_ref()));
        if *known != now {
            debug!(set = %set, host = target.host, "changed, asking for a reconcile");
            *known = now;
            // Fails only at shutdown, when nobody listens any more.
            let _ = trigger.unbounded_send(set.clone());
        }
    };
    let meaning = |answer: &Answer| Meaning::of(&answer.info.replication, answer.turns_away(), None);
    // Only a reconcile knows whether this is the primary of record: it tries first.
    let tries = || {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_some_and(|known| known.write.is_some())
    };
    loop {
        if let Ok((answer, connection)) = server.ask(&target, PROBE_DEADLINE).await {
            news(Some(meaning(&answer)));
            let is_late = follow(&server, &target, connection, tries, &news).await;
            // What a silent primary's replicas are to do waits for this.
            if is_late {
                server.was_late();
                news(None);
            }
            // The process lives where it answers at once: it closed an idle client (directive `timeout`), or a person did.
            if let Ok((answer, _)) = server.ask(&target, PROBE_DEADLINE).await {
                news(Some(meaning(&answer)));
                // Not at once: one that closes each connection would be dialled a thousand times a second.
                sleep(RECONNECT_INTERVAL).await;
                continue;
            }
        }
        news(None);
        sleep(RECONNECT_INTERVAL).await;
    }
}

/// Polls over the held connection until there is none. Returns whether the server gave no answer in time.
async fn follow(
    server: &Server,
    target: &Target,
    mut connection: Connection,
    tries: impl Fn() -> bool,
    changed: impl Fn(Option<Meaning>),
) -> bool {
    loop {
        tokio::select! {
            () = connection.ended() => return false,
            () = sleep(POLL_INTERVAL) => {}
        }
        // A look may have replaced it since: the former one is closed with the last who uses it.
        let Some(held) = server.held(target) else { return false };
        connection = held;
        let is_wanted = |replication: &Replication| {
            replication.upstream.is_none() && !replication.failover_runs() && tries()
        };
        let asked = replication_and_write(server, &mut connection, target, is_wanted).await;
        let (replication, write) = match asked {
            Ok(said) => said,
            Err(failure) => return matches!(failure, ProbeFailure::Timeout(_)),
        };
        server.has_answered();
        // A write that waits blocks what comes after it, so another one is held then.
        let Some(held) = server.held(target) else { return false };
        connection = held;
        let Ok(closed) = connection.turns_away(&replication, target.logins.first()).await else {
            return false;
        };
        changed(Some(Meaning::of(&replication, closed, write.as_ref())));
    }
}
