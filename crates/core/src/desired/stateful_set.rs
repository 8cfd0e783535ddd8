//! The `StatefulSet`.

use k8s_openapi::{
    api::{
        apps::v1::{
            StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
            StatefulSetUpdateStrategy,
        },
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Stage, metadata, pod};
use crate::labels;
use crate::{
    hash,
    names::DATA_VOLUME,
    plan::{Plan, Storage},
};

/// Ordered pods behind the headless Service.
///
/// `OnDelete`: the operator chooses which pod is replaced when, the primary last and after a switchover.
/// `Parallel`: with `OrderedReady` a pod that ends on a lost node, and stays Terminating, keeps every pod after it from being
/// made again. The order comes from the operator, which raises `replicas` by one (`rollout::size`).
pub(super) fn stateful_set(plan: &Plan, stage: Stage) -> StatefulSet {
    let mut metadata = metadata(plan, plan.subject.set.stateful_set());
    metadata.annotations = Some([(labels::AGENT_IMAGE.to_owned(), plan.agent_image.clone())].into());
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(stage.pods),
            service_name: Some(plan.subject.set.headless_service()),
            selector: labels::selector(&plan.subject.set),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            revision_history_limit: Some(2),
            persistent_volume_claim_retention_policy: retention(plan),
            volume_claim_templates: claim_templates(plan),
            template: pod::template(plan, &hash::sha256(plan.config.needs_start().as_bytes())),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn retention(plan: &Plan) -> Option<StatefulSetPersistentVolumeClaimRetentionPolicy> {
    match &plan.storage {
        Storage::Volume { retention, .. } => Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
            when_deleted: Some(retention.when_deleted.as_str().to_owned()),
            when_scaled: Some(retention.when_scaled.as_str().to_owned()),
        }),
        Storage::Ephemeral => None,
    }
}

fn claim_templates(plan: &Plan) -> Option<Vec<PersistentVolumeClaim>> {
    match &plan.storage {
        Storage::Volume { size, class, .. } => Some(vec![PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(DATA_VOLUME.to_owned()),
                labels: Some(labels::labels(&plan.subject.set)),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                storage_class_name: class.clone(),
                volume_mode: Some("Filesystem".to_owned()),
                resources: Some(VolumeResourceRequirements {
                    requests: Some([("storage".to_owned(), size.clone())].into()),
                    limits: None,
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            status: None,
        }]),
        Storage::Ephemeral => None,
    }
}
