//! Whether the status told the truth meanwhile: how long it went on to say Ready after the servers said otherwise.

use jiff::Timestamp;

use rig::clock::millis;

/// One of the two changed.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// The status: if it says Ready, how many servers it counts.
    Said(Option<usize>),
    /// The servers: how many serve or follow.
    Are(usize),
}

/// The longest time in milliseconds, between these two moments, for which the status said Ready and fewer servers than
/// it counted were there.
pub fn longest_false_ready(mut changes: Vec<(Timestamp, Change)>, since: Timestamp, until: Timestamp) -> i64 {
    changes.retain(|(at, _)| *at <= until);
    changes.sort_by_key(|(at, _)| *at);
    let (mut said, mut there) = (None, 0);
    let mut wrong_since: Option<Timestamp> = None;
    let mut longest = 0;
    for (at, change) in changes {
        match change {
            Change::Said(now) => said = now,
            Change::Are(now) => there = now,
        }
        let is_wrong = said.is_some_and(|said| there < said);
        match wrong_since {
            Some(from) if !is_wrong => {
                longest = longest.max(millis(from.max(since), at));
                wrong_since = None;
            }
            None if is_wrong => wrong_since = Some(at),
            _ => {}
        }
    }
    wrong_since.map_or(longest, |from| longest.max(millis(from.max(since), until)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a step that fails is the test's failure")]
mod tests {
    use super::{
        Change::{Are, Said},
        *,
    };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000_000 + millis).unwrap()
    }

    #[test]
    fn ready_is_false_from_the_loss_until_the_status_says_so() {
        let changes = vec![
            (at(0), Are(3)),
            (at(10), Said(Some(3))),
            (at(100), Are(0)),
            (at(150), Said(None)),
            (at(400), Are(3)),
            (at(500), Said(Some(3))),
        ];
        assert_eq!(longest_false_ready(changes, at(0), at(1_000)), 50);
    }

    #[test]
    fn a_loss_that_is_never_told_lasts_until_the_servers_are_back_or_the_end() {
        let changes = vec![(at(0), Said(Some(3))), (at(10), Are(3)), (at(100), Are(2)), (at(300), Are(3))];
        assert_eq!(longest_false_ready(changes.clone(), at(10), at(1_000)), 200);
        assert_eq!(longest_false_ready(changes, at(10), at(250)), 150);
    }

    #[test]
    fn fewer_servers_than_before_are_right_where_the_status_counts_fewer() {
        let changes = vec![(at(0), Are(3)), (at(1), Said(Some(3))), (at(2), Said(Some(2))), (at(3), Are(2))];
        assert_eq!(longest_false_ready(changes, at(0), at(10)), 0);
    }
}
