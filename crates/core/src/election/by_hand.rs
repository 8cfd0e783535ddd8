//! A person typed `FAILOVER` on the primary, or an older record came back from a backup of etcd: somebody else serves, goes on from
//! what was served last, and all others follow it. Then it is the primary from now on (`docs/design/protocol.md`, rule 3).

use std::collections::BTreeSet;

use super::{
    followers::{has_ended, is_process, next_followers, unproven},
    nobody_serves::former_process,
    rank::Candidate,
    serving,
    snapshot::Snapshot,
};
use crate::topology::Verdict;
use redis_node::{
    files::REDIS_PORT,
    record::{Record, latest},
};

/// The record that names this server, which serves alone and is not the primary of record.
///
/// All of it is one write: the set is disarmed, and the followers of the new epoch are named, before anybody is told
/// anything and before the label moves.
///
/// # Errors
/// Why the operator does not go on with it by itself, in words for the status.
pub(super) fn taken_over(stranger: &Verdict, record: &Record, look: &Snapshot) -> Result<Record, String> {
    let Some(own) = look.member(&stranger.pod) else {
        return Err("its pod is being deleted".to_owned());
    };
    let (served, left_at) = former_history(&own, record)?;
    all_answer(record, look)?;
    if own.is_unsettled() {
        return Err("it loads data, or hands its role on".to_owned());
    }
    let members = look.members();
    let astray: Vec<&str> = members
        .iter()
        .filter(|member| member.pod != own.pod)
        .filter(|member| member.is_unsettled() || !has_no_more(member, &own, &members))
        .map(|member| member.pod)
        .collect();
    if !astray.is_empty() {
        return Err(format!(
            "not every member follows it, or is known to be behind it: {}",
            astray.join(", ")
        ));
    }
    let mut closed = record.closed.clone();
    closed.entry(served.to_owned()).or_insert(left_at);
    Ok(Record {
        epoch: record.epoch.saturating_add(1),
        primary: Some(own.pod.to_owned()),
        start_offset: left_at,
        voters: BTreeSet::new(),
        followers: next_followers(record, look, &members, &own),
        armed: None,
        closed: latest(closed, &[served]),
        seen_serving: Some(serving(&own, record)),
        ..record.clone()
    })
}

/// The history that was served last, and up to where this server has it.
fn former_history<'a>(own: &Candidate<'_>, record: &'a Record) -> Result<(&'a str, i64), String> {
    let replication = &own.answer.info.replication;
    // second_repl_offset is the first offset that is no longer shared.
    let left_at = replication.second_repl_offset.saturating_sub(1);
    match &record.seen_serving {
        // Below that a history is only a name: a replica has it before it has the data.
        Some(seen) if seen.replid == replication.replid2 && left_at >= record.start_offset => {
            Ok((&seen.replid, left_at))
        }
        _ => Err("its data does not go on from what was served last".to_owned()),
    }
}

/// Every member answers, and so does every process that may have confirmed or taken a write, unless it has ended.
fn all_answer(record: &Record, look: &Snapshot) -> Result<(), String> {
    let needed = record.members.iter().chain(&record.primary).map(String::as_str);
    let silent: BTreeSet<&str> = needed.filter(|pod| look.member(pod).is_none()).collect();
    if !silent.is_empty() {
        let silent: Vec<&str> = silent.into_iter().collect();
        return Err(format!("{} does not answer", silent.join(", ")));
    }
    if let Some(hold) = former_process(record, look) {
        return Err(hold.message);
    }
    let members = look.members();
    let unseen = record
        .followers
        .iter()
        .flatten()
        .find(|f| !has_ended(f, look) && !members.iter().any(|member| is_process(member, f)));
    unseen.map_or(Ok(()), |follower| Err(unproven(follower)))
}

/// Whether that server has all that this member has: the member has its history and is linked to it, or to somebody for whom that
/// holds; or it is linked to nobody, so that its data stands still, and has no more. (The model found an operator that took the
/// moment of a `FAILOVER` for a lost primary, parked one, and ended.)
fn has_no_more(member: &Candidate<'_>, than: &Candidate<'_>, members: &[Candidate<'_>]) -> bool {
    let mut at = *member;
    // Each step is another member, unless they go round in a circle.
    for _ in members {
        let replication = &at.answer.info.replication;
        let Some(upstream) = &replication.upstream else { return false };
        if !upstream.link_up {
            return at.is_empty() || than.descends_from(&at);
        }
        if replication.replid != than.answer.info.replication.replid || upstream.port != REDIS_PORT {
            return false;
        }
        if upstream.host == than.answer.announced {
            return true;
        }
        match members.iter().find(|other| other.answer.announced == upstream.host) {
            Some(above) => at = *above,
            None => return false,
        }
    }
    false
}
