//! Nobody serves: who is to be the primary (`docs/design/protocol.md`, rules 4, 4b, 5, 6 and 7).
//!
//! Two looks decide: kernel buffers of a dead primary's connections go on delivering for a moment (experiment E25), and
//! what two looks show alike was true in between.

use std::collections::BTreeSet;

use super::{
    Decision, Hold, Reason, decide,
    followers::{absent_followers, needed, next_followers, others},
    process_end::Former,
    quorum::{Succession, electors, succession},
    rank::{Candidate, NoWinner, close_histories, winner},
    serving,
    snapshot::Snapshot,
    switchover::{TargetProcess, heir},
};
use crate::{names::claim_of, observed::NoAnswer};
use redis_node::{answer::ProbeFailure, record::Record};

/// Rule 4, first look.
pub(super) fn nobody_serves(record: &Record, look: &Snapshot) -> Decision {
    if let Some(decision) = consented(record, look) {
        return decision;
    }
    let hold = match silent_members(record, look).as_slice() {
        [] => former_process(record, look).or_else(|| former_target(record, look)),
        silent => without_primary(record, look, silent).err(),
    };
    let hold = match (hold, succession(record, look)) {
        (None, _) | (Some(_), Succession::Open) => None,
        (Some(hold), Succession::None) | (Some(_), Succession::Waiting(hold)) => Some(hold),
        (Some(_), Succession::Detach(pods)) => return Decision::Detach(pods),
    };
    if let Some(hold) = hold.or_else(|| unsettled_members(&electors(record, look))) {
        return Decision::Hold(hold);
    }
    // Whoever still dials an old name would copy from whoever is linked there first, with whatever that one has by then.
    let members = look.members();
    let dialling: Vec<String> = members.iter().filter(|c| !c.is_parked()).map(|c| c.pod.to_owned()).collect();
    if dialling.is_empty() { Decision::LookAgain } else { Decision::Park(dialling) }
}

/// Rule 4, second look, with rules 5 to 7: nobody serves, every member answers, and both looks agree.
///
/// Anything that moved between the looks asks for another first look.
pub fn elect(record: &Record, first: &Snapshot, second: &Snapshot) -> Decision {
    if !second.topology.serving().is_empty() || record.switch_to.is_some() {
        match decide(record, second) {
            Decision::LookAgain => {}
            other => return other,
        }
    }
    match nobody_serves(record, second) {
        Decision::LookAgain => {}
        other => return other,
    }
    let members = second.members();
    // Kernel buffers go on delivering after a primary's death (experiment E25): offsets must stand still. The same
    // comparison proves that each member is the same process in both looks.
    let moved = members.iter().any(|now| {
        first.member(now.pod).is_none_or(|before| {
            let (before, now) = (&before.answer.info, &now.answer.info);
            before.server.run_id != now.server.run_id || before.replication.offset != now.replication.offset
        })
    });
    if moved {
        return Decision::LookAgain;
    }
    match winner(&electors(record, second), record) {
        Ok(best) => promote(&members, &best, record, second),
        Err(why) => Decision::Hold(no_winner(&why)),
    }
}

/// Rule 7: what is written before the winner is told.
fn promote(members: &[Candidate<'_>], best: &Candidate<'_>, record: &Record, look: &Snapshot) -> Decision {
    Decision::Promote {
        record: Record {
            epoch: record.epoch + 1,
            primary: Some(best.pod.to_owned()),
            start_offset: best.answer.info.replication.offset,
            closed: close_histories(members, best, record),
            // Whoever is told to serve may do so unseen, and go on after its pod was deleted by force.
            seen_serving: Some(serving(best, record)),
            // A vote says that a copy was whole at some time since the last decision; this is a new one.
            voters: BTreeSet::new(),
            followers: next_followers(record, look, members, best),
            armed: None,
            switch_to: None,
            ..record.clone()
        },
        pod: best.pod.to_owned(),
    }
}

/// A person ends a hold: the pod that they name is promoted, whatever it lacks, if nobody was promoted since they
/// looked. What a member says that it does at this moment still counts.
fn consented(record: &Record, look: &Snapshot) -> Option<Decision> {
    let consent = look.consent.as_ref().filter(|consent| consent.epoch == record.epoch)?;
    let chosen = look.member(&consent.pod)?;
    if chosen.is_unsettled() {
        return None;
    }
    Some(promote(&look.members(), &chosen, record, look))
}

pub(super) fn no_winner(why: &NoWinner) -> Hold {
    let message = match why {
        NoWinner::Unrankable(pods) => format!(
            "the data of {} cannot be compared with the others': its history began at a restart with append-only \
             files, or outside of this set; see docs/use/status.md, HistoriesDiffer",
            pods.join(", ")
        ),
        NoWinner::UnsettledFile(pod) => format!(
            "{pod} was the primary and ended while it still rewrote its append-only file, so what it loaded may be old, \
             and no other member has what it served; see docs/use/status.md, HistoriesDiffer"
        ),
        NoWinner::ExchangedVolume(pod) => format!(
            "{pod} was the primary, and its volume is not the one that it had then: the claim {} was made anew, so nobody \
             knows how old its data is, and no other member has what was served; see docs/use/status.md, HistoriesDiffer",
            claim_of(pod)
        ),
        NoWinner::NoCommonDescendant => "the volumes hold data of different histories, and no member's data \
             contains all others'; see docs/use/status.md, HistoriesDiffer"
            .to_owned(),
    };
    Hold { reason: Reason::HistoriesDiffer, message }
}

/// Members that did not answer in this look, and are needed.
pub(super) fn silent_members<'a>(record: &'a Record, look: &Snapshot) -> Vec<&'a str> {
    needed(record, look).into_iter().filter(|pod| look.member(pod).is_none()).collect()
}

/// What a silent member brings where its answer is needed.
fn silent(members: &[&str], why: &str) -> Hold {
    Hold {
        reason: Reason::MemberUnreachable,
        message: format!(
            "no server is known to serve, and the operator elects a primary only when every member answers; waiting for {}{why}",
            members.join(", ")
        ),
    }
}

/// What a member does that gives no usable answer, and is alive all the same.
fn lives(look: &Snapshot, members: &[&str]) -> Option<String> {
    let pod = look.observed.pods.iter().find(|pod| members.contains(&pod.name.as_str()))?;
    let Err(NoAnswer::Failed(failure)) = &pod.answer else { return None };
    let (does, remedy) = match failure {
        ProbeFailure::Busy => ("is busy with a script", "SCRIPT KILL or FUNCTION KILL ends that"),
        ProbeFailure::Loading => ("loads its data", "that ends by itself"),
        ProbeFailure::ClientLimit => {
            ("takes no new clients", "end some of them, or raise maxclients in spec.config")
        }
        ProbeFailure::Auth(_) => {
            ("refuses the operator's password", "put the former value back into the Secret")
        }
        ProbeFailure::Reply(_) => ("answers with an error", "its state in status.instances says which"),
        _ => return None,
    };
    Some(format!("{} {does}; {remedy}", pod.name))
}

/// Rule 4b: the old primary stays silent, and is not needed: the process that served is proven dead, and every other
/// member answers and had all of its data at some time.
fn without_primary(record: &Record, look: &Snapshot, members: &[&str]) -> Result<(), Hold> {
    let primary = record.primary.as_deref().filter(|primary| members == [*primary]);
    if primary.is_none() || record.seen_serving.is_none() || !record.sure {
        return Err(silent(members, ""));
    }
    // The target of an open switchover may have served, and only the process that would have done so can tell.
    if let Some(switch) = record.switch_to.as_ref().filter(|switch| heir(switch, look) != TargetProcess::Runs)
    {
        let why = format!(
            ". It cannot be done without: it was handing its role over to {}, and the process that was in sync there does not answer",
            switch.target
        );
        return Err(silent(members, &why));
    }
    if let Former::Unproven(missing) = &look.former {
        let missing = lives(look, members).unwrap_or_else(|| missing.clone());
        return Err(silent(members, &format!(". It cannot be done without: {missing}")));
    }
    let others = others(record, look);
    let answering = look.members();
    let is_of_set = |host: &str| answering.iter().any(|c| c.answer.announced == host);
    let hearing: Vec<&str> = answering
        .iter()
        .filter(|c| c.heard_from().is_some_and(|host| !is_of_set(host)))
        .map(|c| c.pod)
        .collect();
    if !hearing.is_empty() {
        let why =
            format!(". It cannot be done without: {} still hears from it, so it serves", hearing.join(", "));
        return Err(silent(members, &why));
    }
    let votes = |c: &&Candidate<'_>| record.voters.contains(&c.answer.info.server.run_id);
    let no_voters = others.iter().filter(|c| !votes(c)).map(|c| c.pod);
    let no_voters: BTreeSet<&str> = no_voters.chain(absent_followers(record, look)).collect();
    if !no_voters.is_empty() {
        let why = format!(
            ". It cannot be done without: {} restarted or was not in sync since, so it may lack confirmed writes",
            no_voters.into_iter().collect::<Vec<_>>().join(", ")
        );
        return Err(silent(members, &why));
    }
    if !look.waited {
        return Err(silent(members, " for a few seconds: it may hold writes that no other member has"));
    }
    if others.is_empty() {
        return Err(silent(members, ""));
    }
    Ok(())
}

/// The process that served last belongs to another pod object than the one that answers under its name now. Unless
/// its end is proven it may serve on: a pod that was deleted by force leaves its process to a kubelet that may not
/// even be reachable. A namesake proves nothing (rule 4).
pub(super) fn former_process(record: &Record, look: &Snapshot) -> Option<Hold> {
    let seen = record.seen_serving.as_ref()?;
    let primary = record.primary.as_deref()?;
    let namesake = look.member(primary)?;
    if namesake.uid == seen.pod_uid {
        return None;
    }
    let heard = look
        .members()
        .iter()
        .find(|c| c.heard_from() == Some(&namesake.answer.announced))
        .map(|c| c.pod.to_owned());
    let missing = match (&look.former, heard) {
        (Former::Unproven(missing), _) => missing.clone(),
        (Former::Ended, Some(pod)) => format!("{pod} still hears from it, so it serves"),
        (Former::Ended, None) => return None,
    };
    Some(Hold {
        reason: Reason::PreviousPrimaryUnproven,
        message: format!(
            "{primary} was replaced, and its former pod (UID {}) may still take writes: {missing}",
            seen.pod_uid
        ),
    })
}

/// The same for the process to which an open switchover handed the role: it may have taken over unseen.
fn former_target(record: &Record, look: &Snapshot) -> Option<Hold> {
    match heir(record.switch_to.as_ref()?, look) {
        TargetProcess::Unknown(message) => Some(Hold { reason: Reason::PreviousPrimaryUnproven, message }),
        TargetProcess::Runs | TargetProcess::Ended => None,
    }
}

/// Members whose data is still changing.
fn unsettled_members(members: &[Candidate<'_>]) -> Option<Hold> {
    let busy: Vec<&str> = members.iter().filter(|c| c.is_unsettled()).map(|c| c.pod).collect();
    (!busy.is_empty()).then(|| Hold {
        reason: Reason::MemberLoading,
        message: format!(
            "no server serves; waiting for {} to finish loading or handing over",
            busy.join(", ")
        ),
    })
}
