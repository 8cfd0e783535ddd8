//! Bounded waiting: every loop of this program ends here.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

const PAUSE: Duration = Duration::from_millis(200);

/// Calls `check` until it succeeds; its last error is the reason given when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= end => {
                return Err(reason.context(anyhow!("waited {} s in vain for {what}", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_last_reason_at_the_end() {
        let error = until("rain", Duration::ZERO, || Err::<(), _>(anyhow!("dry sky"))).unwrap_err();
        assert_eq!(format!("{error:#}"), "waited 0 s in vain for rain: dry sky");
    }

    #[test]
    fn returns_the_first_success() {
        let mut calls = 0;
        let value = until("two", Duration::from_secs(5), || {
            calls += 1;
            if calls == 2 { Ok(calls) } else { Err(anyhow!("not yet")) }
        });
        assert_eq!(value.unwrap(), 2);
    }
}
