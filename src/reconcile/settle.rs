//! Look, decide, act; until nothing is left to do in this pass.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::Pass;
use crate::{
    act,
    api::status::InstanceState,
    claims,
    context::Context,
    decide::{
        Decision, decide,
        divergence::{Divergence, divergences},
        elect,
        former::{Former, NodeState, Traces, former, has_ended, with_ends},
        look::Look,
        size::size,
        switchover, unlinked,
        voters::glimpse,
    },
    error::{StageError, chain},
    observe::{Connections, belongs, observe},
    plan::{Plan, Storage},
    record::{Record, Serving},
    roles,
    status::divergences::is_published,
    store::{self, Stored},
    topology::{Verdict, topology},
};

/// Looks and acts of one pass, those of a switchover under way apart. An election needs five: look, park, look, look
/// again, see the winner serve.
const ROUNDS: usize = 12;

/// Between the two looks of an election: kernel buffers of a dead primary's connections are drained by then.
const ELECTION_PAUSE: Duration = Duration::from_millis(100);

/// Between two looks at a switchover that is under way. Writers wait meanwhile, and for the Service to follow.
const SWITCHOVER_PAUSE: Duration = Duration::from_millis(20);
/// A switchover that takes longer is left to the next pass.
const SWITCHOVER_DEADLINE: Duration = Duration::from_secs(10);
/// A primary that hands over reaches its successor within a moment, or looks for it in vain: Redis has no time-out then.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(5);

/// A link that comes up by itself does so within a second. DNS answers for pods are up to 30 s old, so a replica may
/// have to be told several times.
const LINK_PATIENCE: Duration = Duration::from_secs(3);

/// Age of the earlier look that a vote needs: a replica that has just linked has to stay.
const VOTE_AGE: Duration = Duration::from_secs(3);

/// How long a silent primary of record is waited for before others are asked to do without it: a Redis that restarts in
/// place answers within about a second, and may hold writes that no replica has.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);

/// Settles who is primary, and then who is labelled as what. `wish` is a pod to hand the role to where nothing else is
/// to be done.
pub(super) async fn settle(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    running: Option<i32>,
    wish: Option<&str>,
    now: Timestamp,
) -> Result<(), StageError> {
    let was_open = pass.stored.as_ref().is_some_and(|stored| stored.record.switch_to.is_some());
    rounds(pass, ctx, plan, running, wish, now).await?;
    if plan.paused && !was_open { Ok(()) } else { relabel(pass, ctx, plan, now).await }
}

/// Whether this brings a switchover that has begun to its end, one way or the other.
fn ends_switchover(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::Await
            | Decision::Note(_)
            | Decision::Abort { .. }
            | Decision::TakeBack { .. }
            | Decision::Hold(_)
    )
}

/// The labels come last: who is led to the primary finds one that serves.
async fn relabel(pass: &mut Pass, ctx: &Context, plan: &Plan, now: Timestamp) -> Result<(), StageError> {
    let (Some(stored), Some(look)) = (&pass.stored, &pass.look) else { return Ok(()) };
    let unsynced_for = ctx.memory.unsynced_for(&plan.set, roles::unsynced(&stored.record, look));
    let due = roles::changes(&stored.record, look, &unsynced_for, now);
    if roles::cut_is_due(look, &due) {
        pass.again_in(roles::CUT_AGAIN);
    }
    let changes = ctx.memory.not_made_yet(&plan.set, due);
    let made = act::role::relabel(&ctx.client, plan, &mut pass.connections, changes, now).await?;
    ctx.memory.made(&plan.set, made);
    Ok(())
}

async fn rounds(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    running: Option<i32>,
    mut wish: Option<&str>,
    now: Timestamp,
) -> Result<(), StageError> {
    let mut first_look: Option<Look> = None;
    let begun = Instant::now();
    let (mut rounds, mut begun_here) = (0, false);
    while rounds < ROUNDS {
        let Some(stored) = pass.stored.clone() else { return Ok(()) };
        let look = take_look(pass, ctx, plan, &stored, now).await;
        let decision = match first_look.take() {
            Some(first) => elect(&stored.record, &first, &look),
            None => decide(&stored.record, &look),
        };
        pass.look = Some(look.clone());
        pass.hold = None;
        // A switchover that is open keeps writes waiting, so it ends first.
        if plan.paused && !(stored.record.switch_to.is_some() && ends_switchover(&decision)) {
            return Ok(());
        }
        let decision = match decision {
            Decision::Rest => {
                wish.take().map_or(Decision::Rest, |target| hand_over(target, &stored.record, &look))
            }
            other => other,
        };
        rounds += 1;
        match decision {
            Decision::Rest => {
                let stalled = ctx.memory.stalled(&plan.set, unlinked(&stored.record, &look), LINK_PATIENCE);
                act::park(&mut pass.connections, &stalled).await?;
                return follow(&mut pass.connections, plan, &stored.record, &stalled).await;
            }
            Decision::Hold(hold) => {
                pass.hold = Some(hold);
                // A pod that is there still shows it.
                let is_gone = |uid: &str| look.observed.pods.iter().all(|pod| pod.uid != uid);
                return match with_ends(&stored.record, |uid| ctx.ends.latest(uid).filter(|_| is_gone(uid))) {
                    Some(record) => write(pass, ctx, plan, &stored, record).await,
                    None => Ok(()),
                };
            }
            Decision::LookAgain => {
                first_look = Some(look);
                sleep(ELECTION_PAUSE).await;
            }
            Decision::Note(record) => note(pass, ctx, plan, &stored, record, (running, &look)).await?,
            Decision::Park(pods) => act::park(&mut pass.connections, &pods).await?,
            Decision::Retire(pods) => act::retire(&mut pass.connections, &pods, &stored.record).await?,
            Decision::Promote { record, pod } => {
                let why = format!("epoch {}, offset {}", record.epoch, record.start_offset);
                write(pass, ctx, plan, &stored, record).await?;
                act::promote(&mut pass.connections, &pod, &look, &why).await?;
            }
            Decision::Follow(pods) => {
                // What they alone have is gone once they follow: first it is to stand in the status.
                let told = published(pass, divergences(&stored.record, &look, &pods), pods);
                if told.is_empty() {
                    return Ok(());
                }
                follow(&mut pass.connections, plan, &stored.record, &told).await?;
            }
            Decision::Switch { record, from, target } => {
                if let Some(left) = ctx.memory.switches_in(&plan.set) {
                    pass.move_waits =
                        Some(format!("{target} is to become the primary; the last try was in vain"));
                    pass.again_in(left);
                    return Ok(());
                }
                begun_here = true;
                write(pass, ctx, plan, &stored, record).await?;
                let host = plan.set.ordinal(&target).map(|ordinal| plan.fqdn(ordinal)).unwrap_or_default();
                // Refused or not heard: the next look finds out which, and ends the switchover.
                if let Err(error) = act::hand_over(&mut pass.connections, &from, &target, &host).await {
                    warn!(error = chain(&error), "the switchover did not begin");
                }
                act::hasten(&mut pass.connections, &target).await;
            }
            Decision::Await => {
                if let Some(switch) = &stored.record.switch_to {
                    act::hasten(&mut pass.connections, &switch.target).await;
                }
                if begun.elapsed() > SWITCHOVER_DEADLINE {
                    return Ok(());
                }
                rounds -= 1;
                sleep(SWITCHOVER_PAUSE).await;
            }
            Decision::TakeBack { record, pod, target } => {
                take_back(pass, ctx, plan, &stored, record, (&pod, &target)).await?;
            }
            Decision::Abort { record, pod } => {
                abort(pass, ctx, plan, &stored, record, &pod, begun_here).await?;
            }
        }
    }
    Ok(())
}

/// Writes what was decided, and with it, in one write, who may join now.
async fn note(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    stored: &Stored,
    record: Record,
    (running, look): (Option<i32>, &Look),
) -> Result<(), StageError> {
    // Of a paused set the spec says nothing, and least of all of one that cannot be read.
    let members = if plan.paused {
        record.members.clone()
    } else {
        size(&plan.set, plan.replicas, running, &record, look).members
    };
    if stored.record.switch_to.is_some() && record.switch_to.is_none() {
        ctx.memory.switched(&plan.set);
    }
    write(pass, ctx, plan, stored, Record { members, ..record }).await
}

/// Ends a switchover that did not happen.
async fn abort(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    stored: &Stored,
    record: Record,
    pod: &str,
    begun_here: bool,
) -> Result<(), StageError> {
    let aborted = act::abort(&mut pass.connections, pod).await?;
    // One that an operator wrote down and never sent paused nobody's writes.
    if begun_here || aborted.was_open {
        pass.again_in(ctx.memory.switched_in_vain(&plan.set, false));
    }
    if aborted.serves {
        let target = stored.record.switch_to.as_ref().map(|s| s.target.clone()).unwrap_or_default();
        pass.switched_in_vain = Some(format!(
            "{target} did not take over from {pod}, which goes on as the primary; nothing was lost. It is tried again \
             while the reason stands"
        ));
        write(pass, ctx, plan, stored, record).await?;
    }
    Ok(())
}

/// Ends a switchover that cannot end by itself.
async fn take_back(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    stored: &Stored,
    record: Record,
    (pod, target): (&str, &str),
) -> Result<(), StageError> {
    let serves = act::take_back(&mut pass.connections, pod, target).await?;
    // Taken over at the last moment: the next look finds that.
    if !serves {
        return Ok(());
    }
    let wait = ctx.memory.switched_in_vain(&plan.set, true);
    pass.again_in(wait);
    pass.switched_in_vain = Some(format!(
        "{pod} did not reach {target}, to which it was handing its role over, within {HANDOVER_PATIENCE:?}, and goes on \
         as the primary; nothing was lost. Look at what is between the two (NetworkPolicies, DNS, client limits). It is \
         tried again in {} s",
        wait.as_secs()
    ));
    write(pass, ctx, plan, stored, record).await
}

/// The pods that can be told to follow now. Of the others the status says at the end of this pass what they lose; the
/// next pass tells them.
fn published(pass: &mut Pass, diverged: Vec<Divergence>, pods: Vec<String>) -> Vec<String> {
    let is_news = |d: &Divergence| !pass.published.iter().any(|old| is_published(old, d));
    pass.diverged = diverged.into_iter().filter(is_news).collect();
    for Divergence { pod, bytes, replid, .. } in &pass.diverged {
        warn!(
            pod,
            bytes, replid, "has data that the primary does not have; it is published before it is lost"
        );
    }
    if !pass.diverged.is_empty() {
        pass.again_in(Duration::ZERO);
    }
    pods.into_iter().filter(|pod| pass.diverged.iter().all(|d| d.pod != *pod)).collect()
}

/// Begins the switchover that was wished for, if the target is still fit for it.
fn hand_over(target: &str, record: &Record, look: &Look) -> Decision {
    let primary = record.primary.as_deref().and_then(|pod| look.member(pod));
    let pod = look.observed.pods.iter().find(|pod| pod.name == target);
    match (primary, pod) {
        (Some(primary), Some(pod)) if switchover::can_take_over(look, pod) => {
            look.member(target).map_or(Decision::Rest, |target| switchover::begin(&primary, &target, record))
        }
        _ => Decision::Rest,
    }
}

/// Asks every server, and gathers what else there is to know at this moment.
async fn take_look(pass: &mut Pass, ctx: &Context, plan: &Plan, stored: &Stored, now: Timestamp) -> Look {
    let record = &stored.record;
    let (observed, connections) = observe(ctx, plan, pass.password.as_ref(), now).await;
    pass.connections = connections;
    ctx.metrics.count_probes(&observed);
    let host_of = |pod: &str| plan.set.ordinal(pod).map(|ordinal| plan.fqdn(ordinal)).unwrap_or_default();
    let topology = topology(host_of, record, &observed);
    let nobody_serves = topology.serving().is_empty();
    let former = if nobody_serves { former_process(ctx, plan, record).await } else { Former::default() };
    let target = target_process(ctx, plan, record).await;
    // Nobody is elected while a role is being handed over, and that is looked at fifty times a second.
    let is_election = nobody_serves
        && !observed
            .pods
            .iter()
            .any(|pod| pod.answer.as_ref().is_ok_and(|a| a.info.replication.failover_runs()));
    let exchanged = if is_election { exchanged(ctx, plan, stored).await } else { Vec::new() };
    let look = Look {
        observed,
        topology,
        exchanged,
        former,
        target,
        before: None,
        waited: ctx.memory.nobody_serves_for(&plan.set, nobody_serves) >= RETURN_PATIENCE,
        handover_stuck: false,
        aof_by_hand: !plan.config.appendonly(),
        consent: plan.consent.clone(),
    };
    let seen = glimpse(record, &look);
    let primary = record.primary.as_deref().and_then(|pod| look.process(pod));
    let is_left = primary.is_some_and(|p| p.hands_over() && p.answer.info.replication.upstream.is_some());
    let look = Look {
        before: ctx.memory.glimpse(&plan.set, seen, VOTE_AGE),
        handover_stuck: ctx.memory.hands_over_for(&plan.set, is_left) >= HANDOVER_PATIENCE,
        ..look
    };
    let has_no_vote = |v: &Verdict| {
        let replica = look.member(&v.pod).filter(|_| v.state == InstanceState::InSync);
        replica.is_some_and(|c| !record.voters.contains(&c.answer.info.server.run_id))
    };
    if look.topology.instances.iter().any(has_no_vote) {
        pass.again_in(VOTE_AGE);
    }
    look
}

/// The members whose volume is not the one that the record speaks of. Asked for only where it decides: append-only files do
/// not say how old they are.
async fn exchanged(ctx: &Context, plan: &Plan, stored: &Stored) -> Vec<String> {
    if !matches!(plan.storage, Storage::Volume { .. }) || !plan.config.appendonly() {
        return Vec::new();
    }
    match claims::exchanged(&ctx.client, plan, &stored.claims, &stored.record.members).await {
        Ok(pods) => pods,
        Err(error) => {
            warn!(error = chain(&error), "nobody knows whether the volumes are those of the record");
            stored.record.members.clone()
        }
    }
}

/// What is known of the process that served last.
async fn former_process(ctx: &Context, plan: &Plan, record: &Record) -> Former {
    match (&record.seen_serving, &record.primary) {
        (Some(serving), Some(primary)) => ended(ctx, plan, serving, primary).await,
        _ => Former::default(),
    }
}

/// What is known of the process to which a switchover hands the role.
async fn target_process(ctx: &Context, plan: &Plan, record: &Record) -> Former {
    match &record.switch_to {
        Some(switch) => ended(ctx, plan, &switch.process, &switch.target).await,
        None => Former::default(),
    }
}

/// What is known of a process whose pod had this name.
async fn ended(ctx: &Context, plan: &Plan, serving: &Serving, name: &str) -> Former {
    let last_end = ctx.ends.latest(&serving.pod_uid);
    let not_asked = || NodeState::Unknown("not asked".to_owned());
    let is_cached = ctx
        .pods
        .state()
        .iter()
        .any(|pod| belongs(pod, &plan.set) && pod.uid().as_deref() == Some(&serving.pod_uid));
    let (pod_exists, node) = if is_cached || serving.ended || has_ended(serving, last_end) {
        (is_cached, not_asked())
    } else {
        match store::pod_exists(&ctx.client, &plan.set, name, &serving.pod_uid).await {
            Ok(true) => (true, not_asked()),
            Ok(false) => (false, store::node_state(&ctx.client, &serving.node).await),
            Err(error) => (false, NodeState::Unknown(format!("nor could the pod: {}", chain(&error)))),
        }
    };
    let since = match &node {
        NodeState::Ready { since } if !pod_exists => Some(since.as_str()),
        _ => None,
    };
    let gone_for = ctx.memory.gone_for(&plan.set, name, &serving.pod_uid, since);
    former(serving, &Traces { pod_exists, last_end, gone_for, node })
}

async fn follow(
    connections: &mut Connections,
    plan: &Plan,
    record: &Record,
    pods: &[String],
) -> Result<(), StageError> {
    let primary = record.primary.as_deref().and_then(|pod| plan.set.ordinal(pod));
    match primary {
        Some(ordinal) => Ok(act::follow(connections, pods, &plan.fqdn(ordinal)).await?),
        None => Ok(()),
    }
}

/// Writes the record, and the volumes that it speaks of, as they were seen last.
pub(super) async fn write(
    pass: &mut Pass,
    ctx: &Context,
    plan: &Plan,
    before: &Stored,
    record: Record,
) -> Result<(), StageError> {
    info!(
        epoch = record.epoch,
        primary = record.primary.as_deref().unwrap_or_default(),
        switch_to = record.switch_to.as_ref().map(|s| s.target.as_str()),
        "writing the role record"
    );
    let seen = match plan.storage {
        Storage::Volume { .. } => ctx.claims.claims(&plan.set, &plan.uid),
        Storage::Ephemeral => None,
    };
    let is_seen = seen.is_some();
    let claims = seen.unwrap_or_else(|| before.claims.clone());
    pass.stored = Some(store::write_record(&ctx.client, plan, before, &record, &claims).await?);
    if is_seen {
        ctx.claims.stand_in_record(&plan.set);
    }
    Ok(())
}
