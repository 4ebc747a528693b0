//! Unusual quantities, by median and median absolute deviation of their logarithms.
//!
//! Quantities of sales are spread by factors, not by differences: a line of 500 is usual where 50 is. So the modified
//! z-score of Iglewicz and Hoaglin (*How to Detect and Handle Outliers*, ASQC 1993), 0.6745 × (x − median) ÷ MAD with its
//! usual limit of 3.5, is taken of ln(quantity). Neither median nor MAD moves by what a few lines say, however large.

use std::collections::BTreeMap;

/// Above this modified z-score a quantity is unusual.
pub const Z_LIMIT: f64 = 3.5;
/// Makes the MAD of a normal distribution its standard deviation.
const CONSISTENCY: f64 = 0.6745;
/// The MAD is taken to be at least this (a factor of two), so that a shop that always sells one piece is not alarmed by three.
pub const LOG_SPREAD_FLOOR: f64 = std::f64::consts::LN_2;
/// Of fewer lines nothing is said.
pub const FEWEST_LINES: u64 = 30;

/// How the quantities of some lines are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median quantity; the lower of two.
    pub median: i64,
    /// Half of the lines are within this factor of the median, at least 2.
    pub factor: f64,
    log_mad: f64,
}

impl Spread {
    /// Of lines, given as how many there are of each quantity (from 1); `None` of fewer than [`FEWEST_LINES`].
    pub fn of(lines: &BTreeMap<i64, u64>) -> Option<Spread> {
        let count: u64 = lines.values().sum();
        if count < FEWEST_LINES {
            return None;
        }
        let median = weighted_median(lines.iter().map(|(&quantity, &lines)| (quantity, lines)), count)?;
        let mut distances: Vec<(f64, u64)> =
            lines.iter().map(|(&quantity, &lines)| (log_ratio(quantity, median).abs(), lines)).collect();
        distances.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let log_mad = weighted_median(distances.into_iter(), count)?.max(LOG_SPREAD_FLOOR);
        Some(Spread { median, factor: log_mad.exp(), log_mad })
    }

    /// The modified z-score of a quantity from 1.
    pub fn z_score(&self, quantity: i64) -> f64 {
        CONSISTENCY * log_ratio(quantity, self.median) / self.log_mad
    }

    /// The largest quantity that is not unusual.
    pub fn largest_usual(&self) -> i64 {
        let estimate = (self.median as f64 * (Z_LIMIT * self.log_mad / CONSISTENCY).exp()) as i64;
        // The logarithm and the exponential may be off by a unit against each other; the score decides.
        let candidates = (estimate.saturating_sub(1)..=estimate.saturating_add(1)).rev();
        candidates.into_iter().find(|&quantity| self.z_score(quantity) <= Z_LIMIT).unwrap_or(estimate)
    }
}

fn log_ratio(quantity: i64, median: i64) -> f64 {
    (quantity.max(1) as f64 / median.max(1) as f64).ln()
}

/// The lower median of values in order, each with its number.
fn weighted_median<T>(values: impl Iterator<Item = (T, u64)>, count: u64) -> Option<T> {
    let mut seen = 0;
    for (value, number) in values {
        seen += number;
        if seen * 2 >= count {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spread(lines: &[(i64, u64)]) -> Option<Spread> {
        Spread::of(&lines.iter().copied().collect())
    }

    #[test]
    fn a_giant_does_not_hide_itself() {
        let usual = [(1, 40), (2, 30), (6, 25), (12, 25), (24, 10), (48, 4)];
        let without = spread(&usual).unwrap();
        let mut lines = usual.to_vec();
        lines.push((80_995, 1));
        let with = spread(&lines).unwrap();
        assert_eq!((without.median, with.median), (2, 2));
        assert!(with.z_score(80_995) > 1.5 * Z_LIMIT, "{with:?}");
        assert_eq!(without.largest_usual(), with.largest_usual());
    }

    #[test]
    fn the_limit_is_where_the_score_is_exceeded() {
        for median in [1, 3, 17, 1_000] {
            let spread = spread(&[(median, 20), (median * 3, 15), (median * 9, 5)]).unwrap();
            let limit = spread.largest_usual();
            assert!(spread.z_score(limit) <= Z_LIMIT, "{spread:?}");
            assert!(spread.z_score(limit + 1) > Z_LIMIT, "{spread:?}");
        }
    }

    #[test]
    fn lines_that_are_all_alike_still_leave_room() {
        let spread = spread(&[(1, 100)]).unwrap();
        assert!((spread.factor - 2.0).abs() < 1e-9);
        // 2 to the power of 3.5 / 0.6745.
        assert_eq!(spread.largest_usual(), 36);
    }

    #[test]
    fn of_too_few_lines_nothing_is_said() {
        assert_eq!(spread(&[(1, 29)]), None);
        assert_eq!(spread(&[]), None);
        assert!(spread(&[(1, 30)]).is_some());
    }
}
