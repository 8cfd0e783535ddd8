//! How many pods the `StatefulSet` shall have now, and who is a member of record for that.
//!
//! Pure. A member enters the record before its pod is created, and leaves it only while a primary serves
//! (`docs/design/protocol.md`, "The record").

use crate::{election::snapshot::Snapshot, names::SetName, observed::ObservedPod, topology::Verdict};
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

/// One pod more or fewer at a time. Up: once the last one is a verified member. Down: once the one above has ended, and only
/// while the primary stays and everybody who stays is verified. The `StatefulSet` itself keeps no order.
pub fn size(set: &SetName, wanted: i32, live: Option<i32>, record: &Record, look: &Snapshot) -> Size {
    let recorded =
        record.members.iter().filter_map(|m| set.ordinal(m)).max().map_or(0, |ordinal| ordinal + 1);
    // Pods may outlive a StatefulSet that was deleted by hand. One whose lost node cannot tell of its end holds up nobody for
    // longer than its grace period.
    let is_lost = |pod: &&ObservedPod| pod.overdue && pod.answer.is_err();
    let pods = look.observed.pods.iter().filter(|pod| !is_lost(pod));
    let live = live.unwrap_or(0).max(pods.map(|pod| pod.ordinal + 1).max().unwrap_or(0));
    let primary_serves =
        record.primary.as_ref().is_some_and(|p| look.topology.serving().iter().any(|v| v.pod == *p));
    let (replicas, blocked) = if !record.sure {
        // Everybody who may hold data has to answer before one is chosen (rule 9).
        (recorded, None)
    } else if !primary_serves {
        // An election needs everybody who may hold data. A new set has the wanted members from its first record on.
        let kept = live.max(recorded).max(1);
        // A set that is made again over its volumes gets all of its pods at once: one that cannot start keeps no other waiting.
        let is_made_again = live == 0 && record.epoch > 0;
        let replicas = if is_made_again { kept } else { one_more(set, live, kept, look, answers) };
        (replicas, (wanted < kept).then(|| "no pod is removed while no primary serves".to_owned()))
    } else if wanted >= live {
        (one_more(set, live, wanted, look, is_member), None)
    } else {
        match keeps_primary(set, wanted, record, look) {
            Ok(()) => (wanted.max(live - 1), None),
            Err(why) => (live, Some(why)),
        }
    };
    let members = (0..replicas.max(recorded))
        .map(|ordinal| set.pod(ordinal))
        .filter(|pod| {
            let stays = set.ordinal(pod).is_some_and(|ordinal| ordinal < replicas.max(wanted));
            stays || !primary_serves || look.observed.pods.iter().any(|p| p.name == *pod)
        })
        .collect();
    Size { replicas, members, blocked }
}

/// The next size on the way up to `wanted`: the last pod has to be there in this way first.
fn one_more(
    set: &SetName,
    live: i32,
    wanted: i32,
    look: &Snapshot,
    is_there: fn(&Snapshot, &ObservedPod) -> bool,
) -> i32 {
    let last = set.pod(live - 1);
    let last = look.observed.pods.iter().find(|pod| pod.name == last);
    let may_grow = live == 0 || last.is_some_and(|pod| pod.ready && !pod.terminating && is_there(look, pod));
    wanted.min(if may_grow { live + 1 } else { live })
}

fn answers(_: &Snapshot, pod: &ObservedPod) -> bool {
    pod.answer.is_ok()
}

fn is_member(look: &Snapshot, pod: &ObservedPod) -> bool {
    look.topology.get(&pod.name).is_some_and(Verdict::is_verified)
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
        fixtures::{answer, primary},
        observed::{NoAnswer, Observed, ObservedPod},
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
        let pod = |(ordinal, state): &(i32, InstanceState)| {
            let silent = Err(NoAnswer::NotStarted);
            let answer = if *state == Unreachable { silent } else { Ok(answer("", primary("", &[]))) };
            ObservedPod { answer, ..ObservedPod::running(*ordinal) }
        };
        let verdict = |(ordinal, state): &(i32, InstanceState)| Verdict {
            pod: set().pod(*ordinal),
            ordinal: *ordinal,
            state: *state,
            serves: *state == Primary,
            faults: Vec::new(),
        };
        Snapshot {
            observed: Observed { pods: states.iter().map(pod).collect() },
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

    /// The sizes that follow each other while every pod is at once what it is to become.
    fn sizes(wanted: i32, record: &Record, mut states: Vec<(i32, InstanceState)>) -> Vec<i32> {
        let (mut found, mut live) = (Vec::new(), i32::try_from(states.len()).unwrap());
        loop {
            let next = size(&set(), wanted, Some(live), record, &look(&states)).replicas;
            if next == live {
                return found;
            }
            found.push(next);
            live = next;
            states.truncate(usize::try_from(live).unwrap());
            states.extend((i32::try_from(states.len()).unwrap()..live).map(|ordinal| (ordinal, InSync)));
        }
    }

    #[test]
    fn pods_come_and_go_one_by_one() {
        let three = vec![(0, Primary), (1, InSync), (2, InSync)];
        assert_eq!(sizes(3, &served(0, 3), vec![(0, Primary)]), [2, 3], "a new set");
        assert_eq!(sizes(3, &served(0, 1), vec![(0, Primary)]), [2, 3]);
        assert_eq!(sizes(5, &served(0, 3), three.clone()), [4, 5]);
        assert_eq!(sizes(1, &served(0, 3), three), [2, 1]);
    }

    #[test]
    fn a_new_set_begins_with_one_pod_and_all_members() {
        let new = Record::first(pods(0..3), true);
        for (live, states, replicas) in [
            (None, vec![], 1),
            (Some(1), vec![], 1),
            (Some(1), vec![(0, Unreachable)], 1),
            (Some(1), vec![(0, Primary)], 2),
            (Some(2), vec![(0, Primary)], 2),
            // It holds data that was there before: rule 4 asks all members.
            (Some(1), vec![(0, Parked)], 2),
            (Some(2), vec![(0, Parked), (1, Parked)], 3),
        ] {
            let record = if states.contains(&(0, Primary)) { served(0, 3) } else { new.clone() };
            let now = size(&set(), 3, live, &record, &look(&states));
            assert_eq!(now, Size { replicas, members: pods(0..3), blocked: None }, "{live:?} {states:?}");
        }
    }

    /// Found by the crash campaign: the operator ended before its first promotion arrived, and the rest came at once.
    #[test]
    fn a_start_that_was_interrupted_goes_on_in_order() {
        let promoted = served(0, 3);
        for (live, states, replicas) in
            [(1, vec![(0, Parked)], 2), (2, vec![(0, Parked)], 2), (2, vec![(0, Parked), (1, Parked)], 3)]
        {
            let now = size(&set(), 3, Some(live), &promoted, &look(&states));
            assert_eq!(now, Size { replicas, members: pods(0..3), blocked: None }, "{live} {states:?}");
        }
    }

    #[test]
    fn the_next_pod_waits_for_the_last_one_to_be_a_member() {
        let grows = |last: InstanceState, change: fn(&mut ObservedPod)| {
            let mut seen = look(&[(0, Primary), (1, LinkDown), (2, last)]);
            change(&mut seen.observed.pods[2]);
            size(&set(), 5, Some(3), &served(0, 3), &seen)
        };
        let more = grows(InSync, |_| {});
        assert_eq!(
            more,
            Size { replicas: 4, members: pods(0..4), blocked: None },
            "members enter before their pods"
        );
        assert_eq!(grows(LinkDown, |_| {}), Size { replicas: 3, members: pods(0..3), blocked: None });
        assert_eq!(
            grows(InSync, |pod| pod.ready = false).replicas,
            3,
            "the kubelet does not call it ready yet"
        );
        assert_eq!(grows(InSync, |pod| pod.terminating = true).replicas, 3);
    }

    /// Regression: `OrderedReady` let a pod that stays Terminating on a lost node hold up all others.
    #[test]
    fn a_pod_whose_node_is_lost_holds_up_nobody() {
        let lost = |ordinal: usize, states: &[(i32, InstanceState)]| {
            let mut seen = look(states);
            seen.observed.pods[ordinal].terminating = true;
            seen.observed.pods[ordinal].overdue = true;
            seen.observed.pods[ordinal].answer = Err(NoAnswer::NotStarted);
            seen
        };
        let states = [(0, Unreachable), (1, Primary), (2, InSync)];
        assert_eq!(size(&set(), 4, Some(3), &served(1, 3), &lost(0, &states)).replicas, 4, "up");
        let states = [(0, Primary), (1, InSync), (2, InSync), (3, InSync), (4, Unreachable)];
        let down = size(&set(), 3, Some(4), &served(0, 5), &lost(4, &states));
        assert_eq!((down.replicas, down.members), (3, pods(0..5)), "down, and a member until it is gone");
    }

    /// Regression: redis-1 was gone before redis-2, whose Redis had ended and whose kubelet was about to say so.
    #[test]
    fn a_pod_that_ends_in_its_time_is_gone_before_the_next_one_goes() {
        let mut ending = look(&[(0, Primary), (1, InSync), (2, Unreachable)]);
        ending.observed.pods[2].terminating = true;
        assert_eq!(size(&set(), 1, Some(2), &served(0, 3), &ending).replicas, 2);
        ending.observed.pods[2].overdue = true;
        assert_eq!(size(&set(), 1, Some(2), &served(0, 3), &ending).replicas, 1);
    }

    /// A set that was deleted and made again over its volumes, and a `StatefulSet` that a person deleted.
    #[test]
    fn all_who_may_hold_data_come_at_once_while_nobody_serves() {
        let now = size(&set(), 3, None, &served(0, 3), &look(&[]));
        assert_eq!(now, Size { replicas: 3, members: pods(0..3), blocked: None });
        let some = look(&[(0, Primary), (2, InSync)]);
        assert_eq!(size(&set(), 3, None, &served(0, 3), &some).replicas, 3, "redis-2 is there");
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
