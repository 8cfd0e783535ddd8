//! The role record: who is primary, and since which decision (`docs/design/protocol.md`, "The record").
//!
//! Pure: reading and writing the `ConfigMap` that holds it is the work of the operator's `kubernetes::record`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use crate::files::DEFAULT_GRACE_SECONDS;

/// What the operator has decided about a set, durable across its own restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counts the decisions about who is primary; 0 before the first.
    pub epoch: i64,
    /// Pod name of the primary of record; none before the first decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Replication offset of the winner when it was chosen: an unclosed history below it ranks lower (rule 5).
    #[serde(default)]
    pub start_offset: i64,
    /// Pod names that may hold data of the set. A pod enters before it is created.
    pub members: Vec<String>,
    /// `run_id`s of replicas that had all of the serving primary's data at some moment since the last decision: they may
    /// decide without a primary that stays silent (rule 4b).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub voters: BTreeSet<String>,
    /// A planned switchover that has begun and whose end was not seen yet (rules 2 and 8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_to: Option<SwitchTo>,
    /// Histories that an election ended: `replid` to the offset up to which they count (rules 5 and 7); the [`latest`] ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closed: BTreeMap<String, i64>,
    /// The process that was last seen serving as the primary of record, or was told to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_serving: Option<Serving>,
    /// The processes that may follow the primary of record, and so may have confirmed its writes. Each is written here before it is
    /// told to follow, and leaves only after its end is proven and the others have voted since. `None` where that is not
    /// known: a pod of this set may follow a primary by itself when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followers: Option<Vec<Follower>>,
    /// The primary takes writes only while replicas acknowledge, so it may be succeeded without proof of its end (rule 12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<Armed>,
    /// False while the record is rebuilt over pods or volumes that are older than it (rule 9).
    pub sure: bool,
}

/// A process that follows the primary of record, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Follower {
    /// Name of its pod.
    pub pod: String,
    /// The process.
    pub process: Serving,
}

/// What the primary of record was read back to demand of its replicas. Lowered only after this is gone from the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Armed {
    /// `run_id` of the primary.
    pub run_id: String,
    /// `min-replicas-to-write`.
    pub min_replicas: i64,
    /// `min-replicas-max-lag`, in seconds.
    pub max_lag_seconds: i64,
    /// `repl-ping-replica-period`, in seconds: a replica that hears nothing for longer hears nothing any more.
    pub ping_seconds: i64,
}

/// A planned switchover that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchTo {
    /// Pod that is to become the primary.
    pub target: String,
    /// `master_replid` that the primary of record served when the switchover began.
    pub replid: String,
    /// The process that was in sync under the target's name when the switchover began. Another one there must not be
    /// handed the role, and this one may serve unseen until its end is proven.
    #[serde(default)]
    pub process: Serving,
}

/// A process that serves as primary, or is about to, by its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// UID of its pod.
    pub pod_uid: String,
    /// Node that its pod ran on; empty where that was not known.
    #[serde(default)]
    pub node: String,
    /// `run_id` of the process.
    pub run_id: String,
    /// When the process started, in seconds since 1970 by its node's clock, rounded up. A container that ended later
    /// than this ended the process.
    #[serde(default)]
    pub started: i64,
    /// The latest end of a Redis container of its pod that the kubelet had reported when this process was noted: that of
    /// a predecessor, whatever the node's clock said then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_end: Option<i64>,
    /// `terminationGracePeriodSeconds` of its pod: the kubelet gives it that long.
    #[serde(default = "default_grace", skip_serializing_if = "is_default_grace")]
    pub grace_seconds: i64,
    /// `master_replid` that it served.
    pub replid: String,
    /// With `appendonly yes`: this process was seen without a rewrite under way, so its append-only file holds what it
    /// served then and since. Only then a restart over that file brings back what it acknowledged (rule 6).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aof_settled: bool,
    /// Its end was proven to an operator, which wrote this down for those after it. Said outright: an identity that is
    /// missing, as in a record of a version that did not name it, proves nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

/// Ended histories that are kept at most: about 13 kB of the 1 MiB that a `ConfigMap`, and the 256 kB that the annotations
/// of an object may have. A primary that crashes every few seconds would fill both within days.
pub const MAX_CLOSED: usize = 200;

/// The latest of these histories, and those that some member still has. Offsets grow from one history to the next, so the
/// latest have the greatest ends. Whoever comes back with one that was left out has data of unknown age, and is held for a
/// person; it never wins.
pub fn latest(closed: BTreeMap<String, i64>, held: &[&str]) -> BTreeMap<String, i64> {
    let mut latest: Vec<(String, i64)> = closed.into_iter().collect();
    latest.sort_by_key(|(history, end)| (!held.contains(&history.as_str()), Reverse(*end)));
    latest.truncate(MAX_CLOSED);
    latest.into_iter().collect()
}

impl Default for Serving {
    /// A process that nobody named.
    fn default() -> Self {
        Self {
            pod_uid: String::new(),
            node: String::new(),
            run_id: String::new(),
            started: 0,
            known_end: None,
            grace_seconds: DEFAULT_GRACE_SECONDS,
            replid: String::new(),
            aof_settled: false,
            ended: false,
        }
    }
}

fn default_grace() -> i64 {
    DEFAULT_GRACE_SECONDS
}

// Serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_default_grace(seconds: &i64) -> bool {
    *seconds == DEFAULT_GRACE_SECONDS
}

impl Record {
    /// The first record of a set: nobody was promoted yet.
    ///
    /// `sure` is false where pods or volumes of the name exist already: then only a member that provably descends
    /// from all others may be promoted.
    pub fn first(members: Vec<String>, sure: bool) -> Self {
        Self {
            epoch: 0,
            primary: None,
            start_offset: 0,
            members,
            voters: BTreeSet::new(),
            switch_to: None,
            closed: BTreeMap::new(),
            seen_serving: None,
            followers: None,
            armed: None,
            sure,
        }
    }
}
