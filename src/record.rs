//! The role record: who is primary, and since which decision (`docs/protocol.md`, "The record").
//!
//! Pure: reading and writing the `ConfigMap` that holds it is `store.rs`' work. Fields of the protocol that no
//! rule of this version reads are not here yet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the operator has decided about a set, durable across its own restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Counts the decisions about who is primary; 0 before the first.
    pub epoch: i64,
    /// Pod name of the primary of record; none before the first decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Replication offset of the winner when it was chosen (rule 5 ranks shorter, unclosed histories below it).
    #[serde(default)]
    pub start_offset: i64,
    /// Pod names that may hold data of the set. A pod enters before it is created.
    pub members: Vec<String>,
    /// Histories that ended by an election: replid to the offset up to which they count (rules 5 and 7).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closed: BTreeMap<String, i64>,
    /// The process that was last seen serving as the primary of record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_serving: Option<Serving>,
}

/// A process that served as primary, by its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Serving {
    /// UID of its pod.
    pub pod_uid: String,
    /// `run_id` of the process.
    pub run_id: String,
    /// `master_replid` that it served.
    pub replid: String,
}
