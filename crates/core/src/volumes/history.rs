//! What the record leaves on the volumes, so that a set which is begun again over them can rank them
//! (`docs/design/protocol.md`, "The record" and rule 9).
//!
//! Pure. It is less than the record: a set begun from it still promotes only a member whose data provably contains
//! everybody else's, but knows which histories had ended.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::json;

use redis_node::record::{Record, latest};

/// What an epoch leaves on the volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// [`Record::epoch`].
    pub epoch: i64,
    /// [`Record::start_offset`].
    pub start_offset: i64,
    /// [`Record::closed`], the ones with the greatest ends where there are too many: offsets grow from one history
    /// to the next, so these are the latest.
    pub closed: BTreeMap<String, i64>,
}

impl History {
    /// What this record leaves; none before the second epoch, in which nothing that anybody served has ended yet.
    pub fn of(record: &Record) -> Option<Self> {
        (record.epoch > 1).then(|| {
            let Record { epoch, start_offset, closed, .. } = record.clone();
            Self { epoch, start_offset, closed: latest(closed, &[]) }
        })
    }

    /// As an annotation.
    pub fn text(&self) -> String {
        json!(self).to_string()
    }

    /// What the annotations of all volumes say together, whatever their ages: the latest epoch's words, and the ends of
    /// histories that only an older one still knows. Text that is no history says nothing.
    pub fn newest<'a>(annotations: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        Self::joined(annotations.into_iter().filter_map(|text| serde_json::from_str(text).ok()))
    }

    /// What several say together.
    pub fn joined(all: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut all: Vec<Self> = all.into_iter().collect();
        all.sort_by_key(|history| Reverse(history.epoch));
        let mut all = all.into_iter();
        let mut newest = all.next()?;
        for (history, end) in all.flat_map(|older| older.closed) {
            newest.closed.entry(history).or_insert(end);
        }
        Some(Self { closed: latest(newest.closed, &[]), ..newest })
    }
}

/// The record of a set that is begun again over volumes or pods of before.
pub fn begin_again(members: Vec<String>, history: Option<History>) -> Record {
    // Somebody was promoted once, or there would be no volumes: the next decision is not the first one, and leaves
    // its history on them.
    let History { epoch, start_offset, closed } = history.unwrap_or_default();
    Record { epoch: epoch.max(1), start_offset, closed, ..Record::first(members, false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_node::record::MAX_CLOSED;

    fn history(epoch: i64, start_offset: i64, closed: &[(&str, i64)]) -> History {
        let closed = closed.iter().map(|(replid, end)| ((*replid).to_owned(), *end)).collect();
        History { epoch, start_offset, closed }
    }

    #[test]
    fn the_first_epoch_leaves_nothing_and_later_ones_what_they_know() {
        let record = |epoch| Record {
            epoch,
            primary: Some("redis-1".into()),
            start_offset: 40,
            closed: [("a".to_owned(), 40)].into(),
            ..Record::first(vec!["redis-0".into(), "redis-1".into()], true)
        };
        assert_eq!(History::of(&record(0)), None);
        assert_eq!(History::of(&record(1)), None);
        let left = History::of(&record(2)).unwrap();
        assert_eq!(left, history(2, 40, &[("a", 40)]));
        assert_eq!(History::newest([left.text().as_str()]), Some(left));
    }

    #[test]
    fn annotations_of_different_ages_say_what_the_latest_says_and_what_only_others_know() {
        let (old, new) = (history(2, 40, &[("a", 40), ("x", 7)]), history(5, 90, &[("a", 41), ("b", 90)]));
        let merged = history(5, 90, &[("a", 41), ("b", 90), ("x", 7)]);
        for order in [[&old, &new], [&new, &old]] {
            assert_eq!(
                History::newest(order.map(History::text).each_ref().map(String::as_str)),
                Some(merged.clone())
            );
        }
    }

    #[test]
    fn what_is_no_history_says_nothing() {
        assert_eq!(History::newest([]), None);
        assert_eq!(History::newest(["", "{}", "{\"epoch\": \"5\"}", "no json"]), None);
        let own = history(2, 1, &[]);
        assert_eq!(History::newest(["{\"epoch\": 9}", &own.text()]), Some(own));
    }

    #[test]
    fn a_set_begun_again_is_not_sure_and_counts_on() {
        let members = vec!["redis-0".to_owned()];
        let again = begin_again(members.clone(), Some(history(5, 90, &[("b", 90)])));
        assert_eq!((again.epoch, again.start_offset, again.closed.len()), (5, 90, 1));
        assert!(!again.sure && again.primary.is_none() && again.seen_serving.is_none());
        let unknown = begin_again(members.clone(), None);
        assert_eq!(unknown, Record { epoch: 1, ..Record::first(members, false) });
    }

    #[test]
    fn an_annotation_stays_small() {
        let closed: BTreeMap<String, i64> = (0..5000).map(|n| (format!("{n:040}"), i64::MAX - n)).collect();
        let record = Record { epoch: 9, closed, ..Record::first(Vec::new(), true) };
        let left = History::of(&record).unwrap();
        assert_eq!(left.closed.len(), MAX_CLOSED);
        assert!(left.closed.contains_key(&format!("{:040}", 0)), "the latest are kept");
        assert!(left.text().len() < 16_000, "{}", left.text().len());
        let older = History { epoch: 8, closed: record.closed, ..History::default() };
        let merged = History::newest([left.text().as_str(), older.text().as_str()]).unwrap();
        assert_eq!(merged.closed.len(), MAX_CLOSED);
    }
}
