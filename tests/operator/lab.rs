//! A namespace with an operator, stand-ins of kubelets and sets.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
};

use super::*;

/// Password of every set in these tests.
pub const PASSWORD: &str = "correct-horse-battery";

/// A namespace with an operator and kubelets, and its sets.
pub struct Lab {
    pub plane: &'static ControlPlane,
    pub client: Client,
    /// Who the operator is.
    pub user: String,
    pub namespace: &'static str,
    pub sets: Api<RedisReplicaSet>,
    pub claims: Api<PersistentVolumeClaim>,
    pub kubelet: Kubelet,
    pub operator: Operator,
}

impl Lab {
    pub async fn new(namespace: &'static str) -> Self {
        Self::with_config(namespace, "").await
    }

    /// With more lines of redis.conf.
    pub async fn with_config(namespace: &'static str, config: &str) -> Self {
        Self::with(namespace, config, true).await
    }

    /// With an operator that asks for no names: what the primary's own resolver says is not what the operator's would.
    pub async fn that_asks_no_dns(namespace: &'static str) -> Self {
        Self::with(namespace, "", false).await
    }

    async fn with(namespace: &'static str, config: &str, asks: bool) -> Self {
        let (plane, client, user) = plane(namespace).await;
        controllers(plane);
        let kubelet = Kubelet::start_with(client.clone(), namespace, PASSWORD, config);
        let operator = if asks {
            Operator::start_asking(plane, &user, namespace, "only", &kubelet.hosts())
        } else {
            Operator::start(plane, &user, namespace, "only")
        };
        until("it leads", PATIENCE, async || operator.leads().then_some(())).await;
        let sets = Api::namespaced(client.clone(), namespace);
        let claims = Api::namespaced(client.clone(), namespace);
        Self { plane, client, user, namespace, sets, claims, kubelet, operator }
    }

    /// Applies a set whose password is the one that the kubelets run their servers with, and waits until it is Ready.
    pub async fn up(&self, name: &str, spec: Value) {
        let secrets = self.api::<Secret>();
        let secret =
            json!({"metadata": {"name": format!("{name}-auth")}, "stringData": {"password": PASSWORD}});
        // It is a person's, and stays when the set goes.
        let _ = secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await;
        let generation = self.generation(name).await;
        apply(&self.sets, name, spec).await;
        self.ready(name, generation).await;
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Lets the API server refuse every new pod in the namespace, by a quota.
    pub async fn refuse_pods(&self) {
        let none = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
        let quotas = self.api::<ResourceQuota>();
        quotas.create(&PostParams::default(), &serde_json::from_value(none).unwrap()).await.unwrap();
        // What the quota controller does, which does not run here.
        let counted = json!({"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}});
        quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(&counted)).await.unwrap();
        until("pods are refused", PATIENCE, async || (!self.may_make_pods().await).then_some(())).await;
    }

    /// Lets it take them again, and the controller try at once.
    pub async fn take_pods(&self, set: &str) {
        let quotas = self.api::<ResourceQuota>();
        quotas.delete("none", &DeleteParams::default()).await.unwrap();
        until("pods are taken", PATIENCE, async || self.may_make_pods().await.then_some(())).await;
        let again = Patch::Merge(json!({"metadata": {"annotations": {"example.com/again": "now"}}}));
        self.api::<StatefulSet>().patch(set, &PatchParams::default(), &again).await.unwrap();
    }

    /// Asked of admission alone: no pod is made.
    async fn may_make_pods(&self) -> bool {
        let security = json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        let container = json!({"name": "c", "image": "none", "securityContext": security});
        let pod = json!({"metadata": {"name": "tried"}, "spec": {"containers": [container]}});
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        self.api::<Pod>().create(&dry, &serde_json::from_value(pod).unwrap()).await.is_ok()
    }

    /// What a condition of the set `redis` says.
    pub async fn message(&self, condition: &str) -> String {
        let status = self.sets.get("redis").await.unwrap().status.unwrap();
        status.conditions.into_iter().find(|c| c.type_ == condition).unwrap().message
    }

    /// Epoch and pod of the primary of record of the set `redis`.
    pub async fn primary(&self) -> (i64, String) {
        let primary = self.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap();
        (primary.epoch, primary.pod)
    }

    /// Whether the record of the set `redis` names both replicas as voters: without them a silent primary is waited for.
    pub async fn has_votes(&self) -> bool {
        self.voters().await == 2
    }

    /// How many voters the record of the set `redis` names.
    pub async fn voters(&self) -> usize {
        let text = self.record().await.remove("record.json").unwrap_or_default();
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        record["voters"].as_array().map_or(0, Vec::len)
    }

    /// What the set's record holds, key by key.
    pub async fn record(&self) -> BTreeMap<String, String> {
        self.api::<ConfigMap>()
            .get_opt("redis-record")
            .await
            .unwrap()
            .and_then(|map| map.data)
            .unwrap_or_default()
    }

    pub async fn generation(&self, name: &str) -> i64 {
        self.sets.get_opt(name).await.unwrap().and_then(|set| set.metadata.generation).unwrap_or(0)
    }

    /// Waits until a later spec than that of this generation is carried out.
    pub async fn ready(&self, name: &str, after: i64) {
        until(&format!("{name} is Ready as wanted"), Duration::from_secs(60), async || {
            let set = self.sets.get(name).await.unwrap();
            let status = set.status.unwrap_or_default();
            let wanted = status.observed_generation > Some(after) && status.replicas == set.spec.replicas;
            let ready = status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            (wanted && ready).then_some(())
        })
        .await;
    }

    pub async fn epoch(&self, name: &str) -> i64 {
        self.sets.get(name).await.unwrap().status.unwrap().primary.unwrap().epoch
    }

    /// Each claim with what it asks for.
    pub async fn sizes(&self) -> BTreeMap<String, String> {
        let size = |claim: &PersistentVolumeClaim| {
            claim
                .spec
                .as_ref()?
                .resources
                .as_ref()?
                .requests
                .as_ref()?
                .get("storage")
                .map(|size| size.0.clone())
        };
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        claims.iter().map(|claim| (claim.name_any(), size(claim).unwrap())).collect()
    }

    /// What a driver does: every claim gets a volume of the size that it asks for.
    pub async fn provide_volumes(&self) {
        for (claim, size) in self.sizes().await {
            let status = json!({"status": {"phase": "Bound", "capacity": {"storage": size}}});
            self.claims.patch_status(&claim, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// What Events say of data of before.
    pub async fn adopted(&self) -> BTreeSet<String> {
        let events = self.api::<Event>();
        let events = events.list(&ListParams::default()).await.unwrap();
        let notes = events.items.into_iter().filter(|event| event.reason.as_deref() == Some("DataAdopted"));
        notes.filter_map(|event| event.note).collect()
    }

    /// Deletes a set and waits until its pods have ended.
    pub async fn delete(&self) {
        self.sets.delete("redis", &DeleteParams::default()).await.unwrap();
        let pods = self.api::<Pod>();
        until("the pods are gone", PATIENCE, async || uids(&pods).await.is_empty().then_some(())).await;
    }

    pub async fn uids(&self) -> BTreeMap<String, String> {
        let claims = self.claims.list(&ListParams::default()).await.unwrap();
        claims.iter().map(|claim| (claim.name_any(), claim.uid().unwrap())).collect()
    }

    /// Writes keys at the primary, and waits until every replica has them.
    pub async fn write(&self, keys: std::ops::Range<u32>, value: &str, replicas: usize) {
        // Never the same again: a replica that has it has all that was written before.
        static MARKS: AtomicU32 = AtomicU32::new(0);
        let primary = self.sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
        for key in keys {
            let () = self.kubelet.command(&primary, &["SET", &format!("key-{key}"), value]).unwrap();
        }
        let mark = MARKS.fetch_add(1, Ordering::Relaxed).to_string();
        let () = self.kubelet.command(&primary, &["SET", "last", &mark]).unwrap();
        until("every replica has it", PATIENCE, async || {
            (0..=replicas).all(|n| self.value(n, "last") == mark).then_some(())
        })
        .await;
    }

    pub fn value(&self, pod: usize, key: &str) -> String {
        self.kubelet.command(&format!("redis-{pod}"), &["GET", key]).unwrap_or_default()
    }

    /// Every key has this value in every pod, and there is no other.
    ///
    /// A replica that resyncs partially is in sync when it has the history, with the last bytes still on their way; they
    /// are waited for.
    pub async fn assert_keys(&self, pods: usize, keys: u32, value: &str) {
        self.write(0..0, value, pods - 1).await;
        for pod in 0..pods {
            // Clients of a former primary are cut, twice, and this one may be among them.
            let size: u32 = until("it answers", PATIENCE, async || {
                self.kubelet.command(&format!("redis-{pod}"), &["DBSIZE"]).ok()
            })
            .await;
            assert_eq!(size, keys + 1, "redis-{pod}");
            for key in 0..keys {
                let found = until("it answers", PATIENCE, async || {
                    Some(self.value(pod, &format!("key-{key}"))).filter(|found| !found.is_empty())
                })
                .await;
                assert_eq!(found, value, "redis-{pod} key-{key}");
            }
        }
    }
}

/// Pods of the set `redis` that are labelled with a role, by name.
pub async fn by_role(pods: &Api<Pod>, role: &str) -> Vec<String> {
    let selector = format!("app.kubernetes.io/instance=redis,replication.redis/role={role}");
    let found = pods.list(&ListParams::default().labels(&selector)).await.unwrap();
    found.iter().map(ResourceExt::name_any).collect()
}

/// Waits until the primary of record is labelled as that, it alone, and all others as replicas.
pub async fn labels_follow(sets: &Api<RedisReplicaSet>, pods: &Api<Pod>) -> Duration {
    let begun = Instant::now();
    until("the labels follow the status", PATIENCE, async || {
        let status = sets.get("redis").await.unwrap().status?;
        let replicas: Vec<String> = (0..3)
            .map(|n| format!("redis-{n}"))
            .filter(|pod| *pod != status.primary.as_ref().unwrap().pod)
            .collect();
        (by_role(pods, "primary").await == [status.primary?.pod]
            && by_role(pods, "replica").await == replicas)
            .then_some(())
    })
    .await;
    begun.elapsed()
}

/// A pod that is labelled as the primary and is not loses the label, and its clients: at once, and again when nobody
/// is led to it any more.
pub async fn former_clients_are_cut(kubelet: &Kubelet, sets: &Api<RedisReplicaSet>, pods: &Api<Pod>) {
    let primary = sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let replica = by_role(pods, "replica").await.into_iter().find(|pod| *pod != primary).unwrap();
    let is_cut = |client: &mut redis::Connection| {
        redis::cmd("PING").query::<()>(client).is_err_and(|error| error.is_connection_dropped())
    };
    let (mut early, mut of_primary) = (kubelet.client(&replica).unwrap(), kubelet.client(&primary).unwrap());
    let mark = json!({"metadata": {"labels": {"replication.redis/role": "primary"}}});
    pods.patch(&replica, &PatchParams::default(), &Patch::Merge(&mark)).await.unwrap();
    let begun = Instant::now();
    until("its clients are cut", PATIENCE, async || is_cut(&mut early).then_some(())).await;
    let first = begun.elapsed();
    labels_follow(sets, pods).await;

    // One that came back before the Service led it elsewhere.
    let mut late = kubelet.client(&replica).unwrap();
    until("who came back is cut too", PATIENCE, async || is_cut(&mut late).then_some(())).await;
    let second = begun.elapsed();
    until("the mark is gone", PATIENCE, async || {
        let pod = pods.get(&replica).await.unwrap();
        (!pod.annotations().contains_key("replication.redis/demoted-at")).then_some(())
    })
    .await;
    labels_follow(sets, pods).await;
    assert!(!is_cut(&mut of_primary), "the primary's clients stay");
    println!("clients of a demoted pod were cut after {first:.1?}, and again after {second:.1?}");
}

pub async fn uids(pods: &Api<Pod>) -> BTreeSet<String> {
    pods.list(&ListParams::default()).await.unwrap().iter().filter_map(ResourceExt::uid).collect()
}

pub async fn assert_key(kubelet: &Kubelet, sets: &Api<RedisReplicaSet>) {
    let primary = sets.get("redis").await.unwrap().status.unwrap().primary.unwrap().pod;
    let value: String = kubelet.command(&primary, &["GET", "key"]).unwrap();
    assert_eq!(value, "value", "{primary} lost it");
}

/// How often the operator has written a budget.
pub fn budget_writes(lab: &Lab) -> usize {
    let written = requests(lab.plane, &lab.user);
    written.iter().filter(|(verb, to, _)| verb == "patch" && to.ends_with("/poddisruptionbudgets")).count()
}
