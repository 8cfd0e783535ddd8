//! Where the time from apply to Ready goes: when each step of a start was first seen.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use rig::{
    clock::millis,
    cluster::set::{REPLICAS, Set, address},
    stats::summary,
};

/// Milliseconds from apply to each step, one value a run.
#[derive(Debug, Default)]
pub struct Steps(Vec<(String, Vec<i64>)>);

impl Steps {
    /// Adds the steps of a start that ended in Ready at this moment.
    pub fn add(&mut self, set: &Set, ready: Timestamp) {
        for ordinal in 0..REPLICAS {
            let name = format!("{}-{ordinal}", set.name.name);
            let mut step = |what: &str, is: fn(&Pod) -> bool| {
                let first = set.pods.log.scan(|pods| {
                    pods.iter().find(|(_, pod)| pod.name_any() == name && is(pod)).map(|(at, _)| *at)
                });
                self.put(set, &format!("Pod {ordinal} {what}"), first);
            };
            step("created", |_| true);
            step("has an address", |pod| address(pod).is_some());
            step("runs Redis", runs);
            step("is ready for the kubelet", is_ready);
            let all_before = set.truth.scan(|truth| {
                let holds = |in_sync: usize| in_sync >= ordinal;
                truth.iter().find(|(_, s)| s.primary.is_some() && holds(s.replicas.len())).map(|(at, _)| *at)
            });
            let what =
                if ordinal == 0 { "the primary serves".to_owned() } else { format!("{ordinal} in sync") };
            self.put(set, &what, all_before);
        }
        self.put(set, "status says Ready", Some(ready));
    }

    fn put(&mut self, set: &Set, what: &str, at: Option<Timestamp>) {
        let Some(at) = at else { return };
        let value = millis(set.applied, at);
        match self.0.iter_mut().find(|(name, _)| name == what) {
            Some((_, values)) => values.push(value),
            None => self.0.push((what.to_owned(), vec![value])),
        }
    }

    /// The steps by their medians.
    pub fn markdown(&self) -> String {
        let mut steps: Vec<_> =
            self.0.iter().filter_map(|(what, values)| Some((what, summary(values)?))).collect();
        steps.sort_by_key(|(_, summary)| summary.p50);
        let mut text = String::from("| step | p50 | p99 |\n|---|---|---|\n");
        for (what, summary) in steps {
            let seconds = |ms: i64| format!("{}.{:02} s", ms / 1000, ms % 1000 / 10);
            let _ = writeln!(text, "| {what} | {} | {} |", seconds(summary.p50), seconds(summary.p99));
        }
        text
    }
}

fn runs(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|c| c.state.as_ref().is_some_and(|state| state.running.is_some()))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
