//! Rule 11: the first primary of a new set.

use super::{
    Decision,
    rank::{Candidate, close_histories},
    serving,
    snapshot::Snapshot,
};
use crate::api::status::InstanceState;
use redis_node::record::Record;

/// The home of the primary.
const FIRST: i32 = 0;

/// Promotes the first member of a set in which nobody was ever promoted, as soon as it answers.
///
/// The other members are not waited for: they were made later than the record, and there was nobody whose data they
/// could have copied. A first member that holds data (somebody made its volume beforehand) goes the ordinary way.
///
/// The process is noted as the one that serves already here, in the write that comes before the promotion: one write
/// less, and until that write nobody can have served.
pub(super) fn first_primary(record: &Record, look: &Snapshot) -> Option<Decision> {
    if !record.sure || record.epoch != 0 {
        return None;
    }
    let members = look.members();
    let first = members.iter().find(|member| member.ordinal == FIRST)?;
    let is_parked = look.topology.get(first.pod)?.state == InstanceState::Parked;
    if !is_parked || !members.iter().all(Candidate::is_empty) {
        return None;
    }
    Some(Decision::Promote {
        record: Record {
            epoch: record.epoch + 1,
            primary: Some(first.pod.to_owned()),
            start_offset: first.answer.info.replication.offset,
            closed: close_histories(&members, first, record),
            seen_serving: Some(serving(first, record)),
            ..record.clone()
        },
        pod: first.pod.to_owned(),
    })
}
