//! How many pods the `StatefulSet` shall have now, and who is a member of record for that.
//!
//! Pure. A member enters the record before its pod is created, and leaves it only while a primary serves
//! (`docs/protocol.md`, "The record").

use crate::{decide::look::Look, names::SetName, record::Record};

/// The size to apply now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// `spec.replicas` of the `StatefulSet`.
    pub replicas: i32,
    /// Pod names that must stand in the record before that is applied.
    pub members: Vec<String>,
    /// Why fewer pods than now are wanted but none is removed yet.
    pub blocked: Option<String>,
}

/// Steps the size: one member until a primary serves, then the wanted number; and down only while the primary
/// stays and everybody who stays is verified.
pub fn size(set: &SetName, wanted: i32, live: Option<i32>, record: &Record, look: &Look) -> Size {
    let recorded =
        record.members.iter().filter_map(|m| set.ordinal(m)).max().map_or(0, |ordinal| ordinal + 1);
    let live = live.unwrap_or(0);
    let (replicas, blocked) = if !record.sure {
        // Everybody who may hold data has to answer before one is chosen (rule 9).
        (recorded, None)
    } else if !record.has_served() {
        // Bootstrap begins with one member; an election over more members keeps them all.
        (live.max(recorded).max(1), None)
    } else if wanted >= live {
        (wanted, None)
    } else {
        match keeps_primary(set, wanted, record, look) {
            Ok(()) => (wanted, None),
            Err(why) => (live, Some(why)),
        }
    };
    let primary_serves =
        record.primary.as_ref().is_some_and(|p| look.topology.serving().iter().any(|v| v.pod == *p));
    let members = (0..replicas.max(recorded))
        .map(|ordinal| set.pod(ordinal))
        .filter(|pod| {
            let stays = set.ordinal(pod).is_some_and(|ordinal| ordinal < replicas);
            stays || !primary_serves || look.observed.pods.iter().any(|p| p.name == *pod)
        })
        .collect();
    Size { replicas, members, blocked }
}

/// Whether a set of the wanted size still contains the primary and a verified copy of everything.
fn keeps_primary(set: &SetName, wanted: i32, record: &Record, look: &Look) -> Result<(), String> {
    let primary = record.primary.as_deref().and_then(|p| Some((p, set.ordinal(p)?)));
    let Some((pod, ordinal)) = primary else { return Err("no primary was chosen yet".to_owned()) };
    if ordinal >= wanted {
        return Err(format!(
            "{pod} is the primary and would be removed; it is kept until the primary is one of the first {wanted}"
        ));
    }
    let unverified: Vec<&str> = look
        .topology
        .instances
        .iter()
        .filter(|v| v.ordinal < wanted && !v.is_verified())
        .map(|v| v.pod.as_str())
        .collect();
    if unverified.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "pods are removed only while the ones that stay are verified; waiting for {}",
            unverified.join(", ")
        ))
    }
}
