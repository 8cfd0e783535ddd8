//! More is lost than a set survives: it waits for proof, says for which, and goes on by itself.

use std::time::Duration;

use crate::{
    cut::Cut,
    inside::{Inside, since},
    operators,
    plays::{
        planned::ask_for,
        silence::{apart, armed},
    },
    stage::{LIMIT, Stage},
};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::{lab::until, set::PROBING_NODE},
};

/// From the loss of a replica's node until the primary's is lost too: the primary is to serve alone by then.
const BETWEEN: Duration = Duration::from_secs(20);
/// How long the set is held after it has said so.
const HELD: Duration = Duration::from_secs(15);
/// Between the returns of the two nodes.
const APART: Duration = Duration::from_secs(10);
/// Until the former primary serves after its node's return.
const SERVES_WITHIN: Duration = Duration::from_secs(20);

/// A replica's node is lost, then the primary's: the one that is left lacks proof, and is not promoted. In turns, one or the other
/// comes back first; the primary is the same afterwards.
pub async fn in_turn(stage: &Stage<'_>) -> Result<(), Failure> {
    // The operator and the clients stay, with one replica.
    operators::gather(stage.lab, PROBING_NODE).await?;
    let primary = apart(stage).await?;
    armed(stage).await?;
    let node = stage.node(&primary)?;
    let is_third = |pod: &String| stage.node(pod).is_ok_and(|found| found != node && found != PROBING_NODE);
    let replica = stage.members()?.into_iter().find(is_third).ok_or("no Pod is on a third node")?;
    let other = stage.node(&replica)?;
    let before = stage.set.status()?.primary;
    let inside = Inside::begin(stage, &primary).await?;
    stage.forget();
    let lost_first = Cut::of_node(stage.lab, &other)?;
    let disturbed = stage.disturb();
    tokio::time::sleep(BETWEEN).await;
    let lost_second = Cut::of_node(stage.lab, &node)?;
    let cut = now();
    let held = says_it_waits(stage, &["waiting for ", &primary, &replica]).await;
    if held.is_ok() {
        println!("  held {} ms after the second node was cut off", millis(cut, now()));
        tokio::time::sleep(HELD).await;
    }
    let span = since(cut);
    let primary_first = stage.round.is_multiple_of(2);
    let (first, second) = if primary_first { (lost_second, lost_first) } else { (lost_first, lost_second) };
    drop(first);
    tokio::time::sleep(APART).await;
    drop(second);
    let returned = now();
    let serves = until(SERVES_WITHIN, &format!("{primary} serves again"), async || {
        let truth = stage.set.truth.scan(|truth| truth.last().and_then(|(_, sync)| sync.primary.clone()));
        Ok(truth.as_ref() == Some(&primary))
    })
    .await;
    let whole = stage.whole().await;
    inside.end(stage, span).await?;
    held?;
    serves?;
    whole?;
    println!(
        "  serving {} ms and whole again after {other} and {node} were lost",
        millis(disturbed, returned)
    );
    let after = stage.set.status()?.primary;
    if after != before {
        return Err(format!("nothing proved the end of {primary}, and the primary is {after:?}").into());
    }
    ask_for(stage, None).await
}

/// Waits until the status says that nobody is promoted because a member does not answer, with all of these words.
pub async fn says_it_waits(stage: &Stage<'_>, words: &[&str]) -> Result<(), Failure> {
    let mut said = String::new();
    let what = format!("the status says that it waits: {words:?}");
    let waits = until(LIMIT, &what, async || {
        let conditions = stage.set.status()?.conditions;
        let degraded = conditions.iter().find(|c| c.type_ == "Degraded" && c.reason == "MemberUnreachable");
        said = degraded.map(|condition| condition.message.clone()).unwrap_or_default();
        Ok(!said.is_empty() && words.iter().all(|word| said.contains(word)))
    });
    waits.await.map_err(|error| format!("{error}; it says: {said}"))?;
    println!("  {said}");
    Ok(())
}
