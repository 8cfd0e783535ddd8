//! Planned switchovers (`docs/design/protocol.md`, rules 2 and 8): the primary hands its role over without losing a write.

use std::collections::BTreeSet;

use super::{
    Decision, Hold, Reason, followers::followers_of_heir, mending::can_write, process_end::Former,
    rank::Candidate, serving, snapshot::Snapshot, strangers_serve,
};
use crate::{
    api::{failover::Mode, status::InstanceState},
    names::ACCEPT_DATA_LOSS,
    observed::{NoAnswer, ObservedPod},
    topology::Verdict,
};
use redis_node::{
    answer::ProbeFailure,
    info::Aof,
    record::{Record, SwitchTo, latest},
};

/// Begins a switchover: the record first, then the command.
pub fn begin(primary: &Candidate<'_>, target: &Candidate<'_>, record: &Record) -> Decision {
    let switch = SwitchTo {
        target: target.pod.to_owned(),
        replid: primary.answer.info.replication.replid.clone(),
        process: serving(target, record),
    };
    Decision::Switch {
        record: Record { switch_to: Some(switch), armed: None, ..record.clone() },
        from: primary.pod.to_owned(),
        target: target.pod.to_owned(),
    }
}

/// What became of the process that a switchover was begun with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TargetProcess {
    /// It answers.
    Runs,
    /// It has ended; whoever has the target's name now began from older files.
    Ended,
    /// Nobody knows, and it may serve: why.
    Unknown(String),
}

/// Looks for the process that the record names.
pub(super) fn heir(switch: &SwitchTo, look: &Snapshot) -> TargetProcess {
    let named = &switch.process;
    let pod = look.observed.pods.iter().find(|pod| pod.name == switch.target);
    let Some(pod) = pod.filter(|pod| pod.uid == named.pod_uid) else {
        return match &look.target {
            Former::Ended => TargetProcess::Ended,
            Former::Unproven(missing) => TargetProcess::Unknown(format!(
                "{} was replaced while it took over, and its former pod (UID {}) may serve: {missing}",
                switch.target, named.pod_uid
            )),
        };
    };
    match (look.process(&switch.target), &pod.answer) {
        // A pod runs one Redis at a time.
        (Some(own), _) if own.answer.info.server.run_id == named.run_id => TargetProcess::Runs,
        // Another process of the same pod, or none by the kubelet's word. A refused connection alone may come from what is
        // between the operator and a server that serves; then the kubelet's report of its end tells.
        (Some(_), _) | (None, Err(NoAnswer::NotStarted)) => TargetProcess::Ended,
        (None, Err(NoAnswer::Failed(ProbeFailure::Refused))) if look.target == Former::Ended => {
            TargetProcess::Ended
        }
        (None, _) => {
            TargetProcess::Unknown(format!("{} does not answer, so it may serve already", switch.target))
        }
    }
}

/// The replica that takes over from a primary whose pod is being deleted (by a drain, an eviction, a person), or that refuses
/// writes because it cannot save or append them, where that one can. In mode Manual a person moves the second.
pub(super) fn evacuate<'a>(primary: &Verdict, look: &'a Snapshot) -> Option<Candidate<'a>> {
    let pod = look.observed.pods.iter().find(|pod| pod.name == primary.pod)?;
    if pod.terminating {
        return look.member(best_target(look, |_| true)?);
    }
    if !look.unmended.contains(&pod.name) || look.failover.mode == Mode::Manual {
        return None;
    }
    look.member(best_target(look, |pod| can_write(look, pod))?)
}

/// The best replica to hand the role to, among those that `fits` allows: verified, not about to go; one that can write to its
/// volume rather than one that cannot, with the most data, and the lowest ordinal among equals.
pub fn best_target(look: &Snapshot, fits: impl Fn(&ObservedPod) -> bool) -> Option<&str> {
    look.observed
        .pods
        .iter()
        .filter(|pod| can_take_over(look, pod) && fits(pod))
        .max_by_key(|pod| {
            let offset = pod.answer.as_ref().map_or(0, |answer| answer.info.replication.offset);
            (can_write(look, pod), offset, -pod.ordinal)
        })
        .map(|pod| pod.name.as_str())
}

/// Truly follows the primary, stays, and is found under its name: the primary would look for it elsewhere for a minute, or
/// in vain, with all writes paused. And what it would serve is on its volume: an append-only file that is still being
/// rewritten after a full sync is older than that, and a restart over it would lose all that was acknowledged.
pub fn can_take_over(look: &Snapshot, pod: &ObservedPod) -> bool {
    !pod.terminating
        && !pod.new_address
        && pod.astray.is_none()
        && !rewrites_aof(pod)
        && look.topology.get(&pod.name).is_some_and(|v| v.state == InstanceState::InSync)
}

/// Why the primary, whose pod is being deleted, does not hand over yet, where names are all that is missing.
pub fn evacuation_waits(record: &Record, look: &Snapshot) -> Option<String> {
    let primary = record.primary.as_deref()?;
    let pod = look.observed.pods.iter().find(|pod| pod.name == primary)?;
    let serves = look.topology.get(primary).is_some_and(|verdict| verdict.serves);
    let astray = astray(look, |pod| pod.name != primary)?;
    (pod.terminating && serves && best_target(look, |_| true).is_none()).then(|| {
        format!("{primary} is the primary, its pod is being deleted, and it cannot hand over yet: {astray}")
    })
}

/// What DNS says of replicas in sync that could take over but for their names.
pub fn astray(look: &Snapshot, fits: impl Fn(&ObservedPod) -> bool) -> Option<String> {
    let but_for_its_name =
        |pod: &ObservedPod| can_take_over(look, &ObservedPod { astray: None, ..pod.clone() });
    let pods = look.observed.pods.iter().filter(|pod| pod.astray.is_some() && fits(pod));
    let words: Vec<&str> =
        pods.filter(|pod| but_for_its_name(pod)).filter_map(|pod| pod.astray.as_deref()).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

/// Its append-only file may not hold what it serves yet. An ordinary rewrite looks the same, and passes.
pub fn rewrites_aof(pod: &ObservedPod) -> bool {
    pod.answer.as_ref().is_ok_and(|answer| answer.info.persistence.aof == Aof::Rewriting)
}

/// Rule 2: a switchover is open. Nobody is repointed before it is known how it ended.
pub(super) fn open(switch: &SwitchTo, record: &Record, look: &Snapshot) -> Decision {
    let old = record.primary.as_deref().unwrap_or_default();
    let serving: Vec<&Verdict> = look.topology.serving();
    let serves = |pod: &str| serving.iter().any(|v| v.pod == pod);
    let hands_over = look.process(old).is_some_and(|c| c.hands_over());
    // Who serves besides, promoted by hand, says nothing about the two: the switchover ends first, and writes wait no
    // longer for that than they must.
    let is_known = serves(old) || serves(&switch.target) || hands_over;
    let is_strange = serving.iter().any(|v| v.pod != old && v.pod != switch.target);
    if is_strange && !is_known || serves(old) && serves(&switch.target) {
        let strangers: Vec<&Verdict> = serving.into_iter().filter(|v| v.pod != old).collect();
        return strangers_serve(&strangers, record, look, false);
    }
    if serves(&switch.target) {
        return completed(switch, record, look);
    }
    let given_up = Record { switch_to: None, ..record.clone() };
    match (serves(old), hands_over) {
        // Its TIMEOUT bounds this.
        (true, true) => Decision::Await,
        // It was never told, it refused, or its time was over.
        (true, false) => Decision::Abort { record: given_up, pod: old.to_owned() },
        // It waits for the target to take over, for as long as it takes: no TIMEOUT applies any more.
        (false, true) => match heir(switch, look) {
            TargetProcess::Runs if look.handover_stuck => {
                Decision::TakeBack { record: given_up, pod: old.to_owned(), target: switch.target.clone() }
            }
            TargetProcess::Runs => Decision::Await,
            // It did not take over, and who comes back under its name with older data must not be handed the role.
            TargetProcess::Ended => Decision::Abort { record: given_up, pod: old.to_owned() },
            // A person says that the target does not serve.
            TargetProcess::Unknown(_) if look.consents_to(old, record) => {
                Decision::Abort { record: given_up, pod: old.to_owned() }
            }
            TargetProcess::Unknown(why) => Decision::Hold(Hold {
                reason: Reason::MemberUnreachable,
                message: format!(
                    "{old} is handing its role over to {}, and takes no writes meanwhile. {why}. If you know that it \
                     does not, annotate the set: {ACCEPT_DATA_LOSS}={old}@{}",
                    switch.target, record.epoch
                ),
            }),
        },
        // The servers were not asked at one moment: the target may have taken over after it was asked. A second look
        // tells, before anybody is parked; from then on it is an election.
        (false, false) => Decision::LookAgain,
    }
}

/// The target serves alone: it is the primary of record from now on. The old history ends where the new one began.
fn completed(switch: &SwitchTo, record: &Record, look: &Snapshot) -> Decision {
    let Some(target) = look.process(&switch.target) else { return Decision::Await };
    let replication = &target.answer.info.replication;
    // second_repl_offset is the first offset that is no longer shared.
    let taken_over_at = replication.second_repl_offset.saturating_sub(1);
    let mut closed = record.closed.clone();
    let mut start_offset = 0;
    if replication.replid2 == switch.replid {
        closed.entry(switch.replid.clone()).or_insert(taken_over_at);
        start_offset = taken_over_at;
    }
    Decision::Note(Record {
        epoch: record.epoch + 1,
        primary: Some(switch.target.clone()),
        start_offset,
        voters: BTreeSet::new(),
        followers: followers_of_heir(record, &target),
        switch_to: None,
        closed: latest(closed, &[switch.replid.as_str()]),
        seen_serving: Some(serving(&target, record)),
        ..record.clone()
    })
}
