//! The `PodDisruptionBudget`, and how many pods a drain may take now.
//!
//! The disruption controller counts pods that the kubelet calls ready, and a Redis is ready as soon as it answers: a
//! replica whose link is down is one. Were the budget always 1, a drain could take the only other copy of its data.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};

use super::metadata;
use crate::labels;
use crate::{
    api::{
        ConditionType, RedisReplicaSetStatus,
        status::InstanceState::{self, InSync, Loading, Pending, Primary, Terminating, Unreachable},
    },
    election::snapshot::Snapshot,
    plan::Plan,
};

/// A copy that is missing for less than this blocks no drain: an ordinary start, roll or failover links its replicas
/// within a few seconds, and must not cost two writes.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// At most `disruptions` pods may be drained at a time.
pub(super) fn disruption_budget(plan: &Plan, disruptions: i32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(plan, plan.subject.set.disruption_budget()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(disruptions)),
            selector: Some(labels::selector(&plan.subject.set)),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// How many pods a drain may take: none while a pod that the kubelet calls ready is no verified copy for longer than
/// ten seconds, otherwise one. A pod that is not ready, or is being deleted, uses the budget up by itself; a set that
/// never had a primary has nothing to lose.
///
/// `before` is the status of the reconcile before this one, `live` the budget as it stands. Once it is 0 it stays so until
/// every ready pod is verified: a copy that fails in one way after the other is missing all the time.
pub fn disruptions(
    live: Option<&PodDisruptionBudget>,
    before: &RedisReplicaSetStatus,
    look: &Snapshot,
    now: Timestamp,
) -> i32 {
    let is_closed = live
        .and_then(|budget| budget.spec.as_ref()?.max_unavailable.as_ref())
        .is_some_and(|allowed| *allowed == IntOrString::Int(0));
    // Who waited for a primary, however long, needs a moment to follow the one that there is now.
    let available = before.condition(ConditionType::Available).map(|c| &c.last_transition_time);
    let is_older = |since: &Time| now.duration_since(since.0) >= PATIENCE;
    let is_settled = before.primary.is_some() && available.is_some_and(is_older);
    let was_missing = |pod: &str, state: InstanceState| {
        before.instances.iter().any(|old| {
            old.pod == pod && tells_of(old.state, state) && old.since.as_ref().is_some_and(is_older)
        })
    };
    let mut unverified = look.topology.instances.iter().filter(|verdict| {
        let pod = look.observed.pods.iter().find(|pod| pod.name == verdict.pod);
        pod.is_some_and(|pod| pod.ready && !pod.terminating) && !verdict.is_verified()
    });
    let blocks =
        unverified.any(|verdict| is_closed || is_settled && was_missing(&verdict.pod, verdict.state));
    i32::from(!blocks)
}

/// Whether a copy that is in state `now`, unverified, was missing in state `before` already. A pod that was not ready
/// yet, or was verified, has only just begun to be; the status may be a few seconds old (`is_mere_progress`).
fn tells_of(before: InstanceState, now: InstanceState) -> bool {
    before == now || !matches!(before, Primary | InSync | Pending | Loading | Unreachable | Terminating)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

    use super::*;
    use crate::{
        api::status::{self, InstanceStatus},
        observed::{Observed, ObservedPod},
        topology::{Topology, Verdict},
    };
    use InstanceState::{LinkDown, Parked, Syncing};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A look at two pods: a good primary, and one in this state.
    fn look(state: InstanceState, ready: bool, terminating: bool) -> Snapshot {
        let pod = |ordinal: i32, ready, terminating| ObservedPod {
            ready,
            terminating,
            ..ObservedPod::running(ordinal)
        };
        let verdict = |ordinal: i32, state| Verdict {
            pod: format!("redis-{ordinal}"),
            ordinal,
            state,
            serves: ordinal == 0,
            faults: Vec::new(),
        };
        Snapshot {
            observed: Observed { pods: vec![pod(0, true, false), pod(1, ready, terminating)] },
            topology: Topology { instances: vec![verdict(0, Primary), verdict(1, state)] },
            ..Snapshot::default()
        }
    }

    /// A status that says this of the second pod since second 0, and that a primary serves since then.
    fn before(state: InstanceState) -> RedisReplicaSetStatus {
        let instances = vec![InstanceStatus {
            pod: "redis-1".into(),
            state,
            role: None,
            master_host: None,
            link: None,
            replid: None,
            run_id: None,
            version: None,
            since: Some(Time(at(0))),
            message: None,
        }];
        let available = Condition {
            type_: "Available".into(),
            status: "True".into(),
            reason: "PrimaryServes".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(at(0)),
        };
        RedisReplicaSetStatus {
            instances,
            conditions: vec![available],
            primary: Some(status::Primary { pod: "redis-0".into(), epoch: 1 }),
            ..RedisReplicaSetStatus::default()
        }
    }

    fn budget(disruptions: i32) -> PodDisruptionBudget {
        PodDisruptionBudget {
            spec: Some(PodDisruptionBudgetSpec {
                max_unavailable: Some(IntOrString::Int(disruptions)),
                ..PodDisruptionBudgetSpec::default()
            }),
            ..PodDisruptionBudget::default()
        }
    }

    #[test]
    fn a_ready_pod_without_a_copy_blocks_after_ten_seconds() {
        let allowed = |second| disruptions(None, &before(LinkDown), &look(LinkDown, true, false), at(second));
        assert_eq!([0, 9, 10, 3600].map(allowed), [1, 1, 0, 0]);
        assert_eq!(
            disruptions(None, &RedisReplicaSetStatus::default(), &look(LinkDown, true, false), at(60)),
            1,
            "no status yet"
        );
    }

    #[test]
    fn what_the_kubelet_counts_itself_is_not_counted_again() {
        for (ready, terminating) in [(false, false), (true, true), (false, true)] {
            let look = look(LinkDown, ready, terminating);
            assert_eq!(disruptions(None, &before(LinkDown), &look, at(60)), 1);
        }
        assert_eq!(disruptions(None, &before(LinkDown), &look(InSync, true, false), at(60)), 1);
    }

    #[test]
    fn an_ordinary_start_costs_no_write() {
        // The status of a start is written every few seconds only: it may say what was long ago.
        for earlier in [Pending, Loading, Unreachable, Terminating, InSync] {
            for state in [Parked, LinkDown, Syncing] {
                let look = look(state, true, false);
                assert_eq!(disruptions(None, &before(earlier), &look, at(60)), 1, "{earlier:?} {state:?}");
            }
        }
    }

    #[test]
    fn a_primary_that_was_long_in_coming_costs_no_write() {
        let parked = RedisReplicaSetStatus { primary: None, ..before(Parked) };
        assert_eq!(disruptions(None, &parked, &look(Parked, true, false), at(60)), 1, "never served");
        let mut promoted = before(Parked);
        promoted.conditions[0].last_transition_time = Time(at(60));
        let allowed = |second| disruptions(None, &promoted, &look(LinkDown, true, false), at(second));
        assert_eq!([61, 69, 70].map(allowed), [1, 1, 0]);
    }

    #[test]
    fn a_copy_that_fails_in_several_ways_is_missing_all_the_time() {
        let now = look(Syncing, true, false);
        assert_eq!(disruptions(Some(&budget(1)), &before(LinkDown), &now, at(10)), 0);
        // The next status says that it syncs since a moment ago.
        assert_eq!(disruptions(Some(&budget(0)), &before(Syncing), &now, at(1)), 0);
        assert_eq!(disruptions(Some(&budget(1)), &before(Syncing), &now, at(1)), 1);
        assert_eq!(disruptions(Some(&budget(0)), &before(Syncing), &look(InSync, true, false), at(1)), 1);
    }
}
