//! Rule 12: a primary that stays silent is succeeded although nothing proves its end, because nobody acknowledges its writes any more.
//!
//! Every process that may follow the primary stands in the record before it is told to (`followers`). Once each of them is
//! parked, and other operators are cut off from it, no write of the former primary is confirmed by `WAIT`; after
//! `min-replicas-max-lag` and [`COUNTED_LATE`] it takes no write at all. What it had confirmed until then, the best of the
//! followers has.
//!
//! Armed is the state in which that holds: the primary was read back to demand a replica, it lists exactly these followers,
//! and each of them has voted. It is written after the demand is in effect, and taken back before the demand is lowered.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    Decision, Hold,
    followers::{
        absent_followers, follower, has_ended, is_process, is_tracked, lists_exactly, needed, one_end_a_pod,
        others, unproven,
    },
    process_end::Former,
    rank::Candidate,
    snapshot::Snapshot,
};
use crate::{
    api::{Reason, failover::Mode, status::InstanceState},
    observed::{NoAnswer, StartRule},
};
use redis_node::{
    answer::ProbeFailure,
    record::{Armed, Follower, Record},
};

/// A primary counts its good replicas once a second, and their lag in whole seconds: so much later than
/// `min-replicas-max-lag` it takes its last write without them (`replicationCron`; experiment E8 measured 3.5 s with 3 s).
pub const COUNTED_LATE: Duration = Duration::from_secs(2);

/// Replicas that a primary is to demand while it is armed. One: a single lost replica stops no writes.
const MIN_REPLICAS: i64 = 1;

/// Seconds of `min-replicas-max-lag` and `repl-ping-replica-period` with which a set can be armed. 0 switches the first off.
const LAGS: RangeInclusive<i64> = 1..=10;

/// The record with what this look shows of the followers; `None` where nothing changed. `primary` serves.
pub(super) fn changes(record: &Record, look: &Snapshot, primary: &Candidate<'_>) -> Option<Record> {
    let mut next = record.clone();
    if is_tracked(record, look) {
        let mut ends = false;
        let mut followers = record.followers.clone().unwrap_or_default();
        for one in followers.iter_mut().filter(|one| !one.process.ended) {
            one.process.ended = has_ended(one, look);
            ends |= one.process.ended;
        }
        let news = look.members().into_iter().filter(|member| {
            let serves = member.answer.info.replication.upstream.is_none();
            member.pod != primary.pod && !serves && !followers.iter().any(|f| is_process(member, f))
        });
        let news: Vec<Follower> = news.map(|member| follower(&member, record)).collect();
        followers.extend(news);
        let followers = one_end_a_pod(&followers);
        // What only the ended one had confirmed, the others are to have before they decide without it.
        if ends {
            next.voters = BTreeSet::new();
        }
        next.followers = Some(followers);
    } else {
        next.followers = None;
    }
    if !next.armed.as_ref().is_some_and(|armed| demands(primary) == Some(armed.clone()))
        || armable(&next, look).is_err()
    {
        next.armed = None;
    }
    (next != *record).then_some(next)
}

/// What the primary demands, as the record would have it.
fn demands(primary: &Candidate<'_>) -> Option<Armed> {
    let demands = primary.answer.demands?;
    Some(Armed {
        run_id: primary.answer.info.server.run_id.clone(),
        min_replicas: demands.min_replicas,
        max_lag_seconds: demands.max_lag_seconds,
        ping_seconds: demands.ping_seconds,
    })
}

/// Whether an armed set would be succeeded as things are: its primary serves, or all that follow it answer.
pub fn takes_over(record: &Record, look: &Snapshot) -> bool {
    look.failover.mode == Mode::Quorum
        && !look.failover.is_paused
        && (look.primary_serves(record) || absent_followers(record, look).is_empty())
}

/// Why nobody could take over from the serving primary without proof of its end, in words for the status.
///
/// # Errors
/// What is missing.
pub fn armable(record: &Record, look: &Snapshot) -> Result<(), String> {
    if look.failover.is_paused {
        return Err("the set is paused".to_owned());
    }
    if look.failover.mode != Mode::Quorum || !look.failover.owns_min_replicas {
        return Err(format!("the mode is {:?}", look.failover.mode));
    }
    if let Some(pod) = look.observed.pods.iter().find(|pod| pod.start != StartRule::Parked) {
        return Err(format!(
            "{} was made for another mode, and follows a primary by itself when it starts. A pod is made for this one when it is \
             replaced: by the next rolling update, or at once where the spec names failover.mode: Quorum",
            pod.name
        ));
    }
    if let Some(pod) = look.observed.pods.iter().find(|pod| pod.terminating) {
        return Err(format!("{} is being deleted", pod.name));
    }
    let primary = record.primary.as_deref().and_then(|pod| look.process(pod));
    let (Some(primary), true) = (primary, look.primary_serves(record)) else {
        return Err("the primary does not serve".to_owned());
    };
    if record.switch_to.is_some() || primary.hands_over() {
        return Err("the primary hands its role over".to_owned());
    }
    if look.demand_refused.is_some() {
        return Err(format!("{} refuses to be told how many replicas it is to demand", primary.pod));
    }
    can_be_fenced(&primary)?;
    let Some(followers) = record.followers.as_deref().filter(|all| !all.is_empty()) else {
        return Err("the operator has not seen every replica in sync yet".to_owned());
    };
    let mut replicas = Vec::new();
    for follower in followers {
        replicas.push(verified(follower, record, look)?);
    }
    if !lists_exactly(&primary, &replicas) {
        return Err(format!(
            "{} lists other replicas than those that the operator told to follow it: {}",
            primary.pod,
            primary
                .answer
                .info
                .replication
                .replicas
                .iter()
                .map(|r| r.host.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
    Ok(())
}

/// Whether the primary would refuse writes soon after it has lost its replicas, and takes them now.
fn can_be_fenced(primary: &Candidate<'_>) -> Result<(), String> {
    let Some(demands) = primary.answer.demands else {
        return Err(format!("{} does not say what it demands of its replicas", primary.pod));
    };
    if !LAGS.contains(&demands.max_lag_seconds) || !LAGS.contains(&demands.ping_seconds) {
        return Err(format!(
            "min-replicas-max-lag and repl-ping-replica-period are to be {} to {} s; {} has {} and {} s",
            LAGS.start(),
            LAGS.end(),
            primary.pod,
            demands.max_lag_seconds,
            demands.ping_seconds
        ));
    }
    // It refuses writes already, or is about to: the demand is to go.
    let lines = &primary.answer.info.replication.replicas;
    if lines.iter().any(|line| line.lag_seconds <= demands.max_lag_seconds) {
        return Ok(());
    }
    Err(format!("no replica of {} acknowledges", primary.pod))
}

/// The process of a follower, where it is in sync and has voted.
fn verified<'a>(follower: &Follower, record: &Record, look: &'a Snapshot) -> Result<Candidate<'a>, String> {
    let pod = &follower.pod;
    let process = &follower.process;
    let replica = look.member(pod).filter(|member| is_process(member, follower));
    let Some(replica) = replica else {
        return Err(if process.ended {
            format!("the other replicas have not caught up yet since a process of {pod} ended")
        } else {
            unproven(follower)
        });
    };
    let is_in_sync = look.topology.get(pod).is_some_and(|verdict| verdict.state == InstanceState::InSync);
    if !is_in_sync || !record.voters.contains(&process.run_id) {
        return Err(format!("{pod} is not in sync yet"));
    }
    Ok(replica)
}

/// What the primary is to be told of its demand, where nothing else is to be done about the followers.
pub(super) fn demand(record: &Record, look: &Snapshot, primary: &Candidate<'_>) -> Option<Decision> {
    let min_replicas =
        leads_with(look, primary.pod).filter(|_| record.armed.is_none() && look.demand_refused.is_none())?;
    Some(Decision::Demand { pod: primary.pod.to_owned(), min_replicas })
}

/// What a server is to demand that serves, or is about to, and cannot be succeeded without proof; `None` where it does, or where the
/// demand is the user's.
pub fn leads_with(look: &Snapshot, pod: &str) -> Option<i64> {
    let alone = look.failover.min_replicas_alone();
    let observed = look.observed.pods.iter().find(|observed| observed.name == pod)?;
    let demanded = observed.answer.as_ref().ok()?.demands?.min_replicas;
    let is_ours = look.failover.owns_min_replicas && observed.start == StartRule::Parked;
    (is_ours && demanded != alone).then_some(alone)
}

/// The demand, and the record that says so, where the set can be armed.
pub(super) fn arm(record: &Record, look: &Snapshot, primary: &Candidate<'_>) -> Option<Decision> {
    if record.armed.is_some() || !is_tracked(record, look) || armable(record, look).is_err() {
        return None;
    }
    let armed = Armed { min_replicas: MIN_REPLICAS, ..demands(primary)? };
    let record = Record { armed: Some(armed), ..record.clone() };
    Some(Decision::Arm { record, pod: primary.pod.to_owned() })
}

/// How far the succession of a silent primary is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Succession {
    /// It is none: the usual rules apply.
    None,
    /// Its followers are to be detached.
    Detach(Vec<String>),
    /// They are, and it may still take writes.
    Waiting(Hold),
    /// It takes none any more.
    Open,
}

/// How far the succession is, where nobody serves and nothing proves the end of the process that served.
pub(super) fn succession(record: &Record, look: &Snapshot) -> Succession {
    let (Some(armed), Some(seen)) = (&record.armed, &record.seen_serving) else { return Succession::None };
    let followers = record.followers.as_deref().unwrap_or_default();
    let is_armed = look.failover.mode == Mode::Quorum
        && armed.run_id == seen.run_id
        && record.sure
        && record.switch_to.is_none()
        && is_tracked(record, look)
        && !followers.is_empty();
    if !is_armed || !is_silent(&seen.pod_uid, look) {
        return Succession::None;
    }
    let answering: Vec<Candidate<'_>> = others(record, look);
    // Nothing proves better that a primary serves than a replica that hears from it.
    let after = i64::try_from(look.failover.after.as_secs()).unwrap_or(i64::MAX);
    let lately = armed.ping_seconds.saturating_add(1).max(after.saturating_sub(2));
    let heard = |member: &Candidate<'_>| {
        let upstream = member.answer.info.replication.upstream.as_ref();
        upstream.is_some_and(|u| u.link_up && u.last_io_seconds <= lately)
    };
    if !absent_followers(record, look).is_empty()
        || look.members().iter().any(heard)
        || look.silent_for < look.failover.after
    {
        return Succession::None;
    }
    let pods: Vec<String> = followers.iter().map(|f| f.pod.clone()).collect();
    let are_parked = answering.iter().all(Candidate::is_parked);
    let takes_writes = Duration::from_secs(armed.max_lag_seconds.unsigned_abs()).saturating_add(COUNTED_LATE);
    match look.detached_for.filter(|_| are_parked) {
        None => Succession::Detach(pods),
        Some(since) if since < takes_writes => Succession::Waiting(Hold {
            reason: Reason::FailingOver,
            message: format!(
                "{} does not answer, and its replicas hear nothing from it. {} no longer follow it, so it takes no more \
                 writes {} s later; then the one with the newest data is promoted",
                record.primary.as_deref().unwrap_or_default(),
                pods.join(", "),
                takes_writes.as_secs(),
            ),
        }),
        Some(_) => Succession::Open,
    }
}

/// Whether the process of this pod gives no sign that it lives. One that answers with a refusal, or loads, is not silent; one whose
/// pod is gone is. A script that blocks it keeps its replicas waiting as well.
fn is_silent(pod_uid: &str, look: &Snapshot) -> bool {
    let pod = look.observed.pods.iter().find(|pod| pod.uid == pod_uid);
    pod.is_none_or(|pod| match &pod.answer {
        Ok(_) | Err(NoAnswer::NoPassword) => false,
        Err(NoAnswer::NotStarted) => true,
        Err(NoAnswer::Failed(failure)) => matches!(
            failure,
            ProbeFailure::Timeout(_)
                | ProbeFailure::Connection(_)
                | ProbeFailure::Refused
                | ProbeFailure::Busy
        ),
    })
}

/// Among whom the winner is chosen: where nothing proves the end of the process that served, its namesake may have begun from
/// files that this process still writes, so the followers decide alone.
pub(super) fn electors<'a>(record: &Record, look: &'a Snapshot) -> Vec<Candidate<'a>> {
    let is_open = matches!(look.former, Former::Unproven(_)) && succession(record, look) == Succession::Open;
    if is_open {
        return others(record, look);
    }
    // Whom nobody has to wait for is not waited for either.
    let needed = needed(record, look);
    let counts = |member: &Candidate<'_>| needed.contains(&member.pod) || !member.is_unsettled();
    look.members().into_iter().filter(counts).collect()
}
