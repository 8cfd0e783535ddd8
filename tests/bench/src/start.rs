//! From apply to a status that says Ready: the time, whether the status was true, and what it cost the API server.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    figures::{Figures, Key},
    steps::Steps,
};
use rig::{
    Failure,
    clock::millis,
    cluster::audit::{Tail, requests, tally},
    cluster::lab::{Lab, OPERATOR_USER},
    cluster::set::{REPLICAS, Set, Storage},
};

/// Events of a change follow its status; they belong to the start as well.
const AFTERMATH: Duration = Duration::from_secs(2);
/// A status that is this much earlier than the truth is wrong, in milliseconds; the truth is asked every 20 ms.
const TOLERANCE_MILLIS: i64 = 100;
/// A start that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(90);

/// What starts of one kind of storage have shown beside the figures.
#[derive(Debug, Default)]
pub struct Starts {
    /// Steps of all runs.
    pub steps: Steps,
    /// Mutating calls of the last run.
    pub calls: BTreeMap<String, usize>,
}

/// Makes a set and measures until it is Ready. Leaves the prober on.
pub async fn start(
    lab: &Lab,
    name: &str,
    storage: Storage,
    figures: &mut Figures,
    starts: &mut Starts,
) -> Result<Set, Failure> {
    let audit = Tail::begin(&lab.audit_log)?;
    let mut set = Set::create(lab, name, &storage.spec(&lab.image)).await?;
    set.probe(lab)?;
    let ready = set.ready(set.applied, 1, LIMIT).await?;
    let total = millis(set.applied, ready);
    match storage {
        Storage::Ephemeral => figures.add(Key::ReadyEphemeral, total),
        Storage::Volumes => {
            let unbound = unbound_millis(&set, ready);
            figures.add(Key::ReadyVolumes, total);
            figures.add(Key::Unbound, unbound);
            figures.add(Key::ReadyWithoutStorage, total - unbound);
        }
    }
    tokio::time::sleep(AFTERMATH).await;

    figures.add(Key::SyncSeen, millis(in_sync_since(&set, ready)?, ready));
    starts.steps.add(&set, ready);

    let made = requests(&audit.read()?, OPERATOR_USER)?;
    let writes: Vec<_> =
        made.iter().filter(|r| r.is_write() && r.namespace.as_deref() == Some(lab.namespace)).collect();
    let calls = match storage {
        Storage::Ephemeral => Key::CallsEphemeral,
        Storage::Volumes => Key::CallsVolumes,
    };
    figures.add(calls, i64::try_from(writes.len())?);
    starts.calls = tally(writes);
    Ok(set)
}

/// Since when all replicas had been in sync when the status said so.
fn in_sync_since(set: &Set, ready: Timestamp) -> Result<Timestamp, Failure> {
    let since = set.truth.scan(|truth| {
        // The answers may be 20 ms behind the status: what came just after it counts as well.
        let before = truth.iter().take_while(|(at, _)| millis(ready, *at) <= TOLERANCE_MILLIS);
        before.last().filter(|(_, sync)| sync.replicas.len() == REPLICAS - 1).map(|(at, _)| *at)
    });
    since.ok_or_else(|| {
        "THE STATUS WAS NOT TRUE: it said Ready before the servers said that all are in sync".into()
    })
}

/// How long at least one claim existed and was not bound, until Ready.
fn unbound_millis(set: &Set, ready: Timestamp) -> i64 {
    let mut spans: BTreeMap<String, (Timestamp, Timestamp)> = BTreeMap::new();
    set.claims.log.scan(|claims| {
        for (at, claim) in claims.iter().filter(|(at, _)| *at <= ready) {
            let (_, until) = spans.entry(claim.name_any()).or_insert((*at, ready));
            let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
            if bound && *until == ready {
                *until = *at;
            }
        }
    });
    let mut spans: Vec<_> = spans.into_values().collect();
    spans.sort();
    let mut total = 0;
    let mut counted = Timestamp::MIN;
    for (from, until) in spans {
        total += millis(from.max(counted), until).max(0);
        counted = counted.max(until);
    }
    total
}
