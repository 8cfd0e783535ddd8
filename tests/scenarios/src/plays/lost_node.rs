//! The primary's node is lost: its cable is pulled or its power is gone, for a while.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    cut::Cut,
    inside::{Inside, since},
    node_power::NodeStopped,
    operators::{self, Fate},
    plays::{
        held::says_it_waits,
        planned::{self, ask_for},
        silence::{apart, armed},
    },
    stage::{LIMIT, Stage},
};
use rig::{
    Failure,
    clock::millis,
    cluster::{lab::until, set::PROBING_NODE},
};

/// The node is away for longer than a successor needs, and not long enough for Kubernetes to evict its Pods.
const A_MINUTE: Duration = Duration::from_secs(60);

/// The primary's node is cut off for so long.
pub async fn cut(stage: &Stage<'_>, seconds: u64) -> Result<(), Failure> {
    let primary = apart(stage).await?;
    armed(stage).await?;
    cut_off(stage, &primary, Duration::from_secs(seconds), async { Ok(()) }).await?;
    ask_for(stage, None).await
}

/// The same, and the operator that leads is on that node.
pub async fn with_the_operator(stage: &Stage<'_>) -> Result<(), Failure> {
    // The standby is to be on another node.
    operators::restore(stage.lab).await?;
    let primary = beside_the_leader(stage).await?;
    armed(stage).await?;
    cut_off(stage, &primary, A_MINUTE, async { Ok(()) }).await?;
    ask_for(stage, None).await
}

/// The primary's node loses its power: nothing of it runs until it is started again.
pub async fn stopped(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = apart(stage).await?;
    armed(stage).await?;
    let node = stage.node(&primary)?;
    stage.forget();
    let disturbed = stage.disturb();
    let stopped = NodeStopped::begin(&stage.lab.cluster, &node)?;
    tokio::time::sleep(A_MINUTE).await;
    stopped.end()?;
    if let Some((other, at)) = stage.successor(&primary, disturbed) {
        println!("  {other} served {} ms after {node} was stopped", millis(disturbed, at));
    }
    stage.whole().await?;
    ask_for(stage, None).await
}

/// Five Pods, the primary alone on its node: whoever is lost beside it would be missing among those that decide.
pub async fn of_five(stage: &Stage<'_>) -> Result<(), Failure> {
    operators::gather(stage.lab, PROBING_NODE).await?;
    let primary = alone_on_a_node(stage).await?;
    stage.found_by_name().await?;
    ask_for(stage, Some(&primary)).await?;
    stage.settled(Some(&primary)).await?;
    armed(stage).await?;
    cut_off(stage, &primary, A_MINUTE, async { Ok(()) }).await?;
    ask_for(stage, None).await
}

/// Two Pods, mode Fenced: nothing proves that the primary's process has ended, so it stays the primary.
pub async fn of_two(stage: &Stage<'_>) -> Result<(), Failure> {
    operators::gather(stage.lab, PROBING_NODE).await?;
    let primary = apart(stage).await?;
    let before = stage.set.status()?.primary;
    let words = [primary.as_str(), "It cannot be done without: "];
    cut_off(stage, &primary, A_MINUTE, says_it_waits(stage, &words)).await?;
    let after = stage.set.status()?.primary;
    if after != before {
        return Err(format!("nothing proved the end of {primary}, and the primary is {after:?}").into());
    }
    ask_for(stage, None).await
}

/// The node of this Pod is cut off for so long, with clients on it that write to the Pod. Something is to be seen meanwhile.
async fn cut_off(
    stage: &Stage<'_>,
    primary: &str,
    away: Duration,
    meanwhile: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let node = stage.node(primary)?;
    let inside = Inside::begin(stage, primary).await?;
    stage.forget();
    let cut = Cut::of_node(stage.lab, &node)?;
    let disturbed = stage.disturb();
    let back = Instant::now() + away;
    let seen = meanwhile.await;
    sleep_until(back).await;
    let span = since(disturbed);
    drop(cut);
    if let Some((other, at)) = stage.successor(primary, disturbed) {
        println!("  {other} served {} ms after {node} was cut off", millis(disturbed, at));
    }
    // They go on until the former primary follows: what it acknowledges before that would be lost.
    let whole = stage.whole().await;
    inside.end(stage, span).await?;
    seen?;
    whole
}

/// Moves the primary to the node of the operator that leads, which is to be one without clients. Returns its Pod.
async fn beside_the_leader(stage: &Stage<'_>) -> Result<String, Failure> {
    until(LIMIT, "the primary is beside the leader, on a node without clients", async || {
        let leads_on = stage.lab.leader().await?.1.spec.and_then(|spec| spec.node_name);
        let leads_on = leads_on.ok_or("the leader has no node")?;
        if leads_on == PROBING_NODE {
            Fate::LeaderDeleted.befall(stage.lab).await?;
            operators::restore(stage.lab).await?;
            return Ok(false);
        }
        if stage.node(&stage.set.primary()?)? == leads_on {
            return Ok(true);
        }
        let beside = stage.members()?.into_iter().find(|pod| stage.node(pod).is_ok_and(|n| n == leads_on));
        ask_for(stage, Some(&beside.ok_or_else(|| format!("no Pod is on {leads_on}"))?)).await?;
        Ok(false)
    })
    .await?;
    let primary = stage.set.primary()?;
    stage.settled(Some(&primary)).await?;
    Ok(primary)
}

/// Leaves one Pod alone on a node without clients, and moves the others away. Returns its Pod.
async fn alone_on_a_node(stage: &Stage<'_>) -> Result<String, Failure> {
    let mut on: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in stage.members()? {
        on.entry(stage.node(&pod)?).or_default().push(pod);
    }
    on.remove(PROBING_NODE);
    let (node, there) =
        on.into_iter().min_by_key(|(_, there)| there.len()).ok_or("all Pods are on one node")?;
    let (stays, go) = there.split_first().ok_or("a node without Pods")?;
    stage.kubectl(&["cordon", &node]).await?;
    let moved = async {
        for pod in go {
            planned::delete(stage, pod).await?;
            stage.settled(None).await?;
        }
        Ok::<_, Failure>(())
    };
    let moved = moved.await;
    stage.kubectl(&["uncordon", &node]).await?;
    moved?;
    Ok(stays.clone())
}
