//! What people and machines do that no rule of the protocol foresees: each of these lost data, or the truth, once.

use std::{fs, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use operator_core::api::RedisReplicaSet;
use serde_json::{Value, json};

use crate::{
    cut::Cut,
    operators,
    plays::{planned::ask_for, silence},
    stage::{LIMIT, Stage},
};
use rig::node::Target;
use rig::{
    Failure,
    clock::{millis, now},
    cluster::lab::until,
    cluster::set::address,
};

/// A person's consent to lose what the named Pod does not have.
const ACCEPT_DATA_LOSS: &str = "replication.redis/accept-data-loss";
/// Until a primary that refuses writes has to be succeeded.
const MOVED_WITHIN: i64 = 10_000;

/// One field of a Pod's INFO.
pub async fn info(stage: &Stage<'_>, pod: &str, section: &str, field: &str) -> Result<String, Failure> {
    let answer = stage.ask(pod, &["INFO", section]).await?;
    let start =
        answer.find(&format!("{field}:")).ok_or_else(|| format!("{pod} says no {field}: {answer}"))?;
    let value = answer.get(start + field.len() + 1..).unwrap_or_default();
    Ok(value.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect())
}

/// Waits until a condition has this status and reason.
async fn says(stage: &Stage<'_>, type_: &str, status: &str, reason: &str) -> Result<Timestamp, Failure> {
    until(LIMIT, &format!("the status says {type_}={status} {reason}"), async || {
        let conditions = stage.set.status()?.conditions;
        Ok(conditions.iter().any(|c| c.type_ == type_ && c.status == status && c.reason == reason))
    })
    .await?;
    Ok(now())
}

/// Annotates the set with a consent, or takes it away.
async fn consent(stage: &Stage<'_>, pod: Option<&str>) -> Result<(), Failure> {
    let epoch = stage.set.status()?.primary.map_or(0, |primary| primary.epoch);
    let value = pod.map_or(Value::Null, |pod| json!(format!("{pod}@{epoch}")));
    stage.set.patch(stage.lab, &json!({"metadata": {"annotations": {ACCEPT_DATA_LOSS: value}}})).await?;
    Ok(())
}

/// Two replicas, by name.
fn replicas(stage: &Stage<'_>, primary: &str) -> Result<[String; 2], Failure> {
    let replicas: Vec<String> = stage.members()?.into_iter().filter(|pod| pod != primary).collect();
    replicas.try_into().map_err(|_| "not two replicas".into())
}

/// A replica copies everything again and takes long to write it to its append-only file. It is asked to take over
/// meanwhile, and the primary is killed: neither may bring back the file of before.
pub async fn unsettled_file(stage: &Stage<'_>) -> Result<(), Failure> {
    // Valkey keeps 10 MiB.
    const BEYOND_THE_BACKLOG: &str =
        "redis.call('SET', 'larger-than-the-backlog', string.rep('x', 12000000))";
    let primary = stage.set.primary()?;
    let [slow, _] = replicas(stage, &primary)?;
    // Later it has a child of the same name, which saves.
    let process = stage.process(&slow)?;
    stage.ask(&slow, &["CONFIG", "SET", "rdb-key-save-delay", "500"]).await?;
    // It stands still while its link is cut and more is written than the primary's backlog holds, so that it needs a full copy,
    // however soon the operator points it back.
    let address = format!("addr={}:", stage.set.target(stage.lab, &slow).await?.address);
    let links = stage.ask(&primary, &["CLIENT", "LIST", "TYPE", "replica"]).await?;
    let link =
        links.lines().find(|line| line.contains(&address)).ok_or("the primary lists no such replica")?;
    let id = link
        .split_whitespace()
        .find_map(|word| Some(word.split_once("id=")?.1))
        .ok_or("a client without id")?;
    process.signal("STOP")?;
    let disturbed = stage.disturb();
    let cut = async {
        stage.ask(&primary, &["CLIENT", "KILL", "ID", id]).await?;
        stage.ask(&primary, &["EVAL", BEYOND_THE_BACKLOG, "0"]).await
    };
    let cut = cut.await;
    process.signal("CONT")?;
    cut?;
    let rewrites =
        async || Ok::<_, Failure>(info(stage, &slow, "persistence", "aof_rewrite_in_progress").await? == "1");
    until(LIMIT, "the replica rewrites its append-only file", async || {
        Ok(info(stage, &slow, "replication", "master_link_status").await? == "up" && rewrites().await?)
    })
    .await?;
    ask_for(stage, Some(&slow)).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    if !rewrites().await? {
        return Err("the rewrite was over before anything was tried".into());
    }
    if stage.set.primary()? != primary {
        return Err(
            format!("{slow} was handed the role while its append-only file was older than its data").into()
        );
    }
    stage.process(&primary)?.kill()?;
    stage.broken(disturbed).await?;
    stage.settled(None).await?;
    until(LIMIT, "the rewrite is over", async || Ok(!rewrites().await?)).await?;
    // Now it may, and its own end brings nothing older back.
    stage.serves(&slow).await?;
    stage.settled(Some(&slow)).await?;
    let killed = now();
    process.kill()?;
    stage.broken(killed).await?;
    ask_for(stage, None).await
}

/// Somebody promotes a replica and writes to it; then the primary's process dies. It must not copy from that one.
pub async fn promoted_by_hand(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let [_, stray] = replicas(stage, &primary)?;
    let stopped = operators::stop(stage.lab).await?;
    let disturbed = stage.disturb();
    let promoted = async {
        stage.ask(&stray, &["REPLICAOF", "NO", "ONE"]).await?;
        stage.ask(&stray, &["SET", "by-hand", "1"]).await
    }
    .await;
    operators::start(stage.lab, stopped).await?;
    promoted?;
    says(stage, "Degraded", "True", "UnexpectedPrimary").await?;
    stage.process(&primary)?.kill()?;
    stage.broken(disturbed).await?;
    // Its agent asks whom to follow, and the operator must not take the stray one for the primary.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let follows = info(stage, &primary, "replication", "master_host").await;
    if follows.is_ok_and(|host| host.starts_with(&stray)) {
        return Err(format!("{primary} follows {stray}, which somebody promoted by hand").into());
    }
    // What the status tells a person to do.
    let before = stage.uid(&stray)?;
    let deleted = now();
    stage.lab.api::<Pod>().delete(&stray, &DeleteParams::default()).await?;
    stage.replaced(deleted, &stray, &before).await
}

/// While no operator runs, a replica is made to copy from another Redis with more data, and the primary's process dies. The
/// set's own data must not be replaced by that.
pub async fn foreign_history(stage: &Stage<'_>) -> Result<(), Failure> {
    let stranger = format!("{}-stranger", stage.set.name.name);
    let pods = stage.lab.api::<Pod>();
    let password = stage.set.password(stage.lab).await?;
    let pod = json!({
        "metadata": {"name": stranger},
        "spec": {
            "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "redis", "image": stage.lab.image, "imagePullPolicy": "IfNotPresent",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "command": ["redis-server"], "args": ["--requirepass", password, "--save", ""],
            }],
        },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    let played = copy_from_a_stranger(stage, &stranger, &password).await;
    pods.delete(&stranger, &DeleteParams::default()).await?;
    played
}

async fn copy_from_a_stranger(stage: &Stage<'_>, stranger: &str, password: &str) -> Result<(), Failure> {
    const WRITE: &str = "for i = 1, 60000 do redis.call('SET', 'foreign:' .. i, string.rep('x', 100)) end";
    let primary = stage.set.primary()?;
    let [astray, faithful] = replicas(stage, &primary)?;
    let mut target =
        Target { pod: stranger.to_owned(), address: String::new(), password: password.to_owned() };
    until(LIMIT, "the other Redis answers", async || {
        let pod = stage.lab.api::<Pod>().get(stranger).await?;
        target.address = address(&pod).unwrap_or_default();
        Ok(!target.address.is_empty() && stage.ask_target(&target, &["PING"]).await.is_ok())
    })
    .await?;
    let stopped = operators::stop(stage.lab).await?;
    let disturbed = stage.disturb();
    let astray_now = async {
        stage.ask(&astray, &["REPLICAOF", &target.address, "6379"]).await?;
        until(LIMIT, "the replica follows the other Redis", async || {
            Ok(info(stage, &astray, "replication", "master_link_status").await? == "up")
        })
        .await?;
        stage.ask_target(&target, &["EVAL", WRITE, "0"]).await?;
        until(LIMIT, "it has copied more than the set has", async || {
            let dbsize = stage.ask(&astray, &["GET", "foreign:60000"]).await?;
            Ok(dbsize.contains('x'))
        })
        .await?;
        stage.process(&primary)?.kill()?;
        stage.broken(disturbed).await
    }
    .await;
    // Until now there was no operator to say anything: how long this takes is the play's own time. The bound holds from here on.
    stage.begin_anew();
    operators::start(stage.lab, stopped).await?;
    astray_now?;
    says(stage, "Degraded", "True", "HistoriesDiffer").await?;
    // The one that ran on has all that was acknowledged.
    consent(stage, Some(&faithful)).await?;
    stage.settled(Some(&faithful)).await?;
    consent(stage, None).await?;
    for pod in stage.members()? {
        let found = stage.ask(&pod, &["EXISTS", "foreign:1"]).await?;
        if !found.contains('0') {
            return Err(format!("{pod} has data of another Redis: {found}").into());
        }
    }
    Ok(())
}

/// The primary cannot save, as where its volume is full, and refuses every write. Another one that can has to take over.
pub async fn cannot_save(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let data = stage.process(&primary)?.root().join("data");
    let dump = data.join("dump.rdb");
    if dump.exists() {
        fs::remove_file(&dump)?;
    }
    fs::create_dir(&dump)?;
    stage.disturb();
    stage.ask(&primary, &["BGSAVE"]).await?;
    let failed = async || {
        Ok::<_, Failure>(info(stage, &primary, "persistence", "rdb_last_bgsave_status").await? == "err")
    };
    until(LIMIT, "the save has failed", failed).await?;
    let refused = now();
    until(LIMIT, "another one is the primary", async || Ok(stage.set.primary()? != primary)).await?;
    let after = millis(refused, now());
    println!("  another one was the primary {after} ms after the save had failed");
    fs::remove_dir(&dump)?;
    stage.ask(&primary, &["BGSAVE"]).await?;
    if after > MOVED_WITHIN {
        return Err(format!(
            "another one was the primary after {after} ms, at most {MOVED_WITHIN} are allowed"
        )
        .into());
    }
    Ok(())
}

/// A replica is frozen and the record is deleted while no operator is there that knew it: the primary serves on, and its Service must
/// go on leading to it.
pub async fn record_lost_beside_a_silent_member(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = stage.set.primary()?;
    let [_, frozen] = replicas(stage, &primary)?;
    let process = stage.process(&frozen)?;
    let stopped = operators::stop(stage.lab).await?;
    process.signal("STOP")?;
    stage.disturb();
    let (records, name) = (stage.lab.api::<ConfigMap>(), stage.set.name.record());
    let deleted = records.delete(&name, &DeleteParams::default()).await;
    // Until now there was no operator to say anything.
    stage.begin_anew();
    operators::start(stage.lab, stopped).await?;
    let watched = async {
        deleted?;
        says(stage, "Degraded", "True", "MemberUnreachable").await?;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let led_to = ListParams::default().labels(&format!(
            "app.kubernetes.io/instance={},replication.redis/role=primary",
            stage.set.name.name
        ));
        let pods = stage.lab.api::<Pod>().list(&led_to).await?;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if names == [primary.clone()] {
            Ok(())
        } else {
            Err(Failure::from(format!("the Service leads to {names:?}, and {primary} serves")))
        }
    }
    .await;
    process.signal("CONT")?;
    watched
}

/// A restore has brought back two of three volumes, without labels and without a record: the Pod whose volume is missing
/// starts empty and first, and must not become the primary.
pub async fn volumes_by_hand(stage: &Stage<'_>) -> Result<(), Failure> {
    let lab = stage.lab;
    let disturbed = stage.disturb();
    let before = stage.uid(&stage.home())?;
    lab.api::<RedisReplicaSet>().delete(&stage.set.name.name, &DeleteParams::default()).await?;
    let mine = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", stage.set.name.name));
    until(LIMIT, "the Pods are gone", async || {
        Ok(lab.api::<Pod>().list_metadata(&mine).await?.items.is_empty())
    })
    .await?;
    let claims = lab.api::<PersistentVolumeClaim>();
    let bare = json!({"metadata": {"labels": null, "annotations": {"replication.redis/history": null}}});
    for ordinal in [1, 2] {
        let claim = format!("data-{}", stage.set.name.pod(ordinal));
        claims.patch(&claim, &PatchParams::default(), &Patch::Merge(&bare)).await?;
    }
    let missing = format!("data-{}", stage.home());
    claims.delete(&missing, &DeleteParams::default()).await?;
    until(LIMIT, "one claim is gone", async || Ok(claims.get_opt(&missing).await?.is_none())).await?;
    let records = lab.api::<ConfigMap>();
    if records.get_opt(&stage.set.name.record()).await?.is_some() {
        records.delete(&stage.set.name.record(), &DeleteParams::default()).await?;
    }
    stage.begin_anew();
    stage.set.apply(lab, &stage.spec).await?;
    stage.replaced(disturbed, &stage.home(), &before).await?;
    stage.client.follow_service(lab, &stage.set).await
}

/// How long the primary's node is away.
const AWAY: Duration = Duration::from_secs(600);
/// Until a person loses patience and deletes the Pod by force.
const PATIENCE: Duration = Duration::from_secs(50);
/// What the operator gives the kubelet after the node's return, and some.
const KUBELET: Duration = Duration::from_secs(400);

/// The primary's node is cut off from everything for ten minutes, and its Pod is deleted by force meanwhile. Its Redis runs on,
/// also for a while after the node is back: nobody may be promoted beside it.
pub async fn node_away(stage: &Stage<'_>) -> Result<(), Failure> {
    let primary = silence::apart(stage).await?;
    let (node, uid, process) = (stage.node(&primary)?, stage.uid(&primary)?, stage.process(&primary)?);
    let epoch = async || Ok::<_, Failure>(stage.set.status()?.primary.map_or(0, |primary| primary.epoch));
    let before = epoch().await?;
    let cut = Cut::of_node(stage.lab, &node)?;
    let disturbed = stage.disturb();
    stage.broken(disturbed).await?;
    tokio::time::sleep(PATIENCE).await;
    let by_force = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    stage.lab.api::<Pod>().delete(&primary, &by_force).await?;
    stage.replaced(disturbed, &primary, &uid).await?;
    tokio::time::sleep(AWAY.saturating_sub(PATIENCE)).await;
    drop(cut);
    let returned = now();
    println!("  {node} is back after {} s", millis(disturbed, returned) / 1000);
    until(KUBELET, "another epoch", async || {
        let elected = epoch().await? != before;
        if elected && process.is_there() {
            return Err(format!(
                "a primary was elected beside the former process of {primary}, which still runs"
            )
            .into());
        }
        Ok(elected)
    })
    .await?;
    println!("  elected {} s after the node's return", millis(returned, now()) / 1000);
    ask_for(stage, None).await
}
