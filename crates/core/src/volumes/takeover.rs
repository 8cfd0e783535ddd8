//! What a set that is made again over its volumes begins with (`docs/design/protocol.md`, "The record" and rule 9).
//!
//! Pure. The record belongs to the set and to the volumes' claims, so it outlives the set for as long as one of them is
//! there. No decision was made since, so it still says who was the primary, and everything else that an election needs:
//! as if the set had been there all the time and every pod had ended. That is so only where the volumes are the ones
//! that it speaks of.

use std::collections::{BTreeMap, BTreeSet};

use redis_node::record::Record;

/// Claims by name, each with its UID: a namesake that was made later, for instance of a snapshot, is another one.
pub type Claims = BTreeMap<String, String>;

/// The record of a deleted set, to go on with; `None` where it does not speak of all the volumes that are there, or of
/// none that is left: then the volumes alone have to tell.
///
/// A volume that it knows and whose pod was no member any more when the set was deleted stays out of the election: its
/// data is older. It joins as a replica when the set grows.
pub fn taken_over(record: &Record, known: &Claims, present: &Claims) -> Option<Record> {
    let speaks_of_all = present.iter().all(|(claim, uid)| known.get(claim) == Some(uid));
    (record.sure && record.epoch > 0 && !present.is_empty() && speaks_of_all)
        // Processes that voted are gone.
        .then(|| Record { voters: BTreeSet::new(), ..record.clone() })
}

/// The record of a set whose resource was deleted and whose objects were left (`--cascade=orphan`), to go on with while its servers
/// run: where it names the very pod that served last. After a restore of it beside other pods it names one that is not there, and
/// proves nothing.
pub fn orphaned<'a>(record: &Record, mut pod_uids: impl Iterator<Item = &'a str>) -> Option<Record> {
    let serving = record.seen_serving.as_ref()?;
    let runs = record.sure && record.epoch > 0 && pod_uids.any(|uid| uid == serving.pod_uid);
    runs.then(|| record.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_node::record::Serving;

    fn claims(all: &[(&str, &str)]) -> Claims {
        all.iter().map(|(name, uid)| ((*name).to_owned(), (*uid).to_owned())).collect()
    }

    fn record() -> Record {
        Record {
            epoch: 5,
            primary: Some("redis-1".into()),
            voters: ["run".to_owned()].into(),
            closed: [("a".to_owned(), 7)].into(),
            ..Record::first(vec!["redis-0".into(), "redis-1".into()], true)
        }
    }

    #[test]
    fn a_record_goes_on_where_it_speaks_of_all_volumes() {
        // The third is that of a pod that was scaled away: known, and no member.
        let known = claims(&[("data-redis-0", "a"), ("data-redis-1", "b"), ("data-redis-2", "c")]);
        let expected = Record { voters: BTreeSet::new(), ..record() };
        for present in [
            known.clone(),
            claims(&[("data-redis-0", "a"), ("data-redis-1", "b")]),
            // Somebody deleted the others: they are as empty as a running set's would be.
            claims(&[("data-redis-1", "b")]),
            claims(&[("data-redis-0", "a")]),
        ] {
            assert_eq!(taken_over(&record(), &known, &present), Some(expected.clone()), "{present:?}");
        }
    }

    #[test]
    fn an_orphaned_record_goes_on_beside_the_pod_that_served() {
        let serving = Serving { pod_uid: "a".into(), ..Serving::default() };
        let record = Record { seen_serving: Some(serving), ..record() };
        assert_eq!(orphaned(&record, ["b", "a"].into_iter()), Some(record.clone()), "voters too: they run");
        assert_eq!(orphaned(&record, ["b"].into_iter()), None, "restored beside other pods");
        assert_eq!(orphaned(&super::tests::record(), ["a"].into_iter()), None, "it names nobody");
        let unsure = Record { sure: false, ..record };
        assert_eq!(orphaned(&unsure, ["a"].into_iter()), None);
    }

    #[test]
    fn a_volume_that_it_does_not_speak_of_tells_for_itself() {
        let known = claims(&[("data-redis-0", "a"), ("data-redis-1", "b")]);
        for present in [
            claims(&[]),
            // Made again, of a snapshot perhaps; or of a pod that came after the record was written.
            claims(&[("data-redis-0", "a"), ("data-redis-1", "another")]),
            claims(&[("data-redis-0", "a"), ("data-redis-1", "b"), ("data-redis-2", "c")]),
        ] {
            assert_eq!(taken_over(&record(), &known, &present), None, "{present:?}");
        }
        for unfit in [Record { sure: false, ..record() }, Record { epoch: 0, ..record() }] {
            assert_eq!(taken_over(&unfit, &known, &known), None);
        }
    }
}
