//! Order statistics of a few dozen runs.

/// What is shown of one figure's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Median, nearest rank.
    pub p50: i64,
    /// 99th percentile, nearest rank: below 100 runs the largest value.
    pub p99: i64,
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
    /// Number of values.
    pub count: usize,
}

/// The summary of values in any order; `None` where there is no value.
pub fn summary(values: &[i64]) -> Option<Summary> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    Some(Summary {
        p50: nearest_rank(&sorted, 50)?,
        p99: nearest_rank(&sorted, 99)?,
        min: *sorted.first()?,
        max: *sorted.last()?,
        count: sorted.len(),
    })
}

/// The smallest value that at least `percent` of all values do not exceed.
fn nearest_rank(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}
