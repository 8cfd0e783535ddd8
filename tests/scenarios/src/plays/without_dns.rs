//! DNS is gone for two minutes, and something happens in it: a planned move waits, a primary that goes is succeeded.

use std::time::Duration;

use crate::{
    dns_gone::DnsGone,
    plays::{change, faults, planned},
    stage::Stage,
};
use rig::Failure;

/// How long DNS is gone.
const GONE: Duration = Duration::from_secs(120);
/// For how long a planned move is watched to wait.
const WAITS: Duration = Duration::from_secs(100);
/// Until it happens.
const BEFORE: Duration = Duration::from_secs(5);

/// The primary's Pod is deleted.
pub async fn delete(stage: &Stage<'_>) -> Result<(), Failure> {
    in_it(stage, async || planned::delete(stage, &stage.set.primary()?).await).await
}

/// The primary's process is killed.
pub async fn kill(stage: &Stage<'_>) -> Result<(), Failure> {
    in_it(stage, async || faults::end_primary(stage, "KILL").await).await
}

/// The Pods' template changes. No Pod follows by a name that nobody resolves, so the primary stays where it is until DNS is back.
pub async fn roll(stage: &Stage<'_>) -> Result<(), Failure> {
    let before = stage.uids().await?;
    let primary = stage.set.status()?.primary;
    in_it(stage, async || {
        change::template(stage).await?;
        tokio::time::sleep(WAITS).await;
        let now = stage.set.status()?.primary;
        if now == primary {
            return Ok(());
        }
        Err(format!("the role was handed over without DNS: {primary:?}, then {now:?}").into())
    })
    .await?;
    stage.all_replaced(&before, |pod| change::has_template(stage, pod)).await
}

/// Something happens while DNS is gone; then DNS comes back, and all follow again.
async fn in_it(stage: &Stage<'_>, happens: impl AsyncFnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let gone = DnsGone::begin(stage.lab).await?;
    let back = tokio::time::Instant::now() + GONE;
    tokio::time::sleep(BEFORE).await;
    stage.forget();
    let happened = happens().await;
    tokio::time::sleep_until(back).await;
    gone.end(stage.lab).await?;
    happened?;
    stage.whole().await
}
