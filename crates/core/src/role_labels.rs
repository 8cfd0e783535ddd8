//! Which pod is labelled as what: the Services by role lead to the pods that bear the label.
//!
//! Pure. The label follows the record and the servers' own words, and comes last: a client that is led to the primary
//! finds one that serves. Its default is `replica`, from the pods' template, so that pods which are made again while no
//! operator runs can be read.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::status::InstanceState,
    election::snapshot::Snapshot,
    labels::Role,
    observed::{NoAnswer, ObservedPod},
};
use redis_node::record::Record;

/// A replica that answers but does not truly follow for this long, while a primary serves, is not read any more.
pub const UNSYNCED_LIMIT: Duration = Duration::from_secs(10);

/// A replica that is silent for this long is not read any more where another can be. That is seen 6 s after its last answer at the
/// latest, and each look at it takes 2 s more: readers meet it for 8 to 12 s. A lost node is called `NotReady` after 40 s only.
pub const SILENT_LIMIT: Duration = Duration::from_secs(3);

/// Clients of a demoted primary are cut again after this time: those that came back at once were led to the same pod,
/// since a label takes its way through the `EndpointSlice` to each node's rules (kube-proxy joins changes for up to 1 s).
pub const CUT_AGAIN: Duration = Duration::from_secs(3);

/// One change of a pod's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pod.
    pub pod: String,
    /// Its UID: a namesake is another pod, with a label of its own.
    pub uid: String,
    /// Version of the pod that was seen.
    pub version: String,
    /// What it is from now on.
    pub to: To,
}

/// What a pod is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The primary.
    Primary,
    /// No longer the primary but a replica. Its clients are cut, so that they find the new one.
    Demoted,
    /// No other label. Its clients are cut once more, and with that its time as primary is over.
    Settled,
    /// A replica that may be read.
    Readable,
    /// A replica that is not to be read.
    Withdrawn,
}

/// Every change that is due. `unread_for` says for how long each of [`not_to_be_read`] has been that, by UID.
pub fn changes(
    record: &Record,
    look: &Snapshot,
    unread_for: &BTreeMap<String, Duration>,
    now: Timestamp,
) -> Vec<Change> {
    let others = || look.observed.pods.iter().filter(|pod| !is_primary(record, pod));
    let in_sync = |pod: &ObservedPod| state(look, pod) == Some(InstanceState::InSync);
    let labelled = |pod: &ObservedPod| pod.label.role.is_some();
    let somebody_is_read = others().any(|pod| (labelled(pod) || in_sync(pod)) && answers(look, pod));
    let somebody_is_current = others().any(|pod| labelled(pod) && in_sync(pod) && pod.ready);
    let somebody_answers = others().any(|pod| labelled(pod) && answers(look, pod) && pod.ready);

    let replica = |pod: &ObservedPod| {
        let (limit, may_go) = if is_silent(pod) {
            (SILENT_LIMIT, somebody_answers)
        } else {
            (UNSYNCED_LIMIT, somebody_is_current)
        };
        let overdue = unread_for.get(&pod.uid).is_some_and(|time| *time >= limit);
        match pod.label.role {
            // A record that was lost names nobody: who is labelled may well serve, and is to be adopted.
            Some(Role::Primary) if record.primary.is_none() || !record.sure => None,
            Some(Role::Primary) => Some(To::Demoted),
            _ if may_be_cut_again(pod, now) => Some(To::Settled),
            Some(Role::Replica) if overdue && may_go => Some(To::Withdrawn),
            // Old data is better than none.
            None if in_sync(pod) || !somebody_is_read && answers(look, pod) => Some(To::Readable),
            _ => None,
        }
    };
    let primary = |pod: &ObservedPod| {
        let is_labelled = pod.label.role == Some(Role::Primary) && pod.label.demoted_at.is_none();
        (serves(look, pod) && !is_labelled).then_some(To::Primary)
    };
    look.observed
        .pods
        .iter()
        .filter_map(|pod| {
            let to = if is_primary(record, pod) { primary(pod) } else { replica(pod) }?;
            let version = pod.label.version.clone();
            Some(Change { pod: pod.name.clone(), uid: pod.uid.clone(), version, to })
        })
        .collect()
}

/// Whether clients are left to be cut, or were just cut for the last time, which may fail.
pub fn cut_is_due(look: &Snapshot, changes: &[Change]) -> bool {
    let is_marked = |pod: &ObservedPod| pod.label.demoted_at.is_some() && pod.answer.is_ok();
    changes.iter().any(|change| change.to == To::Demoted) || look.observed.pods.iter().any(is_marked)
}

/// UIDs of the pods that are silent, and of those that answer and do not truly follow the serving primary. Without one nobody
/// can: their time does not run.
pub fn not_to_be_read(record: &Record, look: &Snapshot) -> Vec<String> {
    let pods = &look.observed.pods;
    let primary_serves = pods.iter().any(|pod| is_primary(record, pod) && serves(look, pod));
    let is_unsynced = |pod: &ObservedPod| {
        primary_serves && answers(look, pod) && state(look, pod) != Some(InstanceState::InSync)
    };
    pods.iter()
        .filter(|pod| !is_primary(record, pod) && (is_silent(pod) || is_unsynced(pod)))
        .map(|pod| pod.uid.clone())
        .collect()
}

/// Whether nobody answers where the Services still lead: a lost node's kubelet calls no pod unready.
fn is_silent(pod: &ObservedPod) -> bool {
    pod.answer.as_ref().is_err_and(NoAnswer::is_silence) && pod.ready && !pod.terminating
}

fn is_primary(record: &Record, pod: &ObservedPod) -> bool {
    record.primary.as_deref() == Some(pod.name.as_str())
}

fn state(look: &Snapshot, pod: &ObservedPod) -> Option<InstanceState> {
    look.topology.get(&pod.name).map(|verdict| verdict.state)
}

fn serves(look: &Snapshot, pod: &ObservedPod) -> bool {
    look.topology.get(&pod.name).is_some_and(|verdict| verdict.serves)
}

/// Whether the pod's own Redis answers reads, and is not about to end.
fn answers(look: &Snapshot, pod: &ObservedPod) -> bool {
    use InstanceState::{Foreign, Loading, Terminating};
    pod.answer.is_ok() && state(look, pod).is_some_and(|s| !matches!(s, Foreign | Loading | Terminating))
}

/// A clock that went back must not keep the mark for ever.
fn may_be_cut_again(pod: &ObservedPod, now: Timestamp) -> bool {
    let due = |at: Timestamp| now.duration_since(at).unsigned_abs() >= CUT_AGAIN;
    pod.answer.is_ok() && pod.label.demoted_at.is_some_and(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observed::RoleLabel, topology::Verdict};
    use InstanceState::{InSync, LinkDown, Loading, Parked, Syncing, Terminating, Unreachable};
    use redis_node::{
        answer::{Answer, ProbeFailure},
        info::{Flavour, Info, Persistence, Replication, Server},
    };

    const PRIMARY: Option<Role> = Some(Role::Primary);
    const REPLICA: Option<Role> = Some(Role::Replica);

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn an_answer() -> Answer {
        let server = Server {
            flavour: Flavour::Redis,
            version: "8.0.0".into(),
            run_id: String::new(),
            uptime_seconds: 1,
            time_micros: 0,
        };
        let replication = Replication {
            upstream: None,
            replicas: vec![],
            failover_state: String::new(),
            replid: String::new(),
            replid2: String::new(),
            second_repl_offset: -1,
            offset: 0,
            backlog_active: false,
        };
        let persistence = Persistence::default();
        Answer {
            info: Info { server, replication, persistence, clients: None, keys: None },
            announced: String::new(),
            refuses_password: false,
            demands: None,
        }
    }

    /// Pods by ordinal with their label and state; only one in state `Primary` serves.
    fn look(pods: &[(Option<Role>, InstanceState)]) -> Snapshot {
        let mut look = Snapshot::default();
        for ((role, state), ordinal) in pods.iter().zip(0..) {
            let answer = match state {
                InstanceState::Pending => Err(NoAnswer::NotStarted),
                Unreachable => Err(NoAnswer::Failed(ProbeFailure::Timeout(Duration::from_secs(2)))),
                _ => Ok(an_answer()),
            };
            look.observed.pods.push(ObservedPod {
                ready: *state != InstanceState::Pending,
                terminating: *state == Terminating,
                label: RoleLabel { role: *role, ..RoleLabel::default() },
                answer,
                ..ObservedPod::running(ordinal)
            });
            look.topology.instances.push(Verdict {
                pod: format!("redis-{ordinal}"),
                ordinal,
                state: *state,
                serves: *state == InstanceState::Primary,
                faults: vec![],
            });
        }
        look
    }

    /// redis-0 is the primary of record.
    fn record() -> Record {
        Record { epoch: 1, primary: Some("redis-0".into()), ..Record::first(Vec::new(), true) }
    }

    fn overdue(ordinals: &[i32]) -> BTreeMap<String, Duration> {
        ordinals.iter().map(|ordinal| (format!("uid-{ordinal}"), UNSYNCED_LIMIT)).collect()
    }

    fn due(look: &Snapshot, overdue: &BTreeMap<String, Duration>) -> Vec<(String, To)> {
        changes(&record(), look, overdue, now()).into_iter().map(|change| (change.pod, change.to)).collect()
    }

    fn assert_due(pods: &[(Option<Role>, InstanceState)], late: &[i32], wanted: &[(&str, To)]) {
        let wanted: Vec<(String, To)> = wanted.iter().map(|(pod, to)| ((*pod).to_owned(), *to)).collect();
        assert_eq!(due(&look(pods), &overdue(late)), wanted, "{pods:?}, too long: {late:?}");
    }

    #[test]
    fn the_primary_is_labelled_once_it_serves() {
        let others = [(REPLICA, InSync), (REPLICA, InSync)];
        for (role, state, wanted) in [
            (REPLICA, InstanceState::Primary, &[("redis-0", To::Primary)][..]),
            (None, InstanceState::Primary, &[("redis-0", To::Primary)]),
            (PRIMARY, InstanceState::Primary, &[]),
            (REPLICA, Parked, &[]),
            // It goes on to lead to where the primary was, until there is another.
            (PRIMARY, Parked, &[]),
            (PRIMARY, Unreachable, &[]),
        ] {
            assert_due(&[&[(role, state)], &others[..]].concat(), &[], wanted);
        }
        let nobody = Record::first(Vec::new(), true);
        assert_eq!(changes(&nobody, &look(&[(REPLICA, Parked)]), &BTreeMap::new(), now()), vec![]);
    }

    #[test]
    fn whoever_else_is_labelled_as_primary_is_demoted() {
        for (state, served) in
            [(InSync, true), (Parked, true), (Unreachable, true), (Terminating, true), (InSync, false)]
        {
            let (primary, mut wanted) = if served {
                (InstanceState::Primary, vec![("redis-0", To::Primary)])
            } else {
                (Parked, vec![])
            };
            wanted.push(("redis-1", To::Demoted));
            assert_due(&[(REPLICA, primary), (PRIMARY, state), (REPLICA, InSync)], &[], &wanted);
        }
    }

    /// Regression: somebody deleted the record of a set that serves, and one member is silent.
    #[test]
    fn a_lost_record_takes_no_service_away() {
        let seen =
            look(&[(PRIMARY, InstanceState::UnexpectedPrimary), (REPLICA, Unreachable), (REPLICA, InSync)]);
        let lost = Record::first(Vec::new(), false);
        assert_eq!(changes(&lost, &seen, &BTreeMap::new(), now()), vec![]);
        let unsure = Record { sure: false, ..record() };
        let moved = look(&[(REPLICA, Parked), (PRIMARY, InstanceState::UnexpectedPrimary)]);
        assert_eq!(changes(&unsure, &moved, &BTreeMap::new(), now()), vec![]);
    }

    #[test]
    fn clients_of_a_demoted_primary_are_cut_twice() {
        let pods = [(PRIMARY, InstanceState::Primary), (REPLICA, InSync)];
        for (seconds, wanted) in [(0, None), (2, None), (3, Some(To::Settled)), (-60, Some(To::Settled))] {
            let mut seen = look(&pods);
            seen.observed.pods[1].label.demoted_at =
                now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok();
            let found = due(&seen, &BTreeMap::new());
            assert_eq!(found.first().map(|(_, to)| *to), wanted, "{seconds}");
            let changes = changes(&record(), &seen, &BTreeMap::new(), now());
            assert!(cut_is_due(&seen, &changes), "{seconds}");
            // Nobody can be cut of a server that does not answer, and nothing is due for it.
            seen.observed.pods[1].answer = Err(NoAnswer::NotStarted);
            assert_eq!((due(&seen, &BTreeMap::new()), cut_is_due(&seen, &[])), (vec![], false), "{seconds}");
        }
        let demoted = look(&[(REPLICA, InstanceState::Primary), (PRIMARY, InSync)]);
        assert!(cut_is_due(&demoted, &changes(&record(), &demoted, &BTreeMap::new(), now())));
        assert!(!cut_is_due(&look(&pods), &[]));
    }

    #[test]
    fn a_replica_that_does_not_follow_for_long_is_not_read() {
        let primary = (PRIMARY, InstanceState::Primary);
        for state in
            [LinkDown, Syncing, Parked, InstanceState::WrongPrimary, InstanceState::UnexpectedPrimary]
        {
            let pods = [primary, (REPLICA, state), (REPLICA, InSync)];
            assert_due(&pods, &[], &[]);
            assert_due(&pods, &[1], &[("redis-1", To::Withdrawn)]);
            // Nobody else can be read instead.
            assert_due(&[primary, (REPLICA, state)], &[1], &[]);
            assert_due(&[primary, (REPLICA, state), (REPLICA, LinkDown)], &[1, 2], &[]);
            // One after the other.
            assert_due(&[primary, (REPLICA, state), (None, InSync)], &[1], &[("redis-2", To::Readable)]);
        }
        let mut unready = look(&[primary, (REPLICA, LinkDown), (REPLICA, InSync)]);
        unready.observed.pods[2].ready = false;
        assert_eq!(due(&unready, &overdue(&[1])), vec![], "the Service does not lead to the other one yet");
    }

    /// Regression: readers met a lost pod for 40 s and longer, until Kubernetes called its node `NotReady`.
    #[test]
    fn a_silent_replica_is_not_read_where_another_can_be() {
        let primary = (PRIMARY, InstanceState::Primary);
        for (pods, late, wanted) in [
            (vec![primary, (REPLICA, Unreachable), (REPLICA, InSync)], vec![1], Some(To::Withdrawn)),
            (vec![primary, (REPLICA, Unreachable), (REPLICA, InSync)], vec![], None),
            // Old data is better than none, and better than no answer.
            (vec![primary, (REPLICA, Unreachable), (REPLICA, LinkDown)], vec![1], Some(To::Withdrawn)),
            (
                vec![(PRIMARY, Unreachable), (REPLICA, Unreachable), (REPLICA, LinkDown)],
                vec![1],
                Some(To::Withdrawn),
            ),
            // Nobody else can be read.
            (vec![primary, (REPLICA, Unreachable), (REPLICA, Unreachable)], vec![1, 2], None),
            (vec![primary, (REPLICA, Unreachable), (REPLICA, Loading)], vec![1], None),
            (vec![primary, (REPLICA, Unreachable)], vec![1], None),
            // No Service leads there: it has not started.
            (vec![primary, (REPLICA, InstanceState::Pending), (REPLICA, InSync)], vec![], None),
            // A former primary.
            (vec![primary, (PRIMARY, Unreachable), (REPLICA, InSync)], vec![1], Some(To::Demoted)),
        ] {
            let wanted: Vec<_> = wanted.map(|to| ("redis-1", to)).into_iter().collect();
            assert_due(&pods, &late, &wanted);
        }
        assert_due(&[primary, (None, InSync), (REPLICA, InSync)], &[], &[("redis-1", To::Readable)]);
        let mut seen = look(&[primary, (REPLICA, Unreachable), (REPLICA, InSync)]);
        seen.observed.pods[2].ready = false;
        assert_eq!(due(&seen, &overdue(&[1])), vec![], "the Service does not lead to the other one yet");
        // For a moment.
        seen.observed.pods[2].ready = true;
        let almost = [("uid-1".to_owned(), SILENT_LIMIT.checked_sub(Duration::from_millis(1)).unwrap())];
        assert_eq!(due(&seen, &almost.into()), vec![]);
    }

    /// A primary whose node was lost comes back as a replica, behind connections of before.
    #[test]
    fn clients_of_a_silent_former_primary_are_cut_once_it_answers() {
        let long_ago = now().checked_sub(jiff::SignedDuration::from_secs(60)).ok();
        for (state, wanted) in [(Parked, To::Settled), (InSync, To::Settled)] {
            let mut seen = look(&[(PRIMARY, InstanceState::Primary), (None, state), (REPLICA, InSync)]);
            seen.observed.pods[1].label.demoted_at = long_ago;
            assert_eq!(due(&seen, &BTreeMap::new()), vec![("redis-1".to_owned(), wanted)]);
        }
    }

    #[test]
    fn it_is_read_again_once_it_follows_or_nobody_else_is_left() {
        let primary = (PRIMARY, InstanceState::Primary);
        assert_due(&[primary, (None, InSync), (REPLICA, InSync)], &[], &[("redis-1", To::Readable)]);
        assert_due(&[primary, (None, LinkDown), (REPLICA, InSync)], &[1], &[]);
        assert_due(&[primary, (None, LinkDown), (REPLICA, LinkDown)], &[1, 2], &[]);
        assert_due(&[primary, (None, LinkDown), (REPLICA, Unreachable)], &[1], &[("redis-1", To::Readable)]);
        assert_due(&[primary, (None, Unreachable), (REPLICA, InSync)], &[], &[]);
        assert_due(&[(PRIMARY, Unreachable), (None, LinkDown)], &[], &[("redis-1", To::Readable)]);
    }

    #[test]
    fn time_runs_for_those_who_are_silent_and_while_a_primary_serves_for_those_who_answer() {
        let states = [LinkDown, InSync, Unreachable, Syncing, Loading, Terminating, InstanceState::Pending]
            .map(|state| (REPLICA, state));
        let of = |primary| not_to_be_read(&record(), &look(&[&[(PRIMARY, primary)], &states[..]].concat()));
        assert_eq!(of(InstanceState::Primary), ["uid-1", "uid-3", "uid-4"]);
        assert_eq!(of(Parked), ["uid-3"]);
        assert_eq!(of(Unreachable), ["uid-3"], "the primary of record is nobody's replica");
    }

    /// Every combination of three pods: what is done never takes away the last replica to read, leaves one primary,
    /// and leaves nothing more to do.
    #[test]
    fn no_combination_leaves_reads_without_a_replica() {
        let states = [InstanceState::Primary, InSync, LinkDown, Parked, Unreachable];
        let mut seen = 0;
        for code in 0..(3 * states.len() * 2).pow(3) {
            let (mut rest, mut pods, mut late) = (code, Vec::new(), Vec::new());
            for ordinal in 0..3 {
                pods.push(([None, PRIMARY, REPLICA][rest % 3], states[rest / 3 % states.len()]));
                rest /= 3 * states.len();
                if rest % 2 == 1 {
                    late.push(ordinal);
                }
                rest /= 2;
            }
            // Only a replica that follows nobody, or is silent, is late.
            if late.iter().any(|n: &i32| {
                *n == 0 || !matches!(pods[usize::try_from(*n).unwrap()].1, LinkDown | Parked | Unreachable)
            }) {
                continue;
            }
            seen += 1;
            let late = overdue(&late);
            let before = look(&pods);
            let mut after = before.clone();
            // A second step where somebody is to be read first, before another is not any more.
            for _ in 0..2 {
                for change in changes(&record(), &after, &late, now()) {
                    let pod = after.observed.pods.iter_mut().find(|pod| pod.uid == change.uid).unwrap();
                    pod.label.role = match change.to {
                        To::Primary => PRIMARY,
                        To::Demoted | To::Settled | To::Readable => REPLICA,
                        To::Withdrawn => None,
                    };
                }
                let mut replicas =
                    after.observed.pods.iter().skip(1).filter(|pod| pod.answer.is_ok()).peekable();
                let nobody = replicas.peek().is_none();
                assert!(
                    nobody || replicas.any(|pod| pod.label.role == REPLICA),
                    "nobody to read: {pods:?} {late:?}"
                );
            }
            assert_eq!(due(&after, &late), vec![], "not done: {pods:?} {late:?}");
            let primaries: Vec<i32> =
                after.observed.pods.iter().filter(|p| p.label.role == PRIMARY).map(|p| p.ordinal).collect();
            let serves = pods[0].1 == InstanceState::Primary;
            let wanted: &[i32] = if serves || pods[0].0 == PRIMARY { &[0] } else { &[] };
            assert_eq!(primaries, wanted, "{pods:?} {late:?}");
        }
        assert!(seen > 3000, "{seen}");
    }
}
