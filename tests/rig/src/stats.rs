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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(summary(&[]), None);
    }

    #[test]
    fn one_value_is_all_of_them() {
        assert_eq!(summary(&[7]), Some(Summary { p50: 7, p99: 7, min: 7, max: 7, count: 1 }));
    }

    #[test]
    fn ranks_round_up() {
        // 20 values: the median is the 10th, p99 the 20th.
        let values: Vec<i64> = (1..=20).rev().collect();
        assert_eq!(summary(&values), Some(Summary { p50: 10, p99: 20, min: 1, max: 20, count: 20 }));
        // 5 values: the median is the 3rd.
        assert_eq!(summary(&[50, 10, 30, 20, 40]).map(|s| s.p50), Some(30));
    }

    #[test]
    fn p99_of_many_is_not_the_largest() {
        let values: Vec<i64> = (1..=200).collect();
        assert_eq!(summary(&values).map(|s| (s.p50, s.p99, s.max)), Some((100, 198, 200)));
    }
}
