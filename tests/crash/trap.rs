//! Counts the calls by which the operator changes something, and kills it at a chosen one.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tokio::sync::Notify;

use rig::local::operator::Operator;

/// What an operator says that ends because it could not renew its Lease.
const LEASE_LOST: &str = "the Lease redis-operator could not be renewed";

/// When, in the course of a call, the operator is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// The call never reaches the server.
    Before,
    /// The call took effect, and the operator never learns of it.
    Unanswered,
    /// The operator has the answer, and no time to do anything with it.
    Answered,
}

/// All of them.
pub const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Unanswered, Moment::Answered];

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Unanswered => "before the answer of",
            Self::Answered => "after",
        })
    }
}

/// One call: what it says, and the how-manieth of its kind it is, from 1. Two runs need not make the same calls in the
/// same order, so a number alone would mean another call each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// `PATCH services/redis-headless`, `redis-0 REPLICAOF NO ONE`.
    pub what: String,
    /// 1 for the first.
    pub occurrence: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}", self.what, self.occurrence)
    }
}

/// Where the operator is to be killed.
#[derive(Clone, Debug)]
pub struct Target {
    /// The call.
    pub call: Call,
    /// The moment.
    pub moment: Moment,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "killed {} {}", self.moment, self.call)
    }
}

/// The operator's processes of one run, one at a time, and what they did.
pub struct Trap {
    kubeconfig: PathBuf,
    namespace: String,
    leases: Api<Lease>,
    state: Mutex<State>,
    sprung: Notify,
}

struct State {
    /// The last one is the one that runs. The others' logs may be wanted.
    operators: Vec<Operator>,
    /// Calls count from now on.
    armed: bool,
    target: Option<Target>,
    /// The target was reached.
    killed: bool,
    /// Operators that ended because their Lease could not be renewed in time, which a crowded machine does to them.
    deposed: usize,
    /// What an operator said that ended by itself for another reason.
    failed: Vec<String>,
    seen: BTreeMap<String, usize>,
    calls: Vec<Call>,
    last_call: Instant,
}

impl Trap {
    /// Starts the operator with this kubeconfig in this namespace.
    pub fn start(kubeconfig: PathBuf, namespace: &str, client: Client) -> Self {
        let state = State {
            operators: vec![Operator::start_with(&kubeconfig, namespace, "operator")],
            armed: false,
            target: None,
            killed: false,
            deposed: 0,
            failed: Vec::new(),
            seen: BTreeMap::new(),
            calls: Vec::new(),
            last_call: Instant::now(),
        };
        let leases = Api::namespaced(client, namespace);
        let namespace = namespace.to_owned();
        Self { kubeconfig, namespace, leases, state: Mutex::new(state), sprung: Notify::new() }
    }

    /// Counts calls from now on; kills at the target, if there is one.
    pub fn arm(&self, target: Option<Target>) {
        let mut state = self.state();
        (state.armed, state.target, state.last_call) = (true, target, Instant::now());
    }

    /// Counts a call that is about to be made. `Some`: the operator is to be killed at this one, at this moment.
    pub fn meets(&self, what: String) -> Option<Moment> {
        let mut state = self.state();
        state.last_call = Instant::now();
        if !state.armed {
            return None;
        }
        let occurrence = state.seen.entry(what.clone()).or_default();
        *occurrence += 1;
        let call = Call { what, occurrence: *occurrence };
        let moment = state.target.as_ref().filter(|target| target.call == call).map(|target| target.moment);
        state.calls.push(call);
        moment
    }

    /// Kills the operator; returns when its process is gone.
    pub fn spring(&self) {
        let mut state = self.state();
        (state.target, state.killed) = (None, true);
        state.operators.last_mut().unwrap().kill();
        self.sprung.notify_one();
    }

    /// The same in a moment, when the answer that was just handed over has reached the operator.
    pub fn spring_soon(self: &std::sync::Arc<Self>) {
        let trap = std::sync::Arc::clone(self);
        tokio::spawn(async move {
            // Nobody says when it has: what comes of it is another call, which is another target.
            tokio::time::sleep(Duration::from_millis(2)).await;
            trap.spring();
        });
    }

    /// Starts another operator each time that one was killed, or ended by itself, under the same name, as the kubelet
    /// does.
    pub async fn restart(&self) {
        loop {
            tokio::select! {
                () = self.sprung.notified() => {}
                () = self.ended_by_itself() => {}
            }
            // It would leave the Lease to a standby for some seconds, in which the end of a run could be read.
            self.leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
            let next = Operator::start_with(&self.kubeconfig, &self.namespace, "operator");
            let mut state = self.state();
            state.operators.push(next);
            state.last_call = Instant::now();
        }
    }

    /// Until the operator has ended and nobody had killed it.
    async fn ended_by_itself(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let mut state = self.state();
            let operator = state.operators.last_mut().unwrap();
            if operator.was_killed() || operator.ended().is_none() {
                continue;
            }
            let log = operator.log();
            let last = log.lines().last().unwrap_or_default();
            if last.contains(LEASE_LOST) {
                state.deposed += 1;
            } else {
                state.failed.push(format!("the operator ended by itself: {last}"));
            }
            return;
        }
    }

    /// The calls since it was armed.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Whether the operator was killed where it was to be killed.
    pub fn has_killed(&self) -> bool {
        self.state().killed
    }

    /// How many operators lost their Lease.
    pub fn deposed(&self) -> usize {
        self.state().deposed
    }

    /// What operators said that failed.
    pub fn failed(&self) -> Vec<String> {
        self.state().failed.clone()
    }

    /// Whether nothing was changed, and nobody restarted, for this long.
    pub fn quiet_for(&self, time: Duration) -> bool {
        self.state().last_call.elapsed() >= time
    }

    /// What all the operators wrote.
    pub fn log(&self) -> String {
        let logs: Vec<String> = self.state().operators.iter().map(Operator::log).collect();
        logs.join("--- killed, and started again ---\n")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
