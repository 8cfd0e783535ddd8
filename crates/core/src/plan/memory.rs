//! Whether `maxmemory` leaves the container enough room. Pure.
//!
//! Redis uses more than the data that `maxmemory` bounds: a fork for a save or a full copy duplicates pages that are
//! written meanwhile (all of them under a heavy load), and what waits for a slow replica (256 MiB by default) is not
//! counted for eviction (experiment E16). Above its limit the container is killed, with every write since the last
//! save.
//!
//! A limit without `maxmemory` is not warned of: most such sets hold little, and a warning that is always there is
//! read by nobody.

use redis_node::memory_size::bytes;

use crate::{plan::Plan, quantity};

/// Share of the limit, in percent, above which a save or a full copy may not fit any more.
const MOST_PERCENT: i128 = 80;

/// What to say about `maxmemory` and the limit, where that is more than the limit bears.
pub fn tight(plan: &Plan) -> Option<String> {
    let wanted = plan.directives.get("maxmemory")?;
    let bytes = i128::from(bytes(wanted)?);
    let limit = &plan.resources.limits.get("memory")?.0;
    let limit_bytes = quantity::nanos(limit)? / 1_000_000_000;
    (bytes * 100 > limit_bytes * MOST_PERCENT).then(|| {
        format!(
            "spec.config.maxmemory {wanted} is more than {MOST_PERCENT} % of spec.resources.limits.memory {limit}: a save, \
             a full copy to a replica and the replication buffers need room beside the data, and above the limit Redis is \
             killed. Lower maxmemory, or raise the limit"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::RedisReplicaSet, plan::plan, settings::Settings};
    use serde_json::{Value, json};

    fn of(spec: &Value) -> Option<String> {
        let resource: RedisReplicaSet = serde_json::from_value(json!({
            "apiVersion": "replication.redis/v1alpha1", "kind": "RedisReplicaSet",
            "metadata": {"name": "cache", "namespace": "lab", "uid": "u-1"}, "spec": spec,
        }))
        .unwrap();
        let settings = Settings {
            cluster_domain: "cluster.local".into(),
            agent_image: "operator:1".into(),
            operator_namespace: "ops".into(),
        };
        tight(&plan(&resource, &settings).unwrap())
    }

    #[test]
    fn more_than_four_fifths_is_tight() {
        for (maxmemory, limit, is_tight) in [
            ("800mb", "1000Mi", false),
            ("801mb", "1000Mi", true),
            ("2gb", "1Gi", true),
            ("1gb", "1Gi", true),
            ("1g", "1Gi", true),
            ("100mb", "1Gi", false),
            ("0", "1Gi", false),
        ] {
            let spec =
                json!({"config": {"maxmemory": maxmemory}, "resources": {"limits": {"memory": limit}}});
            assert_eq!(of(&spec).is_some(), is_tight, "{maxmemory} of {limit}");
        }
        assert_eq!(of(&json!({"config": {"maxmemory": "9gb"}})), None, "no limit");
        assert_eq!(of(&json!({"resources": {"limits": {"memory": "1Gi"}}})), None, "no maxmemory");
    }

    #[test]
    fn sizes() {
        for (text, worth) in [
            ("1", Some(1)),
            ("1B", Some(1)),
            ("3k", Some(3000)),
            ("3KB", Some(3072)),
            ("1m", Some(1_000_000)),
            ("1mb", Some(1_048_576)),
            ("1g", Some(1_000_000_000)),
            ("\"2GB\"", Some(2_147_483_648)),
            ("", None),
            ("gb", None),
            ("1tb", None),
            ("1.5gb", None),
            ("50%", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(bytes(text), worth, "{text}");
        }
    }
}
