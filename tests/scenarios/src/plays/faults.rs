//! What nobody asks for.

use std::{fs, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    plays::planned,
    scenario::Kind,
    stage::{LIMIT, Stage},
};
use rig::Failure;

/// The primary's process gets a signal that ends it; its Pod stays.
pub async fn end_primary(stage: &Stage<'_>, signal: &str) -> Result<(), Failure> {
    let process = stage.process(&stage.set.primary()?)?;
    let disturbed = stage.disturb();
    process.signal(signal)?;
    stage.broken(disturbed).await
}

/// Takes memory inside of the process, of which nothing goes to the replicas.
const GROW: &str = "local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end";

/// The primary takes more memory than its container may have, and the kernel kills it.
pub async fn out_of_memory(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let disturbed = stage.disturb();
    // No answer comes: the process is ended meanwhile.
    let _ = stage.ask(&primary, &["EVAL", GROW, "0"]).await;
    let killed = |pod: &Pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        let states = containers.iter().flat_map(|container| [&container.state, &container.last_state]);
        let ended = states.flatten().find_map(|state| state.terminated.as_ref()?.reason.clone())?;
        (pod.name_any() == primary).then_some(ended)
    };
    let (_, reason) =
        stage.set.pods.log.find(disturbed, LIMIT, "the primary's container ended", killed).await?;
    if reason == "OOMKilled" { Ok(()) } else { Err(format!("the container ended with {reason}").into()) }
}

/// All processes at once, as a power cut does; with a dump of what is there now.
pub async fn kill_all(stage: &Stage<'_>) -> Result<(), Failure> {
    let members = stage.members()?;
    if stage.kind != Kind::Aof {
        for pod in &members {
            stage.ask(pod, &["SAVE"]).await?;
        }
    }
    let processes: Result<Vec<_>, Failure> = members.iter().map(|pod| stage.process(pod)).collect();
    let disturbed = stage.disturb();
    for process in processes? {
        process.kill()?;
    }
    stage.broken(disturbed).await
}

/// All processes at once, and the files of the first Pod are older than the others': it is not to win because it is the
/// first. What the primary had, all must have afterwards.
pub async fn power_cut(stage: &Stage<'_>) -> Result<(), Failure> {
    const OLDER_BY: Duration = Duration::from_secs(3);
    let (oldest, primary, other) = (stage.home(), stage.set.name.pod(2), stage.set.name.pod(1));
    planned::ask_for(stage, Some(&primary)).await?;
    stage.settled(Some(&primary)).await?;
    let save = async |pod: &str| match stage.kind {
        Kind::Aof => Ok(()),
        _ => stage.ask(pod, &["SAVE"]).await.map(|_| ()),
    };
    save(&oldest).await?;
    let processes: Result<Vec<_>, Failure> =
        [&oldest, &primary, &other].into_iter().map(|pod| stage.process(pod)).collect();
    let processes = processes?;
    if let Some(process) = processes.first() {
        process.signal("STOP")?;
    }
    tokio::time::sleep(OLDER_BY).await;
    let mark = format!("mark-{}", stage.round);
    stage.ask(&primary, &["SET", "power-cut", &mark]).await?;
    for pod in [&other, &primary] {
        save(pod).await?;
    }
    stage.forget();
    let disturbed = stage.disturb();
    for process in processes {
        process.kill()?;
    }
    stage.broken(disturbed).await?;
    stage.settled(None).await?;
    let first = stage.set.primary()?;
    if first == oldest {
        return Err(format!("{oldest} is the primary, although its files were {OLDER_BY:?} older").into());
    }
    for pod in [&oldest, &primary, &other] {
        let found = stage.ask(pod, &["GET", "power-cut"]).await?;
        if !found.contains(&mark) {
            return Err(format!("{pod} lacks what {primary} had: {found}").into());
        }
    }
    planned::ask_for(stage, None).await
}

/// A member's process is stopped, its files are removed, and it is killed: it comes back with nothing.
pub async fn empty(stage: &Stage<'_>, pod: &str) -> Result<(), Failure> {
    let process = stage.process(pod)?;
    let data = process.root().join("data");
    let disturbed = stage.disturb();
    process.signal("STOP")?;
    for entry in fs::read_dir(&data)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
    }
    process.kill()?;
    stage.broken(disturbed).await
}

/// The primary's process dies, and nothing can start in its place: with volumes its Pod is bound to a node that takes no
/// Pods, without them its container wants an image that does not exist, until the Pod is made again from its template.
/// Another member is to serve meanwhile.
pub async fn never_starts(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let (node, process) = (stage.node(&primary)?, stage.process(&primary)?);
    stage.all_vote().await?;
    let pods = stage.lab.api::<Pod>();
    if stage.kind == Kind::Ephemeral {
        let patch =
            json!({"spec": {"containers": [{"name": "redis", "image": "localhost/redis:no-such-version"}]}});
        let before = stage.uid(&primary)?;
        let disturbed = stage.disturb();
        pods.patch(&primary, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        process.kill()?;
        stage.broken(disturbed).await?;
        let other = stage.another_serves(&primary).await?;
        println!("  {other} serves in place of {primary}, which has no image");
        return stage.replaced(disturbed, &primary, &before).await;
    }
    stage.kubectl(&["cordon", &node]).await?;
    let disturbed = stage.disturb();
    process.kill()?;
    let deleted = pods.delete(&primary, &DeleteParams::default()).await;
    let other = async {
        deleted?;
        stage.broken(disturbed).await?;
        stage.another_serves(&primary).await
    }
    .await;
    stage.kubectl(&["uncordon", &node]).await?;
    println!("  {} serves in place of {primary}, which could not start", other?);
    Ok(())
}
