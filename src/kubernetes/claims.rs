//! IO: the `PersistentVolumeClaim`s of the pods. The `StatefulSet` makes and deletes them; here they are grown, and
//! bear the record's history.
//!
//! At rest nothing is asked: what was seen of the claims holds until another pod, size or epoch comes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

use crate::kubernetes::error::StoreError;
use operator_core::{
    diff::stateful_set::template_size,
    election::snapshot::Snapshot,
    labels,
    names::{HISTORY, SetName, claim_of, pod_of},
    plan::{Plan, Storage},
    subject::Subject,
    volumes::{Claim, Growth, Need, history::History, is_less, need, takeover::Claims},
};
use redis_node::record::Record;

/// A growth that is under way is looked at this often.
pub const GROWTH_INTERVAL: Duration = Duration::from_secs(5);
/// After a set has become Ready, the record is to live as long as its volumes from this time on.
pub const KEPT_WITHIN: Duration = Duration::from_secs(3);
/// A growth that was refused is tried again this often: somebody may have changed the `StorageClass`.
const REFUSED_INTERVAL: Duration = Duration::from_secs(60);

/// Volumes of before a set began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// How many ordinals, counted from 0, have one.
    pub ordinals: i32,
    /// What the record of that time left on them.
    pub history: Option<History>,
    /// Their claims.
    pub claims: Claims,
}

/// Reads what volumes of this name there are.
///
/// By name, as the `StatefulSet` finds them, and not by label: a claim that a person made, of a snapshot or for another
/// `StatefulSet`, has none, and its data would be overwritten by the first empty pod. All claims of the
/// namespace are listed for that, once in the life of a set.
pub async fn former(client: &Client, subject: &Subject) -> Result<Former, StoreError> {
    let all = ListParams::default();
    let claims = api(client, subject).list_metadata(&all).await.map_err(cannot("list", &subject.set.name))?;
    let own = || {
        claims.iter().filter_map(|claim| {
            let pod = pod_of(&subject.set, claim.metadata.name.as_deref()?)?;
            Some((
                subject.set.ordinal(pod)?,
                claim.metadata.annotations.as_ref().and_then(|all| all.get(HISTORY)),
            ))
        })
    };
    Ok(Former {
        ordinals: own().map(|(ordinal, _)| ordinal + 1).max().unwrap_or(0),
        history: History::newest(own().filter_map(|(_, text)| text.map(String::as_str))),
        claims: claims
            .iter()
            .filter_map(|claim| {
                let name = claim.metadata.name.clone()?;
                pod_of(&subject.set, &name)?;
                Some((name, claim.metadata.uid.clone()?))
            })
            .collect(),
    })
}

/// What a look at the claims depends on.
#[derive(Clone, Debug, PartialEq)]
struct Occasion {
    /// UID of the set.
    set: String,
    /// UIDs of the pods: a claim is made before its pod.
    pods: Vec<String>,
    /// Wanted size.
    size: Quantity,
    /// What is to stand on the members' claims; none while the set is not at rest.
    history: Option<String>,
}

#[derive(Debug, Default)]
struct Remembered {
    seen: Option<(Occasion, Growth, Instant)>,
    claims: Option<Listed>,
    /// Epoch of the last reconcile, once there was one: the reconcile that brings a new one has more urgent things to do.
    epoch: Option<i64>,
    /// The set was begun over data of before, and nobody serves yet.
    adopting: bool,
}

/// All claims of a set.
#[derive(Debug)]
struct Listed {
    /// UID of the set for which they were listed.
    set: String,
    claims: Claims,
    /// The record speaks of them. The garbage collector takes out those that are gone, which is no reason to put them
    /// in again.
    in_record: bool,
}

/// What the process remembers of each set's claims. Losing it costs one look.
#[derive(Debug, Default)]
pub struct Memory(Mutex<HashMap<SetName, Remembered>>);

impl Memory {
    fn with<T>(&self, set: &SetName, act: impl FnOnce(&mut Remembered) -> T) -> T {
        act(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(set.clone()).or_default())
    }

    /// The set begins over data of before.
    pub fn adopts(&self, set: &SetName) {
        self.with(set, |remembered| remembered.adopting = true);
    }

    /// Whether data of before has come to be served by a primary of record, since this was asked last.
    pub fn has_adopted(&self, set: &SetName, sure: bool, serves: bool) -> bool {
        self.with(set, |remembered| {
            // An operator that was started meanwhile knows it by the record.
            remembered.adopting |= !sure;
            sure && serves && std::mem::take(&mut remembered.adopting)
        })
    }

    /// All claims of the set with this UID, as they were seen last; none where they were not looked at yet.
    pub fn claims(&self, set: &SetName, uid: &str) -> Option<Claims> {
        self.with(set, |remembered| {
            remembered.claims.as_ref().filter(|listed| listed.set == uid).map(|listed| listed.claims.clone())
        })
    }

    /// Whether claims were seen that no record was written with.
    pub fn are_new(&self, set: &SetName) -> bool {
        self.with(set, |remembered| remembered.claims.as_ref().is_some_and(|listed| !listed.in_record))
    }

    /// Remembers that the record speaks of the claims that were seen last.
    pub fn stand_in_record(&self, set: &SetName) {
        self.with(set, |remembered| {
            if let Some(listed) = &mut remembered.claims {
                listed.in_record = true;
            }
        });
    }

    fn listed(&self, subject: &Subject, claims: Claims) {
        self.with(&subject.set, |remembered| {
            let before = remembered.claims.as_ref();
            let in_record = before.is_some_and(|b| b.in_record && b.set == subject.uid && b.claims == claims);
            remembered.claims = Some(Listed { set: subject.uid.clone(), claims, in_record });
        });
    }

    /// How far the growth was when it was looked at last.
    pub fn growth(&self, set: &SetName) -> Growth {
        self.with(set, |remembered| remembered.seen.as_ref().map(|(_, growth, _)| growth.clone()))
            .unwrap_or_default()
    }

    /// Forgets a set that is gone.
    pub fn forget(&self, set: &SetName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(set);
    }
}

/// The pods whose claim is not the one that the record speaks of: somebody deleted it and made another, of a snapshot, or
/// none. A record that speaks of no claim yet says nothing.
///
/// # Errors
/// The API server does not say; then nobody knows.
pub async fn exchanged(
    client: &Client,
    subject: &Subject,
    known: &Claims,
    pods: &[String],
) -> Result<Vec<String>, StoreError> {
    if known.is_empty() || pods.is_empty() {
        return Ok(Vec::new());
    }
    let there = list(client, subject, pods).await?;
    let is_known = |pod: &&String| {
        let name = claim_of(pod);
        there.iter().any(|claim| claim.name == name && known.get(&name) == Some(&claim.uid))
    };
    Ok(pods.iter().filter(|pod| !is_known(pod)).cloned().collect())
}

/// Grows the claims of the pods to the wanted size, and leaves the history on those of the members once the set is at
/// rest in an epoch that is not new. Returns how far the growth is.
pub async fn tend(
    client: &Client,
    memory: &Memory,
    plan: &Plan,
    record: &Record,
    look: &Snapshot,
    stateful_set: &StatefulSet,
    at_rest: bool,
) -> Result<Growth, StoreError> {
    let subject = &plan.subject;
    let Storage::Volume { size, .. } = &plan.storage else { return Ok(Growth::default()) };
    let (known, is_new_epoch) = memory.with(&subject.set, |remembered| {
        let before = remembered.epoch.replace(record.epoch);
        (remembered.seen.clone(), before.is_some_and(|before| before != record.epoch))
    });
    let at_rest = at_rest && !is_new_epoch;
    let history = History::of(record).filter(|_| at_rest).map(|history| history.text());
    let mut pods: Vec<String> = look.observed.pods.iter().map(|pod| pod.uid.clone()).collect();
    pods.sort();
    let occasion = Occasion { set: subject.uid.clone(), pods, size: size.clone(), history };
    if let Some((seen, growth, at)) = known
        && seen == occasion
        && at.elapsed() < looked_at_for(&growth)
    {
        return Ok(growth);
    }
    // The claims of a set that was not changed have its size; a look at rest finds those of an earlier set.
    if !at_rest && !is_less(template_size(stateful_set), size) {
        return Ok(Growth::default());
    }

    let pods: Vec<String> = look.observed.pods.iter().map(|pod| pod.name.clone()).collect();
    let claims = list(client, subject, &pods).await?;
    memory.listed(subject, claims.iter().map(|claim| (claim.name.clone(), claim.uid.clone())).collect());
    let mut growth = Growth { size: size.0.clone(), ..Growth::default() };
    for claim in claims.iter().filter(|claim| look.observed.pods.iter().any(|pod| pod.name == claim.pod)) {
        grow(client, subject, claim, size, &mut growth).await?;
    }
    if let Some(text) = &occasion.history {
        let members = claims.iter().filter(|claim| record.members.contains(&claim.pod));
        for claim in members.filter(|claim| claim.history.as_ref() != Some(text)) {
            let patch = json!({"metadata": {"uid": claim.uid, "annotations": {HISTORY: text}}});
            send(client, subject, claim, &patch).await.map_err(cannot("annotate", &claim.name))?;
        }
    }
    let seen = Some((occasion, growth.clone(), Instant::now()));
    memory.with(&subject.set, |remembered| remembered.seen = seen);
    Ok(growth)
}

/// For how long what was seen holds where nothing else changed.
fn looked_at_for(growth: &Growth) -> Duration {
    if !growth.running.is_empty() {
        GROWTH_INTERVAL
    } else if !growth.refused.is_empty() {
        REFUSED_INTERVAL
    } else {
        Duration::MAX
    }
}

async fn grow(
    client: &Client,
    subject: &Subject,
    claim: &Claim,
    size: &Quantity,
    growth: &mut Growth,
) -> Result<(), StoreError> {
    match need(claim, size) {
        Need::Nothing => {}
        Need::Time(what) => growth.running.push(format!("{} ({what})", claim.name)),
        Need::Ask => {
            let patch = json!({
                "metadata": {"uid": claim.uid}, "spec": {"resources": {"requests": {"storage": size}}},
            });
            match send(client, subject, claim, &patch).await {
                Ok(()) => {
                    info!(claim = claim.name, size = size.0, "asked for a larger volume");
                    growth.running.push(format!("{} (just asked for)", claim.name));
                }
                // It is the admission of the API server that knows whether the class allows it, and the quota.
                Err(kube::Error::Api(status)) if is_refusal(&status) => {
                    growth.refused.push(format!("{} ({})", claim.name, status.message));
                }
                Err(error) => return Err(cannot("grow", &claim.name)(error)),
            }
        }
    }
    Ok(())
}

/// The request was understood and is not allowed. A right that the operator lacks is another matter.
fn is_refusal(status: &kube::core::Status) -> bool {
    (status.is_forbidden() && !status.message.contains("cannot patch resource")) || status.is_invalid()
}

/// How the API server refuses a patch that names another UID than the object has.
fn is_another(status: &kube::core::Status) -> bool {
    status.is_conflict() || status.is_invalid() && status.message.contains("metadata.uid")
}

/// Patches a claim. One that was replaced meanwhile, by its UID, is left alone: its pod is another one too, which brings
/// another look.
async fn send(client: &Client, subject: &Subject, claim: &Claim, patch: &Value) -> Result<(), kube::Error> {
    match api(client, subject)
        .patch_metadata(&claim.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.is_not_found() || is_another(&status) => Ok(()),
        patched => patched.map(|_| ()),
    }
}

/// The claims of the set's pods. Those that the `StatefulSet` made have the set's labels; one that a person made is asked
/// for by its name, which is how the `StatefulSet` found it.
async fn list(client: &Client, subject: &Subject, pods: &[String]) -> Result<Vec<Claim>, StoreError> {
    let asked = |params: ListParams| async move { api(client, subject).list(&params).await };
    let labelled = asked(ours(subject)).await.map_err(cannot("list", &subject.set.name))?;
    let mut claims: Vec<Claim> =
        labelled.iter().filter_map(|claim| Claim::read(&subject.set, claim)).collect();
    let missing = |pod: &&String| labelled.iter().all(|claim| claim.metadata.name != Some(claim_of(pod)));
    for pod in pods.iter().filter(missing) {
        let named = ListParams::default().fields(&format!("metadata.name={}", claim_of(pod)));
        let found = asked(named).await.map_err(cannot("list", pod))?;
        claims.extend(found.iter().filter_map(|claim| Claim::read(&subject.set, claim)));
    }
    claims.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(claims)
}

fn ours(subject: &Subject) -> ListParams {
    ListParams::default().labels(&labels::selector_text(&subject.set))
}

fn api(client: &Client, subject: &Subject) -> Api<PersistentVolumeClaim> {
    Api::namespaced(client.clone(), &subject.set.namespace)
}

fn cannot(verb: &'static str, name: &str) -> impl FnOnce(kube::Error) -> StoreError {
    let name = name.to_owned();
    move |source| StoreError::Api { verb, kind: "PersistentVolumeClaim", name, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake_api::{FakeApi, Sent};
    use operator_core::{
        api::RedisReplicaSet,
        desired::{Stage, desired},
        observed::ObservedPod,
        plan::plan,
        settings::Settings,
    };

    fn a_plan(size: &str) -> Plan {
        let resource: RedisReplicaSet = serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "redis", "namespace": "lab", "uid": "u-1"}, "spec": {"storage": {"size": size}},
        }))
        .unwrap();
        let settings = Settings {
            cluster_domain: "cluster.local".into(),
            agent_image: "operator:1".into(),
            operator_namespace: "ops".into(),
        };
        plan(&resource, &settings).unwrap()
    }

    fn claim(name: &str, size: &str, history: &str) -> Value {
        json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "annotations": {HISTORY: history}},
            "spec": {"resources": {"requests": {"storage": size}}},
            "status": {"phase": "Bound", "capacity": {"storage": size}},
        })
    }

    fn listed(claims: &[Value]) -> (u16, Value) {
        let list =
            json!({"kind": "PersistentVolumeClaimList", "apiVersion": "v1", "metadata": {}, "items": claims});
        (200, list)
    }

    fn refused(message: &str) -> (u16, Value) {
        let mut status = FakeApi::status(403, "Forbidden");
        status["message"] = json!(message);
        (403, status)
    }

    fn patched() -> (u16, Value) {
        (200, json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {}}))
    }

    /// A set of two pods whose claim template has 1Gi.
    struct Case {
        memory: Memory,
        plan: Plan,
        record: Record,
        look: Snapshot,
        stateful_set: StatefulSet,
    }

    impl Case {
        fn new(size: &str, epoch: i64) -> Self {
            let pod = |ordinal: i32| ObservedPod::running(ordinal);
            let mut look = Snapshot::default();
            look.observed.pods = vec![pod(0), pod(1)];
            let members = vec!["redis-0".to_owned(), "redis-1".to_owned()];
            Self {
                memory: Memory::default(),
                plan: a_plan(size),
                record: Record { epoch, ..Record::first(members, true) },
                look,
                stateful_set: desired(&a_plan("1Gi"), Stage { pods: 2, disruptions: 1 }).stateful_set,
            }
        }

        /// A look at rest; what was sent, and how far the growth is.
        async fn look(&self, answers: Vec<(u16, Value)>) -> (Vec<Sent>, Result<Growth, StoreError>) {
            let api = FakeApi::answering(answers);
            let Self { memory, plan, record, look, stateful_set } = self;
            let growth = tend(&api.client(), memory, plan, record, look, stateful_set, true).await;
            (api.requests(), growth)
        }
    }

    fn paths(sent: &[Sent]) -> Vec<String> {
        sent.iter().map(|one| format!("{} {}", one.method, one.path.rsplit('/').next().unwrap())).collect()
    }

    #[tokio::test]
    async fn claims_of_the_pods_grow_and_nothing_is_asked_meanwhile() {
        let case = Case::new("2Gi", 1);
        let claims = [
            claim("data-redis-0", "1Gi", ""),
            claim("data-redis-1", "2Gi", ""),
            claim("data-redis-2", "1Gi", ""),
        ];
        let (sent, growth) = case.look(vec![listed(&claims), patched()]).await;
        assert_eq!(
            paths(&sent),
            ["GET persistentvolumeclaims", "PATCH data-redis-0"],
            "no pod uses the third"
        );
        assert_eq!(sent[1].body["spec"]["resources"]["requests"]["storage"], "2Gi");
        assert_eq!(sent[1].body["metadata"]["uid"], "uid-data-redis-0");
        let growth = growth.unwrap();
        assert_eq!(growth.running, ["data-redis-0 (just asked for)"]);
        let (sent, again) = case.look(Vec::new()).await;
        assert_eq!((sent.len(), again.unwrap()), (0, growth));
    }

    #[tokio::test]
    async fn at_rest_nothing_is_asked_and_another_pod_is_a_reason_to_look() {
        let mut case = Case::new("1Gi", 1);
        let claims = [claim("data-redis-0", "1Gi", ""), claim("data-redis-1", "1Gi", "")];
        // The reconcile that brings an epoch has more urgent things to do.
        case.memory.with(&case.plan.subject.set, |remembered| remembered.epoch = Some(0));
        assert_eq!(case.look(Vec::new()).await.0.len(), 0);
        assert_eq!(paths(&case.look(vec![listed(&claims)]).await.0), ["GET persistentvolumeclaims"]);
        assert_eq!(case.look(Vec::new()).await.0.len(), 0);
        case.look.observed.pods[1].uid = "another".to_owned();
        assert_eq!(
            case.look(vec![listed(&claims)]).await.1.unwrap(),
            Growth { size: "1Gi".into(), ..Growth::default() }
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_not_repeated_at_once() {
        let case = Case::new("2Gi", 1);
        let claims = [claim("data-redis-0", "1Gi", ""), claim("data-redis-1", "2Gi", "")];
        let (_, growth) = case.look(vec![listed(&claims), refused("the class must support resize")]).await;
        assert_eq!(growth.unwrap().refused, ["data-redis-0 (the class must support resize)"]);
        assert_eq!(case.look(Vec::new()).await.1.unwrap().refused.len(), 1);
        assert_eq!(case.memory.growth(&case.plan.subject.set).refused.len(), 1);
    }

    #[tokio::test]
    async fn a_claim_that_was_replaced_meanwhile_is_left_alone() {
        let case = Case::new("2Gi", 1);
        // As a kube-apiserver 1.35 says it.
        let mut immutable = FakeApi::status(422, "Invalid");
        immutable["message"] = json!(
            "PersistentVolumeClaim \"data-redis-0\" is invalid: metadata.uid: Invalid value: \"u\": field is immutable"
        );
        for (code, answer) in [(422, immutable), (404, FakeApi::status(404, "NotFound"))] {
            case.memory.forget(&case.plan.subject.set);
            let claims = [claim("data-redis-0", "1Gi", ""), claim("data-redis-1", "2Gi", "")];
            let (_, growth) = case.look(vec![listed(&claims), (code, answer)]).await;
            assert_eq!(growth.unwrap().refused, Vec::<String>::new(), "{code}");
        }
    }

    #[tokio::test]
    async fn a_right_that_is_missing_is_no_refusal_of_the_spec() {
        let case = Case::new("2Gi", 1);
        let lacking = refused("User \"operator\" cannot patch resource \"persistentvolumeclaims\"");
        let (_, growth) = case
            .look(vec![
                listed(&[claim("data-redis-0", "1Gi", ""), claim("data-redis-1", "2Gi", "")]),
                lacking,
            ])
            .await;
        assert_eq!(growth.unwrap_err().to_string(), "cannot grow PersistentVolumeClaim data-redis-0");
    }

    #[tokio::test]
    async fn the_history_is_left_on_the_members_after_the_pass_that_made_it() {
        let mut case = Case::new("1Gi", 2);
        case.record.closed.insert("ended".into(), 7);
        case.record.members.push("redis-2".into());
        let text = History::of(&case.record).unwrap().text();
        let claims = [
            claim("data-redis-0", "1Gi", "older"),
            claim("data-redis-1", "1Gi", &text),
            claim("data-redis-2", "1Gi", ""),
            claim("data-redis-3", "1Gi", ""),
        ];
        case.memory.with(&case.plan.subject.set, |remembered| remembered.epoch = Some(1));
        assert_eq!(case.look(Vec::new()).await.0.len(), 0, "the first reconcile of the epoch");
        let (sent, _) = case.look(vec![listed(&claims), patched(), patched()]).await;
        assert_eq!(
            paths(&sent),
            ["GET persistentvolumeclaims", "PATCH data-redis-0", "PATCH data-redis-2"],
            "a member without a pod too; one that is not a member, or has it already, not"
        );
        assert_eq!(sent[1].body["metadata"]["annotations"][HISTORY], text);
        assert_eq!(sent[1].body.get("spec"), None);
        assert_eq!(case.look(Vec::new()).await.0.len(), 0);
    }

    #[tokio::test]
    async fn volumes_of_an_earlier_set_are_counted_by_ordinal_and_tell_its_history() {
        let history = History { epoch: 4, start_offset: 9, closed: [("a".to_owned(), 9)].into() };
        let older = History { epoch: 2, ..History::default() };
        for (names, ordinals) in [
            (vec![], 0),
            (vec!["data-redis-0"], 1),
            (vec!["data-redis-3", "data-redis-1"], 4),
            (vec!["data-other-7", "redis-7", "data-redis-x", "log-redis-7"], 0),
        ] {
            let texts = [history.text(), older.text(), "no history".to_owned(), String::new()];
            let items: Vec<Value> =
                names.iter().zip(&texts).map(|(name, text)| claim(name, "1Gi", text)).collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items});
            let api = FakeApi::answering([(200, list)]);
            let found = former(&api.client(), &a_plan("1Gi").subject).await.unwrap();
            let history = (ordinals > 0).then(|| history.clone());
            let own = names.iter().filter(|name| name.starts_with("data-redis-") && !name.ends_with('x'));
            let claims = own.map(|name| ((*name).to_owned(), format!("uid-{name}"))).collect();
            assert_eq!(found, Former { ordinals, history, claims }, "{names:?}");
        }
    }

    /// Regression: a person made the claim, of a snapshot say, without the set's labels.
    #[tokio::test]
    async fn a_claim_without_labels_is_found_by_its_name() {
        let case = Case::new("1Gi", 1);
        let by_hand = [claim("data-redis-1", "1Gi", "")];
        let (sent, _) = case.look(vec![listed(&[claim("data-redis-0", "1Gi", "")]), listed(&by_hand)]).await;
        let queries: Vec<&str> = sent.iter().map(|sent| sent.query.as_str()).collect();
        assert!(queries[0].contains("labelSelector="), "{queries:?}");
        assert!(queries[1].contains("fieldSelector=metadata.name%3Ddata-redis-1"), "{queries:?}");
        let expected = ["data-redis-0", "data-redis-1"].map(|name| (name.to_owned(), format!("uid-{name}")));
        assert_eq!(case.memory.claims(&case.plan.subject.set, "u-1"), Some(expected.into()));
        // Before the set has pods: all of the namespace, and only what bears its name counts.
        let items = [
            claim("data-redis-1", "1Gi", ""),
            claim("data-redis-2", "1Gi", ""),
            claim("data-other-0", "1Gi", ""),
        ];
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items});
        let api = FakeApi::answering([(200, list)]);
        assert_eq!(
            former(&api.client(), &case.plan.subject).await.unwrap().ordinals,
            3,
            "data-redis-0 is missing, and a member"
        );
        assert_eq!(api.requests()[0].query, "", "no label is asked for");
    }

    #[test]
    fn data_of_before_is_adopted_once() {
        let (memory, set) = (Memory::default(), SetName::new("lab", "redis"));
        let asked = |sure, serves| memory.has_adopted(&set, sure, serves);
        assert!(!asked(true, true) && !asked(true, false) && !asked(true, true), "a primary that failed");
        assert!(!asked(false, false) && !asked(true, false) && asked(true, true) && !asked(true, true));
        memory.adopts(&set);
        assert!(!asked(true, false) && asked(true, true) && !asked(true, true));
    }

    #[tokio::test]
    async fn claims_are_remembered_for_the_set_that_they_were_listed_for() {
        let case = Case::new("1Gi", 1);
        let known = |uid: &str| case.memory.claims(&case.plan.subject.set, uid);
        assert_eq!(known("u-1"), None);
        let claims = ["data-redis-0", "data-redis-1", "data-redis-7"].map(|name| claim(name, "1Gi", ""));
        case.look(vec![listed(&claims)]).await.1.unwrap();
        let expected = ["data-redis-0", "data-redis-1", "data-redis-7"]
            .map(|name| (name.to_owned(), format!("uid-{name}")));
        assert_eq!(known("u-1"), Some(expected.into()), "also of a pod that is not there");
        assert_eq!(known("another"), None);
        assert!(case.memory.are_new(&case.plan.subject.set));
        case.memory.stand_in_record(&case.plan.subject.set);
        assert!(
            !case.memory.are_new(&case.plan.subject.set),
            "and the garbage collector takes out what is gone"
        );
    }
}
