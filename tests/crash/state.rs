//! Everything that a run left behind, in words that are the same in every run: what an identity stands for instead of
//! the identity, and no times.

use std::collections::BTreeMap;

use kube::Client;
use operator_core::{names::HISTORY, volumes::history::History};
use redis_node::{
    files::RECORD_KEY,
    info::{self, Info},
    record::Record,
};
use serde_json::{Map, Value, json};

use crate::audit::Audit;
use rig::local::kubelet::Kubelet;

/// Where the objects of a set are.
pub const LISTS: [(&str, &str); 8] = [
    ("/api/v1", "configmaps"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/api/v1", "pods"),
    ("/api/v1", "secrets"),
    ("/api/v1", "services"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
];

/// The set itself.
const SETS: (&str, &str) = ("/apis/replication.redis/v1alpha1", "redisreplicasets");

/// Where the record is.
const RECORD: &str = "configmaps/redis-record";

/// Fields that differ from run to run and mean nothing: times, versions, addresses. The hash of what was applied covers
/// the namespace.
const MEANINGLESS: [&str; 16] = [
    "clusterIP",
    "clusterIPs",
    "creationTimestamp",
    "finishedAt",
    "lastProbeTime",
    "lastTransitionTime",
    "managedFields",
    "podIP",
    "podIPs",
    "replication.redis/applied-hash",
    "resourceVersion",
    "since",
    "startTime",
    "started",
    "startedAt",
    "startOffset",
];

/// A fact by its path, `statefulsets/redis/spec/replicas`.
pub type Facts = BTreeMap<String, String>;

/// What a run left behind.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What has to be the same.
    pub facts: Facts,
    /// How often it was decided who is primary. A decision whose operator died may have to be taken again, by rule 7.
    pub epoch: i64,
}

impl State {
    /// Where another state is not like this one; nothing where it is.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let absent = "(absent)".to_owned();
        let mut paths: Vec<&String> = self.facts.keys().chain(found.facts.keys()).collect();
        paths.sort();
        paths.dedup();
        let mut differences: Vec<String> = paths
            .into_iter()
            .map(|path| {
                (path, self.facts.get(path).unwrap_or(&absent), found.facts.get(path).unwrap_or(&absent))
            })
            .filter(|(_, undisturbed, found)| undisturbed != found)
            .map(|(path, undisturbed, found)| format!("{path}: {found}, undisturbed {undisturbed}"))
            .collect();
        if !(self.epoch..=self.epoch + 1).contains(&found.epoch) {
            differences.push(format!("epoch: {}, undisturbed {}", found.epoch, self.epoch));
        }
        differences
    }
}

/// Reads everything.
pub async fn state(audit: &Audit, client: &Client, namespace: &str, kubelet: &Kubelet) -> State {
    let mut objects = Vec::new();
    for (group, plural) in LISTS.into_iter().chain([SETS]) {
        let path = format!("{group}/namespaces/{namespace}/{plural}");
        let list: Value = client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
        for object in list["items"].as_array().unwrap() {
            objects
                .push((format!("{plural}/{}", object["metadata"]["name"].as_str().unwrap()), object.clone()));
        }
    }
    let answers: BTreeMap<String, Option<Info>> =
        kubelet.pods().into_iter().map(|pod| (pod.clone(), ask(kubelet, &pod))).collect();
    let mut state = State::default();
    let names = names(&objects, &answers, namespace);
    let kept = objects.iter().find(|(path, _)| path == RECORD);
    let kept = kept.and_then(|(_, map)| map["data"][RECORD_KEY].as_str()).unwrap_or_default();
    let kept: Record = serde_json::from_str(kept).unwrap_or_else(|_| Record::first(Vec::new(), false));
    state.epoch = kept.epoch;
    for (path, mut object) in objects {
        if path == RECORD {
            object["data"][RECORD_KEY] = record(&kept, &names);
        }
        if let Some(pod) = path.strip_prefix("persistentvolumeclaims/data-") {
            let annotations = object["metadata"].get_mut("annotations").and_then(Value::as_object_mut);
            let history = annotations.and_then(|annotations| annotations.remove(HISTORY));
            // Who is no member any more keeps what was written last.
            if kept.members.iter().any(|member| member == pod) {
                let is_kept = history.as_ref().and_then(Value::as_str).map(str::to_owned)
                    == History::of(&kept).map(|history| history.text());
                object["history is that of the record"] = Value::Bool(is_kept);
            }
        }
        if path.starts_with("secrets/") {
            for value in object["data"].as_object_mut().into_iter().flat_map(Map::values_mut) {
                *value = Value::String("(secret)".to_owned());
            }
        }
        flatten(&path, &object, &names, &mut state.facts);
    }
    if let Some(epoch) = state.facts.get_mut("redisreplicasets/redis/status/primary/epoch") {
        *epoch = format!("that of the record: {}", *epoch == state.epoch.to_string());
    }
    for (pod, answer) in answers {
        redis_facts(&pod, answer.as_ref(), &names, &mut state.facts);
    }
    for (what, times) in audit.counts(namespace) {
        state.facts.insert(format!("calls/{what}"), times.to_string());
    }
    state
}

/// The record, without what differs from run to run.
fn record(record: &Record, names: &[(String, String)]) -> Value {
    let serves = record.seen_serving.as_ref().map(|serving| &serving.replid);
    let mut value = json!(record);
    let fields = value.as_object_mut().unwrap();
    fields.remove("epoch");
    // Histories that ended are known to nobody any more; that the present one is not among them counts.
    fields.remove("closed");
    let is_closed = serves.is_some_and(|serves| record.closed.contains_key(serves));
    fields.insert("the served history is closed".to_owned(), Value::Bool(is_closed));
    // A process that is gone never votes again, and stays among the voters until the next of them is noted.
    if let Some(voters) = fields.get_mut("voters").and_then(Value::as_array_mut) {
        voters.retain(|voter| names.iter().any(|(identity, _)| voter == identity));
    }
    value
}

fn ask(kubelet: &Kubelet, pod: &str) -> Option<Info> {
    let text: String = kubelet.command(pod, &["INFO"]).ok()?;
    info::parse(&text).ok()
}

/// What each identity stands for. One that is not here belongs to nobody who is still there.
fn names(
    objects: &[(String, Value)],
    answers: &BTreeMap<String, Option<Info>>,
    namespace: &str,
) -> Vec<(String, String)> {
    let mut names = vec![(namespace.to_owned(), "NAMESPACE".to_owned())];
    for (path, object) in objects {
        names.push((text(&object["metadata"]["uid"]), format!("(UID of {path})")));
        if path.starts_with("statefulsets/") {
            // The template names the namespace, so its hash differs.
            names.push((text(&object["status"]["updateRevision"]), "(revision)".to_owned()));
            names.push((text(&object["status"]["currentRevision"]), "(first revision)".to_owned()));
        }
    }
    let mut histories = 0;
    for (pod, info) in answers {
        let Some(info) = info else { continue };
        names.push((info.server.run_id.clone(), format!("(process of {pod})")));
        let replid = &info.replication.replid;
        if !names.iter().any(|(known, _)| known == replid) {
            histories += 1;
            names.push((replid.clone(), format!("(history {histories})")));
        }
    }
    names.retain(|(identity, _)| !identity.is_empty());
    names
}

/// A string, or nothing.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn flatten(path: &str, value: &Value, names: &[(String, String)], facts: &mut Facts) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| !MEANINGLESS.contains(&name.as_str())) {
                flatten(&format!("{path}/{}", named(name, names)), value, names, facts);
            }
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            // Sorted by name: where the order is that of identities, it differs.
            let mut items: Vec<String> = items.iter().map(|item| named(&text(item), names)).collect();
            items.sort();
            facts.insert(path.to_owned(), items.join(", "));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}/{index}"), item, names, facts);
            }
        }
        Value::String(text) => {
            facts.insert(path.to_owned(), named(text, names));
        }
        other => {
            facts.insert(path.to_owned(), other.to_string());
        }
    }
}

fn named(text: &str, names: &[(String, String)]) -> String {
    names.iter().fold(text.to_owned(), |text, (identity, name)| text.replace(identity.as_str(), name))
}

/// Whom a Redis follows, and whose history it has. Its data is compared apart from this.
fn redis_facts(pod: &str, answer: Option<&Info>, names: &[(String, String)], facts: &mut Facts) {
    let says = match answer {
        None => "does not answer".to_owned(),
        Some(info) => {
            let replication = &info.replication;
            let role = replication.upstream.as_ref().map_or("serves".to_owned(), |upstream| {
                let link = if upstream.link_up { "up" } else { "down" };
                format!("follows {}:{}, link {link}", upstream.host, upstream.port)
            });
            let mut replicas: Vec<String> = replication
                .replicas
                .iter()
                .map(|replica| format!("{} {}", replica.host, replica.state))
                .collect();
            replicas.sort();
            format!("{role}, has {}, is followed by {replicas:?}", replication.replid)
        }
    };
    facts.insert(format!("redis/{pod}"), named(&says, names));
}
