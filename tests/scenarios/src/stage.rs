//! What a scenario plays on: a set that is settled, its clients, and what can be done to and seen of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{ResourceExt, api::ListParams};
use operator_core::{api::RedisReplicaSet, observed::pod::has_new_address};
use redis_node::{files::RECORD_KEY, record::Record};
use serde_json::Value;

use crate::{
    client::{Client, service_of},
    inside::Took,
    node::{Asked, Span},
    scenario::Kind,
    truth::{Change, longest_false_ready},
};
use rig::node::{InNode, Sync, Target};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::lab::{Lab, until},
    cluster::log::Log,
    cluster::set::{PROBING_NODE, Set, is_ready},
    machine::{Process, output},
};

/// Until what must happen by itself has happened.
pub const LIMIT: Duration = Duration::from_secs(150);
/// For how long a DNS answer may be out of date: the chart's `dnsStaleSeconds`, and a second.
const DNS_STALE: Duration = Duration::from_secs(36);
/// How long a set must stay as it is wanted before it counts as settled.
const STEADY_MILLIS: i64 = 1_000;

/// A set under a scenario.
pub struct Stage<'a> {
    /// The cluster.
    pub lab: &'a Lab,
    /// The set.
    pub set: Set,
    /// Where it keeps its data.
    pub kind: Kind,
    /// Its spec as it was applied.
    pub spec: Value,
    /// Who writes to it.
    pub client: Client,
    /// Counts the times that the scenario is played on this set, from 0.
    pub round: usize,
    /// What was noted while it was played.
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    begun: Option<Timestamp>,
    disturbed: Option<Timestamp>,
    window: Option<Timestamp>,
    windows: Vec<Span>,
    took: Vec<Took>,
}

impl<'a> Stage<'a> {
    /// A set that is Ready, with clients that do not write yet.
    pub fn new(lab: &'a Lab, set: Set, kind: Kind, spec: Value, client: Client) -> Self {
        Self { lab, set, kind, spec, client, round: 0, notes: Mutex::default() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the moment just before the disturbance.
    pub fn disturb(&self) -> Timestamp {
        let at = now();
        self.notes().disturbed = Some(at);
        at
    }

    /// What the status said until now is not held against it: there is a new one.
    pub fn begin_anew(&self) {
        self.notes().begun = Some(now());
    }

    /// The longest time for which the status said Ready and the servers did not, in milliseconds.
    pub fn false_ready(&self) -> i64 {
        let begun = self.notes().begun.unwrap_or(Timestamp::MIN);
        longest_false_ready(self.changes(), begun, now())
    }

    /// When this round's disturbance began, if it did.
    pub fn disturbed(&self) -> Option<Timestamp> {
        self.notes().disturbed
    }

    /// Gaps from now on are counted apart from those before.
    pub fn window(&self) {
        let mut notes = self.notes();
        let at = now();
        let open = notes.window.replace(at);
        notes.windows.extend(open.map(|from| Span { from, to: at }));
    }

    /// What was until now is not the scenario's: gaps are counted from now on.
    pub fn forget(&self) {
        self.notes().window = Some(now());
    }

    /// Begins a round.
    pub fn begin(&mut self, round: usize) {
        self.round = round;
        let mut notes = self.notes();
        notes.disturbed = None;
        notes.window = Some(now());
    }

    /// Ends a round.
    pub fn end(&self) {
        self.window();
        self.notes().window = None;
    }

    /// All windows until now.
    pub fn windows(&self) -> Vec<Span> {
        self.notes().windows.clone()
    }

    /// Notes until when a server that was cut off took writes.
    pub fn took(&self, took: Took) {
        self.notes().took.push(took);
    }

    /// Until when servers that were cut off took writes.
    pub fn all_taken(&self) -> Vec<Took> {
        self.notes().took.clone()
    }

    /// The Pod where the primary belongs.
    pub fn home(&self) -> String {
        self.set.name.pod(0)
    }

    /// The resource as it was seen last.
    fn resource(&self) -> Result<RedisReplicaSet, Failure> {
        let last = self.set.sets.log.scan(|sets| sets.last().map(|(_, set)| set.clone()));
        last.ok_or_else(|| "the set was never seen".into())
    }

    /// All members that the spec asks for.
    pub fn members(&self) -> Result<Vec<String>, Failure> {
        Ok((0..self.resource()?.spec.replicas).map(|ordinal| self.set.name.pod(ordinal)).collect())
    }

    /// UID of a Pod.
    pub fn uid(&self, pod: &str) -> Result<String, Failure> {
        self.set.pod(pod)?.uid().ok_or_else(|| format!("{pod} has no UID").into())
    }

    /// Node of a Pod.
    pub fn node(&self, pod: &str) -> Result<String, Failure> {
        let node = self.set.pod(pod)?.spec.and_then(|spec| spec.node_name);
        node.ok_or_else(|| format!("{pod} has no node").into())
    }

    /// The Redis process of a Pod.
    pub fn process(&self, pod: &str) -> Result<Process, Failure> {
        Process::of_pod(&self.uid(pod)?, "redis-server")
    }

    /// The Pods that there are.
    pub async fn pods(&self) -> Result<Vec<Pod>, Failure> {
        let mine =
            ListParams::default().labels(&format!("app.kubernetes.io/instance={}", self.set.name.name));
        Ok(self.lab.api::<Pod>().list(&mine).await?.items)
    }

    /// The Pods that there are, with their UIDs.
    pub async fn uids(&self) -> Result<BTreeMap<String, String>, Failure> {
        let pods = self.pods().await?;
        Ok(pods.iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect())
    }

    /// Waits until every Pod's name leads to it everywhere. In the half minute before, the operator hands the role to none of
    /// them: its death would come before what it is to be in the middle of.
    pub async fn found_by_name(&self) -> Result<(), Failure> {
        until(LIMIT, "every Pod's address is older than a DNS answer may be", async || {
            Ok(!self.pods().await?.iter().any(|pod| has_new_address(pod, now(), DNS_STALE)))
        })
        .await
    }

    /// Waits until a Pod of this name has another UID.
    pub async fn replaced(&self, since: Timestamp, pod: &str, before: &str) -> Result<(), Failure> {
        let is_new = |found: &Pod| {
            (found.name_any() == pod && found.uid().is_some_and(|uid| uid != before)).then_some(())
        };
        let what = format!("there is a new Pod {pod}");
        self.set.pods.log.find(since, LIMIT, &what, is_new).await.map(|_| ())
    }

    /// Waits until every Pod is a new one and is as wanted.
    pub async fn all_replaced(
        &self,
        before: &BTreeMap<String, String>,
        is_wanted: impl Fn(&Pod) -> bool,
    ) -> Result<(), Failure> {
        let wanted = self.members()?.len();
        until(LIMIT, "every Pod is a new one, and as wanted", async || {
            let pods = self.pods().await?;
            let is_new = |pod: &Pod| before.get(&pod.name_any()) != pod.uid().as_ref();
            Ok(pods.len() == wanted && pods.iter().all(|pod| is_new(pod) && is_wanted(pod)))
        })
        .await
    }

    /// Waits until the servers show that one of them serves or follows no more.
    pub async fn broken(&self, since: Timestamp) -> Result<(), Failure> {
        let wanted = self.members()?.len();
        let is_broken = |sync: &Sync| (!is_whole(sync, wanted)).then_some(());
        self.set.truth.find(since, LIMIT, "the servers show the disturbance", is_broken).await.map(|_| ())
    }

    /// Waits until the servers show that one serves and all others follow it.
    pub async fn whole(&self) -> Result<(), Failure> {
        let wanted = self.members()?.len();
        until(LIMIT, "one serves and all others follow it", async || {
            Ok(self.set.truth.scan(|truth| truth.last().is_some_and(|(_, sync)| is_whole(sync, wanted))))
        })
        .await
    }

    /// Waits until the record names every replica as a voter: it may then be decided without the primary (rule 4b of
    /// docs/design/protocol.md).
    pub async fn all_vote(&self) -> Result<(), Failure> {
        let wanted = self.members()?.len() - 1;
        until(LIMIT, "every replica is a voter", async || {
            let record = self.lab.api::<ConfigMap>().get(&self.set.name.record()).await?;
            let text = record.data.as_ref().and_then(|data| data.get(RECORD_KEY));
            let record: Option<Record> = text.map(|text| serde_json::from_str(text)).transpose()?;
            Ok(record.is_some_and(|record| record.voters.len() >= wanted))
        })
        .await
    }

    /// Waits until the record belongs to every Pod's claim too.
    pub async fn kept_by_claims(&self) -> Result<(), Failure> {
        let wanted = self.members()?.len();
        until(LIMIT, "every claim keeps the record", async || {
            let record = self.lab.api::<ConfigMap>().get(&self.set.name.record()).await?;
            let claims = record.owner_references().iter().filter(|o| o.kind == "PersistentVolumeClaim");
            Ok(claims.count() >= wanted)
        })
        .await
    }

    /// Who served first after a moment in place of this Pod, and when; none where nobody did.
    pub fn successor(&self, pod: &str, since: Timestamp) -> Option<(String, Timestamp)> {
        self.set.truth.scan(|truth| {
            let later = truth.iter().filter(|(at, _)| *at >= since);
            later.filter_map(|(at, sync)| Some((sync.primary.clone()?, *at))).find(|(found, _)| found != pod)
        })
    }

    /// Waits until this Pod is the primary of record.
    pub async fn serves(&self, pod: &str) -> Result<(), Failure> {
        until(LIMIT, &format!("{pod} is the primary"), async || {
            Ok(self.set.status()?.primary.is_some_and(|primary| primary.pod == pod))
        })
        .await
    }

    /// Waits until another Pod than this one is the primary of record and serves; returns it.
    pub async fn another_serves(&self, pod: &str) -> Result<String, Failure> {
        let mut other = String::new();
        let what = format!("another than {pod} serves");
        let serves = until(LIMIT, &what, async || {
            let truth = self.set.truth.scan(|truth| truth.last().and_then(|(_, sync)| sync.primary.clone()));
            let record = self.set.status()?.primary.map(|primary| primary.pod);
            other = truth.clone().unwrap_or_default();
            Ok(truth.is_some() && truth == record && other != pod)
        });
        serves.await.map_err(|error| format!("{error}; {}", self.says()))?;
        Ok(other)
    }

    /// Waits until the status says Ready about the latest spec with this primary, or with any, all servers say the same,
    /// and both stay so; returns since when.
    pub async fn settled(&self, primary: Option<&str>) -> Result<Timestamp, Failure> {
        let mut since: Option<Timestamp> = None;
        let is_wanted = |found: &str| primary.is_none_or(|primary| primary == found);
        let what = format!("settled with the primary {}", primary.unwrap_or("that there is"));
        let steady = until(LIMIT, &what, async || {
            let set = self.resource()?;
            let wanted = self.members()?.len();
            let status = set.status.as_ref();
            let said = is_ready(&set)
                && status.is_some_and(|status| {
                    status.observed_generation == set.metadata.generation
                        && status.primary.as_ref().is_some_and(|record| is_wanted(&record.pod))
                });
            let is_true = self.set.truth.scan(|truth| {
                truth.last().is_some_and(|(_, sync)| {
                    is_whole(sync, wanted) && sync.primary.as_deref().is_some_and(is_wanted)
                })
            });
            since = (said && is_true).then(|| since.unwrap_or_else(now));
            Ok(since.is_some_and(|since| millis(since, now()) >= STEADY_MILLIS))
        });
        steady.await.map_err(|error| format!("{error}; {}", self.says()))?;
        since.ok_or_else(|| "never settled".into())
    }

    /// What the status and the servers say now.
    fn says(&self) -> String {
        let conditions = self.set.status().map(|status| status.conditions).unwrap_or_default();
        let said: Vec<String> = conditions
            .iter()
            .map(|condition| {
                format!(
                    "{} {} {}: {}",
                    condition.type_, condition.status, condition.reason, condition.message
                )
            })
            .collect();
        let truth = self.set.truth.scan(|truth| format!("{:?}", truth.last().map(|(_, sync)| sync)));
        format!("the status says: {}; the servers say: {truth}", said.join("; "))
    }

    /// What the status said and what the servers were, whenever one of them changed.
    fn changes(&self) -> Vec<(Timestamp, Change)> {
        let said = |set: &RedisReplicaSet| {
            let status = set.status.as_ref().filter(|_| is_ready(set))?;
            usize::try_from(status.ready_replicas).ok()
        };
        let are = |sync: &Sync| sync.primary.as_ref().map_or(0, |_| sync.replicas.len() + 1);
        let mut changes: Vec<_> = self
            .set
            .sets
            .log
            .scan(|sets| sets.iter().map(|(at, set)| (*at, Change::Said(said(set)))).collect());
        self.set.truth.scan(|truth| {
            changes.extend(truth.iter().map(|(at, sync)| (*at, Change::Are(are(sync)))));
        });
        changes
    }

    /// When the status first said after a disturbance that the set is not Ready, in milliseconds.
    pub fn said_after(&self, disturbed: Timestamp, until: Timestamp) -> Option<i64> {
        self.set.sets.log.scan(|sets| {
            let mut later = sets.iter().filter(|(at, _)| *at >= disturbed && *at <= until);
            later.find(|(_, set)| !is_ready(set)).map(|(at, _)| millis(disturbed, *at))
        })
    }

    /// Sends one command to a Pod's Redis.
    pub async fn ask(&self, pod: &str, words: &[&str]) -> Result<String, Failure> {
        self.ask_target(&self.set.target(self.lab, pod).await?, words).await
    }

    /// Sends one command to the Redis behind a Service.
    pub async fn ask_service(&self, service: &str, words: &[&str]) -> Result<String, Failure> {
        let found = service_of(self.lab, &self.set, service).await?;
        self.ask_target(&found.ok_or_else(|| format!("no Service {service}"))?, words).await
    }

    /// Sends one command to any Redis.
    pub async fn ask_target(&self, target: &Target, words: &[&str]) -> Result<String, Failure> {
        let heard: std::sync::Arc<Log<Asked>> = Log::new();
        let told = heard.clone();
        let arguments = [&["ask", "--"], words].concat();
        let program = InNode::start(&self.lab.cluster, PROBING_NODE, &arguments, move |answer: Asked| {
            told.push(now(), answer);
        })?;
        let asked = now();
        program.send(target)?;
        let what = format!("{} answers {}", target.pod, words.first().unwrap_or(&""));
        let answer =
            heard.find(asked, Duration::from_secs(10), &what, |answer| Some(answer.clone())).await?.1;
        answer.map_err(|error| format!("{}: {error}", target.pod).into())
    }

    /// Runs kubectl.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, Failure> {
        kubectl(self.lab, arguments).await
    }
}

/// Whether exactly one serves and all others follow it.
fn is_whole(sync: &Sync, members: usize) -> bool {
    sync.primary.is_some() && sync.replicas.len() + 1 == members
}

/// Runs kubectl.
pub async fn kubectl(lab: &Lab, arguments: &[&str]) -> Result<String, Failure> {
    let program = kubectl_program();
    let mut all = vec!["--kubeconfig".to_owned(), lab.kubeconfig.to_string_lossy().into_owned()];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    tokio::task::spawn_blocking(move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        output(&program, &all)
    })
    .await?
}

/// The program that is kubectl.
pub fn kubectl_program() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}
