//! The trimmed mean: what a comparison estimates.

/// Share of the values that a comparison cuts from each end.
pub const TRIM_SHARE: f64 = 0.1;

/// How many values are cut from each end of `count` sorted ones.
///
/// The share is met exactly, by a fraction of the next value where it is no whole number: of twelve
/// values, one is cut at each end and the next counts for 0.8. So the estimator does not jump as the
/// count grows, and fewer than ten values are trimmed too. Andrews, Bickel, Hampel, Huber, Rogers and
/// Tukey, "Robust Estimates of Location", Princeton 1972, section 2B1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trim {
    /// Values that are cut wholly from each end.
    pub whole: usize,
    /// Share of the next value that is cut, at least 0 and below 1.
    pub part: f64,
    /// Weight that stays: the divisor of the mean.
    pub kept: f64,
}

impl Trim {
    /// For `count` values, [`TRIM_SHARE`] from each end.
    pub fn of(count: usize) -> Self {
        // In whole numbers, since 0.1 times a count is not exact.
        let whole = count / 10;
        let part = (count % 10) as f64 / 10.0;
        Trim { whole, part, kept: count as f64 - 2.0 * (whole as f64 + part) }
    }

    /// The trimmed mean of values in ascending order, as many as this was made for.
    pub fn mean_of_sorted(&self, sorted: &[f64]) -> f64 {
        let inner = &sorted[self.whole..sorted.len() - self.whole];
        let [first, .., last] = inner else {
            // A single value is left, all of whose weight that remains is its own.
            return inner[0];
        };
        (inner.iter().sum::<f64>() - self.part * (first + last)) / self.kept
    }
}

/// Mean of the values without the lowest and the highest tenth; `None` without values.
pub fn trimmed_mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| Trim::of(values.len()).mean_of_sorted(&super::sorted(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_tenths_agree_with_scipy() {
        // scipy.stats.trim_mean([2, 4, 4, 5, 7, 9, 11, 40, 1, -30], 0.1), and with its values twice.
        let values = [2.0, 4.0, 4.0, 5.0, 7.0, 9.0, 11.0, 40.0, 1.0, -30.0];
        assert!((trimmed_mean(&values).unwrap() - 5.375).abs() < 1e-12);
        let twice: Vec<f64> = values.iter().chain(&values).copied().collect();
        assert!((trimmed_mean(&twice).unwrap() - 5.375).abs() < 1e-12);
    }

    #[test]
    fn fractions_are_weights() {
        // Four values: the outer two count for 0.6 each.
        assert!((trimmed_mean(&[0.0, 1.0, 2.0, 9.0]).unwrap() - (3.0 + 0.6 * 9.0) / 3.2).abs() < 1e-12);
        // Twelve: the outermost are gone, their neighbours count for 0.8.
        let twelve: Vec<f64> = (0..12).map(|i| f64::from(i * i)).collect();
        let by_hand = (0.8 * (1.0 + 100.0) + (2..=9).map(|i| f64::from(i * i)).sum::<f64>()) / 9.6;
        assert!((trimmed_mean(&twelve).unwrap() - by_hand).abs() < 1e-12);
        assert_eq!(trimmed_mean(&[7.0]), Some(7.0));
        assert!((trimmed_mean(&[7.0, 8.0]).unwrap() - 7.5).abs() < 1e-12);
        assert_eq!(trimmed_mean(&[]), None);
    }

    #[test]
    fn one_wild_value_in_ten_moves_it_by_no_more_than_its_neighbours_distance() {
        let tame: Vec<f64> = (0..10).map(f64::from).collect();
        let mut wild = tame.clone();
        wild[9] = 1e9;
        assert_eq!(trimmed_mean(&tame), trimmed_mean(&wild));
    }
}
