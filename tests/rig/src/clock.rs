//! The one clock of all figures. The cluster's nodes and the programs that run inside their network namespaces are
//! processes of one machine, so their wall clocks are one.

use jiff::Timestamp;

/// Now.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures time; the operator's code does not read it here"
)]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// For lines of progress.
pub fn time_of_day() -> String {
    now().strftime("%H:%M:%S").to_string()
}

/// Milliseconds from one moment to another; negative where `to` is the earlier one.
pub fn millis(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
}
