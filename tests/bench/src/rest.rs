//! Three sets at rest: what the operator asks of the API server, and its memory and CPU.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::figures::{Figures, Key};
use rig::{
    Failure,
    clock::{millis, now},
    cluster::audit::{Tail, requests, tally},
    cluster::lab::{Lab, OPERATOR_USER},
    cluster::set::{Set, Storage},
};

/// After a set has become Ready, before it counts as resting.
const SETTLE: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(90);

/// The figures that this gives.
pub const KEYS: [Key; 5] =
    [Key::MemoryOneSet, Key::MemoryThreeSets, Key::Cpu, Key::RestWrites, Key::RestLists];

/// What was asked at rest, beside the figures.
#[derive(Debug, Default)]
pub struct Rest {
    /// Every request by kind, leases too.
    pub requests: BTreeMap<String, usize>,
    /// Words about the leader's process.
    pub process: String,
}

/// Makes three sets, rests, and measures. Returns the sets.
pub async fn rest(lab: &Lab, time: Duration, figures: &mut Figures) -> Result<(Vec<Set>, Rest), Failure> {
    let mut sets = vec![ready(lab, "rest-0").await?];
    tokio::time::sleep(SETTLE).await;
    figures.add(Key::MemoryOneSet, lab.leader().await?.0.memory_kib("VmRSS")?);
    for name in ["rest-1", "rest-2"] {
        sets.push(ready(lab, name).await?);
    }
    tokio::time::sleep(SETTLE).await;

    println!("  resting for {time:?}");
    let (process, _) = lab.leader().await?;
    let audit = Tail::begin(&lab.audit_log)?;
    let (from, cpu) = (now(), process.cpu_millis()?);
    tokio::time::sleep(time).await;
    let (leader, pod) = lab.leader().await?;
    let running_for = running_for(&pod)?;
    if leader != process {
        return Err("another operator began to lead during the rest".into());
    }
    let (used, elapsed) = (process.cpu_millis()? - cpu, millis(from, now()).max(1));
    figures.add(Key::Cpu, used * 100_000 / elapsed);
    figures.add(Key::MemoryThreeSets, process.memory_kib("VmRSS")?);
    let made = requests(&audit.read()?, OPERATOR_USER)?;
    figures.add(Key::RestWrites, i64::try_from(made.iter().filter(|request| request.is_write()).count())?);
    figures.add(Key::RestLists, i64::try_from(made.iter().filter(|request| request.is_list()).count())?);
    let process = format!(
        "{} s after the leader's start: resident {} KiB, of that its own data {} KiB and pages of its file {} KiB; \
         the most ever {} KiB; working set of its container {} KiB; its \
         executable has {} KiB",
        running_for,
        process.memory_kib("VmRSS")?,
        process.memory_kib("RssAnon")?,
        process.memory_kib("RssFile")?,
        process.memory_kib("VmHWM")?,
        process.working_set_kib()?,
        process.executable_kib()?
    );
    Ok((sets, Rest { requests: tally(&made), process }))
}

async fn ready(lab: &Lab, name: &str) -> Result<Set, Failure> {
    let set = Set::create(lab, name, &Storage::Ephemeral.spec(&lab.image)).await?;
    set.ready(set.applied, 1, LIMIT).await?;
    Ok(set)
}

/// For how long a Pod's container has been running, in seconds.
fn running_for(pod: &Pod) -> Result<i64, Failure> {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let started = containers
        .find_map(|container| Some(container.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0));
    let started = started.ok_or_else(|| format!("{} does not run", pod.name_any()))?;
    Ok(now().duration_since(started).as_secs())
}
