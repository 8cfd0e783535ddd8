//! How many pods the `StatefulSet` shall have now, and who is a member of record for that.
//!
//! Pure. A member enters the record before its pod is created, and leaves it only while a primary serves
//! (`docs/design/protocol.md`, "The record").

use crate::{election::snapshot::Snapshot, names::SetName, topology::Verdict};
use redis_node::record::Record;

/// The size to apply now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// `spec.replicas` of the `StatefulSet`.
    pub replicas: i32,
    /// Pod names that must stand in the record before that is applied.
    pub members: Vec<String>,
    /// Why fewer pods than now are wanted but none is removed yet.
    pub blocked: Option<String>,
}

/// The wanted number, and fewer than now only while the primary stays and everybody who stays is verified.
pub fn size(set: &SetName, wanted: i32, live: Option<i32>, record: &Record, look: &Snapshot) -> Size {
    let recorded =
        record.members.iter().filter_map(|m| set.ordinal(m)).max().map_or(0, |ordinal| ordinal + 1);
    // Pods may outlive a StatefulSet that was deleted by hand.
    let seen = look.observed.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0);
    let live = live.unwrap_or(0).max(seen);
    let primary_serves =
        record.primary.as_ref().is_some_and(|p| look.topology.serving().iter().any(|v| v.pod == *p));
    let (replicas, blocked) = if !record.sure {
        // Everybody who may hold data has to answer before one is chosen (rule 9).
        (recorded, None)
    } else if !primary_serves {
        // An election needs everybody who may hold data. A new set has the wanted members from its first record on.
        let kept = live.max(recorded).max(1);
        (kept, (wanted < kept).then(|| "no pod is removed while no primary serves".to_owned()))
    } else if wanted >= live {
        (wanted, None)
    } else {
        match keeps_primary(set, wanted, record, look) {
            Ok(()) => (wanted, None),
            Err(why) => (live, Some(why)),
        }
    };
    let members = (0..replicas.max(recorded))
        .map(|ordinal| set.pod(ordinal))
        .filter(|pod| {
            let stays = set.ordinal(pod).is_some_and(|ordinal| ordinal < replicas);
            stays || !primary_serves || look.observed.pods.iter().any(|p| p.name == *pod)
        })
        .collect();
    Size { replicas, members, blocked }
}

/// Whether a set of the wanted size still contains the primary and a verified copy of everything.
fn keeps_primary(set: &SetName, wanted: i32, record: &Record, look: &Snapshot) -> Result<(), String> {
    let primary = record.primary.as_deref().and_then(|p| Some((p, set.ordinal(p)?)));
    let Some((pod, ordinal)) = primary else { return Err("no primary was chosen yet".to_owned()) };
    if ordinal >= wanted {
        return Err(format!(
            "{pod} is the primary and would be removed; it is kept until the primary is one of the first {wanted}"
        ));
    }
    // A pod that is missing is not verified either: what is to be removed may be the only copy.
    let is_verified = |pod: &str| look.topology.get(pod).is_some_and(Verdict::is_verified);
    let unverified: Vec<String> = (0..wanted).map(|o| set.pod(o)).filter(|pod| !is_verified(pod)).collect();
    if unverified.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "pods are removed only while the ones that stay are verified; waiting for {}",
            unverified.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::status::InstanceState::{self, InSync, LinkDown, Parked, Primary, Unreachable},
        observed::{Observed, ObservedPod},
        topology::Topology,
    };
    use redis_node::record::Serving;

    fn set() -> SetName {
        SetName::new("lab", "redis")
    }

    fn pods(ordinals: impl IntoIterator<Item = i32>) -> Vec<String> {
        ordinals.into_iter().map(|ordinal| set().pod(ordinal)).collect()
    }

    /// A look in which the pods were in these states; only a `Primary` serves.
    fn look(states: &[(i32, InstanceState)]) -> Snapshot {
        let pod = |ordinal: i32| ObservedPod::running(ordinal);
        let verdict = |(ordinal, state): &(i32, InstanceState)| Verdict {
            pod: set().pod(*ordinal),
            ordinal: *ordinal,
            state: *state,
            serves: *state == Primary,
            faults: Vec::new(),
        };
        Snapshot {
            observed: Observed { pods: states.iter().map(|(ordinal, _)| pod(*ordinal)).collect() },
            topology: Topology { instances: states.iter().map(verdict).collect() },
            ..Snapshot::default()
        }
    }

    /// A record of a set whose primary was seen serving.
    fn served(primary: i32, members: i32) -> Record {
        let serving = Serving {
            pod_uid: format!("uid-{primary}"),
            run_id: "run".into(),
            replid: "replid".into(),
            ..Serving::default()
        };
        Record {
            epoch: 1,
            primary: Some(set().pod(primary)),
            seen_serving: Some(serving),
            ..Record::first(pods(0..members), true)
        }
    }

    #[test]
    fn a_new_set_has_its_pods_from_the_beginning() {
        let new = Record::first(pods(0..3), true);
        for (live, states) in
            [(None, vec![]), (Some(3), vec![]), (Some(3), vec![(0, Parked)]), (Some(3), vec![(0, Primary)])]
        {
            let now = size(&set(), 3, live, &new, &look(&states));
            assert_eq!(now, Size { replicas: 3, members: pods(0..3), blocked: None }, "{live:?} {states:?}");
        }
    }

    #[test]
    fn an_election_changes_no_size() {
        let between = Record { epoch: 2, seen_serving: None, ..served(0, 3) };
        for wanted in [1, 3, 5] {
            let now =
                size(&set(), wanted, Some(3), &between, &look(&[(0, Parked), (1, Parked), (2, Parked)]));
            assert_eq!((now.replicas, now.members), (3, pods(0..3)), "{wanted}");
            assert_eq!(now.blocked.is_some(), wanted == 1, "{wanted}");
        }
    }

    #[test]
    fn members_enter_before_their_pods() {
        let states = [(0, Primary), (1, InSync), (2, InSync)];
        let more = size(&set(), 5, Some(3), &served(0, 3), &look(&states));
        assert_eq!(more, Size { replicas: 5, members: pods(0..5), blocked: None });
    }

    #[test]
    fn members_leave_after_their_pods_and_only_while_a_primary_serves() {
        let (record, all) = (served(0, 3), [(0, Primary), (1, InSync), (2, InSync)]);
        let fewer = size(&set(), 2, Some(3), &record, &look(&all));
        assert_eq!(fewer, Size { replicas: 2, members: pods(0..3), blocked: None }, "redis-2 still runs");
        let ends = size(&set(), 2, Some(2), &record, &look(&all));
        assert_eq!(ends.members, pods(0..3), "its pod is there until it has ended");
        let gone = size(&set(), 2, Some(2), &record, &look(&all[..2]));
        assert_eq!(gone, Size { replicas: 2, members: pods(0..2), blocked: None });
        let nobody_serves = look(&[(0, Unreachable), (1, LinkDown)]);
        let kept = size(&set(), 2, Some(2), &record, &nobody_serves);
        assert_eq!(kept.members, pods(0..3), "it may hold what no other has");
    }

    #[test]
    fn down_keeps_the_primary() {
        let states = [(0, InSync), (1, InSync), (2, Primary)];
        let held = size(&set(), 2, Some(3), &served(2, 3), &look(&states));
        assert_eq!((held.replicas, held.members), (3, pods(0..3)));
        let why = held.blocked.unwrap();
        assert!(why.contains("redis-2 is the primary") && why.contains("first 2"), "{why}");
    }

    #[test]
    fn down_waits_until_those_who_stay_are_verified() {
        for (states, waits_for) in [
            (vec![(0, Primary), (1, LinkDown), (2, InSync)], "waiting for redis-1"),
            (vec![(0, Primary), (2, InSync)], "waiting for redis-1"),
            (vec![(0, Unreachable), (1, LinkDown), (2, LinkDown)], "no primary serves"),
            (vec![], "no primary serves"),
        ] {
            let held = size(&set(), 2, Some(3), &served(0, 3), &look(&states));
            assert_eq!((held.replicas, held.members), (3, pods(0..3)), "{states:?}");
            let why = held.blocked.unwrap();
            assert!(why.ends_with(waits_for), "{states:?}: {why}");
        }
        // Nobody needs those who go.
        let states = [(0, Primary), (1, InSync), (2, LinkDown)];
        assert_eq!(size(&set(), 2, Some(3), &served(0, 3), &look(&states)).replicas, 2);
    }

    #[test]
    fn a_record_that_is_not_sure_starts_everybody_who_may_hold_data() {
        let unsure = Record::first(pods(0..4), false);
        for (wanted, live) in [(2, None), (3, Some(1)), (9, Some(4))] {
            let all = size(&set(), wanted, live, &unsure, &look(&[]));
            assert_eq!(all, Size { replicas: 4, members: pods(0..4), blocked: None }, "{wanted} {live:?}");
        }
    }
}
