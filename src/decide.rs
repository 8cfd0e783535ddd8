//! What to do next about who is primary (`docs/protocol.md`, operator rules 3, 4, 5, 6, 7, 9 and 11).
//!
//! Pure, and one decision at a time: the caller acts on it, looks again, and asks again. What these rules do not
//! cover is a [`Hold`]: nothing is done, and the status says what is missing.

mod bootstrap;
pub mod look;
pub mod rank;
pub mod roll;
pub mod size;

use bootstrap::first_primary;
use look::Look;
use rank::{Candidate, NoWinner, close_histories, rank, winner};

use crate::{
    api::status::InstanceState,
    record::{Record, Serving},
    redis::info::Replication,
    topology::Verdict,
};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Everything is as it should be, or mends itself.
    Rest,
    /// Write this record; nothing else.
    Note(Record),
    /// Everything needed for an election was seen once. Look again, then ask [`elect`].
    LookAgain,
    /// Park these pods: they are linked to a server that is not the primary, or serve although they must not.
    Park(Vec<String>),
    /// Park these pods: somebody promoted them by hand beside the serving primary, and nothing was written to them yet.
    /// Nothing may be written between that look and the parking either.
    Retire(Vec<String>),
    /// Write the record, then promote the pod.
    Promote {
        /// The record to write first.
        record: Record,
        /// Pod to promote.
        pod: String,
    },
    /// Point these pods at the primary of record.
    Follow(Vec<String>),
    /// Do nothing, and say why.
    Hold(Hold),
}

/// Why nothing can be done safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Documented reason (`docs/status.md`).
    pub reason: HoldReason,
    /// The member, the missing proof, and what ends the hold.
    pub message: String,
}

/// Reasons of holds; each is a heading in `docs/status.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// Nobody serves, and not every member answers.
    MemberSilent,
    /// Nobody serves, and a member still loads or receives data.
    MemberLoading,
    /// Nobody serves, and histories cannot be compared.
    HistoriesDiffer,
    /// A server serves that the operator did not promote.
    UnexpectedPrimary,
    /// The primary of record serves with older data than another member has.
    PrimaryOutranked,
    /// The pod that served last was replaced, and its end was not seen.
    FormerProcess,
    /// A new set waits for the pods of a deleted one of the same name.
    FormerPods,
}

impl HoldReason {
    /// The reason as it stands in conditions and Events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemberSilent => "MemberSilent",
            Self::MemberLoading => "MemberLoading",
            Self::HistoriesDiffer => "HistoriesDiffer",
            Self::UnexpectedPrimary => "UnexpectedPrimary",
            Self::PrimaryOutranked => "PrimaryOutranked",
            Self::FormerProcess => "FormerProcess",
            Self::FormerPods => "FormerPods",
        }
    }
}

/// Decides on one look.
pub fn decide(record: &Record, look: &Look) -> Decision {
    let serving = look.topology.serving();
    let primary = serving.iter().find(|v| record.primary.as_deref() == Some(v.pod.as_str()));
    match (primary, serving.as_slice()) {
        (Some(primary), _) => primary_serves(primary, record, look),
        (None, []) => first_primary(record, look).unwrap_or_else(|| nobody_serves(record, look)),
        (None, [one]) if !record.sure => adopt(one, record, look),
        (None, strangers) => strangers_serve(strangers, record, look, false),
    }
}

/// Rule 3, first half: the primary of record serves, so everybody else belongs behind it.
fn primary_serves(primary: &Verdict, record: &Record, look: &Look) -> Decision {
    let Some(own) = look.member(&primary.pod) else { return Decision::Rest };
    let now_serving = serving(&own, record);
    // The history is noted anew when it changes: a primary gets another one when its first replica links.
    if record.seen_serving.as_ref() != Some(&now_serving) {
        let same_process = record.seen_serving.as_ref().is_none_or(|seen| seen.run_id == now_serving.run_id);
        // Seen for the first time after our own promotion, or a process that somebody else promoted by hand.
        // The second must not become everybody's source of truth over newer data.
        if !same_process
            && let Some(newer) = look.members().into_iter().find(|c| rank(c, record) > rank(&own, record))
        {
            return Decision::Hold(Hold {
                reason: HoldReason::PrimaryOutranked,
                message: format!(
                    "{0} serves, but this process was not promoted by the operator and {1} has newer data; restart \
                     {0} (it then starts parked, and the newest data is elected)",
                    own.pod, newer.pod
                ),
            });
        }
        return Decision::Note(Record { seen_serving: Some(now_serving), sure: true, ..record.clone() });
    }

    let strangers: Vec<&Verdict> =
        look.topology.serving().into_iter().filter(|v| v.pod != primary.pod).collect();
    if !strangers.is_empty() {
        return strangers_serve(&strangers, record, look, true);
    }
    let astray: Vec<String> = look
        .topology
        .instances
        .iter()
        .filter(|v| matches!(v.state, InstanceState::Parked | InstanceState::WrongPrimary))
        .map(|v| v.pod.clone())
        .collect();
    if astray.is_empty() { Decision::Rest } else { Decision::Follow(astray) }
}

/// Replicas whose link to the serving primary is down. A replica that dialled a pod's former address (its DNS answer
/// was some seconds old) would try that address for `repl-timeout`, 60 s, before it asks again (experiment E4); one
/// that is told anew asks at once.
pub fn unlinked(record: &Record, look: &Look) -> Vec<String> {
    let serves = record.primary.as_deref().and_then(|primary| look.topology.get(primary));
    if serves.is_none_or(|primary| primary.state != InstanceState::Primary) {
        return Vec::new();
    }
    let down = |v: &&Verdict| v.state == InstanceState::LinkDown;
    look.topology.instances.iter().filter(down).map(|v| v.pod.clone()).collect()
}

/// Rule 3, second half: somebody serves who is not the primary of record.
fn strangers_serve(strangers: &[&Verdict], record: &Record, look: &Look, primary_serves: bool) -> Decision {
    let (mut ended, mut idle) = (Vec::new(), Vec::new());
    for stranger in strangers {
        let replication = look.member(&stranger.pod).map(|member| &member.answer.info.replication);
        match replication {
            Some(own) if record.closed.contains_key(&own.replid) => ended.push(stranger.pod.clone()),
            Some(own) if primary_serves && left_unwritten(own, record) => idle.push(stranger.pod.clone()),
            _ => {
                return Decision::Hold(Hold {
                    reason: HoldReason::UnexpectedPrimary,
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
fn adopt(one: &Verdict, record: &Record, look: &Look) -> Decision {
    if let Some(hold) = silent_members(record, look) {
        return Decision::Hold(hold);
    }
    let Some(own) = look.member(&one.pod) else { return Decision::Rest };
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
        Ok(best) if best.pod == one.pod => Decision::Note(Record {
            epoch: record.epoch + 1,
            primary: Some(one.pod.clone()),
            start_offset: own.answer.info.replication.offset,
            seen_serving: Some(serving(&own, record)),
            sure: true,
            ..record.clone()
        }),
        Ok(best) => Decision::Hold(Hold {
            reason: HoldReason::UnexpectedPrimary,
            message: format!(
                "the record was lost; {0} serves, but {1} has newer data. Restart {0} (it then starts parked, and \
                 the newest data is elected)",
                one.pod, best.pod
            ),
        }),
        Err(why) => Decision::Hold(no_winner(&why)),
    }
}

/// Rule 4, first look.
fn nobody_serves(record: &Record, look: &Look) -> Decision {
    let hold = silent_members(record, look)
        .or_else(|| former_process(record, look))
        .or_else(|| unsettled_members(look));
    if let Some(hold) = hold {
        return Decision::Hold(hold);
    }
    let linked: Vec<String> = look
        .members()
        .iter()
        .filter(|c| c.answer.info.replication.upstream.as_ref().is_some_and(|u| u.link_up))
        .map(|c| c.pod.to_owned())
        .collect();
    if linked.is_empty() { Decision::LookAgain } else { Decision::Park(linked) }
}

/// Rule 4, second look, with rules 5 to 7: nobody serves, every member answers, and both looks agree.
///
/// Anything that moved between the looks asks for another first look.
pub fn elect(record: &Record, first: &Look, second: &Look) -> Decision {
    if !second.topology.serving().is_empty() {
        return decide(record, second);
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
    match winner(&members, record) {
        Ok(best) => Decision::Promote {
            record: Record {
                epoch: record.epoch + 1,
                primary: Some(best.pod.to_owned()),
                start_offset: best.answer.info.replication.offset,
                closed: close_histories(&members, &best, record),
                seen_serving: None,
                ..record.clone()
            },
            pod: best.pod.to_owned(),
        },
        Err(why) => Decision::Hold(no_winner(&why)),
    }
}

fn no_winner(why: &NoWinner) -> Hold {
    let message = match why {
        NoWinner::Unrankable(pods) => format!(
            "{} restarted with append-only files, so their data cannot be compared with the others'; see \
             docs/status.md, HistoriesDiffer",
            pods.join(", ")
        ),
        NoWinner::NoCommonDescendant => "the volumes hold data of different histories, and no member's data \
             contains all others'; see docs/status.md, HistoriesDiffer"
            .to_owned(),
    };
    Hold { reason: HoldReason::HistoriesDiffer, message }
}

/// Members of record that did not answer in this look.
fn silent_members(record: &Record, look: &Look) -> Option<Hold> {
    let silent: Vec<&str> =
        record.members.iter().map(String::as_str).filter(|pod| look.member(pod).is_none()).collect();
    (!silent.is_empty()).then(|| Hold {
        reason: HoldReason::MemberSilent,
        message: format!(
            "nobody is known to serve, and a primary is elected only when every member answers; waiting for {}",
            silent.join(", ")
        ),
    })
}

/// The process that served last belongs to another pod object than the one that answers under its name now. Unless
/// its end was witnessed it may serve on: a pod that was deleted by force leaves its process to a kubelet that may
/// not even be reachable. A namesake proves nothing (rule 4).
fn former_process(record: &Record, look: &Look) -> Option<Hold> {
    let seen = record.seen_serving.as_ref()?;
    let primary = record.primary.as_deref()?;
    let namesake = look.member(primary)?;
    (namesake.uid != seen.pod_uid && !look.former_ended).then(|| Hold {
        reason: HoldReason::FormerProcess,
        message: format!(
            "{primary} was replaced, and nobody saw its former pod (UID {}) end; its Redis may still take writes. Make \
             sure that no such process runs, then delete the set's ConfigMap `…-record`: the operator rebuilds it from \
             what the servers say",
            seen.pod_uid
        ),
    })
}

/// Members whose data is still changing.
fn unsettled_members(look: &Look) -> Option<Hold> {
    let busy: Vec<&str> = look
        .members()
        .iter()
        .filter(|c| {
            let info = &c.answer.info;
            info.persistence.loading
                || info.persistence.async_loading
                || info.replication.upstream.as_ref().is_some_and(|u| u.sync_in_progress)
                // A FAILOVER runs, begun by somebody else; its end decides who serves.
                || info.replication.failover_state != "no-failover"
        })
        .map(|c| c.pod)
        .collect();
    (!busy.is_empty()).then(|| Hold {
        reason: HoldReason::MemberLoading,
        message: format!("nobody serves; waiting for {} to finish loading or handing over", busy.join(", ")),
    })
}

/// What the record is to say of this process.
fn serving(member: &Candidate<'_>, record: &Record) -> Serving {
    let server = &member.answer.info.server;
    let replid = member.answer.info.replication.replid.clone();
    // The start of a process is read from two clocks and moves by a second: what was noted first stays.
    match &record.seen_serving {
        Some(seen) if seen.run_id == server.run_id && seen.pod_uid == member.uid => {
            Serving { replid, ..seen.clone() }
        }
        _ => Serving {
            pod_uid: member.uid.to_owned(),
            node: member.node.to_owned(),
            run_id: server.run_id.clone(),
            started: server.started(),
            replid,
        },
    }
}

#[cfg(test)]
mod tests;
