//! When to look again without being asked to.
//!
//! Pure. Changes start a reconcile by themselves (watches, held connections); this is the net below them.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{ConditionType, Reason, RedisReplicaSetStatus};

/// A set that is as wanted is looked at this often.
const SETTLED: Duration = Duration::from_secs(60);
/// A set that is on its way is looked at this often at first …
const CONVERGING: Duration = Duration::from_millis(500);
/// … and this often once it has been on its way for longer than [`PATIENCE`].
const STALLED: Duration = Duration::from_secs(5);
/// How long a start, a failover or one step of a roll takes at most when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait after reconciles that failed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Time until the next scheduled reconcile. `jitter` is between 0 and 1 and spreads many sets over the interval.
pub fn after(status: &RedisReplicaSetStatus, failures: u32, now: Timestamp, jitter: f64) -> Duration {
    if failures > 0 {
        let backoff =
            Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(6)));
        // What fails may have nothing to do with it, and an election needs several reconciles.
        let longest = if lacks_primary(status) { STALLED } else { LONGEST_BACKOFF };
        return spread(backoff.min(longest), jitter);
    }
    let progressing = status.condition(ConditionType::Progressing);
    let paused = progressing.is_some_and(|condition| condition.reason == Reason::Paused.as_str());
    match status.condition(ConditionType::Ready) {
        Some(_) if status.is_ready() || paused => spread(SETTLED, jitter),
        Some(ready) => {
            let waiting = now.duration_since(ready.last_transition_time.0);
            if waiting.unsigned_abs() < PATIENCE { CONVERGING } else { spread(STALLED, jitter) }
        }
        None => CONVERGING,
    }
}

/// Whether the servers were asked, and none is known to serve as the primary of record.
fn lacks_primary(status: &RedisReplicaSetStatus) -> bool {
    let is_so =
        |reason: &str| [Reason::NoPrimary, Reason::PrimaryUnreachable].iter().any(|r| r.as_str() == reason);
    status.condition(ConditionType::Available).is_some_and(|condition| is_so(&condition.reason))
}

/// Three quarters to all of the interval.
fn spread(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    fn status(ready: &str, progressing: &str, since: Timestamp) -> RedisReplicaSetStatus {
        let condition = |type_: &str, status: &str, reason: &str| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(since),
        };
        let conditions =
            vec![condition("Ready", ready, "Any"), condition("Progressing", "False", progressing)];
        RedisReplicaSetStatus { conditions, ..RedisReplicaSetStatus::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn settled_sets_rest_and_others_do_not() {
        let seconds = |ready, progressing, waited| {
            after(&status(ready, progressing, at(0)), 0, at(waited), 1.0).as_secs_f64()
        };
        for (ready, progressing, waited, expected) in [
            ("True", "UpToDate", 5, 60.0),
            ("True", "UpToDate", 100_000, 60.0),
            ("False", "Paused", 5, 60.0),
            ("False", "Converging", 0, 0.5),
            ("Unknown", "Held", 59, 0.5),
            ("Unknown", "Held", 60, 5.0),
            ("False", "Converging", 100_000, 5.0),
        ] {
            let found = seconds(ready, progressing, waited);
            assert!((found - expected).abs() < 1e-9, "{ready} {progressing} {waited}: {found}");
        }
        assert_eq!(
            after(&RedisReplicaSetStatus::default(), 0, at(0), 0.5),
            CONVERGING,
            "before the first status"
        );
    }

    #[test]
    fn failures_back_off_and_not_for_ever() {
        let settled = status("True", "UpToDate", at(0));
        let waits: Vec<u64> =
            (1..=8).map(|failures| after(&settled, failures, at(0), 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(after(&settled, u32::MAX, at(0), 1.0), LONGEST_BACKOFF);
    }

    /// Regression: a stage that failed for another cause delayed an election by up to a minute.
    #[test]
    fn who_lacks_a_primary_does_not_wait_for_what_fails() {
        let mut status = status("False", "ReconcileFailed", at(0));
        let mut available = status.conditions[0].clone();
        available.type_ = "Available".into();
        status.conditions.push(available);
        for (reason, longest) in [
            ("NoPrimary", STALLED),
            ("PrimaryUnreachable", STALLED),
            ("ApiError", LONGEST_BACKOFF),
            ("PrimaryServes", LONGEST_BACKOFF),
        ] {
            status.conditions[2].reason = reason.into();
            assert_eq!(after(&status, 9, at(0), 1.0), longest, "{reason}");
            assert_eq!(after(&status, 1, at(0), 1.0), Duration::from_secs(1), "{reason}");
        }
    }

    #[test]
    fn jitter_takes_away_a_quarter_at_most() {
        for jitter in [-1.0, 0.0, 0.3, 1.0, 7.0, f64::INFINITY] {
            let wait = after(&status("True", "UpToDate", at(0)), 0, at(0), jitter);
            assert!((SETTLED.mul_f64(0.75)..=SETTLED).contains(&wait), "{jitter}: {wait:?}");
        }
    }

    #[test]
    fn a_clock_that_went_back_stops_nothing() {
        let from_the_future = status("False", "Converging", at(1_000_000));
        assert!(after(&from_the_future, 0, at(0), 1.0) <= STALLED);
    }
}
