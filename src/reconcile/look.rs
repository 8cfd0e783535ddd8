//! A look: every server asked, and what else there is to know at this moment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::ResourceExt;
use tracing::warn;

use super::{
    names,
    stages::{Begun, Job, Seen},
};
use crate::{
    cache::pods_of,
    error_chain::chain,
    kubernetes::{children::Live, claims, node, pods, record::Stored},
    observe::{Connections, observe},
    redis::server::Logins,
};
use operator_core::{
    api::status::InstanceState,
    election::{
        followers,
        process_end::{Former, NodeState, Traces, former, has_ended},
        snapshot::Snapshot,
        votes::glimpse,
    },
    observed::{NoAnswer, ObservedPod},
    topology::{Topology, Verdict, topology},
};
use redis_node::{
    answer::ProbeFailure,
    record::{Record, Serving},
};

/// Age of the earlier look that a vote needs: a replica that has just linked has to stay.
pub(super) const VOTE_AGE: Duration = Duration::from_secs(3);

/// How long a silent primary of record is waited for before others are asked to do without it: a Redis that restarts in
/// place answers within about a second, and may hold writes that no replica has.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);

/// What the API server said of a silent follower is true for so long: a reconcile looks many times, and a set that is held looks often.
const UNSEEN_AGE: Duration = Duration::from_secs(1);

/// A primary that hands over reaches its successor within a moment, or looks for it in vain: Redis has no time-out then.
pub(super) const HANDOVER_PATIENCE: Duration = Duration::from_secs(5);

/// The first look of a reconcile.
pub(super) async fn first(job: &Job<'_>, begun: Begun) -> (Seen, Option<Live>) {
    let Begun { live, stored, is_fresh, acts, logins } = begun;
    let (look, connections) = take(job, &stored, logins.as_ref()).await;
    (Seen { stored, is_fresh, acts, logins, look, connections, hold: None, lost_since: None }, live)
}

/// Another one.
pub(super) async fn again(job: &Job<'_>, seen: &mut Seen) {
    (seen.look, seen.connections) = take(job, &seen.stored, seen.logins.as_ref()).await;
}

/// Whether a replica is in sync and has no vote yet.
pub(super) fn lacks_votes(record: &Record, look: &Snapshot) -> bool {
    let has_no_vote = |v: &Verdict| {
        let replica = look.member(&v.pod).filter(|_| v.state == InstanceState::InSync);
        replica.is_some_and(|c| !record.voters.contains(&c.answer.info.server.run_id))
    };
    look.topology.instances.iter().any(has_no_vote)
}

async fn take(job: &Job<'_>, stored: &Stored, logins: Option<&Arc<Logins>>) -> (Snapshot, Connections) {
    let (ctx, subject) = (job.ctx, job.subject);
    let record = &stored.record;
    let (observed, connections) =
        observe((&ctx.pods, &ctx.servers, ctx.dns_stale), &ctx.mandate, subject, logins, job.now).await;
    ctx.metrics.count_probes(&observed);
    let observed = names::remembered(job, observed);
    if observed.pods.iter().any(is_refused) {
        ctx.memory.forget_secrets(&subject.set);
    }
    if let Some(accepted) = connections.login() {
        ctx.memory.accepts(&subject.set, &subject.uid, accepted);
    }
    let topology = topology(|pod| subject.host_of(pod), record, &observed);
    let nobody_serves = topology.serving().is_empty();
    let is_asked = former_decides(record, &topology);
    let former = if is_asked { former_process(job, record).await } else { Former::default() };
    let target = target_process(job, record).await;
    // Nobody is elected while a role is being handed over, and that is looked at fifty times a second.
    let is_election = nobody_serves
        && !observed
            .pods
            .iter()
            .any(|pod| pod.answer.as_ref().is_ok_and(|a| a.info.replication.failover_runs()));
    let exchanged = if is_election { exchanged(job, stored).await } else { Vec::new() };
    let unmended = ctx.memory.unmended(&subject.set, &observed);
    let look = Snapshot {
        unmended,
        demand_refused: None,
        observed,
        topology,
        exchanged,
        former,
        target,
        before: None,
        waited: ctx.memory.nobody_serves_for(&subject.set, nobody_serves) >= RETURN_PATIENCE,
        handover_stuck: false,
        aof_by_hand: !subject.appends,
        failover: subject.failover,
        silent_for: Duration::ZERO,
        detached_for: None,
        unseen: BTreeMap::new(),
        consent: subject.consent.clone(),
    };
    let seen = glimpse(record, &look);
    let primary = record.primary.as_deref().and_then(|pod| look.process(pod));
    let is_left = primary.is_some_and(|p| p.hands_over() && p.answer.info.replication.upstream.is_some());
    let look = Snapshot {
        before: ctx.memory.glimpse(&subject.set, seen, VOTE_AGE),
        handover_stuck: ctx.memory.hands_over_for(&subject.set, is_left) >= HANDOVER_PATIENCE,
        silent_for: silent_for(job, record, nobody_serves),
        detached_for: ctx.memory.detached_for(&subject.set, followers::parked(record, &look).as_ref()),
        unseen: unseen(job, record, &look).await,
        ..look
    };
    (look, connections)
}

/// For how long the process that served last has given no answer. Where this operator never had one, since nobody serves.
fn silent_for(job: &Job<'_>, record: &Record, nobody_serves: bool) -> Duration {
    let set = &job.subject.set;
    let nobody_serves_for = job.ctx.memory.nobody_serves_for(set, nobody_serves);
    let server = record.seen_serving.as_ref().and_then(|seen| job.ctx.servers.known(set, &seen.pod_uid));
    server.and_then(|server| server.silent_for()).unwrap_or(nobody_serves_for)
}

/// The followers of record that give no answer, and what is known of each.
async fn unseen(job: &Job<'_>, record: &Record, look: &Snapshot) -> BTreeMap<String, Former> {
    let mut unseen = BTreeMap::new();
    // Nobody leaves while a role is being handed over, and that is looked at fifty times a second.
    if record.switch_to.is_some() {
        return unseen;
    }
    for follower in record.followers.iter().flatten().filter(|follower| !follower.process.ended) {
        let answers =
            look.process(&follower.pod).is_some_and(|member| member.uid == follower.process.pod_uid);
        if !answers {
            let run_id = &follower.process.run_id;
            // An end that was shown is written down at once: whoever comes after this operator is not shown it again.
            let is_shown = has_ended(&follower.process, job.ctx.ends.of(&follower.process.pod_uid));
            let lately = job.ctx.memory.unseen(&job.subject.set, run_id, UNSEEN_AGE).filter(|_| !is_shown);
            let known = if let Some(known) = lately {
                known
            } else {
                let known = ended(job, &follower.process, &follower.pod).await;
                job.ctx.memory.remember_unseen(&job.subject.set, run_id.clone(), known.clone());
                known
            };
            unseen.insert(run_id.clone(), known);
        }
    }
    unseen
}

/// Whether the server of a pod refuses the password: the Secret may hold another one by now.
fn is_refused(pod: &ObservedPod) -> bool {
    match &pod.answer {
        Ok(answer) => answer.refuses_password,
        Err(failure) => matches!(failure, NoAnswer::Failed(ProbeFailure::Auth(_))),
    }
}

/// The members whose volume is not the one that the record speaks of. Asked for only where it decides: append-only files do
/// not say how old they are.
async fn exchanged(job: &Job<'_>, stored: &Stored) -> Vec<String> {
    if !job.subject.has_volumes || !job.subject.appends {
        return Vec::new();
    }
    match claims::exchanged(&job.ctx.client, job.subject, &stored.claims, &stored.record.members).await {
        Ok(pods) => pods,
        Err(error) => {
            warn!(error = chain(&error), "whether the volumes are those of the record is not known");
            stored.record.members.clone()
        }
    }
}

/// Whether it matters what became of the process that served last: nobody serves, or another one does.
fn former_decides(record: &Record, topology: &Topology) -> bool {
    let serving = topology.serving();
    let is_served = serving.iter().any(|verdict| record.primary.as_deref() == Some(&verdict.pod));
    // A switchover that is open says whom it handed the role to.
    serving.is_empty() || !is_served && record.switch_to.is_none()
}

/// What is known of the process that served last.
async fn former_process(job: &Job<'_>, record: &Record) -> Former {
    match (&record.seen_serving, &record.primary) {
        (Some(serving), Some(primary)) => ended(job, serving, primary).await,
        _ => Former::default(),
    }
}

/// What is known of the process to which a switchover hands the role.
async fn target_process(job: &Job<'_>, record: &Record) -> Former {
    match &record.switch_to {
        Some(switch) => ended(job, &switch.process, &switch.target).await,
        None => Former::default(),
    }
}

/// What is known of a process whose pod had this name.
async fn ended(job: &Job<'_>, serving: &Serving, name: &str) -> Former {
    let (ctx, subject) = (job.ctx, job.subject);
    let ends = ctx.ends.of(&serving.pod_uid);
    let not_asked = || NodeState::Unknown("not asked".to_owned());
    let is_cached =
        pods_of(&ctx.pods, &subject.set).iter().any(|pod| pod.uid().as_deref() == Some(&serving.pod_uid));
    let (pod_exists, node) = if is_cached || serving.ended || has_ended(serving, ends) {
        (is_cached, not_asked())
    } else {
        match pods::pod_exists(&ctx.client, &subject.set, name, &serving.pod_uid).await {
            Ok(true) => (true, not_asked()),
            Ok(false) => (false, node::node_state(&ctx.client, &serving.node).await),
            Err(error) => (false, NodeState::Unknown(format!("nor could the pod: {}", chain(&error)))),
        }
    };
    let since = match &node {
        NodeState::Ready { since } if !pod_exists => Some(since.as_str()),
        _ => None,
    };
    let gone_for = ctx.memory.gone_for(&subject.set, &serving.pod_uid, since);
    former(serving, &Traces { pod_exists, ends, gone_for, node })
}
