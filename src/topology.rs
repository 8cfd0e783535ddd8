//! From the servers' answers to what they add up to: who serves, who truly follows, and what is wrong with the rest.
//!
//! Pure. Source of the definition: Redis replication experiments E1-E25 (`docs/protocol.md` lists them).

use crate::{
    api::status::InstanceState,
    observed::{Observed, ObservedPod},
    record::Record,
};

/// A replica whose last I/O with its primary is older than this is not in sync. The primary pings every 10 s
/// (`repl-ping-replica-period`), so a healthy link never shows more (experiment E4).
pub const MAX_LINK_SILENCE_SECONDS: i64 = 15;

/// A replica that the primary heard of longer ago than this is not in sync; a healthy one acknowledges every second.
pub const MAX_ACK_LAG_SECONDS: i64 = 10;

/// What the answers of a whole set add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// One entry an observed pod, by ordinal.
    pub instances: Vec<Verdict>,
}

/// What the answers add up to for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the pod.
    pub pod: String,
    /// Its ordinal.
    pub ordinal: i32,
    /// What it is.
    pub state: InstanceState,
    /// Every part of the evidence that failed, in plain words; empty where all is as wanted.
    pub faults: Vec<String>,
}
