//! The operator's own Pods: their death, and their return.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use rig::{
    Failure,
    cluster::lab::{Lab, OPERATOR_NAMESPACE, until},
    machine::Process,
};

/// What becomes of the operator while a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Fate {
    /// It is left alone.
    Left,
    /// The process that leads is killed.
    LeaderKilled,
    /// All its processes are killed at once.
    AllKilled,
    /// The Pod that leads is deleted.
    LeaderDeleted,
}

impl Fate {
    /// In a few words, for the table.
    pub fn text(self) -> &'static str {
        match self {
            Self::Left => "",
            Self::LeaderKilled => "leader killed",
            Self::AllKilled => "both killed",
            Self::LeaderDeleted => "leader's pod deleted",
        }
    }

    /// Does it.
    pub async fn befall(self, lab: &Lab) -> Result<(), Failure> {
        let (leader, pod) = lab.leader().await?;
        match self {
            Self::Left => Ok(()),
            Self::LeaderKilled => leader.kill(),
            Self::AllKilled => {
                leader.kill()?;
                for other in pods(lab).await?.iter().filter(|other| other.name_any() != pod.name_any()) {
                    Process::of_pod(&other.uid().unwrap_or_default(), "redis-operator")?.kill()?;
                }
                Ok(())
            }
            Self::LeaderDeleted => delete(lab, &pod).await,
        }
    }
}

/// All of its Pods.
pub async fn pods(lab: &Lab) -> Result<Vec<Pod>, Failure> {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    let labels = ListParams::default().labels("app.kubernetes.io/component=operator");
    Ok(pods.list(&labels).await?.items)
}

/// Ends all of the operator's Pods; returns how many are wanted, by Deployment.
pub async fn stop(lab: &Lab) -> Result<Vec<(String, i32)>, Failure> {
    let deployments: Api<Deployment> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    let mut wanted = Vec::new();
    for deployment in deployments.list(&ListParams::default()).await? {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        wanted.push((deployment.name_any(), replicas));
    }
    for (name, _) in &wanted {
        scale(lab, name, 0).await?;
    }
    until(Duration::from_secs(60), "the operator's Pods are gone", async || Ok(pods(lab).await?.is_empty()))
        .await?;
    Ok(wanted)
}

/// Starts them again.
pub async fn start(lab: &Lab, wanted: Vec<(String, i32)>) -> Result<(), Failure> {
    for (name, replicas) in wanted {
        scale(lab, &name, replicas).await?;
    }
    restore(lab).await
}

async fn scale(lab: &Lab, deployment: &str, replicas: i32) -> Result<(), Failure> {
    let deployments: Api<Deployment> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    deployments.patch(deployment, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Gives every Pod whose container was restarted a successor, since the kubelet restarts a container that ended within
/// the last ten minutes late only, and every Pod that shares a node with another; then waits until all of them are ready and one leads.
pub async fn restore(lab: &Lab) -> Result<(), Failure> {
    let mut taken = BTreeSet::new();
    let is_going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    for pod in pods(lab).await?.into_iter().filter(|pod| !is_going(pod)) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let is_crowded = node.is_some_and(|node| !taken.insert(node));
        if restarts(&pod) > 0 || is_crowded {
            delete(lab, &pod).await?;
        }
    }
    ready(lab).await
}

/// Makes all of its Pods again on one node, where they are not there already. [`restore`] spreads them again.
pub async fn gather(lab: &Lab, node: &str) -> Result<(), Failure> {
    let is_there = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref() == Some(node));
    let before = pods(lab).await?;
    if before.iter().all(is_there) {
        return Ok(());
    }
    let gathered = async {
        let nodes = Api::<Node>::all(lab.client.clone());
        for other in nodes.list(&ListParams::default()).await?.iter().filter(|other| other.name_any() != node)
        {
            nodes.cordon(&other.name_any()).await?;
        }
        for pod in before.iter().filter(|pod| !is_there(pod)) {
            delete(lab, pod).await?;
        }
        ready(lab).await
    };
    let gathered = gathered.await;
    lab.uncordon().await?;
    gathered
}

async fn delete(lab: &Lab, pod: &Pod) -> Result<(), Failure> {
    let api: Api<Pod> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    api.delete(&pod.name_any(), &DeleteParams::default()).await?;
    Ok(())
}

/// Waits until all of its Pods are ready, and one leads.
async fn ready(lab: &Lab) -> Result<(), Failure> {
    let deployments: Api<Deployment> = Api::namespaced(lab.client.clone(), OPERATOR_NAMESPACE);
    until(Duration::from_secs(120), "all of the operator's Pods are ready, and one leads", async || {
        let found = deployments.list(&ListParams::default()).await?;
        let all_ready = found.iter().filter_map(|deployment| deployment.status.as_ref()).all(|status| {
            status.ready_replicas.is_some()
                && status.ready_replicas == status.replicas
                && status.unavailable_replicas.unwrap_or(0) == 0
        });
        // Pods that are going have their deletion written down; they count no more.
        let going = pods(lab).await?.iter().any(|pod| pod.metadata.deletion_timestamp.is_some());
        Ok(all_ready && !going && lab.leader().await.is_ok())
    })
    .await
}

/// How often the containers of a Pod were restarted.
pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}
