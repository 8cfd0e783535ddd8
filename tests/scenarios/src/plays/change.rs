//! Changes of the spec.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    images,
    stage::{LIMIT, Stage},
};
use rig::{Failure, cluster::lab::until};

/// An annotation of the Pods changes: nothing but their replacement.
pub async fn roll(stage: &Stage<'_>) -> Result<(), Failure> {
    let before = stage.uids().await?;
    template(stage).await?;
    stage.all_replaced(&before, |pod| has_template(stage, pod)).await
}

/// An annotation of the Pods that says in which round they were made.
const ROUND: &str = "scenarios/round";

/// Changes the Pods' template.
pub async fn template(stage: &Stage<'_>) -> Result<(), Failure> {
    let round = stage.round.to_string();
    stage.disturb();
    stage.set.patch(stage.lab, &json!({"spec": {"podAnnotations": {ROUND: round}}})).await.map(|_| ())
}

/// Whether a Pod was made by the template of this round.
pub fn has_template(stage: &Stage<'_>, pod: &Pod) -> bool {
    pod.annotations().get(ROUND).is_some_and(|round| *round == stage.round.to_string())
}

/// A newer Redis.
pub async fn image(stage: &Stage<'_>) -> Result<(), Failure> {
    let image = images::newer(stage.lab).await?;
    let before = stage.uids().await?;
    stage.disturb();
    stage.set.set_image(stage.lab, &image).await?;
    let has_image = |pod: &Pod| {
        pod.spec.as_ref().is_some_and(|spec| spec.containers.iter().any(|c| c.image.as_ref() == Some(&image)))
    };
    stage.all_replaced(&before, has_image).await
}

/// A directive that Redis reads when it starts, and then never again.
pub async fn start_config(stage: &Stage<'_>) -> Result<(), Failure> {
    let before = stage.uids().await?;
    let databases = (17 + stage.round).to_string();
    stage.disturb();
    stage.set.patch(stage.lab, &json!({"spec": {"config": {"databases": databases}}})).await?;
    stage.all_replaced(&before, |_| true).await?;
    has_directive(stage, "databases", &databases).await
}

/// A directive that a running Redis takes: no Pod is replaced for it.
pub async fn live_config(stage: &Stage<'_>) -> Result<(), Failure> {
    let before = stage.uids().await?;
    let policy = if stage.round.is_multiple_of(2) { "volatile-ttl" } else { "volatile-lru" };
    stage.disturb();
    stage.set.patch(stage.lab, &json!({"spec": {"config": {"maxmemory-policy": policy}}})).await?;
    has_directive(stage, "maxmemory-policy", policy).await?;
    let after = stage.uids().await?;
    if before == after {
        Ok(())
    } else {
        Err("Pods were replaced for a directive that can be set live".into())
    }
}

/// Waits until every member says that a directive has this value.
async fn has_directive(stage: &Stage<'_>, name: &str, value: &str) -> Result<(), Failure> {
    let quoted = format!("{value:?}");
    until(LIMIT, &format!("every member has {name} {value}"), async || {
        for pod in stage.members()? {
            let answer = stage.ask(&pod, &["CONFIG", "GET", name]).await;
            if !answer.is_ok_and(|answer| answer.contains(&quoted)) {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// More pods or fewer, one number after the other.
pub async fn scale(stage: &Stage<'_>, numbers: &[usize]) -> Result<(), Failure> {
    stage.disturb();
    for &replicas in numbers {
        stage.set.patch(stage.lab, &json!({"spec": {"replicas": replicas}})).await?;
        stage.settled(None).await?;
        let found = stage.uids().await?.len();
        if found != replicas {
            return Err(format!("Ready with {found} Pods where {replicas} are wanted").into());
        }
    }
    Ok(())
}
