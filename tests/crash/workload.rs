//! What a user, or a fault, does to a set: each is run undisturbed, and with the operator killed at each of its calls.

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use operator_core::{api::RedisReplicaSet, names::SWITCHOVER_TO};
use redis_node::{files::RECORD_KEY, info, record::Record};
use serde_json::{Value, json};

use crate::writer::Writer;
use rig::{
    local::kubelet::{Kubelet, NO_IMAGE},
    local::operator::until,
    local::sets::apply_with,
};

/// Name of the set.
pub const NAME: &str = "redis";

/// How long a step of the user may have to wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// A set of three is created.
    Create,
    /// 3 → 5 → 2, and the primary is among those who go.
    Scale,
    /// The pod template changes.
    Roll,
    /// The primary is moved to another pod and back.
    Switchover,
    /// The primary's process is killed.
    Failover,
    /// An image that cannot be pulled, and back again.
    BadSpec,
    /// Deleted and created again at once; the volumes stay.
    Recreate,
}

/// All of them.
pub const WORKLOADS: [Workload; 7] = [
    Workload::Create,
    Workload::Scale,
    Workload::Roll,
    Workload::Switchover,
    Workload::Failover,
    Workload::BadSpec,
    Workload::Recreate,
];

/// What a workload works on.
pub struct Subject {
    /// The sets of its namespace.
    pub sets: Api<RedisReplicaSet>,
    /// The pods of its namespace.
    pub pods: Api<Pod>,
    /// The record is one of these.
    pub config_maps: Api<ConfigMap>,
    /// What runs them.
    pub kubelet: Arc<Kubelet>,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Scale => "scale",
            Self::Roll => "roll",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::BadSpec => "bad-spec",
            Self::Recreate => "recreate",
        })
    }
}

impl Workload {
    /// Brings the set to where the workload begins; the operator is not killed here.
    pub async fn prepare(self, subject: &Subject) {
        if self != Self::Create {
            subject.apply(json!({"replicas": 3})).await;
            until("the set is ready", PATIENCE, async || subject.ready(3).await).await;
            until("both replicas may vote", PATIENCE, async || subject.voters(2).await).await;
        }
    }

    /// Does it. The end of it is the operator's affair.
    pub async fn act(self, subject: &Subject, writer: &Writer) {
        match self {
            Self::Create => subject.apply(json!({"replicas": 3})).await,
            Self::Scale => {
                subject.apply(json!({"replicas": 5})).await;
                until("five are ready", PATIENCE, async || subject.ready(5).await).await;
                // What is to be removed then is the primary.
                subject.apply_at("redis-4", json!({"replicas": 5})).await;
                until("redis-4 is the primary", PATIENCE, async || subject.primary("redis-4").await).await;
                subject.apply(json!({"replicas": 2})).await;
            }
            Self::Roll => {
                subject.apply(json!({"replicas": 3, "podAnnotations": {"example.com/restarted": "1"}})).await;
            }
            Self::Switchover => {
                subject.apply_at("redis-1", json!({"replicas": 3})).await;
                until("redis-1 is the primary", PATIENCE, async || subject.primary("redis-1").await).await;
                subject.apply(json!({"replicas": 3})).await;
            }
            Self::Failover => {
                let kill = async || {
                    // Who is elected goes by the offsets; they are to be the same in every run.
                    until("the replicas have all of it", PATIENCE, async || subject.replicated()).await;
                    subject.kubelet.kill_redis("redis-0");
                };
                writer.paused(kill).await;
            }
            Self::BadSpec => {
                let image = format!("localhost/{NO_IMAGE}:1");
                subject.apply(json!({"replicas": 3, "image": image})).await;
                until("a pod cannot start", PATIENCE, async || subject.stuck().await).await;
                subject.apply(json!({"replicas": 3})).await;
            }
            Self::Recreate => {
                let delete = async || {
                    until("the replicas have all of it", PATIENCE, async || subject.replicated()).await;
                    subject.sets.delete(NAME, &DeleteParams::default()).await.unwrap();
                    until("it is gone", PATIENCE, async || {
                        subject.sets.get_opt(NAME).await.unwrap().is_none().then_some(())
                    })
                    .await;
                    subject.apply(json!({"replicas": 3})).await;
                };
                writer.paused(delete).await;
            }
        }
    }
}

/// Whether the status says that all is as the present spec wants it, and that nothing is waited for.
pub fn is_settled(set: &RedisReplicaSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        let says =
            |type_: &str, is: &str| status.conditions.iter().any(|c| c.type_ == type_ && c.status == is);
        status.observed_generation == set.metadata.generation
            && says("Ready", "True")
            && says("Progressing", "False")
    })
}

impl Subject {
    /// With a home for the primary, so that every run ends with the same one, and at once: without being asked, it
    /// returns home only to a pod that has been up for a while.
    async fn apply(&self, spec: Value) {
        self.apply_at("redis-0", spec).await;
    }

    async fn apply_at(&self, home: &str, spec: Value) {
        apply_with(&self.sets, NAME, json!({ SWITCHOVER_TO: home }), spec).await;
    }

    async fn primary(&self, pod: &str) -> Option<()> {
        let set = self.sets.get(NAME).await.unwrap();
        (is_settled(&set) && set.status?.primary?.pod == pod).then_some(())
    }

    /// Whether the record has this many voters: the last thing that a set at rest waits for.
    async fn voters(&self, count: usize) -> Option<()> {
        let record = self.config_maps.get_opt(&format!("{NAME}-record")).await.unwrap()?.data?;
        let record: Record = serde_json::from_str(&record[RECORD_KEY]).unwrap();
        (record.voters.len() == count).then_some(())
    }

    /// Whether the status says that all is as the present spec wants it, with this many pods.
    async fn ready(&self, pods: i32) -> Option<()> {
        let set = self.sets.get(NAME).await.unwrap();
        (is_settled(&set) && set.status?.ready_replicas == pods).then_some(())
    }

    /// Whether a pod waits for an image in vain.
    async fn stuck(&self) -> Option<()> {
        let pods = self.pods.list(&ListParams::default()).await.unwrap();
        let waits = |pod: &Pod| {
            let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
            statuses.iter().find_map(|status| status.state.as_ref()?.waiting.as_ref()).map(|_| ())
        };
        pods.iter().find_map(waits)
    }

    /// Whether every replica has all that the primary has.
    fn replicated(&self) -> Option<()> {
        let text: String = self.kubelet.command("redis-0", &["INFO", "replication"]).ok()?;
        let primary = info::parse_replication(&text).ok()?;
        let all = primary.replicas.len() == 2 && primary.replicas.iter().all(|r| r.offset == primary.offset);
        all.then_some(())
    }
}
