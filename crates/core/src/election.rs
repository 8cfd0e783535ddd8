//! What to do next about who is primary (`docs/design/protocol.md`, the operator's rules).
//!
//! Pure, and one decision at a time: the caller acts on it, looks again, and asks again. What these rules do not
//! cover is a [`Hold`]: nothing is done, and the status says what is missing.

mod bootstrap;
mod by_hand;
pub mod divergence;
pub mod followers;
pub mod lost_primary;
pub mod mending;
pub mod next;
pub mod nobody_serves;
pub mod process_end;
pub mod quorum;
pub mod rank;
pub mod snapshot;
pub mod switchover;
pub mod votes;

use bootstrap::first_primary;
pub use nobody_serves::elect;
use nobody_serves::{no_winner, nobody_serves, silent_members};
use rank::{Candidate, rank, winner};
use snapshot::Snapshot;
use votes::noted;

use crate::{
    api::{Reason, status::InstanceState},
    topology::Verdict,
};
use redis_node::{
    info::Replication,
    record::{Record, Serving},
};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything is as it should be, or mends itself.
    Rest,
    /// Write this record; nothing else.
    Note(Record),
    /// The role was handed over, and not by the operator: write this record, which names who serves, and say so.
    Adopt(Record),
    /// Everything needed for an election was seen once. Look again, then ask [`elect`].
    LookAgain,
    /// Park these pods: they are linked to a server that is not the primary, or serve although they must not.
    Park(Vec<String>),
    /// Park these pods: somebody promoted them by hand beside the serving primary, and nothing was written to them yet.
    /// Nothing may be written between that look and the parking either.
    Retire(Vec<String>),
    /// Cut other operators off from these pods, park them, and see them parked: the primary that they followed is silent.
    Detach(Vec<String>),
    /// Tell the primary how many replicas it is to demand (`min-replicas-to-write`).
    Demand {
        /// Its pod.
        pod: String,
        /// How many.
        min_replicas: i64,
    },
    /// Tell the primary to demand replicas as the record says, read that back, then write the record.
    Arm {
        /// The record to write after.
        record: Record,
        /// Pod of the primary.
        pod: String,
    },
    /// Write the record, then promote the pod.
    Promote {
        /// The record to write first.
        record: Record,
        /// Pod to promote.
        pod: String,
    },
    /// Point these pods at the primary of record.
    Follow(Vec<String>),
    /// Write the record, which names the target, then hand the role over to it.
    Switch {
        /// The record to write first.
        record: Record,
        /// Pod of the primary, which gets the command.
        from: String,
        /// Pod that is to become the primary.
        target: String,
    },
    /// A switchover is on its way. Look again in a moment.
    Await,
    /// End a switchover that cannot end by itself: the primary does not reach its successor, which answers and still is a
    /// replica. If the primary serves then, write the record.
    TakeBack {
        /// The record to write after.
        record: Record,
        /// Pod of the primary of record.
        pod: String,
        /// Pod that was to become the primary.
        target: String,
    },
    /// End a switchover that did not happen: abort it on this pod, and if that still serves then, write the record.
    Abort {
        /// The record to write after.
        record: Record,
        /// Pod of the primary of record.
        pod: String,
    },
    /// Do nothing, and say why.
    Hold(Hold),
}

/// Why nothing can be done safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Documented reason (`docs/use/status.md`).
    pub reason: Reason,
    /// The member, the missing proof, and what ends the hold.
    pub message: String,
}

/// Decides on one look.
pub fn decide(record: &Record, look: &Snapshot) -> Decision {
    if let Some(switch) = &record.switch_to {
        return switchover::open(switch, record, look);
    }
    let serving = look.topology.serving();
    let primary = serving.iter().find(|v| record.primary.as_deref() == Some(v.pod.as_str()));
    match (primary, serving.as_slice()) {
        (Some(primary), _) => primary_serves(primary, record, look),
        (None, []) => first_primary(record, look).unwrap_or_else(|| nobody_serves(record, look)),
        (None, [one]) if !record.sure => adopt(one, record, look),
        (None, [one]) => stranger_serves(one, record, look),
        (None, strangers) => strangers_serve(strangers, record, look, false),
    }
}

/// Rule 3: one serves, and it is not the primary of record. A person may have handed the role over.
fn stranger_serves(one: &Verdict, record: &Record, look: &Snapshot) -> Decision {
    match (strangers_serve(&[one], record, look, false), by_hand::taken_over(one, record, look)) {
        (Decision::Hold(_), Ok(adopted)) => Decision::Adopt(adopted),
        (Decision::Hold(hold), Err(why)) => {
            let message = format!(
                "{}. The operator goes on with a server that somebody handed the role to (FAILOVER) once all follow it; now {why}",
                hold.message
            );
            Decision::Hold(Hold { message, ..hold })
        }
        (other, _) => other,
    }
}

/// Rule 3, first half: the primary of record serves, so everybody else belongs behind it.
fn primary_serves(primary: &Verdict, record: &Record, look: &Snapshot) -> Decision {
    let Some(own) = look.process(&primary.pod) else { return Decision::Rest };
    let now_serving = serving(&own, record);
    // The history is noted again when it changes: a primary gets another one when its first replica links. Until then it
    // has no backlog, nobody can share its history, and the new name that a promotion gave it is not worth a write.
    let known = record.seen_serving.as_ref().is_some_and(|seen| {
        let is_named = seen.replid == now_serving.replid || !own.answer.info.replication.backlog_active;
        record.sure && is_named && Serving { replid: seen.replid.clone(), ..now_serving.clone() } == *seen
    });
    if !known {
        let same_process = record.seen_serving.as_ref().is_none_or(|seen| seen.run_id == now_serving.run_id);
        // Seen for the first time after our own promotion, or a process that somebody else promoted by hand.
        // The second must not become everybody's source of truth over newer data.
        if !same_process
            && let Some(newer) = look.members().into_iter().find(|c| rank(c, record) > rank(&own, record))
        {
            return Decision::Hold(Hold {
                reason: Reason::PrimaryOutranked,
                message: format!(
                    "{0} serves, but this process was not promoted by the operator and {1} has newer data; restart \
                     {0} (it then starts parked, and the newest data is elected)",
                    own.pod, newer.pod
                ),
            });
        }
        return Decision::Note(Record { seen_serving: Some(now_serving), sure: true, ..record.clone() });
    }

    if let Some(decision) = quorum::demand(record, look, &own) {
        return decision;
    }
    if let Some(changed) = quorum::changes(record, look, &own) {
        return Decision::Note(changed);
    }
    let strangers: Vec<&Verdict> =
        look.topology.serving().into_iter().filter(|v| v.pod != primary.pod).collect();
    // What a stranger needs, a person decides; nothing about the others is in doubt meanwhile.
    let held = match strangers.as_slice() {
        [] => None,
        some => match strangers_serve(some, record, look, true) {
            Decision::Hold(hold) => Some(hold),
            other => return other,
        },
    };
    if let Some(target) = switchover::evacuate(primary, look) {
        return switchover::begin(&own, &target, record);
    }
    let astray: Vec<String> = look
        .topology
        .instances
        .iter()
        .filter(|v| matches!(v.state, InstanceState::Parked | InstanceState::WrongPrimary))
        .map(|v| v.pod.clone())
        .collect();
    if !astray.is_empty() {
        return Decision::Follow(astray);
    }
    if let Some(hold) = held {
        return Decision::Hold(hold);
    }
    // In one write where all of it is due at once.
    let voted = noted(record, look);
    let named = followers::begin(voted.as_ref().unwrap_or(record), look, &own).or(voted);
    quorum::arm(named.as_ref().unwrap_or(record), look, &own)
        .or(named.map(Decision::Note))
        .unwrap_or(Decision::Rest)
}

/// Replicas whose link to the serving primary is down. A replica that dialled a pod's former address (its DNS answer
/// was some seconds old) would try that address for `repl-timeout`, 60 s, before it asks again (experiment E4); one
/// that is told again asks at once.
pub fn unlinked(record: &Record, look: &Snapshot) -> Vec<String> {
    if !look.primary_serves(record) {
        return Vec::new();
    }
    let down = |v: &&Verdict| v.state == InstanceState::LinkDown;
    look.topology.instances.iter().filter(down).map(|v| v.pod.clone()).collect()
}

/// Rule 3, second half: somebody serves who is not the primary of record.
fn strangers_serve(
    strangers: &[&Verdict],
    record: &Record,
    look: &Snapshot,
    primary_serves: bool,
) -> Decision {
    let (mut ended, mut idle) = (Vec::new(), Vec::new());
    for stranger in strangers {
        let replication = look.member(&stranger.pod).map(|member| &member.answer.info.replication);
        match replication {
            Some(own) if record.closed.contains_key(&own.replid) => ended.push(stranger.pod.clone()),
            Some(own) if primary_serves && left_unwritten(own, record) => idle.push(stranger.pod.clone()),
            _ => {
                return Decision::Hold(Hold {
                    reason: Reason::UnexpectedPrimary,
                    message: format!(
                        "{} serves as primary, but the primary of record is {}; it may hold writes that no other \
                         member has. Save what you need from it, then restart its pod (it then starts parked)",
                        stranger.pod,
                        record.primary.as_deref().unwrap_or("not chosen yet"),
                    ),
                });
            }
        }
    }
    if ended.is_empty() { Decision::Retire(idle) } else { Decision::Park(ended) }
}

/// Whether a server left the served history, by a promotion by hand, and nothing was written to it since. Without a
/// backlog its offset would not tell.
pub fn left_unwritten(own: &Replication, record: &Record) -> bool {
    own.upstream.is_none()
        && own.backlog_active
        && record.seen_serving.as_ref().is_some_and(|s| s.replid == own.replid2)
        && own.offset < own.second_repl_offset
}

/// Rule 9: the record was lost and somebody serves. It is adopted only when all members answer and none has more.
fn adopt(one: &Verdict, record: &Record, look: &Snapshot) -> Decision {
    let Some(own) = look.member(&one.pod) else { return Decision::Rest };
    let adopted = || {
        Decision::Note(Record {
            epoch: record.epoch + 1,
            primary: Some(one.pod.clone()),
            start_offset: own.answer.info.replication.offset,
            seen_serving: Some(serving(&own, record)),
            sure: true,
            ..record.clone()
        })
    };
    // A person ends this hold as any other, by naming who serves.
    if look.consents_to(&one.pod, record) {
        return adopted();
    }
    let missing = silent_members(record, look);
    if !missing.is_empty() {
        return Decision::Hold(Hold {
            reason: Reason::MemberUnreachable,
            message: format!(
                "{} serves; the record was lost, and {0} becomes the primary of record when every member answers and \
                 none has newer data; waiting for {}",
                one.pod,
                missing.join(", ")
            ),
        });
    }
    let members = look.members();
    // Linked to it and of its history: whatever the offsets of the moment are, nobody has more.
    let follows = |member: &Candidate<'_>| {
        let upstream = member.answer.info.replication.upstream.as_ref();
        member.answer.info.replication.replid == own.answer.info.replication.replid
            && upstream.is_some_and(|u| u.link_up && u.host == own.answer.announced)
    };
    let all_follow = members.iter().all(|member| member.pod == own.pod || follows(member));
    let best = if all_follow { Ok(own) } else { winner(&members, record) };
    match best {
        Ok(best) if best.pod == one.pod => adopted(),
        Ok(best) => Decision::Hold(Hold {
            reason: Reason::UnexpectedPrimary,
            message: format!(
                "the record was lost; {0} serves, but {1} has newer data. Restart {0} (it then starts parked, and \
                 the newest data is elected)",
                one.pod, best.pod
            ),
        }),
        Err(why) => Decision::Hold(no_winner(&why)),
    }
}

/// What the record is to say of this process.
fn serving(member: &Candidate<'_>, record: &Record) -> Serving {
    let server = &member.answer.info.server;
    let replid = member.answer.info.replication.replid.clone();
    // The start of a process is read from two clocks and moves by a second: what was noted first stays.
    match &record.seen_serving {
        Some(seen) if seen.run_id == server.run_id && seen.pod_uid == member.uid => {
            // A rewrite of one that serves replaces a file that is whole. One that was a replica meanwhile may have copied.
            let is_replica = member.answer.info.replication.upstream.is_some();
            let goes_on = seen.aof_settled && !is_replica && member.appends();
            let aof_settled = goes_on || member.has_settled_aof();
            Serving { replid, aof_settled, ..seen.clone() }
        }
        _ => Serving {
            pod_uid: member.uid.to_owned(),
            node: member.node.to_owned(),
            run_id: server.run_id.clone(),
            started: server.started(),
            known_end: member.last_end,
            grace_seconds: member.grace_seconds,
            replid,
            aof_settled: member.has_settled_aof(),
            ended: false,
        },
    }
}

#[cfg(test)]
mod tests;
