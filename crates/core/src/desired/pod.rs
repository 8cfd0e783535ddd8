//! The pod: the agent comes in by an init container, starts Redis, and is the probe.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
        EnvVar, EnvVarSource, ExecAction, KeyToPath, Lifecycle, LifecycleHandler, LocalObjectReference,
        ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodDNSConfig, PodDNSConfigOption,
        PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile,
        SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
        WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::probes;
use crate::labels;
use crate::{
    api::{failover::Mode, spec::ImagePullPolicy},
    labels::Role,
    names::{AGENT_CONTAINER, DATA_VOLUME, REDIS_CONTAINER, REDIS_PORT_NAME, START_PARKED, SetName},
    plan::{Plan, Storage},
};
use redis_node::files::{
    AGENT_DIR, AGENT_PASSWORD_KEY, CONFIG_DIR, DATA_DIR, FORMER_AUTH_DIR, INTERNAL_DIR, PASSWORD_KEY,
    RECORD_DIR, REDIS_PORT, REPLICA_PASSWORD_KEY, RUN_DIR, USERS_KEY,
};

/// User and group of the official images (Debian); the volumes are given to this group.
const REDIS_UID: i64 = 999;

const AGENT_VOLUME: &str = "agent";
const CONFIG_VOLUME: &str = "config";
const RECORD_VOLUME: &str = "record";
pub(crate) const INTERNAL_VOLUME: &str = "internal";
const FORMER_AUTH_VOLUME: &str = "auth";
const RUN_VOLUME: &str = "run";

/// The template of every pod of the set.
pub(super) fn template(plan: &Plan, config_hash: &str) -> PodTemplateSpec {
    let mut pod_labels = plan.pod_labels.clone();
    // A pod that is made again while no operator runs can be read; the operator moves the label on from there.
    pod_labels.extend(labels::of_role(&plan.subject.set, Role::Replica));
    let mut annotations = plan.pod_annotations.clone();
    annotations.insert(labels::CONFIG_HASH.to_owned(), config_hash.to_owned());
    // `kubectl logs` and `exec` then mean Redis where no container is named.
    annotations.insert("kubectl.kubernetes.io/default-container".to_owned(), REDIS_CONTAINER.to_owned());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(plan)),
    }
}

fn spec(plan: &Plan) -> PodSpec {
    let scheduling = &plan.scheduling;
    let secrets = plan.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    let constraints =
        scheduling.topology_spread_constraints.iter().map(|constraint| spread(plan, constraint));
    PodSpec {
        init_containers: Some(vec![agent(plan)]),
        containers: vec![redis(plan)],
        volumes: Some(volumes(plan)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(REDIS_UID),
            run_as_group: Some(REDIS_UID),
            fs_group: Some(REDIS_UID),
            // A volume of millions of files would otherwise be walked at every start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        dns_config: Some(dns_config()),
        termination_grace_period_seconds: Some(plan.grace_seconds),
        image_pull_secrets: some_vec(secrets.collect()),
        node_selector: some_map(scheduling.node_selector.clone()),
        affinity: Some(scheduling.affinity.clone().unwrap_or_else(|| prefer_different_nodes(plan))),
        tolerations: some_vec(scheduling.tolerations.clone()),
        topology_spread_constraints: some_vec(constraints.collect()),
        priority_class_name: scheduling.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

/// Puts the agent into the pod.
fn agent(plan: &Plan) -> Container {
    Container {
        name: AGENT_CONTAINER.to_owned(),
        image: Some(plan.agent_image.clone()),
        image_pull_policy: Some(ImagePullPolicy::IfNotPresent.as_str().to_owned()),
        command: Some(["/agent", "install", AGENT_DIR].map(str::to_owned).to_vec()),
        resources: Some(ResourceRequirements {
            requests: Some(quantities([("cpu", "10m"), ("memory", "16Mi")])),
            limits: Some(quantities([("memory", "64Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount(AGENT_VOLUME, AGENT_DIR, false)]),
        ..Container::default()
    }
}

fn redis(plan: &Plan) -> Container {
    let pod_name = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: Some("v1".to_owned()),
            field_path: "metadata.name".to_owned(),
        }),
        ..EnvVarSource::default()
    };
    Container {
        name: REDIS_CONTAINER.to_owned(),
        image: Some(plan.image.clone()),
        image_pull_policy: Some(plan.image_pull_policy.as_str().to_owned()),
        command: Some(start(plan)),
        env: Some(vec![EnvVar { name: "POD_NAME".to_owned(), value: None, value_from: Some(pod_name) }]),
        ports: Some(vec![ContainerPort {
            name: Some(REDIS_PORT_NAME.to_owned()),
            container_port: i32::from(REDIS_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        resources: Some(ResourceRequirements {
            requests: some_map(plan.resources.requests.clone()),
            limits: some_map(plan.resources.limits.clone()),
            ..ResourceRequirements::default()
        }),
        security_context: Some(restricted()),
        lifecycle: Some(Lifecycle { pre_stop: Some(pre_stop()), ..Lifecycle::default() }),
        startup_probe: Some(probes::startup(plan.startup_seconds)),
        liveness_probe: Some(probes::liveness()),
        readiness_probe: Some(probes::readiness()),
        volume_mounts: Some(vec![
            mount(AGENT_VOLUME, AGENT_DIR, true),
            mount(CONFIG_VOLUME, CONFIG_DIR, true),
            mount(RECORD_VOLUME, RECORD_DIR, true),
            mount(INTERNAL_VOLUME, INTERNAL_DIR, true),
            mount(RUN_VOLUME, RUN_DIR, false),
            mount(DATA_VOLUME, DATA_DIR, false),
        ]),
        working_dir: Some(DATA_DIR.to_owned()),
        ..Container::default()
    }
}

/// How the agent starts Redis. With Quorum nobody follows unless the operator has written that down first: a replica that starts
/// behind a cut would give the former primary there the right to acknowledge back.
fn start(plan: &Plan) -> Vec<String> {
    let mut command = vec![
        format!("{AGENT_DIR}/agent"),
        "start".to_owned(),
        "--pod=$(POD_NAME)".to_owned(),
        format!("--domain={}", plan.subject.set.pod_domain(&plan.subject.cluster_domain)),
    ];
    if plan.subject.failover.mode == Mode::Quorum {
        command.push(START_PARKED.to_owned());
    }
    command
}

/// Waits until the primary was moved away. What a hook prints reaches nobody, so its one line goes to where Redis,
/// which is PID 1 and runs as the same user, writes its own.
fn pre_stop() -> LifecycleHandler {
    let command = [format!("{AGENT_DIR}/agent").as_str(), "prestop", "--log=/proc/1/fd/1"].map(str::to_owned);
    LifecycleHandler {
        exec: Some(ExecAction { command: Some(command.to_vec()) }),
        ..LifecycleHandler::default()
    }
}

/// What the Pod Security Standard `restricted` asks of a container, and no writable root (experiment E26: Redis
/// writes to its data directory only).
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

fn volumes(plan: &Plan) -> Vec<Volume> {
    let mut volumes = vec![
        empty_dir(AGENT_VOLUME, None, Some("64Mi")),
        from_config_map(CONFIG_VOLUME, plan.subject.set.config_map()),
        from_config_map(RECORD_VOLUME, plan.subject.set.record()),
        // Nothing that a person deletes or rotates: a pod starts whatever becomes of the application's Secret.
        from_secret(
            INTERNAL_VOLUME,
            plan.subject.set.internal_secret(),
            &[USERS_KEY, REPLICA_PASSWORD_KEY, AGENT_PASSWORD_KEY],
        ),
        // In memory: the final redis.conf holds the password, which must not reach a disk.
        empty_dir(RUN_VOLUME, Some("Memory"), Some("1Mi")),
    ];
    if plan.storage == Storage::Ephemeral {
        volumes.push(empty_dir(DATA_VOLUME, None, None));
    }
    volumes
}

fn from_secret(volume: &str, secret: String, keys: &[&str]) -> Volume {
    let item = |key: &&str| KeyToPath { key: (*key).to_owned(), path: (*key).to_owned(), mode: None };
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o440),
            items: Some(keys.iter().map(item).collect()),
            optional: None,
        }),
        ..Volume::default()
    }
}

fn empty_dir(name: &str, medium: Option<&str>, size_limit: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: medium.map(ToOwned::to_owned),
            size_limit: size_limit.map(|limit| Quantity(limit.to_owned())),
        }),
        ..Volume::default()
    }
}

fn from_config_map(volume: &str, config_map: String) -> Volume {
    Volume {
        name: volume.to_owned(),
        config_map: Some(ConfigMapVolumeSource { name: config_map, ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    }
}

/// What pods of earlier versions mount: the Secret with the application's password.
pub(crate) fn former_auth(set: &SetName) -> (Volume, VolumeMount) {
    let volume = from_secret(FORMER_AUTH_VOLUME, set.auth_secret(), &[PASSWORD_KEY]);
    (volume, mount(FORMER_AUTH_VOLUME, FORMER_AUTH_DIR, true))
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// Redis resolves names in its event loop: a lookup that nobody answers freezes it for 20 s with the usual
/// settings, for 2 s with these (experiment E20): the name, and once more with the first search domain. All names that it looks up
/// are complete. A question that is lost is asked again by Redis itself, a second later.
fn dns_config() -> PodDNSConfig {
    resolver("1")
}

/// What pods of earlier versions have: a lookup that nobody answers takes twice as long.
pub(crate) fn former_dns_config() -> PodDNSConfig {
    resolver("2")
}

fn resolver(attempts: &str) -> PodDNSConfig {
    let option = |(name, value): (&str, &str)| PodDNSConfigOption {
        name: Some(name.to_owned()),
        value: Some(value.to_owned()),
    };
    PodDNSConfig {
        options: Some([("ndots", "1"), ("timeout", "1"), ("attempts", attempts)].map(option).into()),
        ..PodDNSConfig::default()
    }
}

fn prefer_different_nodes(plan: &Plan) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: PodAffinityTerm {
                    topology_key: "kubernetes.io/hostname".to_owned(),
                    label_selector: Some(labels::selector(&plan.subject.set)),
                    ..PodAffinityTerm::default()
                },
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// A constraint without a selector would count no pod at all.
fn spread(plan: &Plan, constraint: &TopologySpreadConstraint) -> TopologySpreadConstraint {
    let label_selector =
        constraint.label_selector.clone().or_else(|| Some(labels::selector(&plan.subject.set)));
    TopologySpreadConstraint { label_selector, ..constraint.clone() }
}

fn quantities<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    entries.map(|(name, value)| (name.to_owned(), Quantity(value.to_owned()))).into()
}

/// `None` for nothing: an empty list in an apply would claim a field that the server does not store.
fn some_vec<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The same for maps.
fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
