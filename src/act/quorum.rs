//! Rule 12: what a primary demands of its replicas, and how its replicas leave one that stays silent.

use tracing::{debug, info, warn};

use super::{ActError, connection, fenced, redis};
use crate::{observe::Connections, redis::connection::Connection};
use operator_core::election::quorum::leads_with;
use operator_core::election::snapshot::Snapshot;
use redis_node::{
    PARKED,
    answer::{Demands, ProbeFailure},
    info::Replication,
    record::Armed,
};

const MIN_REPLICAS: &str = "min-replicas-to-write";

/// Parks the followers of a silent primary, and sees each of them parked. Other operators are cut off from all of them first:
/// what a former leader sent must not lead one back to that primary after this.
///
/// # Errors
/// One of them did not answer, or was not parked after. The next reconcile begins again.
pub async fn detach(connections: &mut Connections, pods: &[String]) -> Result<(), ActError> {
    const WHAT: &str = "detach";
    info!(pods = pods.join(", "), "the primary stays silent: its replicas leave it");
    for pod in pods {
        fenced(connections, pod, WHAT).await?;
    }
    for pod in pods {
        let connection = connection(connections, pod, WHAT)?;
        let failed = |source| redis(WHAT, pod, source);
        connection.replicaof(PARKED.0, PARKED.1).await.map_err(failed)?;
        if !is_parked(&connection.info_replication().await.map_err(failed)?) {
            return Err(redis(
                WHAT,
                pod,
                ProbeFailure::Reply("it was not parked after REPLICAOF".to_owned()),
            ));
        }
    }
    Ok(())
}

pub(super) fn is_parked(replication: &Replication) -> bool {
    replication.upstream.as_ref().is_some_and(|u| (u.host.as_str(), u.port) == PARKED)
}

/// Tells the primary how many replicas it is to demand.
///
/// # Errors
/// It does not answer, or refuses.
pub async fn demand(connections: &mut Connections, pod: &str, min_replicas: i64) -> Result<(), ActError> {
    const WHAT: &str = "set min-replicas-to-write on";
    info!(pod, min_replicas, "telling the primary how many replicas it needs for a write");
    let connection = fenced(connections, pod, WHAT).await?;
    set(connection, min_replicas).await.map_err(|source| redis(WHAT, pod, source))
}

/// Tells the primary to demand replicas, and reads back what the record is to say.
///
/// # Errors
/// It does not answer, or demands something else after.
pub async fn arm(connections: &mut Connections, pod: &str, armed: &Armed) -> Result<(), ActError> {
    const WHAT: &str = "read min-replicas-to-write back from";
    demand(connections, pod, armed.min_replicas).await?;
    let connection = connection(connections, pod, WHAT)?;
    let failed = |source| redis(WHAT, pod, source);
    let (_, demands) = connection.replication_settings().await.map_err(failed)?;
    let wanted = Demands {
        min_replicas: armed.min_replicas,
        max_lag_seconds: armed.max_lag_seconds,
        ping_seconds: armed.ping_seconds,
    };
    if demands == Some(wanted) {
        return Ok(());
    }
    Err(failed(ProbeFailure::Reply(format!("{demands:?} in place of {wanted:?}"))))
}

/// Who is about to serve demands no replica that is not there yet.
pub(super) async fn before_serving(
    connections: &mut Connections,
    pod: &str,
    look: &Snapshot,
    what: &'static str,
) -> Result<(), ActError> {
    let Some(min_replicas) = leads_with(look, pod) else { return Ok(()) };
    let connection = connection(connections, pod, what)?;
    match set(connection, min_replicas).await {
        // It serves all the same, and takes writes once a replica follows; the next look tells of the refusal.
        Err(ProbeFailure::Reply(words)) => {
            warn!(pod, words, "it refuses to be told how many replicas it is to demand");
            Ok(())
        }
        told => told.map_err(|source| redis(what, pod, source)),
    }
}

async fn set(connection: &mut Connection, min_replicas: i64) -> Result<(), ProbeFailure> {
    let told = connection.set_config(MIN_REPLICAS, min_replicas.to_string().as_bytes()).await?;
    told.map_err(ProbeFailure::Reply)
}

/// Sends `REPLICAOF` of nobody to the former primary over the connection that was held to it, and waits for no answer: a
/// frozen one carries it out first when it goes on, before the writes that its clients sent meanwhile. Only after the record
/// names another.
pub fn withdraw(mut connection: Connection, pod: String) {
    tokio::spawn(async move {
        // It is sent; whether an answer comes in time says nothing.
        let told = connection.replicaof(PARKED.0, PARKED.1).await;
        debug!(pod, ?told, "the former primary was told that another one serves");
    });
}
