//! The followers of record: each process that may follow the primary of record, and so may have confirmed its writes.
//!
//! A process is written here before it is told to follow. It leaves only after its end is proven and the others have voted
//! since. So whoever is not here has confirmed nothing since the last election, and an election need not wait for it.

use std::collections::BTreeSet;

use super::{process_end::Former, rank::Candidate, serving, snapshot::Snapshot};
use crate::{api::failover::Mode, observed::StartRule};
use redis_node::record::{Follower, Record, Serving};

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

pub(super) fn is_process(member: &Candidate<'_>, follower: &Follower) -> bool {
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
    Some(ordered(told.chain(silent.cloned())))
}

pub(super) fn follower(member: &Candidate<'_>, record: &Record) -> Follower {
    as_follower(member.pod, serving(member, record))
}

/// Which data it has, and how its files are, is asked of it when that matters.
fn as_follower(pod: &str, process: Serving) -> Follower {
    let process = Serving { replid: String::new(), aof_settled: false, ..process };
    Follower { pod: pod.to_owned(), process }
}

/// By pod, and of one pod as they came: the order in which they joined says nothing.
fn ordered(followers: impl Iterator<Item = Follower>) -> Vec<Follower> {
    let mut followers: Vec<Follower> = followers.collect();
    followers.sort_by(|one, other| one.pod.cmp(&other.pod));
    followers
}

/// After a switchover: the former primary follows too, by itself.
pub(super) fn followers_of_heir(record: &Record, target: &Candidate<'_>) -> Option<Vec<Follower>> {
    let before = record.followers.as_deref()?;
    let former = record.primary.clone().zip(record.seen_serving.clone());
    let former = former.map(|(pod, process)| as_follower(&pod, process));
    Some(ordered(before.iter().filter(|f| !is_process(target, f)).cloned().chain(former)))
}

/// Of those of a pod that have ended the last one tells as much as all.
pub(super) fn one_end_a_pod(followers: &[Follower]) -> Vec<Follower> {
    let is_last = |(number, one): &(usize, &Follower)| {
        let mut later = followers.iter().skip(number.saturating_add(1));
        !one.process.ended || !later.any(|other| other.pod == one.pod && other.process.ended)
    };
    ordered(followers.iter().enumerate().filter(is_last).map(|(_, one)| one.clone()))
}

/// A pod runs one Redis at a time: another one there proves the end of the one before.
pub(super) fn has_ended(follower: &Follower, look: &Snapshot) -> bool {
    let process = &follower.process;
    let is_succeeded = look.process(&follower.pod).is_some_and(|member| {
        member.uid == process.pod_uid && member.answer.info.server.run_id != process.run_id
    });
    process.ended || is_succeeded || look.unseen.get(&process.run_id) == Some(&Former::Ended)
}

/// What is missing of a follower that neither answers nor has ended, in words for the status.
pub(super) fn unproven(follower: &Follower) -> String {
    format!(
        "a process of {} that followed does not answer, and nothing proves its end (pod UID {})",
        follower.pod, follower.process.pod_uid
    )
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

/// Each of them once, and nobody else: a process that links unasked could confirm writes.
pub(super) fn lists_exactly(primary: &Candidate<'_>, replicas: &[Candidate<'_>]) -> bool {
    let lines = &primary.answer.info.replication.replicas;
    let mut listed: Vec<&str> = lines.iter().map(|line| line.host.as_str()).collect();
    let mut wanted: Vec<&str> = replicas.iter().map(|replica| replica.answer.announced.as_str()).collect();
    listed.sort_unstable();
    wanted.sort_unstable();
    listed == wanted
}
