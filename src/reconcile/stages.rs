//! What the stages of a reconcile hand to each other.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::{sync::OnceCell, time::Instant};

use crate::{
    context::Context,
    kubernetes::{children::Live, record::Stored},
    observe::Connections,
    redis::server::Logins,
};
use operator_core::{
    api::RedisReplicaSet,
    election::{Hold, snapshot::Snapshot},
    plan::Plan,
    subject::Subject,
};

/// What each stage works on.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub ctx: &'a Context,
    /// The set as the watch shows it.
    pub resource: &'a RedisReplicaSet,
    pub subject: &'a Subject,
    /// None while the spec cannot be carried out: what runs is looked after all the same.
    pub plan: Option<&'a Plan>,
    pub now: Timestamp,
    /// The same moment, to measure from.
    pub began: Instant,
    /// Whether the set is there, once the API server was asked in this reconcile.
    pub there: &'a OnceCell<bool>,
}

/// How a reconcile begins.
pub(super) enum Beginning<T> {
    /// With what there is.
    On(T),
    /// It has to wait: nothing may be made yet.
    Wait,
    /// The set is gone.
    Gone,
}

/// What a reconcile begins with.
pub(super) struct Begun {
    /// The children as they are; `None` where the API server does not show them.
    pub live: Option<Live>,
    /// The role record.
    pub stored: Stored,
    /// Both were read from the API server, and not from what the watches showed.
    pub is_fresh: bool,
    /// Whether anything may be done by this record. What stands in for one that cannot be read serves to report alone.
    pub acts: bool,
    /// `None` where no password is known.
    pub logins: Option<Arc<Logins>>,
}

/// A set as its servers answered last, and what is needed to act on that.
pub(super) struct Seen {
    pub stored: Stored,
    /// The record was read from the API server in this reconcile, or written.
    pub is_fresh: bool,
    /// Whether anything may be done by this record.
    pub acts: bool,
    pub logins: Option<Arc<Logins>>,
    pub look: Snapshot,
    /// Over which the look was taken.
    pub connections: Connections,
    /// Why nothing can be done safely.
    pub hold: Option<Hold>,
    /// Since when the status claims more than the looks of this reconcile show.
    pub lost_since: Option<Instant>,
}

impl Seen {
    /// Whether it is open who the primary is.
    pub fn is_open(&self) -> bool {
        self.hold.is_some() || self.stored.record.switch_to.is_some()
    }
}
