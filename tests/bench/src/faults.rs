//! Faults of one set, one after the other, each from a set that is Ready: how long until the status says so, and
//! until it is over.

use std::time::Duration;

use jiff::Timestamp;
use operator_core::api::{RedisReplicaSet, status::InstanceState};

use crate::{
    figures::{Figures, Key},
    node::{Repointed, Written},
};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::black_hole::BlackHole,
    cluster::lab::Lab,
    cluster::log::Log,
    cluster::set::{PROBING_NODE, REPLICAS, Set, is_ready},
    machine::Process,
    node::InNode,
};

/// Until the status must have said what happened.
const SEEN_LIMIT: Duration = Duration::from_secs(60);
/// Until a set must have recovered by itself.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
/// How long a set must stay Ready before the next fault.
const REST: Duration = Duration::from_secs(2);
/// An address of the documentation range: nobody answers there.
const NOBODY: &str = "192.0.2.1";

/// Waits up to 2 s, differently in each run and evenly over all runs. What looks in intervals would otherwise meet every
/// fault at the same moment of its interval, since a fault follows the last recovery.
pub async fn wait_for_phase(run: usize) {
    let step = u64::try_from(run).unwrap_or(0) * 1236 % 2000;
    tokio::time::sleep(Duration::from_millis(step)).await;
}

/// A replica is pointed at an address where nobody answers.
pub async fn astray(lab: &Lab, set: &Set, figures: &mut Figures) -> Result<(), Failure> {
    let pod = set.replica()?;
    println!("  pointing {pod} elsewhere");
    let log = Log::new();
    let told = log.clone();
    let client = InNode::start(
        &lab.cluster,
        PROBING_NODE,
        &["replicaof", "--host", NOBODY],
        move |repointed: Repointed| told.push(repointed.at, ()),
    )?;
    let before = now();
    client.send(&set.target(lab, &pod).await?)?;
    let (repointed, ()) = log.find(before, SEEN_LIMIT, "REPLICAOF was answered", |()| Some(())).await?;

    // The truth is asked every 20 ms: a mend within that time would be no fault that anybody could see.
    let (astray, ()) = set
        .truth
        .find(before, SEEN_LIMIT, "the servers say that the replica does not follow", |sync| {
            (!sync.replicas.contains(&pod)).then_some(())
        })
        .await?;
    let mended = set.truth.find(astray, RECOVERY_LIMIT, "the replica follows again", |sync| {
        sync.replicas.contains(&pod).then_some(())
    });
    let named = set.sets.log.find(before, SEEN_LIMIT, "the status names the replica", |set| {
        (state(set, &pod) != Some(InstanceState::InSync)).then_some(())
    });
    let seen = tokio::select! {
        named = named => named?.0,
        mended = mended => mended?.0,
    };
    figures.add(Key::AstraySeen, millis(repointed, seen));
    let (mended, ()) = set
        .truth
        .find(astray, RECOVERY_LIMIT, "all replicas follow again", |sync| {
            (sync.replicas.len() == REPLICAS - 1).then_some(())
        })
        .await?;
    figures.add(Key::AstrayMended, millis(repointed, mended));
    recovered(set, mended).await.map(|_| ())
}

/// The primary's process is killed. Once a set, since the kubelet restarts a container that crashed within the last
/// ten minutes only after 10 s and more.
pub async fn kill(lab: &Lab, set: &Set, figures: &mut Figures) -> Result<(), Failure> {
    let primary = set.primary()?;
    let uid = set.pod(&primary)?.metadata.uid.ok_or("a Pod without UID")?;
    let process = Process::of_pod(&uid, "redis-server")?;
    let log = Log::new();
    let told = log.clone();
    let writer = InNode::start(&lab.cluster, PROBING_NODE, &["write"], move |written: Written| {
        told.push(now(), written);
    })?;
    let begun = now();
    for target in set.targets(lab).await? {
        writer.send(&target)?;
    }
    let first = |written: &Written| matches!(written, Written::First { .. }).then_some(());
    log.find(begun, SEEN_LIMIT, "a first acknowledged write", first).await?;
    tokio::time::sleep(REST).await;

    println!("  killing Redis of {primary}");
    let killed = now();
    process.kill()?;
    let not_ready = |set: &RedisReplicaSet| (!is_ready(set)).then_some(());
    let (seen, ()) = set.sets.log.find(killed, SEEN_LIMIT, "Ready not True after a kill", not_ready).await?;
    figures.add(Key::KillSeen, millis(killed, seen));

    let gap = |written: &Written| matches!(written, Written::Gap { to, .. } if *to > killed).then_some(());
    log.find(killed, RECOVERY_LIMIT, "acknowledged writes after a kill", gap).await?;
    let ready = recovered(set, seen).await?;
    tokio::time::sleep(REST).await;
    drop(writer);
    let gaps = log.scan(|entries| {
        let gap = |written: &Written| match written {
            Written::Gap { from, to, by } if *to > killed => Some((millis(*from, *to), by.clone())),
            _ => None,
        };
        entries.iter().filter_map(|(_, written)| gap(written)).collect::<Vec<_>>()
    });
    let (longest, by) = gaps.into_iter().max().ok_or("no gap after a kill")?;
    figures.add(Key::KillWrites, longest);
    println!("  acknowledged by {by}");
    figures.add(Key::KillReady, millis(killed, ready));
    Ok(())
}

/// A Pod becomes unreachable, and is reachable again once the status has said so.
pub async fn silence(
    lab: &Lab,
    set: &Set,
    pod: &str,
    key: Key,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let target = set.target(lab, pod).await?;
    let node = set.pod(pod)?.spec.and_then(|spec| spec.node_name).ok_or("a Pod without a node")?;
    println!("  black-holing {pod} on {node}");
    let silent = now();
    let hole = BlackHole::begin(&lab.cluster, &node, &target.address)?;
    let named = |set: &RedisReplicaSet| {
        (state(set, pod) == Some(InstanceState::Unreachable) && !is_ready(set)).then_some(())
    };
    let (seen, ()) = set.sets.log.find(silent, SEEN_LIMIT, "Unreachable, Ready not True", named).await?;
    drop(hole);
    figures.add(key, millis(silent, seen));
    let ready = recovered(set, now()).await?;
    println!("  Ready again {} ms after its end", millis(seen, ready));
    Ok(())
}

/// Waits until the status says Ready again, and stays so for a moment.
async fn recovered(set: &Set, since: Timestamp) -> Result<Timestamp, Failure> {
    let deadline = tokio::time::Instant::now() + RECOVERY_LIMIT;
    while tokio::time::Instant::now() < deadline {
        let last = set.sets.log.scan(|sets| sets.last().map(|(at, set)| (*at, is_ready(set))));
        match last {
            Some((at, true)) => {
                tokio::time::sleep(REST).await;
                let still = set.sets.log.scan(|sets| sets.last().is_some_and(|(_, set)| is_ready(set)));
                if still {
                    return Ok(at.max(since));
                }
            }
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    Err(format!("not Ready again within {RECOVERY_LIMIT:?}").into())
}

fn state(set: &RedisReplicaSet, pod: &str) -> Option<InstanceState> {
    set.status.as_ref()?.instances.iter().find(|instance| instance.pod == pod).map(|instance| instance.state)
}
