//! What a set begins with: its children, the role record, and as whom to log in.

use std::sync::Arc;

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::ResourceExt;
use tracing::{info, warn};

use super::{
    credentials::credentials,
    fail,
    stages::{Beginning, Begun, Job},
};
use crate::{
    cache::pods_of,
    kubernetes::{
        children::{self, Live},
        claims,
        record::{self, Found, Stored},
        set::{self, Presence},
    },
    reconcile::error::StageError,
};
use operator_core::{
    api::{Reason, RedisReplicaSet},
    election::{Hold, process_end::with_ends},
    status::outcome::Outcome,
    subject::Subject,
    volumes::{
        history::{History, begin_again},
        takeover::{Claims, orphaned, taken_over},
    },
};
use redis_node::record::Record;

/// Reads what there is, and makes the record and the passwords of a new set.
pub(super) async fn begin(job: &Job<'_>, outcome: &mut Outcome) -> Result<Beginning<Begun>, StageError> {
    let shown = job.ctx.stores.record(&job.subject.set).and_then(|map| record::own_record(map, job.subject));
    let found = match shown {
        Some(stored) => {
            let live = Some(job.ctx.stores.children(&job.subject.set));
            FoundBegun { live, stored, is_fresh: false, acts: true }
        }
        None => match by_the_api_server(job, outcome).await? {
            Beginning::On(found) => found,
            Beginning::Wait => return Ok(Beginning::Wait),
            Beginning::Gone => return Ok(Beginning::Gone),
        },
    };
    let FoundBegun { live, stored, is_fresh, acts } = found;
    let (memory, set, uid) = (&job.ctx.memory, &job.subject.set, &job.subject.uid);
    match (is_fresh, acts) {
        (true, true) => memory.remember_record(set, uid, &stored),
        (false, _) => memory.remember_shown_record(set, uid, &stored),
        (true, false) => {}
    }
    outcome.record = Some(stored.record.clone());
    Ok(match credentials(job, live.as_ref(), is_fresh, outcome).await? {
        Beginning::On(logins) => Beginning::On(Begun { live, stored, is_fresh, acts, logins }),
        Beginning::Wait => Beginning::Wait,
        Beginning::Gone => Beginning::Gone,
    })
}

/// What a set begins with, but for the logins.
struct FoundBegun {
    live: Option<Live>,
    stored: Stored,
    is_fresh: bool,
    acts: bool,
}

/// The children and the record, read from the API server. What it refuses is told, and what does not need it goes on.
async fn by_the_api_server(
    job: &Job<'_>,
    outcome: &mut Outcome,
) -> Result<Beginning<FoundBegun>, StageError> {
    let live = match children::fetch(&job.ctx.client, &job.subject.set).await {
        Ok(live) => Some(live),
        Err(error) => {
            fail(job.ctx, outcome, &error.into());
            None
        }
    };
    let error = match record(job, live.as_ref(), outcome).await {
        Ok(Beginning::On(stored)) => {
            return Ok(Beginning::On(FoundBegun { live, stored, is_fresh: true, acts: true }));
        }
        Ok(Beginning::Wait) => return Ok(Beginning::Wait),
        Ok(Beginning::Gone) => return Ok(Beginning::Gone),
        Err(error) => error,
    };
    let (error, former) = match error {
        RecordError::Paused(former) => (StageError::RecordMissing, former),
        RecordError::Failed(error) => (error, None),
    };
    let last = || job.ctx.memory.last_record(&job.subject.set, &job.subject.uid);
    let known = former.map(|former| *former).or_else(|| last().map(|last| last.record));
    match known.or_else(|| stand_in(job.resource)) {
        Some(record) => {
            fail(job.ctx, outcome, &error);
            let stored = Stored { record, resource_version: String::new(), claims: Claims::new() };
            Ok(Beginning::On(FoundBegun { live, stored, is_fresh: true, acts: false }))
        }
        // Nothing was made yet.
        None if matches!(error, StageError::RecordMissing) => Ok(Beginning::Wait),
        None => Err(error),
    }
}

/// Why there is no record to act by.
enum RecordError {
    /// It is not there, and of a paused set none is made. With that of before, where there is one.
    Paused(Option<Box<Record>>),
    /// It cannot be read or made.
    Failed(StageError),
}

impl<E: Into<StageError>> From<E> for RecordError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What the status says of the primary, to look and tell by where no record can be read. Nothing is decided by it.
fn stand_in(resource: &RedisReplicaSet) -> Option<Record> {
    let status = resource.status.as_ref()?;
    let primary = status.primary.as_ref()?;
    let members = status.instances.iter().map(|instance| instance.pod.clone()).collect();
    Some(Record { epoch: primary.epoch, primary: Some(primary.pod.clone()), ..Record::first(members, false) })
}

/// The record, made first where there is none yet.
async fn record(
    job: &Job<'_>,
    live: Option<&Live>,
    outcome: &mut Outcome,
) -> Result<Beginning<Stored>, RecordError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let last = ctx.memory.last_record(&subject.set, &subject.uid);
    let former = match (record::read_record(&ctx.client, subject).await?, last) {
        (Some(Found::Own(stored)), _) => return Ok(Beginning::On(stored)),
        (Some(Found::Former(stored)), _) => Some(stored),
        // A person broke or deleted it. What stood there is known, and proves more than servers could be asked for.
        (Some(Found::Broken { resource_version, .. }), Some(last)) => {
            return Ok(put_back(job, Some(&resource_version), &last).await?);
        }
        (Some(Found::Broken { error, .. }), None) => return Err(error.into()),
        (None, Some(last)) if !subject.paused => return Ok(put_back(job, None, &last).await?),
        (None, _) => None,
    };
    // What runs is not known, so neither is who is a member.
    let Some(live) = live else { return Ok(Beginning::Wait) };
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    let pods = pods_of(&ctx.pods, &subject.set);
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
        return Err(RecordError::Paused(former.map(|former| Box::new(former.record))));
    }
    let volumes = claims::former(&ctx.client, subject).await?;
    if let Some(taken) = go_on(job, former.as_ref(), &volumes.claims, &pods).await? {
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
        let begun = begin_again(members, History::joined(volumes.history.into_iter().chain(told)));
        // A consent that a person gave in an epoch of before is none in this one.
        let told = job.resource.status.as_ref().and_then(|status| status.primary.as_ref()).map(|p| p.epoch);
        Record { epoch: begun.epoch.max(told.unwrap_or(0)), ..begun }
    };
    info!(members = ?first.members, sure = first.sure, epoch = first.epoch, "beginning the role record");
    let begun = match former.map(|former| former.resource_version) {
        Some(version) => record::write_record(&ctx.client, subject, &version, &first, &Claims::new()).await?,
        None => record::create_record(&ctx.client, subject, &first).await?,
    };
    Ok(Beginning::On(begun))
}

/// Writes what stood in the record before a person changed or deleted it.
async fn put_back(
    job: &Job<'_>,
    version: Option<&str>,
    last: &Stored,
) -> Result<Beginning<Stored>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    if !is_there(job).await? {
        return Ok(Beginning::Gone);
    }
    warn!(epoch = last.record.epoch, "the role record was changed or deleted by hand; it is put back");
    // What this process knows may be one write older: who follows is noted again, and nobody takes over without proof until then.
    let last =
        &Stored { record: Record { followers: None, armed: None, ..last.record.clone() }, ..last.clone() };
    Ok(Beginning::On(match version {
        Some(version) => {
            record::write_record(&ctx.client, subject, version, &last.record, &last.claims).await?
        }
        None => record::create_record(&ctx.client, subject, &last.record).await?,
    }))
}

/// Goes on with the record of before, where it speaks of the servers or of all the volumes that are there.
async fn go_on(
    job: &Job<'_>,
    former: Option<&Stored>,
    volumes: &Claims,
    pods: &[Arc<Pod>],
) -> Result<Option<Stored>, StageError> {
    let (ctx, subject) = (job.ctx, job.subject);
    let Some(former) = former else { return Ok(None) };
    let uids = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref());
    let of_volumes = || taken_over(&former.record, &former.claims, volumes).filter(|_| subject.has_volumes);
    let Some(record) = orphaned(&former.record, uids).or_else(of_volumes) else { return Ok(None) };
    let record = with_ends(&record, |uid| ctx.ends.of(uid)).unwrap_or(record);
    info!(members = ?record.members, epoch = record.epoch, primary = record.primary, "going on with the role record of before");
    ctx.claims.adopts(&subject.set);
    let version = &former.resource_version;
    let taken = record::write_record(&ctx.client, subject, version, &record, &former.claims).await?;
    Ok(Some(taken))
}

/// Asked of the API server before anything is made: what is missing may have gone with the set, and what is made for a
/// set that is gone stands in the way of its successor until it is collected too.
pub(super) async fn is_there(job: &Job<'_>) -> Result<bool, StageError> {
    job.there.get_or_try_init(|| is_there_now(job)).await.copied()
}

/// The same, of this very moment.
pub(super) async fn is_there_now(job: &Job<'_>) -> Result<bool, StageError> {
    let presence = set::presence(&job.ctx.client, &job.subject.set, Some(&job.subject.uid)).await?;
    Ok(presence == Presence::There)
}

/// It belongs to a deleted set; the garbage collector is about to remove it.
fn is_of_another(stateful_set: &StatefulSet, subject: &Subject) -> bool {
    let controller = stateful_set.owner_references().iter().find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| owner.kind == subject.owner.kind && owner.uid != subject.owner.uid)
}
