//! The end of a reconcile: whether the primary takes writes, and which servers to watch until the next one.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::ObjectRef;

use super::stages::{Job, Seen};
use crate::{cache::pods_of, observe::target, redis::writes::try_write, watch::servers::Watched};
use operator_core::{election::mending::is_own_cause, status::outcome::Outcome};
use redis_node::answer::Write;

/// Tries a write on the primary of record, if it serves and hands its role to nobody. Over the connection of the last
/// look, and as the last thing that this reconcile asks: a write that has to wait blocks what comes after it.
pub(super) async fn try_to_write(job: &Job<'_>, seen: &mut Seen) -> Option<Write> {
    let primary = seen.stored.record.primary.as_deref()?;
    let observed = seen.look.observed.pods.iter().find(|pod| pod.name == primary)?;
    let serves = seen.look.topology.get(primary).is_some_and(|verdict| verdict.serves);
    let moves = observed.answer.as_ref().is_ok_and(|answer| answer.info.replication.failover_runs());
    if !serves || moves {
        return None;
    }
    let pods = pods_of(&job.ctx.pods, &job.subject.set);
    let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(&observed.uid))?;
    let ordinal = job.subject.set.ordinal(primary)?;
    let target = target(job.subject, ordinal, pod, seen.logins.as_ref()).ok()?;
    let of_pod = job.ctx.servers.server(&job.subject.set, &observed.uid);
    Some(try_write(&of_pod, seen.connections.get_mut(primary)?, &target).await)
}

/// A primary that refuses writes for a cause of its own is to hand over at once, where another one can.
pub(super) fn note_refusal(job: &Job<'_>, seen: &Seen, outcome: &mut Outcome) {
    let refused = outcome.write.as_ref().is_some_and(is_own_cause);
    let primary = seen.stored.record.primary.as_deref().and_then(|pod| seen.look.process(pod));
    if let Some(primary) = primary.filter(|_| refused) {
        let run_id = primary.answer.info.server.run_id.clone();
        if job.ctx.memory.refuses_writes(&job.subject.set, primary.pod.to_owned(), run_id) {
            outcome.again_in(Duration::ZERO);
        }
    }
}

/// Holds a connection to every server that this reconcile could address.
pub(super) fn watch_servers(job: &Job<'_>, seen: &Seen, write: Option<&Write>) {
    let own = pods_of(&job.ctx.pods, &job.subject.set);
    let is_there = |uid: &str| own.iter().any(|pod| pod.metadata.uid.as_deref() == Some(uid));
    job.ctx.servers.keep(&job.subject.set, is_there);
    let watched = own.iter().filter_map(|pod| watched(job, pod, seen, write)).collect();
    job.ctx.monitor.watch(&ObjectRef::from_obj(job.resource), watched);
}

fn watched(job: &Job<'_>, pod: &Pod, seen: &Seen, write: Option<&Write>) -> Option<Watched> {
    let ordinal = job.subject.set.ordinal(pod.metadata.name.as_deref()?)?;
    let uid = pod.metadata.uid.clone()?;
    let known = seen
        .look
        .observed
        .pods
        .iter()
        .find(|p| p.uid == uid)
        .and_then(|p| p.answer.as_ref().ok())
        .map(|answer| (answer.info.replication.clone(), answer.turns_away()));
    let is_primary = seen.stored.record.primary.as_ref() == pod.metadata.name.as_ref();
    let write = write.filter(|_| is_primary).cloned();
    let target = target(job.subject, ordinal, pod, seen.logins.as_ref()).ok()?;
    let server = job.ctx.servers.server(&job.subject.set, &uid);
    Some(Watched { uid, server, target, known, write })
}
