//! `status.instances`: one entry a pod, in the servers' own words.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::conditions::shown;
use crate::{
    api::status::{InstanceRole, InstanceState, InstanceStatus},
    election::snapshot::Snapshot,
    observed::ObservedPod,
    topology::Verdict,
};
use redis_node::info::{Aof, Flavour, Info, Server};

/// Entries for the pods of a look.
pub fn instances(before: &[InstanceStatus], look: &Snapshot, now: Timestamp) -> Vec<InstanceStatus> {
    look.topology
        .instances
        .iter()
        .map(|verdict| {
            let pod = look.observed.pods.iter().find(|p| p.name == verdict.pod);
            entry(before, verdict, pod, now)
        })
        .collect()
}

/// Entries where this reconcile could not look: the pods known before, with nothing that anybody answered now.
pub fn not_asked(before: &[InstanceStatus], now: Timestamp) -> Vec<InstanceStatus> {
    before
        .iter()
        .map(|old| InstanceStatus {
            pod: old.pod.clone(),
            state: InstanceState::Unreachable,
            role: None,
            master_host: None,
            link: None,
            replid: None,
            run_id: None,
            version: None,
            since: since(before, &old.pod, InstanceState::Unreachable, now),
            message: Some("not asked in the last reconcile".to_owned()),
        })
        .collect()
}

fn entry(
    before: &[InstanceStatus],
    verdict: &Verdict,
    pod: Option<&ObservedPod>,
    now: Timestamp,
) -> InstanceStatus {
    let info = pod.and_then(|p| p.answer.as_ref().ok()).map(|a| &a.info);
    let upstream = info.and_then(|i| i.replication.upstream.as_ref());
    InstanceStatus {
        pod: verdict.pod.clone(),
        state: verdict.state,
        role: info.map(|i| match i.replication.upstream {
            None => InstanceRole::Primary,
            Some(_) => InstanceRole::Replica,
        }),
        master_host: upstream.map(|u| u.host.clone()),
        link: upstream.map(|u| if u.link_up { "up" } else { "down" }.to_owned()),
        replid: info.map(|i| i.replication.replid.clone()),
        run_id: info.map(|i| i.server.run_id.clone()),
        version: info.map(|i| version(&i.server)),
        since: since(before, &verdict.pod, verdict.state, now),
        message: message(verdict, info),
    }
}

/// What is wrong with it; of one that is well, what it is not fit for yet.
fn message(verdict: &Verdict, info: Option<&Info>) -> Option<String> {
    if !verdict.faults.is_empty() {
        return Some(shown(&verdict.faults.join("; ")));
    }
    let rewrites = info.is_some_and(|info| info.persistence.aof == Aof::Rewriting);
    rewrites.then(|| {
        "rewrites its append-only file, so a restart may load older data: until that is done it is not handed the role, and \
         no other pod is replaced"
            .to_owned()
    })
}

fn version(server: &Server) -> String {
    match server.flavour {
        Flavour::Redis => server.version.clone(),
        Flavour::Valkey => format!("valkey {}", server.version),
    }
}

fn since(before: &[InstanceStatus], pod: &str, state: InstanceState, now: Timestamp) -> Option<Time> {
    before
        .iter()
        .find(|old| old.pod == pod && old.state == state)
        .and_then(|old| old.since.clone())
        .or(Some(Time(now)))
}
