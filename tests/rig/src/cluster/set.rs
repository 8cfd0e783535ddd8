//! One `RedisReplicaSet` under measurement: made, watched, asked, deleted.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::watcher,
};
use operator_core::{
    api::{RedisReplicaSet, RedisReplicaSetStatus},
    names::SetName,
};
use redis_node::files::PASSWORD_KEY;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    Failure,
    clock::now,
    cluster::lab::{Lab, until},
    cluster::log::{Log, Watching, watch},
    node::{InNode, Sync, Target},
};

/// Pods of every set that is measured.
pub const REPLICAS: usize = 3;
/// Domain of the cluster under test.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// The node from whose network the servers are asked.
pub const PROBING_NODE: &str = "node-0";

/// Where a set keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In the Pod.
    Ephemeral,
    /// In a volume for each Pod.
    Volumes,
}

impl Storage {
    /// A spec with that storage, and this image.
    pub fn spec(self, image: &str) -> Value {
        let storage = match self {
            Self::Ephemeral => json!({"ephemeral": {}}),
            // Retention is left at its default, and the volumes are deleted by hand: with `whenDeleted: Delete` the
            // StatefulSet controller writes each new claim once more, the scheduler's own write of it then conflicts,
            // and every Pod waits a second for the scheduler's next try.
            Self::Volumes => json!({"size": "64Mi"}),
        };
        json!({"replicas": REPLICAS, "image": image, "storage": storage})
    }
}

/// A set and everything that is seen of it.
pub struct Set {
    /// Its names.
    pub name: SetName,
    /// Just before it was applied.
    pub applied: Timestamp,
    /// Every state of it.
    pub sets: Watching<RedisReplicaSet>,
    /// Every state of its Pods.
    pub pods: Watching<Pod>,
    /// Every state of its volumes' claims.
    pub claims: Watching<PersistentVolumeClaim>,
    /// What its servers say, asked every 20 ms while [`Set::probe`] is on.
    pub truth: Arc<Log<Sync>>,
    prober: Option<JoinHandle<()>>,
}

impl Drop for Set {
    fn drop(&mut self) {
        self.stop_probing();
    }
}

impl Set {
    /// Watches first, then applies.
    pub async fn create(lab: &Lab, name: &str, spec: &Value) -> Result<Self, Failure> {
        let set_name = SetName::new(lab.namespace, name);
        let by_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let by_label = watcher::Config::default().labels(&format!("app.kubernetes.io/instance={name}"));
        let mut set = Self {
            sets: watch(lab.api(), by_name).await?,
            pods: watch(lab.api(), by_label.clone()).await?,
            claims: watch(lab.api(), by_label).await?,
            truth: Log::new(),
            name: set_name,
            applied: now(),
            prober: None,
        };
        set.applied = now();
        set.apply(lab, spec).await?;
        Ok(set)
    }

    /// Applies a spec as a whole.
    pub async fn apply(&self, lab: &Lab, spec: &Value) -> Result<RedisReplicaSet, Failure> {
        let resource = json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": self.name.name}, "spec": spec,
        });
        let manager = PatchParams::apply("redis-operator-bench");
        Ok(lab.api().patch(&self.name.name, &manager, &Patch::Apply(&resource)).await?)
    }

    /// Changes the image; returns the generation that has it.
    pub async fn set_image(&self, lab: &Lab, image: &str) -> Result<i64, Failure> {
        self.patch(lab, &json!({"spec": {"image": image}})).await
    }

    /// Merges into the resource; returns the generation that has it.
    pub async fn patch(&self, lab: &Lab, patch: &Value) -> Result<i64, Failure> {
        let sets = lab.api::<RedisReplicaSet>();
        let set = sets.patch(&self.name.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        set.metadata.generation.ok_or_else(|| "a set without generation".into())
    }

    /// The first moment at or after `since` at which the status said Ready, about a generation not before this one.
    pub async fn ready(
        &self,
        since: Timestamp,
        generation: i64,
        limit: Duration,
    ) -> Result<Timestamp, Failure> {
        let ready = |set: &RedisReplicaSet| {
            let about = set.status.as_ref()?.observed_generation?;
            (about >= generation && is_ready(set)).then_some(())
        };
        Ok(self.sets.log.find(since, limit, "Ready True", ready).await?.0)
    }

    /// The last status that was seen.
    pub fn status(&self) -> Result<RedisReplicaSetStatus, Failure> {
        let status = self.sets.log.scan(|sets| sets.last().and_then(|(_, set)| set.status.clone()));
        status.ok_or_else(|| "the set has no status".into())
    }

    /// The Pod of the primary of record.
    pub fn primary(&self) -> Result<String, Failure> {
        Ok(self.status()?.primary.ok_or("the set has no primary")?.pod)
    }

    /// A Pod that is a replica.
    pub fn replica(&self) -> Result<String, Failure> {
        let primary = self.primary()?;
        let last =
            (0..REPLICAS).rev().filter_map(|ordinal| Some(self.name.pod(i32::try_from(ordinal).ok()?)));
        last.into_iter().find(|pod| *pod != primary).ok_or_else(|| "the set has no replica".into())
    }

    /// The last state of a Pod that was seen.
    pub fn pod(&self, name: &str) -> Result<Pod, Failure> {
        let last = |pods: &[(Timestamp, Pod)]| {
            pods.iter().rev().find(|(_, pod)| pod.name_any() == name).map(|(_, pod)| pod.clone())
        };
        self.pods.log.scan(last).ok_or_else(|| format!("no Pod {name}").into())
    }

    /// A Pod's Redis.
    pub async fn target(&self, lab: &Lab, pod: &str) -> Result<Target, Failure> {
        let password = self.password(lab).await?;
        let address = address(&self.pod(pod)?).ok_or_else(|| format!("{pod} has no address"))?;
        Ok(Target { pod: pod.to_owned(), address, password })
    }

    /// The password of its servers' default user.
    pub async fn password(&self, lab: &Lab) -> Result<String, Failure> {
        let secret = lab.api::<Secret>().get_opt(&self.name.auth_secret()).await?;
        secret.as_ref().and_then(password_in).ok_or_else(|| "the set has no password".into())
    }

    /// All Pods' Redis.
    pub async fn targets(&self, lab: &Lab) -> Result<Vec<Target>, Failure> {
        let mut targets = Vec::new();
        for ordinal in 0..REPLICAS {
            targets.push(self.target(lab, &self.name.pod(i32::try_from(ordinal)?)).await?);
        }
        Ok(targets)
    }

    /// Begins to ask the servers themselves, each as soon as its Pod has an address, into [`Set::truth`].
    pub fn probe(&mut self, lab: &Lab) -> Result<(), Failure> {
        let truth = Arc::clone(&self.truth);
        let domain = self.name.pod_domain(CLUSTER_DOMAIN);
        let prober =
            InNode::start(&lab.cluster, PROBING_NODE, &["sync", "--domain", &domain], move |sync: Sync| {
                truth.push(sync.at, sync);
            })?;
        self.prober = Some(self.feed(lab, Arc::new(prober), |target| target));
        Ok(())
    }

    /// Tells a program in a node of each Pod's Redis as soon as it has an address, until the task that is returned is
    /// stopped.
    pub fn feed<T: Serialize>(
        &self,
        lab: &Lab,
        program: Arc<InNode>,
        order: impl Fn(Target) -> T + Send + 'static,
    ) -> JoinHandle<()> {
        let (pods, name, secrets) = (Arc::clone(&self.pods.log), self.name.clone(), lab.api::<Secret>());
        tokio::spawn(async move {
            let mut sent = HashSet::new();
            loop {
                let fresh = |pod: &Pod| {
                    let (uid, address) = (pod.uid()?, address(pod)?);
                    (!sent.contains(&(uid.clone(), address.clone()))).then(|| (pod.name_any(), uid, address))
                };
                // Bounded by who stops this task.
                let next = pods.find(Timestamp::MIN, Duration::from_secs(3600), "another Pod", fresh).await;
                let Ok((_, (pod, uid, address))) = next else { return };
                let secret = secrets.get_opt(&name.auth_secret()).await;
                let Some(password) = secret.ok().flatten().as_ref().and_then(password_in) else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                sent.insert((uid, address.clone()));
                if let Err(error) = program.send(&order(Target { pod, address, password })) {
                    eprintln!("  the program in the node has ended: {error}");
                    return;
                }
            }
        })
    }

    /// Ends what [`Set::probe`] began.
    pub fn stop_probing(&mut self) {
        if let Some(prober) = self.prober.take() {
            prober.abort();
        }
    }

    /// Deletes it and waits until its Pods and volumes are gone.
    pub async fn delete(mut self, lab: &Lab) -> Result<(), Failure> {
        self.stop_probing();
        lab.api::<RedisReplicaSet>().delete(&self.name.name, &DeleteParams::default()).await?;
        let mine = ListParams::default().labels(&format!("app.kubernetes.io/instance={}", self.name.name));
        clean(lab, &mine).await
    }
}

/// Whether the status says Ready.
pub fn is_ready(set: &RedisReplicaSet) -> bool {
    let conditions = set.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The Pod's address, once it has one.
pub fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref()?.pod_ip.clone()
}

fn password_in(secret: &Secret) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(PASSWORD_KEY)?;
    String::from_utf8(bytes.clone()).ok()
}

/// Deletes every set that is measured, and waits until their Pods and volumes are gone.
pub async fn delete_all(lab: &Lab) -> Result<(), Failure> {
    let all = ListParams::default();
    lab.api::<RedisReplicaSet>().delete_collection(&DeleteParams::default(), &all).await?;
    clean(lab, &all).await
}

/// Waits until the Pods are gone, deletes their volumes, and waits until these are gone and given back as well: the
/// provisioner's work would otherwise go on beside the next measurement.
async fn clean(lab: &Lab, mine: &ListParams) -> Result<(), Failure> {
    let limit = Duration::from_secs(150);
    until(limit, "the Pods of a deleted set are gone", async || {
        Ok(lab.api::<Pod>().list_metadata(mine).await?.items.is_empty())
    })
    .await?;
    lab.api::<PersistentVolumeClaim>().delete_collection(&DeleteParams::default(), mine).await?;
    let volumes: Api<PersistentVolume> = Api::all(lab.client.clone());
    until(limit, "the volumes of deleted sets are gone", async || {
        let all = volumes.list(&ListParams::default()).await?;
        let mut claims =
            all.iter().filter_map(|volume| volume.spec.as_ref()?.claim_ref.as_ref()?.namespace.as_deref());
        Ok(claims.all(|namespace| namespace != lab.namespace))
    })
    .await
}
