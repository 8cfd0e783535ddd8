//! The `ConfigMap` with the directives of redis.conf. The agent adds what the operator decides.

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::metadata;
use crate::plan::Plan;
use redis_node::files::CONFIG_KEY;

/// The object.
pub(super) fn config_map(plan: &Plan) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            annotations: plan.config.notes(),
            ..metadata(plan, plan.subject.set.config_map())
        },
        data: Some([(CONFIG_KEY.to_owned(), plan.config.text())].into()),
        ..ConfigMap::default()
    }
}
