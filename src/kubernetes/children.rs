//! IO: makes the live objects say what is desired, by server-side apply.
//!
//! What already says it is not sent.

use std::fmt::{self, Debug};

use futures::{future::BoxFuture, try_join};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{ConfigMap, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use operator_core::{
    api::Reason,
    desired::Desired,
    diff::{
        fields,
        stateful_set::{self, Blocked, Change, Chosen},
    },
    hash,
    labels::{self, APPLIED_HASH},
    names::{CHILDREN_MANAGER, SetName},
    plan::Plan,
};

/// The children of a set as the API server has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// `<name>-headless`.
    pub headless: Option<Service>,
    /// `<name>`.
    pub primary: Option<Service>,
    /// `<name>-replicas`.
    pub replicas: Option<Service>,
    /// `<name>-config`.
    pub config_map: Option<ConfigMap>,
    /// `<name>`.
    pub stateful_set: Option<StatefulSet>,
    /// `<name>`.
    pub disruption_budget: Option<PodDisruptionBudget>,
    /// `<name>`.
    pub network_policy: Option<NetworkPolicy>,
}

impl Live {
    /// Whether something that is desired is not there.
    pub fn lacks(&self, desired: &Desired) -> bool {
        self.headless.is_none()
            || self.primary.is_none()
            || self.replicas.is_none()
            || self.config_map.is_none()
            || self.stateful_set.is_none()
            || self.disruption_budget.is_none() && desired.disruption_budget.is_some()
            || self.network_policy.is_none() && desired.network_policy.is_some()
    }
}

/// The children after an apply.
#[derive(Debug)]
pub struct Applied {
    /// The `StatefulSet` with its status, as it was read or as the apply answered.
    pub stateful_set: StatefulSet,
    /// What was written, for the log: nothing at rest.
    pub writes: Vec<Write>,
    /// What could not be written; all that does not need it was.
    pub failures: Vec<ApplyError>,
}

/// One write to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// `Service lab/redis-headless`.
    pub object: ObjectName,
    /// Why.
    pub why: Why,
}

/// Why a child was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It did not exist.
    Missing,
    /// What is desired changed, or somebody changed this field.
    Differs(String),
    /// A field that was applied earlier is no longer desired.
    NoLongerDesired,
    /// The object is no longer desired.
    Deleted,
}

/// An object in words: `Service lab/redis-headless`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    fn new<K: Child>(namespace: &str, name: &str) -> Self {
        Self { kind: K::kind(&()).into_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn of<K: Child>(object: &K) -> Self {
        Self::new::<K>(object.namespace().as_deref().unwrap_or_default(), &object.name_any())
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Why the children are not as desired.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// An object of a child's name is not ours.
    #[error("{object} exists already, and the operator does not take over what it did not make. {remedy}")]
    Foreign {
        /// The object.
        object: ObjectName,
        /// Whose it is, and what a person can do.
        remedy: String,
    },
    /// The spec asks for a change that Kubernetes refuses.
    #[error("{object} cannot be changed in {}", join(fields))]
    Immutable {
        /// The `StatefulSet`.
        object: ObjectName,
        /// Every field that cannot change, with its remedy.
        fields: Vec<Blocked>,
    },
    /// The API server does not take what the spec asks for.
    #[error(
        "the API server refuses {object} as the spec asks for it: {words}. Correct the field of that name in the spec"
    )]
    Invalid {
        /// The object.
        object: ObjectName,
        /// What it says of each field.
        words: String,
    },
    /// The API server refused or did not answer.
    #[error("cannot {verb} {object}")]
    Api {
        /// `get`, `apply` or `delete`.
        verb: &'static str,
        /// The object.
        object: ObjectName,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ApplyError {
    /// The reason in one word, for conditions, events and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Foreign { .. } => Reason::NameTaken,
            Self::Immutable { .. } => Reason::ImmutableFieldChanged,
            Self::Invalid { .. } => Reason::InvalidSpec,
            Self::Api { .. } => Reason::ApiError,
        }
    }
}

fn join(fields: &[Blocked]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A kind of child.
trait Child:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}
impl<K> Child for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// Reads the children from the API server.
pub async fn fetch(client: &Client, set: &SetName) -> Result<Live, ApplyError> {
    let (headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy) = try_join!(
        get(client, set, set.headless_service()),
        get(client, set, set.primary_service()),
        get(client, set, set.replicas_service()),
        get(client, set, set.config_map()),
        get(client, set, set.stateful_set()),
        get(client, set, set.disruption_budget()),
        get(client, set, set.network_policy()),
    )?;
    Ok(Live { headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy })
}

/// Reads again what is to be written by what the caches show, and the `StatefulSet`: each step of a start writes that alone.
pub async fn fetch_again(
    client: &Client,
    plan: &Plan,
    desired: &Desired,
    live: Live,
) -> Result<Live, ApplyError> {
    let set = &plan.subject.set;
    let (headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy) = try_join!(
        newest(client, plan, Some(&desired.headless), live.headless, set.headless_service()),
        newest(client, plan, Some(&desired.primary), live.primary, set.primary_service()),
        newest(client, plan, Some(&desired.replicas), live.replicas, set.replicas_service()),
        newest(client, plan, Some(&desired.config_map), live.config_map, set.config_map()),
        get(client, set, set.stateful_set()),
        newest(
            client,
            plan,
            desired.disruption_budget.as_ref(),
            live.disruption_budget,
            set.disruption_budget()
        ),
        newest(client, plan, desired.network_policy.as_ref(), live.network_policy, set.network_policy()),
    )?;
    Ok(Live { headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy })
}

async fn newest<K: Child>(
    client: &Client,
    plan: &Plan,
    desired: Option<&K>,
    live: Option<K>,
    name: String,
) -> Result<Option<K>, ApplyError> {
    match desired {
        Some(desired) if says_all(plan, desired, live.as_ref()) => Ok(live),
        _ => get(client, &plan.subject.set, name).await,
    }
}

/// Reads the `StatefulSet` from the API server.
pub async fn fetch_stateful_set(client: &Client, set: &SetName) -> Result<Option<StatefulSet>, ApplyError> {
    get(client, set, set.stateful_set()).await
}

async fn get<K: Child>(client: &Client, set: &SetName, name: String) -> Result<Option<K>, ApplyError> {
    let result = Api::<K>::namespaced(client.clone(), &set.namespace).get_opt(&name).await;
    result.map_err(|source| {
        let object = ObjectName::new::<K>(&set.namespace, &name);
        ApplyError::Api { verb: "get", object, source: Box::new(source) }
    })
}

/// Whether the live objects say all that is desired, so that [`apply`] has nothing to write or to refuse.
pub fn is_as_desired(plan: &Plan, desired: &Desired, live: &Live) -> bool {
    let Desired { headless, primary, replicas, config_map, stateful_set, disruption_budget, network_policy } =
        desired;
    let stateful_set = settle(plan, stateful_set.clone(), live.stateful_set.as_ref());
    is_as_wanted(plan, disruption_budget.as_ref(), live.disruption_budget.as_ref())
        && is_as_wanted(plan, network_policy.as_ref(), live.network_policy.as_ref())
        && says_all(plan, headless, live.headless.as_ref())
        && says_all(plan, primary, live.primary.as_ref())
        && says_all(plan, replicas, live.replicas.as_ref())
        && says_all(plan, config_map, live.config_map.as_ref())
        && stateful_set.is_ok_and(|wanted| says_all(plan, &wanted, live.stateful_set.as_ref()))
}

/// The same of a child that not every set has.
fn is_as_wanted<K: Child>(plan: &Plan, desired: Option<&K>, live: Option<&K>) -> bool {
    match desired {
        Some(desired) => says_all(plan, desired, live),
        None => live.is_none_or(|live| !is_owned(plan, live.meta())),
    }
}

fn says_all<K: Child>(plan: &Plan, desired: &K, live: Option<&K>) -> bool {
    live.is_some_and(|live| is_owned(plan, live.meta()))
        && to_write(desired, live).is_ok_and(|(why, _)| why.is_none())
}

/// Why a child is to be written, if it is, and the hash of what is desired.
fn to_write<K: Child>(desired: &K, live: Option<&K>) -> Result<(Option<Why>, String), serde_json::Error> {
    let wanted = serde_json::to_value(desired)?;
    let hash = hash::sha256(wanted.to_string().as_bytes());
    let why = match live {
        None => Some(Why::Missing),
        Some(live) => match fields::difference(&wanted, &serde_json::to_value(live)?) {
            Some(field) => Some(Why::Differs(field)),
            None if live.annotations().get(APPLIED_HASH) != Some(&hash) => Some(Why::NoLongerDesired),
            None => None,
        },
    };
    Ok((why, hash))
}

/// Whether an apply would make the set the owner of an object that has none.
pub fn adopts(plan: &Plan, live: &Live) -> bool {
    let left = |metadata: &ObjectMeta| is_ours(plan, metadata) && !is_owned(plan, metadata);
    [&live.headless, &live.primary, &live.replicas].into_iter().flatten().any(|service| left(service.meta()))
        || live.config_map.as_ref().is_some_and(|map| left(map.meta()))
        || live.stateful_set.as_ref().is_some_and(|set| left(set.meta()))
        || live.disruption_budget.as_ref().is_some_and(|budget| left(budget.meta()))
        || live.network_policy.as_ref().is_some_and(|policy| left(policy.meta()))
}

/// Makes the children as desired: each by itself, so that one that is refused keeps none but those that need it.
///
/// # Errors
/// Where there is no `StatefulSet` yet: it cannot be made, or the name of another child is taken. Where there is one, each failure is
/// in [`Applied::failures`], and the set goes on with the `StatefulSet` that is there.
///
/// Boxed: whole pod templates travel through this future, and its caller's has to stay small.
pub fn apply<'a>(
    client: &'a Client,
    plan: &'a Plan,
    desired: Desired,
    live: Live,
) -> BoxFuture<'a, Result<Applied, ApplyError>> {
    Box::pin(async move {
        let Desired {
            headless,
            primary,
            replicas,
            config_map,
            stateful_set,
            disruption_budget,
            network_policy,
        } = desired;
        let running = live.stateful_set.clone().filter(|live| is_ours(plan, live.meta()));
        if running.is_none() {
            for service in [&live.headless, &live.primary, &live.replicas] {
                refuse_foreign(plan, service.as_ref())?;
            }
            refuse_foreign(plan, live.config_map.as_ref())?;
            refuse_foreign(plan, live.stateful_set.as_ref())?;
        }
        let (mut writes, mut failures) = (Vec::new(), Vec::new());
        for (service, live) in [(headless, live.headless), (primary, live.primary), (replicas, live.replicas)]
        {
            failures.extend(ensure(client, plan, service, live, &mut writes).await.err());
        }
        let budget =
            ensure_or_remove(client, plan, disruption_budget, live.disruption_budget, &mut writes).await;
        let policy = ensure_or_remove(client, plan, network_policy, live.network_policy, &mut writes).await;
        failures.extend([budget.err(), policy.err()].into_iter().flatten());
        // It comes last, so that what its pods mount is there, and says what its template promises.
        let applied = match ensure(client, plan, config_map, live.config_map, &mut writes).await {
            Ok(_) => match settle(plan, stateful_set, live.stateful_set.as_ref()) {
                Ok(wanted) => ensure(client, plan, wanted, live.stateful_set, &mut writes).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let stateful_set = match (applied, running) {
            (Ok(stateful_set), _) => stateful_set,
            (Err(error), None) => return Err(error),
            (Err(error), Some(running)) => {
                failures.push(error);
                running
            }
        };
        Ok(Applied { stateful_set, writes, failures })
    })
}

/// What of the desired `StatefulSet` can be applied over the live one.
fn settle(plan: &Plan, desired: StatefulSet, live: Option<&StatefulSet>) -> Result<StatefulSet, ApplyError> {
    let Some(live) = live else { return Ok(desired) };
    let object = ObjectName::of(&desired);
    let encoding = |error| ApplyError::Api {
        verb: "compare",
        object: object.clone(),
        source: Box::new(kube::Error::SerdeError(error)),
    };
    let chosen = Chosen { start: plan.subject.failover.chooses_start(), auth: plan.subject.chooses_users() };
    let desired = stateful_set::keep_agent(desired, live, &plan.subject.set, chosen).map_err(encoding)?;
    let desired = stateful_set::keep_policy(stateful_set::keep_size(desired, live), live);
    match stateful_set::classify(&desired, live).map_err(encoding)? {
        Change::Blocked { fields } => Err(ApplyError::Immutable { object, fields }),
        Change::None | Change::Apply { .. } => Ok(desired),
    }
}

/// Applies a child that not every set has, or deletes it.
async fn ensure_or_remove<K: Child>(
    client: &Client,
    plan: &Plan,
    desired: Option<K>,
    live: Option<K>,
    writes: &mut Vec<Write>,
) -> Result<(), ApplyError> {
    match desired {
        Some(desired) => ensure(client, plan, desired, live, writes).await.map(|_| ()),
        None => remove(client, plan, live, writes).await,
    }
}

/// Applies a child, unless the live one says all of it already.
async fn ensure<K: Child>(
    client: &Client,
    plan: &Plan,
    mut desired: K,
    live: Option<K>,
    writes: &mut Vec<Write>,
) -> Result<K, ApplyError> {
    refuse_foreign(plan, live.as_ref())?;
    let object = ObjectName::of(&desired);
    let failed = |source| match invalid_fields(&source) {
        Some(words) => ApplyError::Invalid { object: object.clone(), words },
        None => ApplyError::Api { verb: "apply", object: object.clone(), source: Box::new(source) },
    };
    let encoding = |error| failed(kube::Error::SerdeError(error));

    let (why, hash) = to_write(&desired, live.as_ref()).map_err(encoding)?;
    let why = match (why, live) {
        (None, Some(live)) => return Ok(live),
        (why, live) => {
            // Should a namesake have come since it was read, the API server refuses.
            desired.meta_mut().uid = live.and_then(|live| live.uid());
            why.unwrap_or(Why::Missing)
        }
    };
    desired.annotations_mut().insert(APPLIED_HASH.to_owned(), hash);

    let api = Api::<K>::namespaced(client.clone(), &object.namespace);
    let params = PatchParams::apply(CHILDREN_MANAGER).force();
    let applied = match api.patch(&object.name, &params, &Patch::Apply(&desired)).await {
        // Server-side apply joins a Service's ports by number: one whose number somebody changed stays beside ours
        // under the same name, which is invalid. A merge puts our list in place of theirs.
        Err(kube::Error::Api(status)) if status.is_invalid() && K::kind(&()) == Service::kind(&()) => {
            api.patch(&object.name, &PatchParams::default(), &Patch::Merge(&desired)).await
        }
        applied => applied,
    }
    .map_err(failed)?;
    writes.push(Write { object, why });
    Ok(applied)
}

/// What the API server says of the fields that it does not take, where they come from the spec as they are: those of the pods and of
/// their volumes, and clients. An admission policy that denies a request names no field.
fn invalid_fields(error: &kube::Error) -> Option<String> {
    const FROM_SPEC: [&str; 3] = ["spec.template.", "spec.volumeClaimTemplates", "spec.ingress[0].from"];
    let kube::Error::Api(status) = error else { return None };
    let causes = &status.details.as_ref().filter(|_| status.is_invalid())?.causes;
    let mut words: Vec<String> = causes
        .iter()
        .filter(|cause| FROM_SPEC.iter().any(|from| cause.field.starts_with(from)))
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    words.dedup();
    (!words.is_empty()).then(|| words.join("; "))
}

/// Deletes a child that is no longer desired. One of the same name that is not ours is in nobody's way.
async fn remove<K: Child>(
    client: &Client,
    plan: &Plan,
    live: Option<K>,
    writes: &mut Vec<Write>,
) -> Result<(), ApplyError> {
    let Some(live) =
        live.filter(|live| is_owned(plan, live.meta()) && live.meta().deletion_timestamp.is_none())
    else {
        return Ok(());
    };
    let object = ObjectName::of(&live);
    let params =
        DeleteParams::default().preconditions(Preconditions { uid: live.uid(), resource_version: None });
    match Api::<K>::namespaced(client.clone(), &object.namespace).delete(&object.name, &params).await {
        Ok(_) => writes.push(Write { object, why: Why::Deleted }),
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(source) => return Err(ApplyError::Api { verb: "delete", object, source: Box::new(source) }),
    }
    Ok(())
}

fn refuse_foreign<K: Child>(plan: &Plan, live: Option<&K>) -> Result<(), ApplyError> {
    match live {
        Some(live) if !is_ours(plan, live.meta()) => {
            let remedy = remedy::<K>(plan, live.meta());
            Err(ApplyError::Foreign { object: ObjectName::of(live), remedy })
        }
        _ => Ok(()),
    }
}

fn is_owned(plan: &Plan, metadata: &ObjectMeta) -> bool {
    controller_of(metadata).is_some_and(|owner| owner.uid == plan.subject.uid)
}

/// Whether it is the set's own, or was left by one of its name whose resource was deleted with `--cascade=orphan`, or is restored
/// without an owner: the apply then makes this set its owner.
fn is_ours(plan: &Plan, metadata: &ObjectMeta) -> bool {
    let is_orphan = controller_of(metadata).is_none();
    is_owned(plan, metadata) || is_orphan && labels::are_of(&plan.subject.set, metadata.labels.as_ref())
}

fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Whose it is, and what a person can do.
fn remedy<K: Child>(plan: &Plan, metadata: &ObjectMeta) -> String {
    const REMEDY: &str = "Delete it if it is not needed, or create this RedisReplicaSet under another name";
    let keep = if K::kind(&()) == NetworkPolicy::kind(&()) {
        ", or keep it, and set spec.networkPolicy.enabled: false"
    } else {
        ""
    };
    match controller_of(metadata) {
        Some(owner) if owner.kind == plan.subject.owner.kind && owner.name == plan.subject.set.name => {
            format!(
                "It is left over from an earlier RedisReplicaSet of this name (UID {}); Kubernetes' garbage collector \
             removes it, and the operator then goes on. If it stays, delete it",
                owner.uid
            )
        }
        Some(owner) => format!("It belongs to {} {}. {REMEDY}{keep}", owner.kind, owner.name),
        None => format!(
            "It has no owner and not the labels of this set, so the operator did not make it. {REMEDY}{keep}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Regression: what the spec asks for and the API server refuses stood in no condition about the spec.
    #[test]
    fn fields_that_the_api_server_refuses_are_told_from_other_refusals() {
        let words = |code: u16, reason: &str, causes: serde_json::Value| {
            let status = json!({
                "status": "Failure", "code": code, "reason": reason, "message": "m", "details": {"causes": causes},
            });
            invalid_fields(&kube::Error::Api(serde_json::from_value(status).unwrap()))
        };
        let cause = |field: &str| json!({"reason": "FieldValueInvalid", "message": "no", "field": field});
        let selector = "spec.template.spec.nodeSelector";
        assert_eq!(
            words(
                422,
                "Invalid",
                json!([cause(selector), cause(selector), cause("spec.volumeClaimTemplates[0].x")])
            ),
            Some(format!("{selector}: no; spec.volumeClaimTemplates[0].x: no"))
        );
        assert_eq!(words(422, "Invalid", json!([{"message": "denied by a policy"}])), None);
        assert_eq!(words(422, "Invalid", json!([cause("spec.ports[0]")])), None, "drift, not the spec");
        assert_eq!(words(403, "Forbidden", json!([cause(selector)])), None);
    }
}
