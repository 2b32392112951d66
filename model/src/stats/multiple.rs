//! Many questions at once.

/// Answer to one of several hypotheses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adjusted {
    /// Smallest level of the whole family at which this hypothesis is rejected, at most 1.
    pub p_adjusted: f64,
    /// It is rejected at the level that was asked for.
    pub rejected: bool,
}

/// Holm's step-down procedure: with probability `1 - alpha` at least, no true hypothesis is rejected,
/// however the p-values hang together. Holm, "A simple sequentially rejective multiple test
/// procedure", Scandinavian Journal of Statistics 6 (1979).
///
/// The answers are in the order of the p-values. A p-value that is not a number counts as 1: what
/// could not be measured has gained nothing, and stays in the family.
pub fn holm(p_values: &[f64], alpha: f64) -> Vec<Adjusted> {
    let p = |place: usize| if p_values[place].is_nan() { 1.0 } else { p_values[place] };
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p(*a).total_cmp(&p(*b)));
    let mut answers = vec![Adjusted { p_adjusted: 1.0, rejected: false }; p_values.len()];
    let mut p_adjusted: f64 = 0.0;
    for (rank, place) in order.into_iter().enumerate() {
        let remaining = (p_values.len() - rank) as f64;
        p_adjusted = p_adjusted.max((remaining * p(place)).min(1.0));
        answers[place] = Adjusted { p_adjusted, rejected: p_adjusted <= alpha };
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjusted_values_agree_with_r() {
        // R: p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.5), "holm")
        let answers = holm(&[0.01, 0.04, 0.03, 0.005, 0.5], 0.05);
        let expected = [0.04, 0.09, 0.09, 0.025, 0.5];
        for (answer, expected) in answers.iter().zip(expected) {
            assert!((answer.p_adjusted - expected).abs() < 1e-12, "{answer:?}, expected {expected}");
        }
        assert_eq!(answers.iter().map(|a| a.rejected).collect::<Vec<_>>(), [true, false, false, true, false]);
    }

    #[test]
    fn a_family_of_one_is_the_plain_test_and_none_is_none() {
        assert_eq!(holm(&[0.01], 0.01), [Adjusted { p_adjusted: 0.01, rejected: true }]);
        assert_eq!(holm(&[], 0.01), []);
    }

    #[test]
    fn what_could_not_be_measured_still_counts() {
        let answers = holm(&[f64::NAN, 0.006], 0.01);
        assert_eq!(answers.iter().map(|a| a.rejected).collect::<Vec<_>>(), [false, false]);
        assert_eq!(answers[0].p_adjusted, 1.0);
    }
}
