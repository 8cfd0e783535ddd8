//! Condition `Available`: whether a write would be taken from those who come through the Service.

use crate::{
    api::{
        Reason,
        failover::Alone,
        status::{InstanceState, InstanceStatus, Primary},
    },
    status::{
        finding::{Finding, in_state, is_silent, not_probed},
        outcome::Outcome,
    },
};
use redis_node::answer::{Answer, ProbeFailure, Refusal, Write};

/// Whether a primary serves writes.
pub(super) fn available(
    outcome: &Outcome,
    instances: &[InstanceStatus],
    primary: Option<&Primary>,
) -> Finding {
    if outcome.look.is_none() {
        return not_probed(outcome);
    }
    let Some(primary) = primary else {
        return match &outcome.hold {
            Some(hold) => Finding::no(Reason::NoPrimary, &*hold.message),
            None => Finding::no(Reason::NoPrimary, "no primary was chosen yet"),
        };
    };
    let serves = |pod: &str| {
        let verdict = outcome.look.as_ref().and_then(|look| look.topology.get(pod));
        verdict.is_some_and(|verdict| verdict.serves)
    };
    match instances.iter().find(|i| i.pod == primary.pod) {
        Some(i) if i.state == InstanceState::Primary => serving(outcome, instances, &i.pod),
        Some(i) if i.state == InstanceState::Terminating && serves(&i.pod) => {
            serving(outcome, instances, &i.pod)
        }
        Some(i) if is_silent(i.state) => Finding::unknown(
            Reason::PrimaryUnreachable,
            format!(
                "{} is the primary of record; {}",
                primary.pod,
                i.message.as_deref().unwrap_or("no answer")
            ),
        ),
        found => {
            let state =
                found.map_or("its pod does not exist".to_owned(), |i| format!("its state is {:?}", i.state));
            let why = outcome.hold.as_ref().map(|h| format!("; {}", h.message)).unwrap_or_default();
            Finding::no(
                Reason::NoPrimary,
                format!("{} is the primary of record, but {state}{why}", primary.pod),
            )
        }
    }
}

/// Whether the primary of record, which says that it serves, takes writes from those who come through the Service.
fn serving(outcome: &Outcome, instances: &[InstanceStatus], primary: &str) -> Finding {
    let pod =
        outcome.look.as_ref().and_then(|look| look.observed.pods.iter().find(|pod| pod.name == primary));
    let moves =
        pod.and_then(|pod| pod.answer.as_ref().ok()).is_some_and(|a| a.info.replication.failover_runs());
    if moves {
        return Finding::no(Reason::SwitchingOver, format!("{primary} hands its role over; writes wait"));
    }
    if let Some(refused) = unwritable(outcome, primary) {
        return refused;
    }
    let rivals = in_state(instances, &[InstanceState::UnexpectedPrimary]);
    match pod {
        // Where all endpoints of a Service terminate, it still leads to them.
        Some(pod) if pod.terminating => {
            Finding::yes(Reason::PrimaryServes, format!("{primary} serves; its pod is being deleted"))
        }
        Some(pod) if !pod.ready => Finding::no(
            Reason::PodNotReady,
            format!(
                "{primary} serves, but the kubelet does not call its pod Ready, so no Service leads to it"
            ),
        ),
        _ if !rivals.is_empty() => Finding::yes(
            Reason::MultiplePrimaries,
            format!(
                "{primary} serves, and so does {}, which is not the primary of record",
                rivals.join(", ")
            ),
        ),
        Some(pod) if pod.answer.as_ref().is_ok_and(Answer::turns_away) => Finding::yes(
            Reason::PrimaryServes,
            format!("{primary} serves those who are connected, and turns others away"),
        ),
        _ => Finding::yes(Reason::PrimaryServes, format!("{primary} serves")),
    }
}

/// Whose demand for replicas it is.
fn demand(outcome: &Outcome) -> &'static str {
    let policy = outcome.look.as_ref().map(|look| look.failover).unwrap_or_default();
    match (policy.owns_min_replicas, policy.alone) {
        (false, _) => {
            "spec.config demands it (min-replicas-to-write); Replicated says what keeps the replicas away"
        }
        (true, Alone::RefuseWrites) => {
            "spec.failover.alone is RefuseWrites; Replicated says what keeps the replicas away"
        }
        (true, Alone::Serve) => {
            "No replica acknowledges, so that another one may take over (spec.failover); the operator ends the demand where the \
             primary answers it"
        }
    }
}

/// Why the primary takes no writes although it serves.
fn unwritable(outcome: &Outcome, primary: &str) -> Option<Finding> {
    let (reason, words, remedy) = match outcome.write.as_ref()? {
        Write::Taken | Write::Unknown(ProbeFailure::Reply(_) | ProbeFailure::Malformed(_)) => return None,
        Write::Unknown(failure) => {
            let message = format!("{primary} answered that it serves, and then took no write: {failure}");
            return Some(Finding::unknown(Reason::PrimaryUnreachable, message));
        }
        Write::Paused => (
            Reason::ClientsPaused,
            "it keeps them waiting, and answers others (CLIENT PAUSE)",
            "CLIENT UNPAUSE ends that; else it ends when the time that was given is over",
        ),
        Write::Refused(Refusal::SavingFails, words) => (
            Reason::SavingFails,
            words.as_str(),
            "Its log says why the save failed, most often a full volume: give it room (spec.storage.size). The next \
             save that succeeds ends this",
        ),
        Write::Refused(Refusal::AppendingFails, words) => (
            Reason::AppendingFails,
            words.as_str(),
            "Give its volume room (spec.storage.size); the first append that succeeds ends this",
        ),
        Write::Refused(Refusal::TooFewReplicas, words) => {
            (Reason::TooFewReplicas, words.as_str(), demand(outcome))
        }
        Write::Refused(Refusal::MemoryFull, words) => (
            Reason::MemoryFull,
            words.as_str(),
            "Delete data, raise maxmemory and the memory limit, or choose a maxmemory-policy that evicts",
        ),
    };
    Some(Finding::no(reason, format!("{primary} serves, but takes no writes: {words}. {remedy}")))
}
