//! The probes of the Redis container. The agent asks Redis: it needs no shell and no password in the pod's spec.

use k8s_openapi::api::core::v1::{ExecAction, Probe};

use redis_node::files::AGENT_DIR;

/// Loading counts as not started.
pub(super) fn startup(seconds: i32) -> Probe {
    Probe {
        period_seconds: Some(1),
        timeout_seconds: Some(6),
        failure_threshold: Some(seconds),
        ..probe("startup")
    }
}

/// Any answer counts, an error too (experiments E9, E12, E17): a restart would not help a Redis that still answers.
/// A script is silent for its first 5 s, a lookup that nobody answers for up to 20 s (E20): 90 s in all.
pub(super) fn liveness() -> Probe {
    Probe {
        period_seconds: Some(15),
        timeout_seconds: Some(6),
        failure_threshold: Some(6),
        ..probe("liveness")
    }
}

/// Redis answers and is not loading. Whether it is in sync is the operator's to say.
pub(super) fn readiness() -> Probe {
    Probe {
        period_seconds: Some(5),
        timeout_seconds: Some(3),
        failure_threshold: Some(3),
        ..probe("readiness")
    }
}

fn probe(kind: &str) -> Probe {
    let command = vec![format!("{AGENT_DIR}/agent"), "probe".to_owned(), kind.to_owned()];
    Probe { exec: Some(ExecAction { command: Some(command) }), ..Probe::default() }
}
