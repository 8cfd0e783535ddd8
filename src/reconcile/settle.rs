//! Decide and act, and look again; until nothing is left to do in this reconcile.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    fail,
    look::{self, HANDOVER_PATIENCE, VOTE_AGE},
    names,
    park_lost::park_lost,
    publish::tell_of_a_loss,
    record::{is_newest, write},
    stages::{Job, Seen},
};
use crate::{
    act::{self, ActError},
    error_chain::chain,
    reconcile::error::StageError,
};
use operator_core::{
    election::{
        Decision,
        divergence::Divergence,
        next::{Goal, Step, next},
        process_end::with_ends,
        snapshot::Snapshot,
        switchover::evacuation_waits,
        unlinked,
    },
    events, role_labels,
    rollout::size::size,
    status::outcome::Outcome,
};
use redis_node::record::Record;

/// Looks and acts of one reconcile, those of a switchover under way apart. An election needs five: look, park, look, look
/// again, see the winner serve.
const ROUNDS: usize = 12;

/// Between the two looks of an election: kernel buffers of a dead primary's connections are drained by then.
const ELECTION_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at a switchover that is under way. Writers wait meanwhile, and for the Service to follow.
const SWITCHOVER_PAUSE: Duration = Duration::from_millis(20);
/// A switchover that takes longer is left to the next reconcile.
const SWITCHOVER_DEADLINE: Duration = Duration::from_secs(10);

/// A link that comes up by itself does so within a second. DNS answers for pods are up to 30 s old, so a replica may
/// have to be told several times.
const LINK_PATIENCE: Duration = Duration::from_secs(3);

/// Between looks at a pod that is not to be read much longer.
const LABEL_INTERVAL: Duration = Duration::from_secs(1);

/// Settles who is primary, and then who is labelled as what. `target` is a pod to hand the role to where nothing else is
/// to be done; `running` the size of the live `StatefulSet`.
pub(super) async fn settle(
    job: &Job<'_>,
    seen: &mut Seen,
    running: Option<i32>,
    target: Option<&str>,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let was_open = seen.stored.record.switch_to.is_some();
    let mut settled = rounds(job, seen, running, target, outcome).await;
    if settled.is_ok() {
        settled = park_lost(job, seen).await;
    }
    if let Some(what) = evacuation_waits(&seen.stored.record, &seen.look) {
        outcome.switchover_pending = Some(what);
        outcome.again_in(names::RETRY);
    }
    if look::lacks_votes(&seen.stored.record, &seen.look) {
        outcome.again_in(VOTE_AGE);
    }
    // Labels follow the record, whatever else failed; and a label that the API server refuses stops nothing but itself.
    if !job.subject.paused || was_open {
        let relabelled = relabel(job, seen, outcome).await;
        if let Err(error) = relabelled {
            fail(job.ctx, outcome, &error);
        }
    }
    settled
}

/// The labels come last: a client that the Service leads to the primary finds one that serves.
async fn relabel(job: &Job<'_>, seen: &mut Seen, outcome: &mut Outcome) -> Result<(), StageError> {
    let (ctx, subject, now) = (job.ctx, job.subject, job.now);
    let (record, look) = (&seen.stored.record, &seen.look);
    let unread_for = ctx.memory.unread_for(&subject.set, role_labels::not_to_be_read(record, look));
    if unread_for.values().any(|time| *time < role_labels::UNSYNCED_LIMIT) {
        outcome.again_in(LABEL_INTERVAL);
    }
    let due = role_labels::changes(record, look, &unread_for, now);
    if role_labels::cut_is_due(look, &due) {
        outcome.again_in(role_labels::CUT_AGAIN);
    }
    let changes = ctx.memory.not_made_yet(&subject.set, due);
    // Where the record is another one by now, its change brings the next reconcile.
    if changes.is_empty() || !is_newest(job, seen).await? {
        return Ok(());
    }
    let made = act::role_labels::relabel(&ctx.client, subject, &mut seen.connections, changes, now).await?;
    ctx.memory.made(&subject.set, made);
    Ok(())
}

async fn rounds(
    job: &Job<'_>,
    seen: &mut Seen,
    running: Option<i32>,
    mut target: Option<&str>,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let set = &job.subject.set;
    let published = job.ctx.memory.current_status(job.resource).map(|status| status.divergences);
    let published = published.unwrap_or_default();
    let mut first_look: Option<Snapshot> = None;
    let begun = Instant::now();
    let mut rounds = 0;
    let mut begun_here = false;
    let mut succeeded = false;
    while rounds < ROUNDS {
        rounds += 1;
        seen.hold = None;
        let goal = Goal {
            paused: job.subject.paused,
            target,
            no_switchover_for: job.ctx.memory.switches_in(set),
            published: &published,
        };
        let step = next(&seen.stored.record, first_look.take().as_ref(), &seen.look, &goal);
        if !is_told_only(job, seen, &step) && !is_newest(job, seen).await? {
            continue;
        }
        let Some(decision) = to_carry_out(step, outcome) else { return Ok(()) };
        match decision {
            Decision::Rest => return relink(job, seen).await,
            Decision::Hold(hold) => {
                seen.hold = Some(hold);
                return note_ends(job, seen).await;
            }
            Decision::LookAgain => {
                first_look = Some(seen.look.clone());
                sleep(ELECTION_PAUSE).await;
            }
            Decision::Await => {
                if let Some(switch) = &seen.stored.record.switch_to {
                    act::request_ack(&mut seen.connections, &switch.target).await;
                }
                if begun.elapsed() > SWITCHOVER_DEADLINE {
                    return Ok(());
                }
                rounds -= 1;
                sleep(SWITCHOVER_PAUSE).await;
            }
            // Decided again by what was answered: another may take over.
            Decision::Switch { target: heir, .. } if !names::leads_to(job, seen, &heir).await => continue,
            Decision::Switch { record, from, target: heir } => {
                target = None;
                begun_here = true;
                write(job, seen, record).await?;
                begin_switchover(job, seen, &from, &heir).await;
            }
            Decision::Abort { record, pod } => abort(job, seen, record, &pod, begun_here, outcome).await?,
            Decision::TakeBack { record, pod, target } => {
                take_back(job, seen, record, (&pod, &target), outcome).await?;
            }
            decision => {
                succeeded = matches!(decision, Decision::Promote { .. }) && is_silent(seen);
                carry_out(job, seen, running, decision, outcome).await?;
            }
        }
        // Before the look, so that what is decided next is decided by what is true then.
        tell_of_a_loss(job, seen, outcome).await;
        let refused = seen.look.demand_refused.take();
        look::again(job, seen).await;
        seen.look.demand_refused = refused;
        // Replicas look for the new primary by its name, which takes seconds where the cluster's DNS was on the lost node too.
        if std::mem::take(&mut succeeded) {
            relabel(job, seen, outcome).await?;
        }
    }
    Ok(())
}

/// Whether the primary of record gives no answer: none of its clients can be cut off.
fn is_silent(seen: &Seen) -> bool {
    let primary = seen.stored.record.primary.as_deref();
    primary.is_some_and(|pod| seen.look.process(pod).is_none())
}

/// Whether nothing is done by the record as the watch shows it, and what is told of it is true: only the leader writes the record, so
/// the version that this process wrote last stands.
fn is_told_only(job: &Job<'_>, seen: &Seen, step: &Step) -> bool {
    let Step::Do(decision) = step else { return *step == Step::Leave };
    match **decision {
        Decision::Rest => true,
        Decision::Hold(_) => job.ctx.memory.knows_record(&job.subject.set, &seen.stored.resource_version),
        _ => false,
    }
}

/// What of a step is to be carried out; the outcome says what is not.
fn to_carry_out(step: Step, outcome: &mut Outcome) -> Option<Decision> {
    match step {
        Step::Do(decision) => Some(*decision),
        Step::Leave => None,
        Step::SwitchLater { target, wait } => {
            outcome.switchover_pending =
                Some(format!("{target} is to become the primary; the last try was in vain"));
            outcome.again_in(wait);
            None
        }
        Step::Publish { losses, follow } => {
            publish_first(losses, outcome);
            (!follow.is_empty()).then_some(Decision::Follow(follow))
        }
    }
}

/// Carries out a decision that is done when it is done.
async fn carry_out(
    job: &Job<'_>,
    seen: &mut Seen,
    running: Option<i32>,
    decision: Decision,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    match decision {
        Decision::Adopt(record) => adopt(job, seen, record, running, outcome).await,
        Decision::Demand { pod, min_replicas } => demand(job, seen, (&pod, min_replicas), outcome).await,
        Decision::Arm { record, pod } => arm(job, seen, record, &pod, outcome).await,
        Decision::Note(record) => note(job, seen, record, running).await,
        Decision::Park(pods) => Ok(act::park(&mut seen.connections, &pods).await?),
        Decision::Retire(pods) => Ok(act::retire(&mut seen.connections, &pods, &seen.stored.record).await?),
        Decision::Promote { record, pod } => promote(job, seen, record, &pod).await,
        Decision::Follow(pods) => follow(job, seen, &pods).await,
        Decision::Detach(pods) => detach(job, seen, &pods).await,
        // These take more than one look.
        Decision::Rest
        | Decision::Hold(_)
        | Decision::LookAgain
        | Decision::Await
        | Decision::Switch { .. }
        | Decision::Abort { .. }
        | Decision::TakeBack { .. } => Ok(()),
    }
}

/// The record first, then the command.
async fn promote(job: &Job<'_>, seen: &mut Seen, record: Record, pod: &str) -> Result<(), StageError> {
    let why = format!("epoch {}, offset {}", record.epoch, record.start_offset);
    let former = seen.stored.record.seen_serving.clone();
    write(job, seen, record).await?;
    act::promote(&mut seen.connections, pod, &seen.look, &why).await?;
    // One that answers is parked in its turn.
    if let Some(former) = former.filter(|former| seen.look.observed.silent(&former.pod_uid))
        && let Some(server) = job.ctx.servers.known(&job.subject.set, &former.pod_uid)
        && let Some(connection) = server.connection()
    {
        act::quorum::withdraw(connection, former.pod_uid);
    }
    Ok(())
}

/// The followers leave a silent primary.
async fn detach(job: &Job<'_>, seen: &mut Seen, pods: &[String]) -> Result<(), StageError> {
    act::quorum::detach(&mut seen.connections, pods).await?;
    let followers = seen.stored.record.followers.iter().flatten();
    let run_ids = followers.map(|follower| follower.process.run_id.clone()).collect();
    job.ctx.memory.detached(&job.subject.set, run_ids);
    Ok(())
}

/// How many replicas the primary is to demand. One that refuses to be told is told of, and what needs no demand goes on.
async fn demand(
    job: &Job<'_>,
    seen: &mut Seen,
    (pod, min_replicas): (&str, i64),
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let told = act::quorum::demand(&mut seen.connections, pod, min_replicas).await;
    or_refused(job, seen, told, outcome).map(|_| ())
}

/// The demand first, then the record.
async fn arm(
    job: &Job<'_>,
    seen: &mut Seen,
    record: Record,
    pod: &str,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    if let Some(armed) = &record.armed {
        let told = act::quorum::arm(&mut seen.connections, pod, armed).await;
        if !or_refused(job, seen, told, outcome)? {
            return Ok(());
        }
    }
    write(job, seen, record).await
}

/// Whether it was done; a refusal stands in the look and in the status.
fn or_refused(
    job: &Job<'_>,
    seen: &mut Seen,
    told: Result<(), ActError>,
    outcome: &mut Outcome,
) -> Result<bool, StageError> {
    match told {
        Err(error) if error.is_refusal() => {
            seen.look.demand_refused.clone_from(&seen.stored.record.primary);
            fail(job.ctx, outcome, &error.into());
            Ok(false)
        }
        told => Ok(told.map(|()| true)?),
    }
}

/// Nothing is left to do but to tell replicas again whose link does not come up.
async fn relink(job: &Job<'_>, seen: &mut Seen) -> Result<(), StageError> {
    let down = unlinked(&seen.stored.record, &seen.look);
    let stalled = job.ctx.memory.stalled(&job.subject.set, down, LINK_PATIENCE);
    if stalled.is_empty() || !is_newest(job, seen).await? {
        return Ok(());
    }
    act::park(&mut seen.connections, &stalled).await?;
    follow(job, seen, &stalled).await
}

/// Ends of processes that are shown once, into the record. A pod that is there still shows them.
async fn note_ends(job: &Job<'_>, seen: &mut Seen) -> Result<(), StageError> {
    let is_gone = |uid: &str| seen.look.observed.pods.iter().all(|pod| pod.uid != uid);
    let reported = |uid: &str| job.ctx.ends.of(uid).filter(|_| is_gone(uid));
    match with_ends(&seen.stored.record, reported) {
        Some(record) => write(job, seen, record).await,
        None => Ok(()),
    }
}

/// Writes what was decided, and with it, in one write, who may join now.
async fn note(
    job: &Job<'_>,
    seen: &mut Seen,
    record: Record,
    running: Option<i32>,
) -> Result<(), StageError> {
    let set = &job.subject.set;
    // Of a paused set the spec says nothing, and least of all of one that cannot be carried out.
    let members = match job.plan.filter(|_| !job.subject.paused) {
        Some(plan) => size(set, plan.replicas, running, &record, &seen.look).members,
        None => record.members.clone(),
    };
    if seen.stored.record.switch_to.is_some() && record.switch_to.is_none() {
        job.ctx.memory.switched(set);
    }
    write(job, seen, Record { members, ..record }).await
}

/// Goes on with a server that another one than the operator handed the role to.
async fn adopt(
    job: &Job<'_>,
    seen: &mut Seen,
    record: Record,
    running: Option<i32>,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let former = seen.stored.record.primary.clone().unwrap_or_default();
    let (heir, epoch) = (record.primary.clone().unwrap_or_default(), record.epoch);
    note(job, seen, record, running).await?;
    outcome.notices.push(events::failover_adopted(format!(
        "{heir} had taken over from {former} by a FAILOVER that was not the operator's, with all data, and every member follows \
         it: it is the primary from epoch {epoch} on"
    )));
    Ok(())
}

async fn begin_switchover(job: &Job<'_>, seen: &mut Seen, from: &str, target: &str) {
    let host = job.subject.host_of(target);
    // Refused or not heard: the next look finds out which, and ends the switchover.
    let told = act::hand_over(&mut seen.connections, (from, target), &host, &seen.look).await;
    if let Err(error) = told {
        warn!(error = chain(&error), "the switchover did not begin");
    }
    act::request_ack(&mut seen.connections, target).await;
}

/// Ends a switchover that did not happen.
async fn abort(
    job: &Job<'_>,
    seen: &mut Seen,
    record: Record,
    pod: &str,
    begun_here: bool,
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let aborted = act::abort(&mut seen.connections, pod).await?;
    // One that an operator wrote down and never sent paused nobody's writes.
    if begun_here || aborted.was_open {
        outcome.again_in(job.ctx.memory.switched_in_vain(&job.subject.set, false));
    }
    if aborted.serves {
        let target = seen.stored.record.switch_to.as_ref().map(|s| s.target.clone()).unwrap_or_default();
        outcome.notices.push(events::switchover_failed(format!(
            "{target} did not take over from {pod}, which goes on as the primary; nothing was lost. It is tried again \
             while the reason stands"
        )));
        write(job, seen, record).await?;
    }
    Ok(())
}

/// Ends a switchover that cannot end by itself.
async fn take_back(
    job: &Job<'_>,
    seen: &mut Seen,
    record: Record,
    (pod, target): (&str, &str),
    outcome: &mut Outcome,
) -> Result<(), StageError> {
    let serves = act::take_back(&mut seen.connections, pod, target).await?;
    // Taken over at the last moment: the next look finds that.
    if !serves {
        return Ok(());
    }
    let wait = job.ctx.memory.switched_in_vain(&job.subject.set, true);
    outcome.again_in(wait);
    outcome.notices.push(events::switchover_failed(format!(
        "{pod} did not reach {target}, to which it was handing its role over, within {HANDOVER_PATIENCE:?}, and goes on \
         as the primary; nothing was lost. Look at what is between the two (NetworkPolicies, DNS, client limits). It is \
         tried again in {} s",
        wait.as_secs()
    )));
    write(job, seen, record).await
}

/// What servers lose by following stands in the status at the end of this reconcile; the next one tells them.
fn publish_first(losses: Vec<Divergence>, outcome: &mut Outcome) {
    for Divergence { pod, bytes, replid, .. } in &losses {
        warn!(
            pod,
            bytes, replid, "has data that the primary does not have; it is published before it is lost"
        );
    }
    outcome.diverged = losses;
    outcome.again_in(Duration::ZERO);
}

async fn follow(job: &Job<'_>, seen: &mut Seen, pods: &[String]) -> Result<(), StageError> {
    match &seen.stored.record.primary {
        Some(primary) => {
            let host = job.subject.host_of(primary);
            Ok(act::follow(&mut seen.connections, pods, &host).await?)
        }
        None => Ok(()),
    }
}
