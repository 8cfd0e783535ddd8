//! What people do to a running set without changing its spec.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, EvictParams, ListParams},
};
use operator_core::api::RedisReplicaSet;
use serde_json::{Value, json};

use crate::{
    operators,
    stage::{LIMIT, Stage},
};
use rig::{Failure, clock::now, cluster::lab::until};

/// Asks for another primary.
const SWITCHOVER_TO: &str = "replication.redis/switchover-to";

/// Asks for the primary in this Pod, or for nothing any more.
pub async fn ask_for(stage: &Stage<'_>, pod: Option<&str>) -> Result<(), Failure> {
    let pod = pod.map_or(Value::Null, |pod| json!(pod));
    stage.set.patch(stage.lab, &json!({"metadata": {"annotations": {SWITCHOVER_TO: pod}}})).await?;
    Ok(())
}

/// There, and back.
pub async fn switchover(stage: &Stage<'_>) -> Result<(), Failure> {
    let target = stage.set.name.pod(1);
    stage.disturb();
    ask_for(stage, Some(&target)).await?;
    stage.settled(Some(&target)).await?;
    stage.window();
    // Asked for too: without that it goes home only to a Pod that has been up for half a minute.
    ask_for(stage, Some(&stage.home())).await?;
    stage.serves(&stage.home()).await
}

/// A Pod is deleted as `kubectl delete pod` does it.
pub async fn delete(stage: &Stage<'_>, pod: &str) -> Result<(), Failure> {
    let before = stage.uid(pod)?;
    let disturbed = stage.disturb();
    stage.lab.api::<Pod>().delete(pod, &DeleteParams::default()).await?;
    stage.replaced(disturbed, pod, &before).await
}

/// The primary's Pod is evicted, as often as it takes where the disruption budget says no.
pub async fn evict(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let before = stage.uid(&primary)?;
    let disturbed = stage.disturb();
    until(LIMIT, "the Pod is evicted", async || {
        match stage.lab.api::<Pod>().evict(&primary, &EvictParams::default()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(false),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    stage.replaced(disturbed, &primary, &before).await
}

/// The primary's node is drained, all of it, and given back afterwards.
pub async fn drain(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let (before, node) = (stage.uid(&primary)?, stage.node(&primary)?);
    let disturbed = stage.disturb();
    let more = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=120s"];
    let drained = stage.kubectl(&[&["drain", &node], &more[..]].concat()).await;
    stage.kubectl(&["uncordon", &node]).await?;
    drained?;
    stage.replaced(disturbed, &primary, &before).await
}

/// The record goes; it is to be made again from what the servers say.
pub async fn record_deleted(stage: &Stage<'_>) -> Result<(), Failure> {
    let (api, name) = (stage.lab.api::<ConfigMap>(), stage.set.name.record());
    let before = api.get(&name).await?.uid();
    stage.disturb();
    api.delete(&name, &DeleteParams::default()).await?;
    until(LIMIT, "the record is there again", async || {
        Ok(api.get_opt(&name).await?.is_some_and(|record| record.uid() != before))
    })
    .await
}

/// The resource is deleted and, once its Pods are gone, made again.
pub async fn recreate(stage: &Stage<'_>) -> Result<(), Failure> {
    // The record outlives it from the moment on at which it names the volumes.
    stage.kept_by_claims().await?;
    let before = stage.uid(&stage.home())?;
    let disturbed = stage.disturb();
    stage.lab.api::<RedisReplicaSet>().delete(&stage.set.name.name, &DeleteParams::default()).await?;
    let mine = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", stage.set.name.name));
    until(LIMIT, "the Pods are gone", async || {
        Ok(stage.lab.api::<Pod>().list_metadata(&mine).await?.items.is_empty())
    })
    .await?;
    // The status of a resource that is gone says nothing.
    stage.begin_anew();
    stage.set.apply(stage.lab, &stage.spec).await?;
    stage.replaced(disturbed, &stage.home(), &before).await?;
    stage.client.follow_service(stage.lab, &stage.set).await
}

/// Nobody operates: writes and reads go on, a replica's process that dies comes back, and so does a replica's Pod.
pub async fn without_operator(stage: &Stage<'_>) -> Result<(), Failure> {
    let stopped = operators::stop(stage.lab).await?;
    let played = restarts(stage).await;
    operators::start(stage.lab, stopped).await?;
    played
}

async fn restarts(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let replicas: Vec<String> = stage.members()?.into_iter().filter(|pod| *pod != primary).collect();
    let [one, other] = replicas.as_slice() else { return Err("not two replicas".into()) };
    let disturbed = stage.disturb();
    stage.process(one)?.kill()?;
    stage.broken(disturbed).await?;
    stage.whole().await?;
    println!("  the process in {one} came back by itself");
    let (before, deleted) = (stage.uid(other)?, now());
    stage.lab.api::<Pod>().delete(other, &DeleteParams::default()).await?;
    stage.replaced(deleted, other, &before).await?;
    stage.broken(deleted).await?;
    stage.whole().await?;
    println!("  the Pod {other} came back by itself");
    let read = stage.ask_service(&stage.set.name.replicas_service(), &["DBSIZE"]).await?;
    println!("  a replica behind the Service for reads answers {read}");
    Ok(())
}
