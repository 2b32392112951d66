//! Guards: what must not get worse by more than a margin.
//!
//! A guard's margin is fixed beforehand; its figure is a log ratio of something of which less is
//! better. To pass, *every* guard must exclude a loss beyond its margin. That needs no correction for
//! the number of guards: if one of them has truly lost more than its margin, all pass only if that
//! one's interval misses the truth, which has the probability of that one interval. Berger,
//! "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24 (1982).

use crate::stats::sign_flip::Interval;
use serde::{Deserialize, Serialize};

/// State of a guard, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// A loss beyond the margin is excluded.
    Holds,
    /// The interval has a loss beyond the margin in it, or there is no interval: not shown to hold.
    Undecided,
    /// The loss is larger than the margin.
    Violated,
}

/// State of one guard by the interval of its log ratio.
pub fn guard(interval: Option<Interval>, margin_log_ratio: f64) -> Guard {
    match interval {
        Some(interval) if interval.high <= margin_log_ratio => Guard::Holds,
        Some(interval) if interval.low > margin_log_ratio => Guard::Violated,
        _ => Guard::Undecided,
    }
}

/// State of all together: that of the worst. No guards hold.
pub fn together(guards: impl IntoIterator<Item = Guard>) -> Guard {
    guards.into_iter().max().unwrap_or(Guard::Holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_holds_only_if_a_loss_beyond_its_margin_is_excluded() {
        let at = |low, high| guard(Some(Interval { low, high }), 0.01);
        assert_eq!(at(-0.5, -0.4), Guard::Holds);
        assert_eq!(at(0.002, 0.009), Guard::Holds, "a certain loss inside the margin");
        assert_eq!(at(-0.02, 0.02), Guard::Undecided);
        assert_eq!(at(0.009, 0.02), Guard::Undecided);
        assert_eq!(at(0.011, 0.02), Guard::Violated);
        assert_eq!(at(f64::NAN, f64::NAN), Guard::Undecided);
        assert_eq!(guard(None, 0.01), Guard::Undecided);
    }

    #[test]
    fn the_worst_decides() {
        use Guard::{Holds, Undecided, Violated};
        assert_eq!(together([Holds, Violated, Undecided]), Violated);
        assert_eq!(together([Holds, Undecided]), Undecided);
        assert_eq!(together([Holds, Holds]), Holds);
        assert_eq!(together([]), Holds);
    }
}
