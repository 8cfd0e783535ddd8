//! The status and the Events of a pass.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::Event;
use thiserror::Error;
use tokio::time::timeout;
use tracing::{info, warn};

use super::PROGRESS_INTERVAL;
use crate::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    context::Context,
    error::chain,
    events,
    status::{Learned, derive, is_mere_progress, patch::patch},
    store::{self, Presence},
};

/// Time that the API server has to take a status or an Event.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// Why the status could not be written.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The API server does not answer.
    #[error("the API server did not answer within {PUBLISH_DEADLINE:?}")]
    Deadline,
}

/// Writes the status if its meaning changed, and the Events of the change. Returns what stands in the cluster then,
/// and whether mere progress was held back.
pub async fn publish(
    set: &RedisReplicaSet,
    ctx: &Context,
    learned: &Learned<'_>,
    now: Timestamp,
) -> Result<(RedisReplicaSetStatus, bool), PublishError> {
    let before = ctx.memory.current_status(set);
    let status = derive(before.as_ref(), learned, now);
    let progress = is_mere_progress(before.as_ref(), &status);
    if progress && ctx.memory.wrote_lately(set, PROGRESS_INTERVAL) {
        return Ok((before.unwrap_or(status), true));
    }
    // The client has no time-out of its own: an answer that never comes would hold this set for ever.
    let patched = async {
        // What was learned of a set is not true of a successor of its name, and a patch of a status cannot name the UID
        // that it is for: the API server takes all metadata from the stored object. A failed pass says so in any case.
        let is_learned = learned.failure.is_none() && before.as_ref() != Some(&status);
        let uid = set.metadata.uid.as_deref();
        let presence = store::presence(&ctx.client, learned.set, uid);
        if is_learned && presence.await.is_ok_and(|presence| presence == Presence::Gone) {
            return Ok(false);
        }
        patch(&ctx.client, learned.set, before.as_ref(), &status).await
    };
    let patched = timeout(PUBLISH_DEADLINE, patched);
    if !patched.await.map_err(|_| PublishError::Deadline)?? {
        return Ok((status, false));
    }
    ctx.memory.wrote_status(set, status.clone(), progress);
    for event in events::transitions(before.as_ref(), &status) {
        send(set, ctx, &event).await;
    }
    Ok((status, false))
}

/// An Event is a courtesy: failing to send one must not end a pass.
pub(super) async fn send(set: &RedisReplicaSet, ctx: &Context, event: &Event) {
    info!(reason = event.reason, note = event.note.as_deref().unwrap_or_default(), "transition");
    let object = kube::Resource::object_ref(set, &());
    match timeout(PUBLISH_DEADLINE, ctx.recorder.publish(event, &object)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = chain(&error), "cannot publish an Event"),
        Err(_) => warn!("cannot publish an Event: the API server does not answer"),
    }
}
