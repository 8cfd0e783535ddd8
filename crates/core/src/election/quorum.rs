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
    Decision, Hold, nobody_serves::is_unsettled, process_end::Former, rank::Candidate, serving,
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

/// Whether the record names every process that may follow: none of the pods follows by itself when it starts.
pub fn is_tracked(record: &Record, look: &Snapshot) -> bool {
    record.followers.is_some() && look.observed.pods.iter().all(|pod| pod.start == StartRule::Parked)
}

/// The members without whose answer nobody is elected. Who never followed since the last election has confirmed nothing since; what
/// it had before that, it alone may still have, unless somebody who had everything since then runs on.
pub fn needed<'a>(record: &'a Record, look: &Snapshot) -> Vec<&'a str> {
    let followers = record.followers.as_deref().filter(|_| is_tracked(record, look) && runs_on(record, look));
    match (followers, &record.primary) {
        (Some(followers), Some(primary)) => {
            // Nobody makes a pod again that is no member any more.
            let can_come = |f: &&Follower| record.members.contains(&f.pod) || !has_ended(f, look);
            let names = followers.iter().filter(can_come).map(|follower| follower.pod.as_str());
            let all: BTreeSet<&str> = names.chain([primary.as_str()]).collect();
            all.into_iter().collect()
        }
        _ => record.members.iter().map(String::as_str).collect(),
    }
}

/// Whether the process that was elected last answers, or one that had all of its data at some time. (The model found that the
/// winner of an election ended before it was promoted, and an older follower won the next one without the former primary, which
/// alone had what was confirmed.)
fn runs_on(record: &Record, look: &Snapshot) -> bool {
    look.members().iter().any(|member| {
        let run_id = &member.answer.info.server.run_id;
        let is_primary = record.seen_serving.as_ref().is_some_and(|seen| seen.run_id == *run_id);
        is_primary || record.voters.contains(run_id)
    })
}

/// The members that may decide without the primary.
pub(super) fn others<'a>(record: &Record, look: &'a Snapshot) -> Vec<Candidate<'a>> {
    let members = look.members();
    if !is_tracked(record, look) {
        return members;
    }
    let followers = record.followers.as_deref().unwrap_or_default();
    members.into_iter().filter(|member| followers.iter().any(|f| is_process(member, f))).collect()
}

/// The pods of followers of record whose process does not answer, whoever else may under their name: what it alone had confirmed,
/// only the primary has.
pub(super) fn absent_followers<'a>(record: &'a Record, look: &Snapshot) -> Vec<&'a str> {
    let followers = record.followers.as_deref().filter(|_| is_tracked(record, look)).unwrap_or_default();
    let members = look.members();
    let absent = followers.iter().filter(|f| !members.iter().any(|member| is_process(member, f)));
    absent.map(|follower| follower.pod.as_str()).collect()
}

/// The followers of record, by `run_id`, where each of them answers and is parked.
pub fn parked(record: &Record, look: &Snapshot) -> Option<BTreeSet<String>> {
    let followers = record.followers.as_deref().filter(|all| !all.is_empty())?;
    let parked = others(record, look).into_iter().filter(Candidate::is_parked);
    let parked: BTreeSet<String> = parked.map(|member| member.answer.info.server.run_id.clone()).collect();
    followers.iter().all(|f| parked.contains(&f.process.run_id)).then_some(parked)
}

fn is_process(member: &Candidate<'_>, follower: &Follower) -> bool {
    member.uid == follower.process.pod_uid && member.answer.info.server.run_id == follower.process.run_id
}

/// The members that the next record names as followers: all that answer but the primary, who are told to follow it soon, and
/// those of before that do not answer and may link by themselves, under whichever name they were told last.
pub(super) fn next_followers(
    record: &Record,
    look: &Snapshot,
    members: &[Candidate<'_>],
    primary: &Candidate<'_>,
) -> Option<Vec<Follower>> {
    let before = record.followers.as_deref().filter(|_| is_tracked(record, look))?;
    let told = members.iter().filter(|member| member.pod != primary.pod).map(|m| follower(m, record));
    let silent = before.iter().filter(|f| {
        // Another pod of the winner's name may still run.
        let uid = f.process.pod_uid.as_str();
        !f.process.ended && uid != primary.uid && !members.iter().any(|member| member.uid == uid)
    });
    Some(told.chain(silent.cloned()).collect())
}

fn follower(member: &Candidate<'_>, record: &Record) -> Follower {
    Follower { pod: member.pod.to_owned(), process: serving(member, record) }
}

/// After a switchover: the former primary follows too, by itself.
pub(super) fn followers_of_heir(record: &Record, target: &Candidate<'_>) -> Option<Vec<Follower>> {
    let before = record.followers.as_deref()?;
    let former = record.primary.clone().zip(record.seen_serving.clone());
    let former = former.map(|(pod, process)| Follower { pod, process });
    Some(before.iter().filter(|f| !is_process(target, f)).cloned().chain(former).collect())
}

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

/// Of those of a pod that have ended the last one tells as much as all.
fn one_end_a_pod(followers: &[Follower]) -> Vec<Follower> {
    let is_last = |(number, one): &(usize, &Follower)| {
        let mut later = followers.iter().skip(number.saturating_add(1));
        !one.process.ended || !later.any(|other| other.pod == one.pod && other.process.ended)
    };
    followers.iter().enumerate().filter(is_last).map(|(_, one)| one.clone()).collect()
}

/// A pod runs one Redis at a time: another one there proves the end of the one before.
fn has_ended(follower: &Follower, look: &Snapshot) -> bool {
    let process = &follower.process;
    let is_succeeded = look.process(&follower.pod).is_some_and(|member| {
        member.uid == process.pod_uid && member.answer.info.server.run_id != process.run_id
    });
    process.ended || is_succeeded || look.unseen.get(&process.run_id) == Some(&Former::Ended)
}

/// The record once each follower that lives has voted: those that have ended are not asked for any more.
pub(super) fn without_ended(record: Record) -> Record {
    let followers = record.followers.map(|all| all.into_iter().filter(|f| !f.process.ended).collect());
    Record { followers, ..record }
}

/// The record that begins to name followers, where this look shows all of them: nobody else is linked, and none can link unasked.
pub(super) fn begin(record: &Record, look: &Snapshot, primary: &Candidate<'_>) -> Option<Record> {
    let is_wanted = look.failover.mode == Mode::Quorum && record.followers.is_none() && record.sure;
    if !is_wanted || !look.observed.pods.iter().all(|pod| pod.start == StartRule::Parked) {
        return None;
    }
    let others = record.members.iter().filter(|pod| **pod != primary.pod);
    let replicas: Option<Vec<Candidate<'_>>> = others.map(|pod| look.member(pod)).collect();
    let replicas = replicas.filter(|replicas| !replicas.is_empty())?;
    let votes = |c: &Candidate<'_>| record.voters.contains(&c.answer.info.server.run_id);
    if !replicas.iter().all(votes) || !lists_exactly(primary, &replicas) {
        return None;
    }
    Some(Record { followers: Some(replicas.iter().map(|c| follower(c, record)).collect()), ..record.clone() })
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
            format!(
                "a process of {pod} that followed does not answer, and nothing proves its end (pod UID {})",
                process.pod_uid
            )
        });
    };
    let is_in_sync = look.topology.get(pod).is_some_and(|verdict| verdict.state == InstanceState::InSync);
    if !is_in_sync || !record.voters.contains(&process.run_id) {
        return Err(format!("{pod} is not in sync yet"));
    }
    Ok(replica)
}

/// Each of them once, and nobody else: a process that links unasked could confirm writes.
fn lists_exactly(primary: &Candidate<'_>, replicas: &[Candidate<'_>]) -> bool {
    let lines = &primary.answer.info.replication.replicas;
    let mut listed: Vec<&str> = lines.iter().map(|line| line.host.as_str()).collect();
    let mut wanted: Vec<&str> = replicas.iter().map(|replica| replica.answer.announced.as_str()).collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    listed == wanted
}

/// What the primary is to be told of its demand, where nothing else is to be done about the followers.
pub(super) fn demand(record: &Record, look: &Snapshot, primary: &Candidate<'_>) -> Option<Decision> {
    let demanded = primary.answer.demands.map(|demands| demands.min_replicas)?;
    let alone = look.failover.min_replicas_alone();
    let observed = look.observed.pods.iter().find(|pod| pod.name == primary.pod)?;
    let is_ours = look.failover.owns_min_replicas && observed.start == StartRule::Parked;
    if !is_ours || record.armed.is_some() || demanded == alone {
        return None;
    }
    Some(Decision::Demand { pod: primary.pod.to_owned(), min_replicas: alone })
}

/// What a server is to demand before it serves, where it demands something else.
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
    let counts = |member: &Candidate<'_>| needed.contains(&member.pod) || !is_unsettled(member);
    look.members().into_iter().filter(counts).collect()
}
