//! The primary gives no sign of life, and nothing proves that it has ended.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;

use crate::{
    plays::planned::ask_for,
    stage::{LIMIT, Stage},
};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::lab::until,
    cluster::set::PROBING_NODE,
};

/// How long the primary stays silent: longer than a successor needs, and shorter than Kubernetes takes to evict its Pod.
const SILENT: Duration = Duration::from_secs(60);

/// Moves the primary to a node without clients and without the operator that leads: they are to go on. Returns its Pod.
pub async fn apart(stage: &Stage<'_>) -> Result<String, Failure> {
    let asked = until(LIMIT, "the primary is on a node without clients and without the leader", async || {
        let leads_on = stage.lab.leader().await?.1.spec.and_then(|spec| spec.node_name);
        let is_apart = |node: &str| node != PROBING_NODE && leads_on.as_deref() != Some(node);
        if is_apart(&stage.node(&stage.set.primary()?)?) {
            return Ok(true);
        }
        let apart =
            stage.members()?.into_iter().find(|pod| stage.node(pod).is_ok_and(|node| is_apart(&node)));
        ask_for(stage, Some(&apart.ok_or("no Pod is on a node without clients and without the leader")?))
            .await?;
        Ok(false)
    });
    asked.await?;
    let primary = stage.set.primary()?;
    stage.settled(Some(&primary)).await?;
    Ok(primary)
}

/// Waits until a replica takes over without proof.
pub async fn armed(stage: &Stage<'_>) -> Result<(), Failure> {
    until(LIMIT, "a replica would take over without proof", async || {
        Ok(stage.set.status()?.failover.is_some_and(|failover| failover.armed))
    })
    .await
}

/// The primary's process is frozen, and goes on when another one has served for a while.
pub async fn frozen(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    armed(stage).await?;
    let process = stage.process(&primary)?;
    stage.forget();
    let disturbed = stage.disturb();
    process.signal("STOP")?;
    let other = stage.another_serves(&primary).await;
    let served = now();
    if other.is_ok() {
        tokio::time::sleep(SILENT).await;
    }
    process.signal("CONT")?;
    println!("  {} serves {} ms after {primary} was frozen", other?, millis(disturbed, served));
    stage.whole().await
}

/// The primary's Pod is deleted by force: its process ends within seconds, and nobody says so.
pub async fn deleted_by_force(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    armed(stage).await?;
    let before = stage.uid(&primary)?;
    stage.forget();
    let disturbed = stage.disturb();
    let by_force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    stage.lab.api::<Pod>().delete(&primary, &by_force).await?;
    stage.broken(disturbed).await?;
    stage.replaced(disturbed, &primary, &before).await
}
