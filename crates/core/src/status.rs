//! From what a reconcile found out to `status`: pure, total, and the only place where conditions are decided.
//!
//! Every reconcile ends here, failed ones included. What was not learned is `Unknown`, never the previous `True`.

mod available;
mod cause;
mod conditions;
mod credentials;
pub mod divergences;
mod failover;
mod finding;
mod instances;
pub mod outcome;
mod refused;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        ConditionType, Reason,
        status::{InstanceState, Primary, RedisReplicaSetStatus, Summary},
    },
    labels,
    status::outcome::Outcome,
    subject::Subject,
};

/// Whether a change of the status tells only how far a set has come that is on its way anyway: neither the
/// summary nor what a person must act on turned (into another reason neither), the primary (once there is one) and the spec are the same, no verified server and no data was lost,
/// and it is not there yet.
pub fn is_progress_only(before: Option<&RedisReplicaSetStatus>, after: &RedisReplicaSetStatus) -> bool {
    let turned = |status: &RedisReplicaSetStatus| -> Vec<(String, String, Option<String>)> {
        // Servers that come up one by one take what the Secrets say one by one.
        const STEPS: [&str; 3] = ["Replicated", "Progressing", "CredentialsCurrent"];
        let matters = |c: &&Condition| !STEPS.contains(&c.type_.as_str());
        let reason = |c: &Condition| (c.type_ == ConditionType::Degraded.as_str()).then(|| c.reason.clone());
        let told = |c: &Condition| (c.type_.clone(), c.status.clone(), reason(c));
        status.conditions.iter().filter(matters).map(told).collect()
    };
    before.is_some_and(|before| {
        !after.is_ready()
            && turned(before) == turned(after)
            && before.observed_generation == after.observed_generation
            && (before.primary.is_none() || before.primary == after.primary)
            && before.divergences == after.divergences
            && before.ready_replicas <= after.ready_replicas
    })
}

/// `lastProbeTime` is renewed when it is older, even if nothing else has changed.
const PROBE_TIME_AGE: SignedDuration = SignedDuration::from_mins(10);

/// How many servers are wanted. Of a set that cannot be read only its record says so.
fn wanted(subject: &Subject, outcome: &Outcome) -> i32 {
    match &outcome.record {
        Some(record) if outcome.failed_with(Reason::Unreadable) => {
            i32::try_from(record.members.len()).unwrap_or(i32::MAX)
        }
        _ => subject.wanted,
    }
}

/// The status after a reconcile.
pub fn derive(
    before: Option<&RedisReplicaSetStatus>,
    subject: &Subject,
    outcome: &Outcome,
    now: Timestamp,
) -> RedisReplicaSetStatus {
    let no_instances = Vec::new();
    let before_instances = before.map_or(&no_instances, |s| &s.instances);
    let instances = match &outcome.look {
        Some(look) => instances::instances(before_instances, look, now),
        None => instances::not_asked(before_instances, now),
    };
    let count = |states: &[InstanceState]| {
        i32::try_from(instances.iter().filter(|i| states.contains(&i.state)).count()).unwrap_or(i32::MAX)
    };
    let verified = count(&[InstanceState::Primary, InstanceState::InSync]);
    let synced = count(&[InstanceState::InSync]);
    // What the record said is still true where it was not read in this reconcile.
    let primary = match &outcome.record {
        Some(record) => record.primary.clone().map(|pod| Primary { pod, epoch: record.epoch }),
        None => before.and_then(|s| s.primary.clone()),
    };
    let master_host = match &primary {
        Some(primary) => subject.set.ordinal(&primary.pod).map(|ordinal| subject.fqdn(ordinal)),
        None => before.and_then(|s| s.master_host.clone()),
    };
    let wanted = wanted(subject, outcome);
    let status = RedisReplicaSetStatus {
        observed_generation: subject.generation,
        last_probe_time: before.and_then(|before| before.last_probe_time.clone()),
        selector: Some(labels::selector_text(&subject.set)),
        replicas: i32::try_from(instances.len()).unwrap_or(i32::MAX),
        ready_replicas: verified,
        synced_replicas: synced,
        summary: Summary {
            replicas: format!("{verified}/{wanted}"),
            synced: format!("{synced}/{}", (wanted - 1).max(0)),
        },
        conditions: conditions::conditions(
            before.map_or(&[], |s| &s.conditions),
            (subject, outcome),
            &instances,
            primary.as_ref(),
            now,
        ),
        failover: failover::failover(before.and_then(|s| s.failover.as_ref()), outcome),
        divergences: divergences::divergences(before.map_or(&[], |s| &s.divergences), &outcome.diverged, now),
        primary,
        master_host,
        instances,
    };
    // A write a set in ten minutes is what it may cost to say that somebody still looks.
    let is_old = |time: &Time| now.duration_since(time.0) >= PROBE_TIME_AGE;
    let renew = status.last_probe_time.as_ref().is_none_or(is_old) || before != Some(&status);
    match &outcome.look {
        Some(_) if renew => RedisReplicaSetStatus { last_probe_time: Some(Time(now)), ..status },
        _ => status,
    }
}
