//! Carrying out a decision: over the connection that it was decided on, or with the pod's UID as precondition.

pub mod config;
pub mod quorum;
pub mod role_labels;

use std::time::Duration;

use thiserror::Error;
use tracing::{debug, info};

use crate::{
    observe::{Connections, PROBE_DEADLINE},
    redis::connection::Connection,
};
use operator_core::election::{left_unwritten, snapshot::Snapshot};
use redis_node::{PARKED, answer::ProbeFailure, files::REDIS_PORT, record::Record};

/// Longest pause of writes while a server is retired: longer than the deadlines of what is done meanwhile, so that no
/// write slips in between.
const WRITES_WAIT: Duration = PROBE_DEADLINE.saturating_mul(3);

/// Why an act could not be carried out. Nothing is lost: the next reconcile looks again and decides again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The Redis refused, or the connection that the decision was made over is gone.
    #[error("cannot {what} {pod}: {source}; the next reconcile looks again")]
    Redis {
        /// What was tried.
        what: &'static str,
        /// The pod.
        pod: String,
        /// What went wrong.
        source: ProbeFailure,
    },
    /// Another member came to serve since the look.
    #[error("cannot promote {pod}: {other} serves by now; the next reconcile looks again")]
    ServesAlready {
        /// The pod that was to be promoted.
        pod: String,
        /// The pod that serves.
        other: String,
    },
    /// A member was led to another primary since the look.
    #[error("cannot promote {pod}: {other} is no longer parked; the next reconcile looks again")]
    NotParked {
        /// The pod that was to be promoted.
        pod: String,
        /// The pod that follows somebody.
        other: String,
    },
    /// The data that was elected is not there any more.
    #[error("cannot promote {pod}: its data changed since it was chosen; the next reconcile looks again")]
    OtherData {
        /// The pod that was to be promoted.
        pod: String,
    },
}

impl ActError {
    /// The Redis answered, and refused.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Redis { source: ProbeFailure::Reply(_), .. })
    }
}

/// `REPLICAOF NO ONE`, by what was seen in this look.
pub async fn promote(
    connections: &mut Connections,
    pod: &str,
    look: &Snapshot,
    why: &str,
) -> Result<(), ActError> {
    info!(pod, why, "promoting");
    // A promotion that a former leader sent to another member must not arrive beside this one.
    for other in connections.pods() {
        let connection = fenced(connections, &other, "promote").await?;
        let Some(seen) = look.process(&other) else { continue };
        // It may have arrived since the look.
        let replication = connection
            .info_replication()
            .await
            .map_err(|source| redis("ask, before a promotion,", &other, source))?;
        if other != pod && replication.upstream.is_none() {
            return Err(ActError::ServesAlready { pod: pod.to_owned(), other });
        }
        let was_parked = seen.is_parked();
        let seen = &seen.answer.info.replication;
        // A former leader's command, or a person's, led it back to another primary, which may confirm writes again.
        if was_parked && !quorum::is_parked(&replication) {
            return Err(ActError::NotParked { pod: pod.to_owned(), other });
        }
        // More of the same history is no other data: a person may have chosen one that a silent primary still feeds.
        if other == pod && (replication.replid != seen.replid || replication.offset < seen.offset) {
            return Err(ActError::OtherData { pod: other });
        }
    }
    quorum::before_serving(connections, pod, look, "promote").await?;
    let connection = connection(connections, pod, "promote")?;
    connection.replicaof_no_one().await.map_err(|source| redis("promote", pod, source))
}

/// `REPLICAOF <primary>` for each pod, with the password for it.
pub async fn follow(connections: &mut Connections, pods: &[String], host: &str) -> Result<(), ActError> {
    let login = connections.replica();
    for pod in pods {
        if let (Some(connection), Some(login)) = (connections.get_mut(pod), &login)
            && let Err(error) = connection.set_masterauth(login).await
        {
            debug!(pod, %error, "cannot set masterauth; what comes next says why");
        }
    }
    replicaof(connections, pods, (host, REDIS_PORT), "repoint").await
}

/// `REPLICAOF <nobody>` for each pod: it keeps its data, refuses writes, and nobody can copy from it.
pub async fn park(connections: &mut Connections, pods: &[String]) -> Result<(), ActError> {
    replicaof(connections, pods, PARKED, "park").await
}

/// Parks servers that somebody promoted by hand, unless something was written to them: writes wait while the server is
/// asked once more and parked. One that was written to meanwhile goes on as it is; the next look holds it.
pub async fn retire(connections: &mut Connections, pods: &[String], record: &Record) -> Result<(), ActError> {
    for pod in pods {
        let connection = fenced(connections, pod, "retire").await?;
        let failed = |source| redis("retire", pod, source);
        connection.pause_writes(WRITES_WAIT).await.map_err(failed)?;
        if left_unwritten(&connection.info_replication().await.map_err(failed)?, record) {
            info!(pod, "parking: promoted by hand, and nothing was written to it");
            connection.replicaof(PARKED.0, PARKED.1).await.map_err(failed)?;
        }
        connection.resume_writes().await.map_err(failed)?;
    }
    Ok(())
}

/// How long a primary waits for its successor to catch up, with writes paused, before it goes on as before.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);

/// `FAILOVER TO` the target.
///
/// Redis looks for its target by name. The process that was seen must still be the one there: another has begun from its
/// files since, and what those hold nobody has looked at. Its connection tells. A restart and a full sync take
/// longer than the time that the command has.
pub async fn hand_over(
    connections: &mut Connections,
    (from, target): (&str, &str),
    host: &str,
    look: &Snapshot,
) -> Result<(), ActError> {
    info!(from, target, "handing the role over");
    for pod in [from, target] {
        quorum::before_serving(connections, pod, look, "hand over").await?;
    }
    let login = connections.replica();
    let heir = connection(connections, target, "hand over to")?;
    heir.info_replication().await.map_err(|source| redis("hand over to", target, source))?;
    // The old primary would never reach it, and nobody could write.
    if let Some(login) = &login
        && !heir.takes(login).await.map_err(|source| redis("hand over to", target, source))?
    {
        let refused = ProbeFailure::Auth(format!("it does not take the user {}", login.user));
        return Err(redis("hand over to", target, refused));
    }
    let connection = fenced(connections, from, "hand over from").await?;
    // From 7.0 on, a replica that cannot save or append ends itself at the next write that it is sent: a copy less. Redis 6.2
    // does not know the directive, and goes on.
    if look.unmended.contains(from) {
        let told = connection.set_config("replica-ignore-disk-write-errors", b"yes").await;
        debug!(from, ?told, "it is to follow although it cannot write to its volume");
    }
    // As a replica it would never reach its successor with another password, and nobody could write.
    if let Some(login) = &login {
        connection.set_masterauth(login).await.map_err(|source| redis("hand over from", from, source))?;
    }
    let told = connection.failover(host, REDIS_PORT, HAND_OVER_WITHIN).await;
    told.map_err(|source| redis("hand over from", from, source))
}

/// Makes the target of a switchover tell the primary how far it is. By itself it does so once a second, and writes wait
/// for that long. Nothing depends on it.
pub async fn request_ack(connections: &mut Connections, target: &str) {
    if let Some(connection) = connections.get_mut(target)
        && let Err(error) = connection.acknowledge_now().await
    {
        debug!(target, %error, "cannot hasten the switchover");
    }
}

/// How a switchover was ended.
#[derive(Clone, Copy, Debug)]
pub struct Aborted {
    /// It was under way.
    pub was_open: bool,
    /// The same process serves now.
    pub serves: bool,
}

/// `FAILOVER ABORT`.
pub async fn abort(connections: &mut Connections, pod: &str) -> Result<Aborted, ActError> {
    let connection = fenced(connections, pod, "abort the switchover of").await?;
    let failed = |source| redis("abort the switchover of", pod, source);
    let was_open = connection.abort_failover().await.map_err(failed)?;
    info!(pod, was_open, "the switchover did not happen; the primary stays");
    let serves = connection.info_replication().await.map_err(failed)?.upstream.is_none();
    Ok(Aborted { was_open, serves })
}

/// Ends a handover whose primary does not reach its successor. Returns whether the primary serves: not where the
/// successor took over at the last moment.
///
/// The command by which it would take over may be on its way. So the primary's writes wait until the successor, cut off
/// from whatever the primary sent, has said once more that it is a replica.
pub async fn take_back(connections: &mut Connections, pod: &str, target: &str) -> Result<bool, ActError> {
    const WHAT: &str = "take the role back to";
    let at_heir = |source| redis(WHAT, target, source);
    let at_primary = |source| redis(WHAT, pod, source);
    let heir = fenced(connections, target, WHAT).await?;
    let has_taken =
        async |heir: &mut Connection| Ok(heir.info_replication().await.map_err(at_heir)?.upstream.is_none());
    if has_taken(heir).await? {
        return Ok(false);
    }
    let primary = fenced(connections, pod, WHAT).await?;
    primary.abort_failover_without_writes(WRITES_WAIT).await.map_err(at_primary)?;
    let heir = connection(connections, target, WHAT)?;
    heir.cut_clients().await.map_err(at_heir)?;
    let taken = has_taken(heir).await?;
    let primary = connection(connections, pod, WHAT)?;
    if taken {
        primary.replicaof(PARKED.0, PARKED.1).await.map_err(at_primary)?;
    }
    primary.resume_writes().await.map_err(at_primary)?;
    let serves = primary.info_replication().await.map_err(at_primary)?.upstream.is_none();
    info!(pod, target, serves, "the switchover was taken back");
    Ok(serves)
}

/// One that refuses does not keep the others from being told; the first error is returned at the end.
async fn replicaof(
    connections: &mut Connections,
    pods: &[String],
    (host, port): (&str, u16),
    what: &'static str,
) -> Result<(), ActError> {
    let mut outcome = Ok(());
    for pod in pods {
        info!(pod, host, what, "telling whom to follow");
        let told = match fenced(connections, pod, what).await {
            Ok(connection) => {
                connection.replicaof(host, port).await.map_err(|source| redis(what, pod, source))
            }
            Err(error) => Err(error),
        };
        outcome = outcome.and(told);
    }
    outcome
}

/// The connection of the look, and no other of an operator beside it (rule 1): what a former leader sent, or this one
/// over a connection that it gave up, may still be on its way, and must not arrive after what is sent now.
async fn fenced<'a>(
    connections: &'a mut Connections,
    pod: &str,
    what: &'static str,
) -> Result<&'a mut Connection, ActError> {
    let connection = connection(connections, pod, what)?;
    connection.fence_other_operators().await.map_err(|source| redis(what, pod, source))?;
    Ok(connection)
}

fn connection<'a>(
    connections: &'a mut Connections,
    pod: &str,
    what: &'static str,
) -> Result<&'a mut Connection, ActError> {
    connections.get_mut(pod).ok_or_else(|| {
        redis(
            what,
            pod,
            ProbeFailure::Connection(
                "no connection from the last look, or another operator leads now".to_owned(),
            ),
        )
    })
}

fn redis(what: &'static str, pod: &str, source: ProbeFailure) -> ActError {
    ActError::Redis { what, pod: pod.to_owned(), source }
}
