//! The end of a pass: whether the primary takes writes, and whom to watch until the next one.

use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;

use super::Pass;
use crate::{
    api::RedisReplicaSet,
    context::Context,
    decide::look::Look,
    monitor::Watched,
    names::SetName,
    observe::{belongs, target},
    plan::Plan,
    redis::writes::{Write, try_write},
};

/// Tries a write on the primary of record, if it serves and hands its role to nobody. Over the connection of the last
/// look, and as the last thing that this pass asks: a write that has to wait blocks what comes after it.
pub(super) async fn try_to_write(pass: &mut Pass, ctx: &Context, set: &SetName) -> Option<Write> {
    let (look, plan) = (pass.look.as_ref()?, pass.plan.as_ref()?);
    let primary = pass.stored.as_ref()?.record.primary.as_deref()?;
    let observed = look.observed.pods.iter().find(|pod| pod.name == primary)?;
    let serves = look.topology.get(primary).is_some_and(|verdict| verdict.serves);
    let moves = observed.answer.as_ref().is_ok_and(|answer| answer.info.replication.failover_runs());
    if !serves || moves {
        return None;
    }
    let pods = ctx.pods.state();
    let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(&observed.uid))?;
    let target = target(plan, set.ordinal(primary)?, pod, pass.password.as_ref()).ok()?;
    Some(try_write(pass.connections.get_mut(primary)?, &target).await)
}

/// Holds a connection to every server that this pass could address.
pub(super) fn watch_servers(pass: &Pass, set: &RedisReplicaSet, ctx: &Context) {
    let (Some(plan), Some(look)) = (&pass.plan, &pass.look) else { return };
    let watched = ctx
        .pods
        .state()
        .iter()
        .filter(|pod| belongs(pod, &plan.set))
        .filter_map(|pod| watched(plan, pod, pass, look))
        .collect();
    ctx.monitor.watch(&ObjectRef::from_obj(set), watched);
}

fn watched(
    plan: &Plan,
    pod: &Arc<k8s_openapi::api::core::v1::Pod>,
    pass: &Pass,
    look: &Look,
) -> Option<Watched> {
    let ordinal = plan.set.ordinal(pod.metadata.name.as_deref()?)?;
    let uid = pod.metadata.uid.clone()?;
    let known = look
        .observed
        .pods
        .iter()
        .find(|p| p.uid == uid)
        .and_then(|p| p.answer.as_ref().ok())
        .map(|answer| answer.info.replication.clone());
    let is_primary =
        pass.stored.as_ref().and_then(|stored| stored.record.primary.as_ref()) == pod.metadata.name.as_ref();
    let write = pass.write.clone().filter(|_| is_primary);
    Some(Watched { uid, target: target(plan, ordinal, pod, pass.password.as_ref()).ok()?, known, write })
}
