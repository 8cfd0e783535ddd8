//! From what a pass learned to `status`: pure, total, and the only place where conditions are decided.
//!
//! Every pass ends here, failed ones included. What was not learned is `Unknown`, never the previous `True`.

mod available;
mod conditions;
pub mod divergences;
mod finding;
mod instances;
pub mod patch;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        RedisReplicaSet,
        status::{InstanceState, Primary, RedisReplicaSetStatus, Summary},
    },
    config::live::Report,
    decide::{Hold, divergence::Divergence, look::Look, roll::Roll, size::Size},
    desired::labels,
    names::SetName,
    plan::Plan,
    record::Record,
    redis::writes::Write,
    volumes::Growth,
};

/// What one pass learned. `None` means: not learned in this pass.
#[derive(Clone, Copy, Debug)]
pub struct Learned<'a> {
    /// The set.
    pub set: &'a SetName,
    /// `metadata.generation` of the spec that the pass worked on.
    pub generation: Option<i64>,
    /// `spec.replicas`.
    pub wanted: i32,
    /// The plan, unless the spec is invalid.
    pub plan: Option<&'a Plan>,
    /// The role record at the end of the pass.
    pub record: Option<&'a Record>,
    /// The last look.
    pub look: Option<&'a Look>,
    /// What became of a write that was tried on the primary of record.
    pub write: Option<&'a Write>,
    /// What the servers said to the directives that they were told.
    pub report: Option<&'a Report>,
    /// Why nothing can be done safely.
    pub hold: Option<&'a Hold>,
    /// How many pods there shall be now.
    pub size: Option<&'a Size>,
    /// What the roll waits for.
    pub roll: Option<&'a Roll>,
    /// Why the primary, which is to move, cannot yet.
    pub move_waits: Option<&'a str>,
    /// Data that servers have and the primary has not, found before they are told to follow it.
    pub diverged: &'a [Divergence],
    /// How far the volumes are from the wanted size.
    pub growth: Option<&'a Growth>,
    /// The Secret with the password is missing.
    pub password_missing: bool,
    /// The set is being deleted, and these finalizers keep it.
    pub finalizers: Option<&'a [String]>,
    /// Category and text of the error that ended the pass early.
    pub failure: Option<(&'static str, &'a str)>,
}

/// Whether a change of the status tells only how far a set has come that is on its way anyway: neither the
/// summary nor what a person must act on turned, the primary (once there is one) and the spec are the same, no verified server and no data was lost,
/// and it is not there yet.
pub fn is_mere_progress(before: Option<&RedisReplicaSetStatus>, after: &RedisReplicaSetStatus) -> bool {
    let turned = |status: &RedisReplicaSetStatus| -> Vec<(String, String)> {
        let matters = |c: &&Condition| !["Replicated", "Progressing"].contains(&c.type_.as_str());
        status.conditions.iter().filter(matters).map(|c| (c.type_.clone(), c.status.clone())).collect()
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

impl<'a> Learned<'a> {
    /// A pass that ended before it learned anything.
    pub fn nothing(set: &'a SetName, resource: &RedisReplicaSet, failure: (&'static str, &'a str)) -> Self {
        Self {
            set,
            generation: resource.metadata.generation,
            wanted: resource.spec.replicas,
            plan: None,
            record: None,
            look: None,
            write: None,
            report: None,
            hold: None,
            size: None,
            roll: None,
            move_waits: None,
            diverged: &[],
            growth: None,
            password_missing: false,
            finalizers: None,
            failure: Some(failure),
        }
    }
}

/// `lastProbeTime` is renewed when it is older, even if nothing else has changed.
const PROBE_TIME_AGE: SignedDuration = SignedDuration::from_mins(10);

/// The status after a pass.
pub fn derive(
    before: Option<&RedisReplicaSetStatus>,
    learned: &Learned<'_>,
    now: Timestamp,
) -> RedisReplicaSetStatus {
    let no_instances = Vec::new();
    let before_instances = before.map_or(&no_instances, |s| &s.instances);
    let instances = match learned.look {
        Some(look) => instances::instances(before_instances, look, now),
        None => instances::not_asked(before_instances, now),
    };
    let count = |states: &[InstanceState]| {
        i32::try_from(instances.iter().filter(|i| states.contains(&i.state)).count()).unwrap_or(i32::MAX)
    };
    let verified = count(&[InstanceState::Primary, InstanceState::InSync]);
    let synced = count(&[InstanceState::InSync]);
    // What the record said is still true where it was not read in this pass.
    let primary = match learned.record {
        Some(record) => record.primary.clone().map(|pod| Primary { pod, epoch: record.epoch }),
        None => before.and_then(|s| s.primary.clone()),
    };
    let master_host = match (learned.plan, &primary) {
        (Some(plan), Some(primary)) => {
            learned.set.ordinal(&primary.pod).map(|o| learned.set.fqdn(o, &plan.cluster_domain))
        }
        _ => before.and_then(|s| s.master_host.clone()),
    };
    let status = RedisReplicaSetStatus {
        observed_generation: learned.generation,
        last_probe_time: before.and_then(|before| before.last_probe_time.clone()),
        selector: Some(labels::selector_text(learned.set)),
        replicas: i32::try_from(instances.len()).unwrap_or(i32::MAX),
        ready_replicas: verified,
        synced_replicas: synced,
        summary: Summary {
            replicas: format!("{verified}/{}", learned.wanted),
            synced: format!("{synced}/{}", (learned.wanted - 1).max(0)),
        },
        conditions: conditions::conditions(
            before.map_or(&[], |s| &s.conditions),
            learned,
            &instances,
            primary.as_ref(),
            now,
        ),
        divergences: divergences::divergences(before.map_or(&[], |s| &s.divergences), learned.diverged, now),
        primary,
        master_host,
        instances,
    };
    // A write a set in ten minutes is what it may cost to say that somebody still looks.
    let is_old = |time: &Time| now.duration_since(time.0) >= PROBE_TIME_AGE;
    let renew = status.last_probe_time.as_ref().is_none_or(is_old) || before != Some(&status);
    match learned.look {
        Some(_) if renew => RedisReplicaSetStatus { last_probe_time: Some(Time(now)), ..status },
        _ => status,
    }
}
