//! The `ConfigMap` with the user's redis.conf directives. The agent adds what the operator decides.

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::{names::CONFIG_KEY, plan::Plan};

/// One line a directive, by name. An empty value has to be written as `""`: Redis refuses a bare name.
pub(super) fn redis_conf(plan: &Plan) -> String {
    let line = |(name, value): (&String, &String)| {
        let value = value.trim();
        format!("{name} {}\n", if value.is_empty() { r#""""# } else { value })
    };
    plan.directives.iter().map(line).collect()
}

/// The object.
pub(super) fn config_map(plan: &Plan, redis_conf: String) -> ConfigMap {
    ConfigMap {
        metadata: metadata(plan, plan.set.config_map()),
        data: Some([(CONFIG_KEY.to_owned(), redis_conf)].into()),
        ..ConfigMap::default()
    }
}
