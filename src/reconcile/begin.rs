//! What a set begins with: its children, the role record, and the password.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;
use tracing::info;

use super::stages::{Beginning, Begun, Job};
use crate::{
    kubernetes::{
        children::{self, Live},
        claims, password,
        record::{self, Found, Stored},
        set::{self, Presence},
    },
    memory::Occasion,
    observe::belongs,
    reconcile::error::StageError,
};
use operator_core::{
    api::Reason,
    election::{Hold, process_end::with_ends},
    status::outcome::Outcome,
    subject::Subject,
    volumes::{
        history::{History, begin_again},
        takeover::{Claims, taken_over},
    },
};
use redis_node::{password::Password, record::Record};

/// Reads what there is, and makes the record and the password of a new set.
pub(super) async fn begin(job: &Job<'_>, outcome: &mut Outcome) -> Result<Beginning<Begun>, StageError> {
    let shown = job.ctx.stores.record(&job.subject.set).and_then(|map| record::own_record(map, job.subject));
    let is_fresh = shown.is_none();
    let (live, stored) = if let Some(stored) = shown {
        (job.ctx.stores.children(&job.subject.set), stored)
    } else {
        let live = children::fetch(&job.ctx.client, &job.subject.set).await?;
        match record(job, &live, outcome).await? {
            Beginning::On(found) => (live, found),
            Beginning::Wait => return Ok(Beginning::Wait),
            Beginning::Gone => return Ok(Beginning::Gone),
        }
    };
    if is_fresh {
        job.ctx.memory.remember_record(&job.subject.set, stored.resource_version.clone());
    }
    outcome.record = Some(stored.record.clone());
    Ok(match password(job, &live, is_fresh).await? {
        Beginning::On(password) => {
            outcome.password_missing = password.is_none();
            Beginning::On(Begun { live, stored, is_fresh, password })
        }
        Beginning::Wait => Beginning::Wait,
        Beginning::Gone => Beginning::Gone,
    })
}

/// The record, made first where there is none yet.
async fn record(job: &Job<'_>, live: &Live, outcome: &mut Outcome) -> Result<Beginning<Stored>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let former = match record::read_record(&ctx.client, subject).await? {
        Some(Found::Own(stored)) => return Ok(Beginning::On(stored)),
        Some(Found::Former(stored)) => Some(stored),
        None => None,
    };
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    let pods: Vec<_> = ctx.pods.state().into_iter().filter(|pod| belongs(pod, &subject.set)).collect();
    let still_ends = live.stateful_set.as_ref().map_or(!pods.is_empty(), |live| is_of_another(live, subject));
    if still_ends {
        // Pods of a deleted set of the same name still end; their volumes must rest before anybody ranks them.
        outcome.hold = Some(Hold {
            reason: Reason::LeftoverPods,
            message: "waiting for the pods of a former set of this name to end".to_owned(),
        });
        return Ok(Beginning::Wait);
    }
    if subject.paused {
        return Ok(Beginning::Wait);
    }
    let volumes = claims::former(&ctx.client, subject).await?;
    let goes_on = former
        .as_ref()
        .filter(|_| subject.has_volumes)
        .and_then(|former| Some((former, taken_over(&former.record, &former.claims, &volumes.claims)?)));
    if let Some((former, record)) = goes_on {
        let record = with_ends(&record, |uid| ctx.ends.latest(uid)).unwrap_or(record);
        info!(members = ?record.members, epoch = record.epoch, primary = record.primary, "going on with the role record of before");
        ctx.claims.adopts(&subject.set);
        let taken = record::write_record(&ctx.client, subject, former, &record, &former.claims).await?;
        return Ok(Beginning::On(taken));
    }
    let running = live.stateful_set.as_ref().and_then(|s| s.spec.as_ref()?.replicas).unwrap_or(0);
    let seen = pods.iter().filter_map(|pod| subject.set.ordinal(pod.metadata.name.as_deref()?)).max();
    let of_before = volumes.ordinals.max(running).max(seen.map_or(0, |ordinal| ordinal + 1));
    // A new set has all its members from the beginning; of a former one, each that may hold its data.
    let count = match (of_before, job.plan) {
        (0, Some(plan)) => plan.replicas,
        // Nothing runs, and the spec does not say what should.
        (0, None) => return Ok(Beginning::Wait),
        (count, _) => count,
    };
    let members = (0..count).map(|ordinal| subject.set.pod(ordinal)).collect();
    let first = if of_before == 0 {
        Record::first(members, true)
    } else {
        ctx.claims.adopts(&subject.set);
        let told = former.as_ref().and_then(|former| History::of(&former.record));
        begin_again(members, History::joined(volumes.history.into_iter().chain(told)))
    };
    info!(members = ?first.members, sure = first.sure, epoch = first.epoch, "beginning the role record");
    let begun = match &former {
        Some(former) => record::write_record(&ctx.client, subject, former, &first, &Claims::new()).await?,
        None => record::create_record(&ctx.client, subject, &first).await?,
    };
    Ok(Beginning::On(begun))
}

/// Asked of the API server before anything is made: what is missing may have gone with the set, and what is made for a
/// set that is gone stands in the way of its successor until it is collected too.
pub(super) async fn is_there(job: &Job<'_>) -> Result<bool, StageError> {
    let ask = || async {
        let presence = set::presence(&job.ctx.client, &job.subject.set, Some(&job.subject.uid)).await?;
        Ok(presence == Presence::There)
    };
    job.there.get_or_try_init(ask).await.copied()
}

/// It belongs to a deleted set; the garbage collector is about to remove it.
fn is_of_another(stateful_set: &StatefulSet, subject: &Subject) -> bool {
    let controller = stateful_set.owner_references().iter().find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| owner.kind == subject.owner.kind && owner.uid != subject.owner.uid)
}

/// The password, made first for a new set. A Secret that vanished is not replaced: the servers still use its value.
async fn password(
    job: &Job<'_>,
    live: &Live,
    is_fresh: bool,
) -> Result<Beginning<Option<Password>>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    if let Some(known) = ctx.memory.password(&subject.set, &occasion(job)) {
        return Ok(Beginning::On(Some(known)));
    }
    let password = read_password(job).await?;
    let is_new = password.is_none() && live.stateful_set.is_none() && job.plan.is_some();
    if !is_new || subject.paused {
        return Ok(Beginning::On(password));
    }
    // Of a set that is gone the record can be the last thing that the garbage collector has left.
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    // Nor is one made by the word of a cache: the servers would have another.
    if !is_fresh && children::fetch_stateful_set(&ctx.client, &subject.set).await?.is_some() {
        return Ok(Beginning::On(password));
    }
    password::create_password(&ctx.client, subject).await?;
    Ok(Beginning::On(read_password(job).await?))
}

async fn read_password(job: &Job<'_>) -> Result<Option<Password>, StageError> {
    let password = password::read_password(&job.ctx.client, job.subject).await?;
    job.ctx.memory.remember_password(&job.subject.set, password.clone(), occasion(job));
    Ok(password)
}

fn occasion(job: &Job<'_>) -> Occasion {
    let metadata = &job.resource.metadata;
    Occasion {
        uid: job.subject.uid.clone(),
        generation: metadata.generation,
        metadata: [metadata.labels.clone(), metadata.annotations.clone()],
    }
}
