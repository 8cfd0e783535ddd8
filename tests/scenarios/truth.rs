//! Whether the status told the truth meanwhile: how long it went on to say Ready after the servers said otherwise.

use jiff::Timestamp;

use crate::clock::millis;

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
