//! When to look again without being asked to.
//!
//! Pure. Changes start a pass by themselves (watches, held connections); this is the net below them.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::RedisReplicaSetStatus;

/// A set that is as wanted is looked at this often.
const SETTLED: Duration = Duration::from_secs(60);
/// A set that is on its way is looked at this often at first …
const CONVERGING: Duration = Duration::from_millis(500);
/// … and this often once it has been on its way for longer than [`PATIENCE`].
const STALLED: Duration = Duration::from_secs(5);
/// How long a start, a failover or one step of a roll takes at most when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait after passes that failed.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Time until the next scheduled pass. `jitter` is between 0 and 1 and spreads many sets over the interval.
pub fn after(status: &RedisReplicaSetStatus, failures: u32, now: Timestamp, jitter: f64) -> Duration {
    if failures > 0 {
        let backoff =
            Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(6)));
        return spread(backoff.min(LONGEST_BACKOFF), jitter);
    }
    let condition = |type_: &str| status.conditions.iter().find(|c| c.type_ == type_);
    let paused = condition("Progressing").is_some_and(|c| c.reason == "Paused");
    match condition("Ready") {
        Some(ready) if ready.status == "True" || paused => spread(SETTLED, jitter),
        Some(ready) => {
            let waiting = now.duration_since(ready.last_transition_time.0);
            if waiting.unsigned_abs() < PATIENCE { CONVERGING } else { spread(STALLED, jitter) }
        }
        None => CONVERGING,
    }
}

/// Three quarters to all of the interval.
fn spread(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0))
}
