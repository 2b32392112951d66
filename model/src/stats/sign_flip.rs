//! The sign-flip test of the trimmed mean, and the interval that belongs to it.
//!
//! **The test.** If the values are independent and each is distributed symmetrically about `centre`,
//! then turning the signs of any of `value - centre` changes nothing about their joint distribution,
//! and the observed trimmed mean is one draw among those of all flips. The p-value is the share of
//! flips whose trimmed mean lies at least as far from zero. No normality, no equal variances.
//! Fisher, "The Design of Experiments" (1935), section 21; Pesarin and Salmaso, "Permutation Tests for
//! Complex Data" (2010), section 1.9; with any statistic: Hoeffding, "The large-sample power of tests
//! based on permutations of observations", Annals of Mathematical Statistics 23 (1952).
//!
//! Paired measurements of two sides that do not differ are exchangeable within a pair, so that the
//! difference is symmetric about zero exactly, however skewed the noise of a side is. Where the sides
//! do differ, symmetry about the true change is an assumption; `tests/error_rates` measures what
//! becomes of the coverage without it. Values that hang together (autocorrelation) break the test.
//!
//! **How many flips.** Up to 15 values all of them; above, 2^14 with the identity among them, the
//! others drawn by [`SplitMix64`](super::random::SplitMix64) from a fixed seed, so that the same
//! values give the same answer. Counting the identity is the "+1" of Phipson and Smyth, "Permutation
//! p-values should never be zero", Statistical Applications in Genetics and Molecular Biology 9
//! (2010): the level holds with drawn flips too. Each flip stands for its complement as well, which
//! has the opposite mean.
//!
//! **The interval** is the set of all centres that the test does not reject (Hartigan, "Using subsample
//! values as typical values", JASA 64, 1969, for the mean). It is an interval: as `centre` rises by d,
//! the observed mean falls by d, while that of a flip moves by at most d, the weights of a trimmed mean
//! being positive with sum 1. So each flip is beaten by the observed mean below some centre and not
//! above, on the lower side of the estimate, and the p-value rises up to the estimate and falls after
//! it. The same flips serve all centres, hence that holds for drawn flips too.

use super::flips::{Flips, classes, is_exact};
use super::trimmed::{Trim, trimmed_mean};
use std::cell::OnceCell;

/// Why there is no test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignFlipError {
    /// No values.
    #[error("no values to test")]
    NoValues,
    /// A value is infinite or not a number.
    #[error("value {place} (from 0) is not finite")]
    NotFinite {
        /// Its place.
        place: usize,
    },
}

/// Two ends, in the unit of the values; both belong to the interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether it holds this value.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// Largest probability with which the test at `alpha` rejects a true centre: `alpha` rounded down to
/// what so many values can attain, 0 where they are too few to reject at all.
pub fn attainable_level(count: usize, alpha: f64) -> f64 {
    let allowed = allowed(count, alpha);
    if count == 0 || allowed < fewest(count) { 0.0 } else { allowed as f64 / classes(count) as f64 }
}

/// Smallest p-value that so many values can have, however far from the centre they are; 1 without values.
pub fn smallest_p_value(count: usize) -> f64 {
    if count == 0 { 1.0 } else { fewest(count) as f64 / classes(count) as f64 }
}

/// Classes that are as extreme as the most extreme values there can be, themselves included.
fn fewest(count: usize) -> usize {
    // Values that are cut anyway may turn without a trace, as long as they are the smallest.
    if is_exact(count) { 1 << Trim::of(count).whole } else { 1 }
}

/// How many classes may be as extreme as what was observed, itself included, in a rejection.
fn allowed(count: usize, alpha: f64) -> usize {
    // A level that was worked out as a count divided by the classes must come out as that count.
    (alpha * classes(count) as f64 * (1.0 + 1e-12)).floor() as usize
}

/// The test of one set of values.
#[derive(Debug)]
pub struct SignFlip {
    values: Vec<f64>,
    estimate: f64,
    /// Means that differ by no more are equal: rounding must not break ties.
    tolerance: f64,
    /// Distances from the estimate under all flips, in descending order.
    deviations: OnceCell<Vec<f64>>,
}

impl SignFlip {
    /// Takes the values, in any order.
    ///
    /// # Errors
    /// No values, or one that is not finite.
    pub fn new(values: &[f64]) -> Result<Self, SignFlipError> {
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            return Err(SignFlipError::NotFinite { place });
        }
        let estimate = trimmed_mean(values).ok_or(SignFlipError::NoValues)?;
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        Ok(SignFlip { values: values.to_vec(), estimate, tolerance: 1e-12 * largest, deviations: OnceCell::new() })
    }

    /// The trimmed mean.
    pub fn estimate(&self) -> f64 {
        self.estimate
    }

    /// Two-sided p-value of the hypothesis that the values are symmetric about `centre`.
    pub fn p_value(&self, centre: f64) -> f64 {
        let mut flips = Flips::new(&self.values, centre);
        let least = self.least(self.estimate, centre);
        let all = classes(self.values.len());
        let as_far = 1 + (1..all).filter(|class| flips.mean(*class).abs() >= least).count();
        as_far as f64 / all as f64
    }

    /// Whether the p-value is at most `alpha`. Much faster than the p-value where it is far above.
    pub fn rejects(&self, centre: f64, alpha: f64) -> bool {
        let mut flips = Flips::new(&self.values, centre);
        let least = self.least(self.estimate, centre);
        let mut left = allowed(self.values.len(), alpha);
        for class in 0..classes(self.values.len()) {
            // Class 0 is what was observed.
            if class == 0 || flips.mean(class).abs() >= least {
                match left.checked_sub(1) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
        }
        true
    }

    /// The centres that the test at `alpha` does not reject, to a billionth of the range of the values
    /// and never too wide: it excludes zero exactly when `rejects(0.0, alpha)`. `None` where the values
    /// are too few, or too many of them equal, to reject anything.
    pub fn interval(&self, alpha: f64) -> Option<Interval> {
        // Not `attainable_level > 0.0` for an alpha of 1 and more, where nothing would be left.
        if attainable_level(self.values.len(), alpha) <= 0.0 || alpha >= 1.0 {
            return None;
        }
        let turned: Vec<f64> = self.values.iter().map(|value| -value).collect();
        let low = self.lower_end(&self.values, self.estimate, alpha)?;
        let high = -self.lower_end(&turned, -self.estimate, alpha)?;
        Some(Interval { low, high })
    }

    /// The smallest shift that a repetition of this run would find with probability `power` (at least
    /// 0.5) by the test that `interval` comes from, as the spread of the values has it: the half-width
    /// of the interval, beyond which an estimate is significant, and by how much the estimate falls
    /// short of the truth in all but `power` of the cases, both from the sign-flip distribution. For
    /// normal values this is the textbook sum of two quantiles, times the standard error.
    ///
    /// It is an estimate: of normal noise it was found in 82% of simulated runs, of heavy-tailed or
    /// contaminated noise in 60% with 12 values, 72% with 40 and 77% with 120.
    pub fn smallest_detectable(&self, interval: Interval, power: f64) -> f64 {
        // The distribution is symmetric: one side at `power` is two sides at `2 power - 1`.
        let two_sided = (2.0 * power - 1.0).clamp(0.0, 1.0);
        let deviations = self.deviations();
        let place = ((1.0 - two_sided) * (deviations.len() - 1) as f64).round() as usize;
        (interval.high - interval.low) / 2.0 + deviations[place]
    }

    fn least(&self, estimate: f64, centre: f64) -> f64 {
        (estimate - centre).abs() - self.tolerance
    }

    /// How far from the estimate the mean falls under each class, in descending order.
    fn deviations(&self) -> &[f64] {
        self.deviations.get_or_init(|| {
            let mut flips = Flips::new(&self.values, self.estimate);
            let mut means: Vec<f64> = (0..classes(self.values.len())).map(|class| flips.mean(class).abs()).collect();
            means.sort_by(|a, b| b.total_cmp(a));
            means
        })
    }

    /// Lower end of the interval of `values`: these, or their opposites for the upper end.
    fn lower_end(&self, values: &[f64], estimate: f64, alpha: f64) -> Option<f64> {
        let allowed = allowed(values.len(), alpha);
        let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = largest - smallest;
        let mut search =
            Search { rejected: None, accepted: estimate, counted: 1, open: (1..classes(values.len())).collect() };
        let look = |search: &mut Search, centre: f64| {
            let is_inside = centre < search.accepted && search.rejected.is_none_or(|rejected| centre > rejected);
            if is_inside {
                search.look(&mut Flips::new(values, centre), centre, self.least(estimate, centre), allowed);
            }
        };
        // Zero first: the answer there must be the test's own.
        look(&mut search, 0.0);
        // The end lies about as far from the estimate as that share of the flips strays.
        let guess = self.deviations()[allowed.min(self.deviations().len() - 1)];
        look(&mut search, estimate - 0.9 * guess);
        for step in [1.1, 1.5, 2.5, 5.0] {
            if search.rejected.is_none() {
                look(&mut search, estimate - step * guess);
            }
        }
        if search.rejected.is_none() {
            // Below all values by their range: what is not rejected here is nowhere.
            look(&mut search, smallest - range - 1e6 * self.tolerance);
        }
        while let Some(rejected) = search.rejected {
            let middle = rejected + (search.accepted - rejected) / 2.0;
            if search.accepted - rejected <= 1e-9 * range || middle <= rejected || middle >= search.accepted {
                return Some(search.accepted);
            }
            look(&mut search, middle);
        }
        None
    }
}

/// Between which centres the test turns from rejecting to accepting, and what is known of each class.
struct Search {
    /// Largest centre that is known to be rejected.
    rejected: Option<f64>,
    /// Smallest centre that is known not to be.
    accepted: f64,
    /// Classes that are as extreme as the observed mean at `rejected` already, and so above it.
    counted: usize,
    /// Classes that are not so at `rejected` but at `accepted`: only these need a look in between.
    open: Vec<usize>,
}

impl Search {
    fn look(&mut self, flips: &mut Flips, centre: f64, least: f64, allowed: usize) {
        let (as_far, nearer): (Vec<usize>, Vec<usize>) =
            self.open.iter().partition(|class| flips.mean(**class).abs() >= least);
        if self.counted + as_far.len() <= allowed {
            self.rejected = Some(centre);
            self.counted += as_far.len();
            self.open = nearer;
        } else {
            self.accepted = centre;
            self.open = as_far;
        }
    }
}

#[cfg(test)]
mod tests;
