//! The `ConfigMap` with the user's redis.conf directives. The agent adds what the operator decides.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::{names::CONFIG_KEY, plan::Plan};

/// Directives that the operator prefers to Redis' own defaults; the user's win.
///
/// `repl-diskless-sync-delay` 0: Redis waits 5 s before a full sync so that more replicas may join it (experiment
/// E2). Members of a set come one at a time, so that wait would only delay each of them.
const PREFERRED: [(&str, &str); 1] = [("repl-diskless-sync-delay", "0")];

/// One line a directive, by name. An empty value has to be written as `""`: Redis refuses a bare name.
pub(super) fn redis_conf(plan: &Plan) -> String {
    let line = |(name, value): (&str, &str)| {
        let value = value.trim();
        format!("{name} {}\n", if value.is_empty() { r#""""# } else { value })
    };
    let mut directives: BTreeMap<&str, &str> = PREFERRED.into();
    directives.extend(plan.directives.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    directives.into_iter().map(line).collect()
}

/// The object.
pub(super) fn config_map(plan: &Plan, redis_conf: String) -> ConfigMap {
    ConfigMap {
        metadata: metadata(plan, plan.set.config_map()),
        data: Some([(CONFIG_KEY.to_owned(), redis_conf)].into()),
        ..ConfigMap::default()
    }
}
