//! What an apply of the `StatefulSet` would be: nothing, a change, or a change that Kubernetes refuses.
//!
//! Pure. The operator never deletes a `StatefulSet` to get around the refusal: it says what a person can do.

use std::fmt;

use k8s_openapi::{api::apps::v1::StatefulSet, apimachinery::pkg::api::resource::Quantity};
use serde_json::Value;

use crate::{
    desired::pod::{INTERNAL_VOLUME, former_auth, former_dns_config},
    diff::fields::difference,
    labels::AGENT_IMAGE,
    names::{AGENT_CONTAINER, REDIS_CONTAINER, START_PARKED, SetName},
    observed::pod::starts_parked,
    volumes::is_less,
};

/// What applying the desired `StatefulSet` over the live one would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The live one says it all.
    None,
    /// The first field that differs.
    Apply {
        /// Its path.
        field: String,
    },
    /// Kubernetes would refuse it.
    Blocked {
        /// Every field that cannot change.
        fields: Vec<Blocked>,
    },
}

/// A field that cannot change on a live `StatefulSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Its path.
    pub field: &'static str,
    /// What a person can do.
    pub remedy: &'static str,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.remedy)
    }
}

const STORAGE_REMEDY: &str = "set spec.storage back to what the volumes were made with, or create a new RedisReplicaSet \
                              with this storage and copy the data into it";
const RECREATE_REMEDY: &str = "it was not made by this version of the operator; delete the StatefulSet with \
                               `kubectl delete statefulset --cascade=orphan`: pods and data stay, and the operator \
                               makes it anew";

/// The fields that Kubernetes does not let change (`ValidateStatefulSetUpdate`), of those that we set and do not keep.
const IMMUTABLE: [(&str, &str, &str); 3] = [
    ("volumeClaimTemplates", "spec.volumeClaimTemplates", STORAGE_REMEDY),
    ("selector", "spec.selector", RECREATE_REMEDY),
    ("serviceName", "spec.serviceName", RECREATE_REMEDY),
];

/// Compares the two.
pub fn classify(desired: &StatefulSet, live: &StatefulSet) -> Result<Change, serde_json::Error> {
    let (desired, live) = (serde_json::to_value(desired)?, serde_json::to_value(live)?);
    let spec_field = |object: &Value, field: &str| {
        without_defaults(object.get("spec").and_then(|spec| spec.get(field)).unwrap_or(&Value::Null))
    };
    let changed = |field: &str| {
        let (wanted, found) = (spec_field(&desired, field), spec_field(&live, field));
        // Both ways: a field taken away is a change as well.
        difference(&wanted, &found).is_some() || difference(&found, &wanted).is_some()
    };
    let fields: Vec<Blocked> = IMMUTABLE
        .into_iter()
        .filter(|(name, ..)| changed(name))
        .map(|(_, field, remedy)| Blocked { field, remedy })
        .collect();
    Ok(match difference(&desired, &live) {
        _ if !fields.is_empty() => Change::Blocked { fields },
        Some(field) => Change::Apply { field },
        None => Change::None,
    })
}

/// Takes out what the API server writes into each claim template by itself.
fn without_defaults(field: &Value) -> Value {
    let mut field = field.clone();
    for claim in field.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for added in ["apiVersion", "kind", "status"] {
            claim.remove(added);
        }
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
        }
        if let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("volumeMode");
        }
    }
    field
}

/// What of the template the spec names, so that it reaches pods which were made otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen {
    /// The mode of failover, which decides how Redis starts.
    pub start: bool,
    /// How applications log in.
    pub auth: bool,
}

/// Keeps the agent's image of the live pods, how it starts Redis, which Secret it reads and how names are resolved, where nothing
/// else in the template changes: a new operator must not restart any Redis, and neither must a change of size that changes the
/// default mode of failover. The next change of the template brings the new ones; so does what the spec names.
pub fn keep_agent(
    desired: StatefulSet,
    live: &StatefulSet,
    set: &SetName,
    chosen: Chosen,
) -> Result<StatefulSet, serde_json::Error> {
    let like_live = with_resolver_of(desired.clone(), live);
    let like_live = if chosen.start { like_live } else { with_start_of(like_live, live) };
    let like_live = if chosen.auth { like_live } else { with_auth_of(like_live, live, set) };
    let applied = live.metadata.annotations.as_ref().and_then(|annotations| annotations.get(AGENT_IMAGE));
    let (Some(applied), Some(running)) = (applied, agent_image(live)) else { return Ok(desired) };
    let unchanged = {
        let candidate = with_agent(like_live.clone(), running);
        let template = |set: &StatefulSet| serde_json::to_value(set.spec.as_ref().map(|spec| &spec.template));
        difference(&template(&candidate)?, &template(live)?).is_none()
    };
    Ok(if unchanged { with_agent(like_live, applied) } else { desired })
}

/// Keeps the live claim template's size where a larger one is wanted: a template cannot change, and the claims that are
/// made from it are grown by themselves.
pub fn keep_size(mut desired: StatefulSet, live: &StatefulSet) -> StatefulSet {
    let Some(kept) = template_size(live) else { return desired };
    let template = desired.spec.as_mut().and_then(|spec| spec.volume_claim_templates.as_mut()?.first_mut());
    let requests = template.and_then(|claim| claim.spec.as_mut()?.resources.as_mut()?.requests.as_mut());
    if let Some(wanted) = requests.and_then(|requests| requests.get_mut("storage"))
        && is_less(Some(kept), wanted)
    {
        *wanted = kept.clone();
    }
    desired
}

/// Keeps the live `podManagementPolicy`, which cannot change: a set that was made with `OrderedReady` goes on with it.
pub fn keep_policy(mut desired: StatefulSet, live: &StatefulSet) -> StatefulSet {
    let live = live.spec.as_ref().and_then(|spec| spec.pod_management_policy.clone());
    if let (Some(spec), Some(live)) = (desired.spec.as_mut(), live) {
        spec.pod_management_policy = Some(live);
    }
    desired
}

/// Size in the claim template.
pub fn template_size(set: &StatefulSet) -> Option<&Quantity> {
    let template = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?;
    template.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn agent_image(set: &StatefulSet) -> Option<&str> {
    let containers = set.spec.as_ref()?.template.spec.as_ref()?.init_containers.as_ref()?;
    containers.iter().find(|container| container.name == AGENT_CONTAINER)?.image.as_deref()
}

/// With the `dnsConfig` of the live pods, if it is that of an earlier version: what somebody wrote there is set back.
fn with_resolver_of(mut set: StatefulSet, live: &StatefulSet) -> StatefulSet {
    let kept = live.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.dns_config.clone());
    if kept.as_ref() != Some(&former_dns_config()) {
        return set;
    }
    if let Some(pod) = set.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
        pod.dns_config = kept;
    }
    set
}

/// With the Secret of the live pods, if it is that of an earlier version.
fn with_auth_of(mut desired: StatefulSet, live: &StatefulSet, set: &SetName) -> StatefulSet {
    let (volume, mount) = former_auth(set);
    let pod = |set: &StatefulSet| set.spec.as_ref().and_then(|spec| spec.template.spec.clone());
    let mounted = pod(live).and_then(|pod| pod.volumes).unwrap_or_default();
    let has = |name: &str| mounted.iter().any(|volume| volume.name == name);
    let is_former = has(&volume.name) && !has(INTERNAL_VOLUME);
    let pod = desired.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).filter(|_| is_former);
    let Some(pod) = pod else { return desired };
    for kept in pod.volumes.iter_mut().flatten().filter(|volume| volume.name == INTERNAL_VOLUME) {
        *kept = volume.clone();
    }
    let mounts = pod.containers.iter_mut().filter_map(|container| container.volume_mounts.as_mut());
    for kept in mounts.flatten().filter(|mount| mount.name == INTERNAL_VOLUME) {
        *kept = mount.clone();
    }
    desired
}

/// With the start of the live pods: parked whoever serves, or not.
fn with_start_of(mut set: StatefulSet, live: &StatefulSet) -> StatefulSet {
    let is_parked =
        live.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).is_some_and(starts_parked);
    let containers = set.spec.as_mut().and_then(|spec| Some(&mut spec.template.spec.as_mut()?.containers));
    let redis = containers.into_iter().flatten().find(|container| container.name == REDIS_CONTAINER);
    if let Some(command) = redis.and_then(|container| container.command.as_mut()) {
        command.retain(|argument| argument != START_PARKED);
        if is_parked {
            command.push(START_PARKED.to_owned());
        }
    }
    set
}

fn with_agent(mut set: StatefulSet, image: &str) -> StatefulSet {
    set.metadata.annotations.get_or_insert_default().insert(AGENT_IMAGE.to_owned(), image.to_owned());
    let containers = set
        .spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
        .and_then(|pod| pod.init_containers.as_mut());
    for container in containers.into_iter().flatten().filter(|container| container.name == AGENT_CONTAINER) {
        container.image = Some(image.to_owned());
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::RedisReplicaSet,
        desired::{Stage, desired},
        plan::plan,
        settings::Settings,
    };
    use serde_json::json;

    fn set() -> SetName {
        SetName::new("lab", "cache")
    }

    fn built(spec: &Value, agent: &str) -> StatefulSet {
        let resource: RedisReplicaSet = serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "cache", "namespace": "lab", "uid": "u-1"}, "spec": spec,
        }))
        .unwrap();
        let settings = Settings {
            cluster_domain: "cluster.local".into(),
            agent_image: agent.into(),
            operator_namespace: "ops".into(),
        };
        desired(&plan(&resource, &settings).unwrap(), Stage { pods: 3, disruptions: 1 }).stateful_set
    }

    /// As the API server stores it: canonical quantities and defaults.
    fn stored(set: &StatefulSet) -> StatefulSet {
        let mut value = serde_json::to_value(set).unwrap();
        value["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        value["spec"]["template"]["spec"]["containers"][0]["terminationMessagePolicy"] = json!("File");
        value["metadata"]["labels"]["team"] = json!("a");
        if let Some(claim) = value["spec"]["volumeClaimTemplates"].get_mut(0) {
            claim["status"] = json!({"phase": "Pending"});
            claim["spec"]["volumeMode"] = json!("Filesystem");
            claim["metadata"]["creationTimestamp"] = Value::Null;
        }
        serde_json::from_value(value).unwrap()
    }

    fn blocked(desired: &Value, live: &Value) -> Vec<&'static str> {
        match classify(&built(desired, "a"), &stored(&built(live, "a"))).unwrap() {
            Change::Blocked { fields } => fields.iter().map(|blocked| blocked.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn server_defaults_are_no_change() {
        for spec in [json!({}), json!({"storage": {"ephemeral": {}}}), json!({"storage": {"size": "1024Mi"}})]
        {
            let set = built(&spec, "a");
            assert_eq!(classify(&set, &stored(&set)).unwrap(), Change::None, "{spec}");
        }
        let canonical = stored(&built(&json!({"storage": {"size": "1Gi"}}), "a"));
        assert_eq!(
            classify(&built(&json!({"storage": {"size": "1024Mi"}}), "a"), &canonical).unwrap(),
            Change::None
        );
    }

    #[test]
    fn mutable_fields_are_applied() {
        for (spec, path) in [
            (json!({"image": "x:1"}), "spec.template.spec.containers.0.image"),
            (
                json!({"config": {"databases": "32"}}),
                "spec.template.metadata.annotations.replication.redis/config-hash",
            ),
            (
                json!({"storage": {"size": "1Gi", "retention": {"whenDeleted": "Delete"}}}),
                "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
            ),
        ] {
            let change = classify(&built(&spec, "a"), &stored(&built(&json!({}), "a"))).unwrap();
            assert_eq!(change, Change::Apply { field: path.to_owned() }, "{spec}");
        }
    }

    #[test]
    fn immutable_fields_are_blocked_with_a_remedy() {
        let claims = vec!["spec.volumeClaimTemplates"];
        let classed = json!({"storage": {"size": "1Gi", "storageClassName": "fast"}});
        assert_eq!(blocked(&json!({"storage": {"size": "2Gi"}}), &json!({})), claims);
        assert_eq!(blocked(&classed, &json!({})), claims);
        assert_eq!(blocked(&json!({}), &classed), claims);
        assert_eq!(blocked(&json!({"storage": {"ephemeral": {}}}), &json!({})), claims);
        assert_eq!(blocked(&json!({}), &json!({"storage": {"ephemeral": {}}})), claims);

        let mut live = serde_json::to_value(built(&json!({}), "a")).unwrap();
        live["spec"]["serviceName"] = json!("other");
        live["spec"]["selector"]["matchLabels"]["extra"] = json!("x");
        let live: StatefulSet = serde_json::from_value(live).unwrap();
        let Change::Blocked { fields } = classify(&built(&json!({}), "a"), &live).unwrap() else { panic!() };
        assert_eq!(fields.len(), 2);
        assert!(fields.iter().all(|blocked| blocked.to_string().contains("--cascade=orphan")));
    }

    #[test]
    fn a_larger_size_leaves_the_template_as_it_is() {
        let live = stored(&built(&json!({}), "a"));
        let larger = json!({"storage": {"size": "2Gi"}, "image": "x:1"});
        let kept = keep_size(built(&larger, "a"), &live);
        let change = classify(&kept, &live).unwrap();
        assert_eq!(change, Change::Apply { field: "spec.template.spec.containers.0.image".to_owned() });
        let smaller = keep_size(built(&json!({"storage": {"size": "512Mi"}}), "a"), &live);
        assert!(matches!(classify(&smaller, &live).unwrap(), Change::Blocked { .. }));
        let ephemeral = keep_size(built(&json!({"storage": {"ephemeral": {}}}), "a"), &live);
        assert!(matches!(classify(&ephemeral, &live).unwrap(), Change::Blocked { .. }));
    }

    #[test]
    fn a_live_set_keeps_its_pod_management_policy() {
        let policy = |set: &StatefulSet| set.spec.as_ref().unwrap().pod_management_policy.clone();
        let desired = built(&json!({}), "a");
        assert_eq!(policy(&desired).as_deref(), Some("Parallel"));
        for kept in ["OrderedReady", "Parallel"] {
            let mut live = stored(&desired);
            live.spec.as_mut().unwrap().pod_management_policy = Some(kept.to_owned());
            let settled = keep_policy(desired.clone(), &live);
            assert_eq!(policy(&settled).as_deref(), Some(kept));
            assert_eq!(classify(&settled, &live).unwrap(), Change::None, "{kept}");
            let other = keep_policy(built(&json!({"image": "x:1"}), "a"), &live);
            assert!(matches!(classify(&other, &live).unwrap(), Change::Apply { .. }), "{kept}");
        }
    }

    #[test]
    fn a_new_operator_alone_changes_no_template() {
        let live = stored(&built(&json!({}), "old"));
        let kept = keep_agent(built(&json!({}), "new"), &live, &set(), Chosen::default()).unwrap();
        assert_eq!(classify(&kept, &live).unwrap(), Change::None);

        // What a version changed of how Redis starts and how names are resolved.
        let mut former = live.clone();
        let pod = former.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
        pod.dns_config = Some(former_dns_config());
        pod.containers[0].command.as_mut().unwrap().retain(|argument| argument != START_PARKED);
        let (volume, mount) = former_auth(&set());
        let replaced = pod.volumes.as_mut().unwrap().iter_mut().find(|v| v.name == INTERNAL_VOLUME);
        *replaced.unwrap() = volume;
        let mounts = pod.containers[0].volume_mounts.as_mut().unwrap();
        *mounts.iter_mut().find(|m| m.name == INTERNAL_VOLUME).unwrap() = mount;
        let kept = keep_agent(built(&json!({}), "new"), &former, &set(), Chosen::default()).unwrap();
        assert_eq!(classify(&kept, &former).unwrap(), Change::None);
        let chosen = json!({"failover": {"mode": "Quorum"}});
        let rolled =
            keep_agent(built(&chosen, "new"), &former, &set(), Chosen { start: true, auth: false }).unwrap();
        assert!(matches!(classify(&rolled, &former).unwrap(), Change::Apply { .. }));
        let own = json!({"auth": {"secretName": "mine"}});
        let rolled =
            keep_agent(built(&own, "new"), &former, &set(), Chosen { start: false, auth: true }).unwrap();
        assert!(matches!(classify(&rolled, &former).unwrap(), Change::Apply { .. }));

        let changed =
            keep_agent(built(&json!({"image": "x:1"}), "new"), &live, &set(), Chosen::default()).unwrap();
        assert_eq!(agent_image(&changed), Some("new"));

        let tampered = with_agent(live.clone(), "evil");
        let mut tampered = stored(&tampered);
        tampered.metadata.annotations.clone_from(&live.metadata.annotations);
        let kept = keep_agent(built(&json!({}), "new"), &tampered, &set(), Chosen::default()).unwrap();
        assert_eq!(agent_image(&kept), Some("old"), "what was applied, not what somebody wrote over it");
    }
}
