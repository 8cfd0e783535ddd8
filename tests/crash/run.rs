//! One run of one workload in a namespace of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    api_proxy::ApiProxy,
    audit::Audit,
    redis_proxy::{RedisProxies, front},
    state::{State, state},
    trap::{Call, Target, Trap},
    workload::{NAME, Subject, Workload, is_settled},
    writer::Writer,
};
use rig::{
    local::control_plane::{ControlPlane, Controllers},
    local::kubelet::Kubelet,
    local::operator::grant,
    local::sets::{create_namespace, install_crd, rustls_provider},
};

/// How long a run may take from the user's last step to its end.
const PATIENCE: Duration = Duration::from_secs(90);
/// The operator has done all that it wants to when it is ready and changed nothing for this long: longer than any of
/// its waits but the slow look at a set that is settled.
const QUIET: Duration = Duration::from_secs(8);
/// Between two readings of everything while the operator does nothing.
const REREAD: Duration = Duration::from_secs(1);
/// Nothing more is to be expected then.
const HOPELESS: Duration = Duration::from_secs(15);
/// What is as undisturbed must stay so for this long.
const STAYS: Duration = Duration::from_secs(1);

/// What all runs share.
pub struct Lab {
    plane: &'static ControlPlane,
    user: String,
    audit: Audit,
    runs: AtomicUsize,
    _controllers: Controllers,
}

/// What came of a run.
pub struct Outcome {
    /// The calls of the workload.
    pub calls: Vec<Call>,
    /// What it left behind.
    pub state: State,
    /// The operator was killed where it was to be killed.
    pub killed: bool,
    /// How often, besides, an operator ended because it could not renew its Lease, and was started again.
    pub deposed: usize,
    /// Keys that were acknowledged, and are all there unless `wrong` says otherwise.
    pub keys: usize,
    /// How long it took from the user's first step.
    pub took: Duration,
    /// What is not as it should be.
    pub wrong: Vec<String>,
}

impl Lab {
    /// Starts the control plane.
    pub async fn start() -> Self {
        rustls_provider();
        let plane = ControlPlane::shared();
        let client = plane.client().await;
        install_crd(&client).await;
        add_node(&client).await;
        let controllers = plane.controllers("statefulset-controller,garbage-collector-controller");
        let (user, runs) = (plane.user(), AtomicUsize::new(0));
        Self { plane, audit: Audit::new(plane, user.clone()), user, runs, _controllers: controllers }
    }

    /// Runs a workload, killing the operator at the target; to the state of the undisturbed run, where there was one.
    pub async fn run(
        &self,
        workload: Workload,
        target: Option<Target>,
        undisturbed: Option<&State>,
    ) -> Outcome {
        let namespace = format!("{workload}-{}", self.runs.fetch_add(1, Ordering::Relaxed));
        let client = self.plane.client().await;
        create_namespace(&client, &namespace).await;
        grant(&client, &self.user, &namespace).await;

        let proxy = ApiProxy::listen().await;
        let kubeconfig = self.plane.kubeconfig_by_way_of(&proxy.url(), &self.user);
        let trap = Arc::new(Trap::start(kubeconfig, &namespace, client.clone()));
        let as_operator = Client::try_from(self.plane.config_of(&self.user).await).unwrap();
        let _serving = proxy.serve(as_operator, Arc::clone(&trap));
        let redis_proxies = Arc::new(RedisProxies::default());
        let front = front(&redis_proxies, &trap);
        let kubelet = Arc::new(Kubelet::start_behind(client.clone(), &namespace, front));
        let subject = Subject {
            sets: Api::namespaced(client.clone(), &namespace),
            pods: Api::namespaced(client.clone(), &namespace),
            config_maps: Api::namespaced(client.clone(), &namespace),
            kubelet: Arc::clone(&kubelet),
        };

        let read = async || state(&self.audit, &client, &namespace, &kubelet).await;
        let work = async {
            workload.prepare(&subject).await;
            let writer = Writer::start(Arc::clone(&kubelet));
            trap.arm(target);
            let begun = Instant::now();
            workload.act(&subject, &writer).await;
            let (state, wrong) = self.end(&trap, &subject, undisturbed, read).await;
            (state, wrong, begun.elapsed(), writer.stop())
        };
        let (state, mut wrong, took, keys) = tokio::select! {
            ended = work => ended,
            () = trap.restart() => unreachable!("it never ends"),
        };
        wrong.extend(check_keys(&kubelet, &keys).await);
        wrong.extend(trap.failed());
        let calls = trap.calls();
        if !wrong.is_empty() || undisturbed.is_none() {
            Self::keep_log(&namespace, &trap, &calls, &wrong);
        }
        Outcome {
            calls,
            state,
            killed: trap.has_killed(),
            deposed: trap.deposed(),
            keys: keys.len(),
            took,
            wrong,
        }
    }

    /// Waits for the end of a run: what is left behind, and how that is not as it was undisturbed.
    async fn end(
        &self,
        trap: &Trap,
        subject: &Subject,
        undisturbed: Option<&State>,
        read: impl AsyncFn() -> State,
    ) -> (State, Vec<String>) {
        let begun = Instant::now();
        let mut read_last: Option<(usize, Instant)> = None;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let is_late = begun.elapsed() >= PATIENCE;
            let quiet = if undisturbed.is_some() && trap.has_killed() { STAYS } else { QUIET };
            if !is_late && !trap.quiet_for(quiet) {
                continue;
            }
            // What was not as undisturbed may become so by itself, but not often.
            let calls = trap.calls().len();
            if read_last.is_some_and(|(then, at)| !is_late && then == calls && at.elapsed() < REREAD) {
                continue;
            }
            let has_settled = is_settled(&subject.sets.get(NAME).await.unwrap());
            let is_over = is_late || has_settled && trap.quiet_for(HOPELESS);
            if !has_settled && !is_over {
                continue;
            }
            let state = read().await;
            read_last = Some((calls, Instant::now()));
            let mut wrong = undisturbed.map_or_else(Vec::new, |undisturbed| undisturbed.differences(&state));
            if is_over && !has_settled {
                wrong.push(format!("not as the spec wants it within {PATIENCE:?}"));
            }
            if is_over || wrong.is_empty() {
                return (state, wrong);
            }
        }
    }

    /// Everything that helps to understand what went wrong.
    fn keep_log(namespace: &str, trap: &Trap, calls: &[Call], wrong: &[String]) {
        let mut text = String::new();
        for part in wrong {
            let _ = writeln!(text, "{part}");
        }
        for call in calls {
            let _ = writeln!(text, "call {call}");
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{namespace}.log"));
        std::fs::write(&path, text + &trap.log()).unwrap();
        if !wrong.is_empty() {
            println!("log of the operator: {}", path.display());
        }
    }
}

/// The node that all pods are bound to, ready: one that does not exist would prove that nothing runs there.
async fn add_node(client: &Client) {
    let nodes = Api::<Node>::all(client.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": "node"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.patch_status("node", &PatchParams::default(), &Patch::Merge(&ready)).await.unwrap();
}

/// Every acknowledged key is on every server, and all have the same.
async fn check_keys(kubelet: &Kubelet, acknowledged: &[String]) -> Vec<String> {
    let wanted: BTreeSet<&String> = acknowledged.iter().collect();
    let begun = Instant::now();
    loop {
        let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for pod in kubelet.pods() {
            let keys: Vec<String> = kubelet.command(&pod, &["KEYS", "*"]).unwrap_or_default();
            held.insert(pod, keys.into_iter().collect());
        }
        let everything: BTreeSet<&String> = held.values().flatten().chain(wanted.iter().copied()).collect();
        let wrong: Vec<String> = held
            .iter()
            .filter(|(_, keys)| keys.len() < everything.len())
            .map(|(pod, keys)| {
                let lost = wanted.iter().filter(|key| !keys.contains(**key)).count();
                format!(
                    "{pod} lacks {lost} of {} acknowledged keys, and has {} of {}",
                    wanted.len(),
                    keys.len(),
                    everything.len()
                )
            })
            .collect();
        // The last writes may still be on their way.
        if wrong.is_empty() || begun.elapsed() > Duration::from_secs(5) {
            return wrong;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
