//! The status and the Events of a reconcile.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Event, EventType};
use thiserror::Error;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::{
    PROGRESS_INTERVAL,
    stages::{Job, Seen},
};
use crate::{
    context::Context,
    error_chain::chain,
    kubernetes::{
        set::{self, Presence},
        status::{Patched, patch},
    },
};
use operator_core::{
    api::{ConditionType, RedisReplicaSet, RedisReplicaSetStatus},
    events::{self, Notice},
    hash,
    status::{derive, is_progress_only, outcome::Outcome},
    subject::Subject,
};

/// Time that the API server has to take a status or an Event.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// A loss that lasts longer is told before the reconcile ends. A switchover takes less.
const TELL_AFTER: Duration = Duration::from_millis(1200);
/// Time that the API server has to take it: servers wait to be told what to do.
const TELL_WITHIN: Duration = Duration::from_secs(1);

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
    subject: &Subject,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(RedisReplicaSetStatus, bool), PublishError> {
    let before = ctx.memory.current_status(set);
    let status = derive(before.as_ref(), subject, outcome, now);
    let progress = is_progress_only(before.as_ref(), &status);
    if progress && ctx.memory.wrote_lately(set, PROGRESS_INTERVAL) {
        return Ok((before.unwrap_or(status), true));
    }
    if before.as_ref() == Some(&status) {
        return Ok((status, false));
    }
    // The client has no time-out of its own: an answer that never comes would hold this set for ever.
    let written = timeout(PUBLISH_DEADLINE, write(set, ctx, subject, outcome, &status));
    let Patched::Written(version) = written.await.map_err(|_| PublishError::Deadline)?? else {
        return Ok((status, false));
    };
    ctx.memory.wrote_status(set, status.clone(), version, progress);
    for notice in events::transitions(before.as_ref(), &status) {
        send(set, ctx, &notice).await;
    }
    Ok((status, false))
}

/// Writes the status. What was learned of a set is not true of a successor of its name: it is written over what this process knows, or
/// once the API server says that this set is there. A failed reconcile says so in any case.
async fn write(
    set: &RedisReplicaSet,
    ctx: &Context,
    subject: &Subject,
    outcome: &Outcome,
    status: &RedisReplicaSetStatus,
) -> Result<Patched, kube::Error> {
    let (client, name) = (&ctx.client, &subject.set);
    if outcome.failures.is_empty() {
        if let Some(version) = ctx.memory.current_version(set) {
            let patched = patch(client, name, Some(&version), status).await?;
            if patched != Patched::Outdated {
                return Ok(patched);
            }
        }
        if set::presence(client, name, Some(&subject.uid)).await.is_ok_and(|there| there == Presence::Gone) {
            return Ok(Patched::Gone);
        }
    }
    patch(client, name, None, status).await
}

/// Writes the status in the middle of a reconcile where Ready or Available has not been true any more for some time: a switchover that
/// does not proceed, a server that does not answer. All else is told at the end. The servers have to be asked again after it.
pub(super) async fn tell_of_a_loss(job: &Job<'_>, seen: &mut Seen, outcome: &Outcome) {
    let Job { ctx, resource, subject, .. } = *job;
    let mut so_far = outcome.clone();
    so_far.record = Some(seen.stored.record.clone());
    so_far.look = Some(seen.look.clone());
    so_far.hold.clone_from(&seen.hold);
    so_far.growth.get_or_insert_with(|| ctx.claims.growth(&subject.set));
    let since = SignedDuration::try_from(job.began.elapsed()).unwrap_or_default();
    let now = job.now.checked_add(since).unwrap_or(job.now);
    let before = ctx.memory.current_status(resource);
    let after = derive(before.as_ref(), subject, &so_far, now);
    let is_loss = before.is_some_and(|before| {
        [ConditionType::Ready, ConditionType::Available]
            .into_iter()
            .any(|type_| before.is_true(type_) && !after.is_true(type_))
    });
    if !is_loss {
        seen.lost_since = None;
        return;
    }
    if seen.lost_since.get_or_insert_with(Instant::now).elapsed() < TELL_AFTER {
        return;
    }
    match timeout(TELL_WITHIN, publish(resource, ctx, subject, &so_far, now)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            warn!(error = chain(&error), "cannot write the status in between; it is written at the end");
        }
        Err(_) => warn!("cannot write the status in between: the API server does not answer"),
    }
}

/// Publishes a notice as an Event. That is a courtesy: failing to send one must not end a reconcile.
pub(super) async fn send(set: &RedisReplicaSet, ctx: &Context, notice: &Notice) {
    info!(reason = notice.reason, note = notice.note, "transition");
    let object = kube::Resource::object_ref(set, &());
    match timeout(PUBLISH_DEADLINE, ctx.recorder.publish(&event(notice), &object)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(error = chain(&error), "cannot publish an Event"),
        Err(_) => warn!("cannot publish an Event: the API server does not answer"),
    }
}

/// Notes may have 1 kB at most (Kubernetes API, events.k8s.io/v1).
const MAX_NOTE: usize = 1000;

fn event(notice: &Notice) -> Event {
    let Notice { warning, reason, action, note } = notice;
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    Event {
        type_: if *warning { EventType::Warning } else { EventType::Normal },
        reason: reason.clone(),
        note: note.get(..end).map(str::to_owned),
        // The publisher joins Events of the same reason and action and keeps the first one's note (kube 5), so what
        // tells them apart has to be in the action. `kubectl` does not show it.
        action: format!("{action}-{}", hash::sha256(note.as_bytes()).get(..8).unwrap_or_default()),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_at_a_character() {
        let notice =
            Notice { warning: true, reason: "ApiError".into(), action: "Degraded", note: "ä".repeat(1024) };
        let sent = event(&notice);
        assert!((999..=1000).contains(&sent.note.as_ref().unwrap().len()));
        assert!(sent.action.starts_with("Degraded-"));
        let other = event(&Notice { note: "b".into(), ..notice });
        assert!(sent.reason == other.reason && sent.action != other.action, "else the publisher joins them");
    }
}
