//! The cluster, the operator in it, and a namespace for the sets that are measured.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use operator_core::api::RedisReplicaSet;
use redis_operator::leadership::LEASE_NAME;
use serde_json::json;

use crate::{Failure, cluster::black_hole, machine, machine::Process};

/// Where the operator is installed.
pub const OPERATOR_NAMESPACE: &str = "redis-operator-system";
/// Name of its release and its Deployment.
const RELEASE: &str = "redis-operator";
/// Who the operator is for the API server.
pub const OPERATOR_USER: &str = "system:serviceaccount:redis-operator-system:redis-operator";
/// Nodes whose black holes of an earlier run, if it was killed, are removed at the beginning.
const NODES: [&str; 3] = ["node-0", "node-1", "node-2"];

/// What every measurement needs.
pub struct Lab {
    /// The API.
    pub client: Client,
    /// Sets that are measured live here, and here only.
    pub namespace: &'static str,
    /// The cluster's tool.
    pub cluster: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's audit log.
    pub audit_log: PathBuf,
    /// Redis image that all nodes have.
    pub image: String,
    /// Kubernetes, Redis and operator that were measured, in one line.
    pub versions: String,
}

impl Lab {
    /// Finds the cluster and makes an empty namespace.
    pub async fn enter(namespace: &'static str, image: Option<String>) -> Result<Self, Failure> {
        let cluster: PathBuf = std::env::var_os("CLUSTER").ok_or("set CLUSTER to the cluster's tool")?.into();
        let kubeconfig = match std::env::var_os("KUBECONFIG") {
            Some(path) => PathBuf::from(path),
            None => machine::output(&cluster.to_string_lossy(), &["kubeconfig"])?.trim().into(),
        };
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &options).await?;
        let client = Client::try_from(config)?;
        operator(&client, &kubeconfig).await?;
        let image = match image {
            Some(image) => image,
            None => redis_image(&client).await?,
        };
        let mut lab = Self {
            audit_log: kubeconfig.parent().unwrap_or(Path::new(".")).join("audit.log"),
            cluster,
            kubeconfig,
            namespace,
            image,
            versions: String::new(),
            client,
        };
        lab.versions = lab.versions().await?;
        for node in NODES {
            black_hole::remove_all(&lab.cluster, node)?;
        }
        lab.leave().await?;
        let manifest = serde_json::from_value(json!({
            "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }))?;
        Api::<Namespace>::all(lab.client.clone()).create(&PostParams::default(), &manifest).await?;
        Ok(lab)
    }

    /// Gives back nodes that take no Pods.
    pub async fn uncordon(&self) -> Result<(), Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in nodes.list(&ListParams::default()).await? {
            if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
                let patch = Patch::Merge(json!({"spec": {"unschedulable": null}}));
                nodes.patch(&node.name_any(), &PatchParams::default(), &patch).await?;
            }
        }
        Ok(())
    }

    /// Gives back nodes, and removes the namespace and everything in it.
    pub async fn leave(&self) -> Result<(), Failure> {
        self.uncordon().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(self.namespace).await?.is_none() {
            return Ok(());
        }
        namespaces.delete(self.namespace, &DeleteParams::default()).await?;
        until(Duration::from_secs(180), "the namespace of the measured sets is gone", async || {
            Ok(namespaces.get_opt(self.namespace).await?.is_none())
        })
        .await
    }

    /// An API of that namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Sets that are not measured: with them, figures about the operator at rest are not of rest.
    pub async fn foreign_sets(&self) -> Result<usize, Failure> {
        let all = Api::<RedisReplicaSet>::all(self.client.clone()).list(&ListParams::default()).await?;
        Ok(all.items.iter().filter(|set| set.metadata.namespace.as_deref() != Some(self.namespace)).count())
    }

    /// The process of the operator that leads, and its Pod.
    pub async fn leader(&self) -> Result<(Process, Pod), Failure> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let holder = leases.get(LEASE_NAME).await?.spec.and_then(|spec| spec.holder_identity);
        let holder = holder.filter(|holder| !holder.is_empty()).ok_or("nobody holds the operator's Lease")?;
        let pod = Api::<Pod>::namespaced(self.client.clone(), OPERATOR_NAMESPACE).get(&holder).await?;
        let process = Process::of_pod(&pod.uid().unwrap_or_default(), "redis-operator")?;
        Ok((process, pod))
    }

    async fn versions(&self) -> Result<String, Failure> {
        let server = self.client.apiserver_version().await?.git_version;
        let operators: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let labels = ListParams::default().labels("app.kubernetes.io/component=operator");
        let mut images: Vec<String> = operators
            .list(&labels)
            .await?
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .flat_map(|pod| pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()))
            .map(|container| {
                container.image_id.rsplit(':').next().unwrap_or_default().chars().take(12).collect()
            })
            .collect();
        let count = images.len();
        images.dedup();
        Ok(format!(
            "Kubernetes {server}, Redis image {}, operator {} (image {}, {count} Pods, one leads)",
            self.image,
            env!("CARGO_PKG_VERSION"),
            images.join(", ")
        ))
    }
}

/// Installs the operator as the chart's README says, or restarts one that is installed: it may run an older image of the
/// same tag. Waits until all its Pods are ready.
async fn operator(client: &Client, kubeconfig: &Path) -> Result<(), Failure> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), OPERATOR_NAMESPACE);
    if deployments.get_opt(RELEASE).await?.is_none() {
        println!("installing the operator");
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": OPERATOR_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        let params = PatchParams::apply("rig").force();
        Api::<Namespace>::all(client.clone())
            .patch(OPERATOR_NAMESPACE, &params, &Patch::Apply(&manifest))
            .await?;
        let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
        let chart = crate::repository("charts/redis-operator");
        let (chart, kubeconfig) = (chart.to_string_lossy(), kubeconfig.to_string_lossy());
        let install =
            ["upgrade", "--install", RELEASE, &chart, "--kubeconfig", &kubeconfig, "--set", "image.tag=dev"];
        let into = ["--namespace", OPERATOR_NAMESPACE, "--wait", "--timeout", "120s"];
        machine::output(&helm, &[&install[..], &into[..]].concat())?;
    } else {
        println!("restarting the operator");
        deployments.restart(RELEASE).await?;
    }
    until(Duration::from_secs(120), "all of the operator's Pods are new and ready", async || {
        let deployment = deployments.get(RELEASE).await?;
        let status = deployment.status.unwrap_or_default();
        let is_seen = status.observed_generation == deployment.metadata.generation;
        let all = status.replicas;
        Ok(is_seen && all.is_some() && status.updated_replicas == all && status.ready_replicas == all)
    })
    .await
}

/// The first Redis image that a node has.
async fn redis_image(client: &Client) -> Result<String, Failure> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let images = nodes.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let names = images.flat_map(|image| image.names.iter().flatten());
    let mut redis: Vec<&String> = names.filter(|name| name.starts_with("localhost/redis:")).collect();
    redis.sort();
    Ok((*redis.first().ok_or("no node has an image localhost/redis:VERSION")?).clone())
}

/// Waits until a condition holds, asking every 50 ms, or fails after `limit`.
pub async fn until(
    limit: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + limit;
    while !holds().await? {
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("not seen within {limit:?}: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
