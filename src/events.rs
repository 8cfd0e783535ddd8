//! Kubernetes Events: on transitions of the status, and only then. The catalogue is in `docs/events.md`.
//!
//! Pure; publishing is the controller's.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use crate::{api::RedisReplicaSetStatus, config::live::Repaired, hash};

/// What happened between two statuses of a set.
pub fn transitions(before: Option<&RedisReplicaSetStatus>, after: &RedisReplicaSetStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let old = |type_: &str| before.and_then(|s| find(&s.conditions, type_));
    let was_ready = before.is_some_and(RedisReplicaSetStatus::is_ready);
    if let Some(ready) = find(&after.conditions, "Ready") {
        if ready.status == "True" && !was_ready {
            events.push(event(EventType::Normal, "Ready", "Verify", &ready.message));
        } else if ready.status != "True" && was_ready {
            events.push(event(
                EventType::Warning,
                "NotReady",
                "Verify",
                &format!("{}: {}", ready.reason, ready.message),
            ));
        }
    }
    let old_epoch = before.and_then(|s| s.primary.as_ref()).map(|p| p.epoch);
    // The first primary is part of becoming Ready; a later one is news.
    if let (Some(old_epoch), Some(primary)) = (old_epoch, &after.primary)
        && primary.epoch > old_epoch
    {
        let note = format!("{} is the primary from epoch {} on", primary.pod, primary.epoch);
        events.push(event(EventType::Normal, "PrimaryChanged", "Promote", &note));
    }
    let known = before.map_or(&[][..], |s| &s.divergences);
    for lost in after.divergences.iter().filter(|lost| !known.contains(lost)) {
        let note = format!(
            "{} has {} bytes of history {} that the primary of epoch {} does not have; they are lost as it follows that \
             primary",
            lost.pod, lost.bytes, lost.replid, lost.epoch
        );
        events.push(event(EventType::Warning, "DataDiverged", "Follow", &note));
    }
    // A warning beside a spec that can be carried out.
    if let Some(now) = find(&after.conditions, "SpecValid").filter(|now| now.reason == "MemoryTight")
        && old("SpecValid").is_none_or(|was| was.reason != now.reason)
    {
        events.push(event(EventType::Warning, "MemoryTight", "SpecValid", &now.message));
    }
    for type_ in ["Degraded", "SpecValid"] {
        let Some(now) = find(&after.conditions, type_) else { continue };
        let bad = if type_ == "Degraded" { "True" } else { "False" };
        let news =
            now.status == bad && old(type_).is_none_or(|was| was.status != bad || was.reason != now.reason);
        if news {
            events.push(event(EventType::Warning, &now.reason, type_, &now.message));
        }
    }
    // An invalid spec makes both conditions speak of the same thing.
    events.dedup_by(|a, b| a.reason == b.reason);
    events
}

/// A directive that somebody changed on a running server, and that was set back. No transition of the status goes with
/// it: what it tells of is over.
pub fn repaired(repaired: &Repaired) -> Event {
    let Repaired { pod, name, readings: (found, left) } = repaired;
    let note = format!(
        "{name} had been changed on {pod} to {found:?} and was set back to {left:?}; to change it for good, change \
         spec.config"
    );
    event(EventType::Warning, "ConfigDrift", "Repair", &note)
}

/// A planned switchover ended without a change.
pub fn switchover_failed(note: &str) -> Event {
    event(EventType::Warning, "SwitchoverFailed", "Switchover", note)
}

/// The set was begun again over data of before, and the newest of it serves.
pub fn data_adopted(note: &str) -> Event {
    event(EventType::Normal, "DataAdopted", "Adopt", note)
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Notes may have 1 kB at most (Kubernetes API, events.k8s.io/v1).
const MAX_NOTE: usize = 1000;

fn event(type_: EventType, reason: &str, action: &str, note: &str) -> Event {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    Event {
        type_,
        reason: reason.to_owned(),
        note: note.get(..end).map(str::to_owned),
        // The publisher joins Events of the same reason and action and keeps the first one's note (kube 5), so what
        // tells them apart has to be in the action. `kubectl` does not show it.
        action: format!("{action}-{}", hash::sha256(note.as_bytes()).get(..8).unwrap_or_default()),
        secondary: None,
    }
}
