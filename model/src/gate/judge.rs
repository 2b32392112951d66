//! Is a candidate's test worse than pristine's? Rates are compared, not single runs; time limits come from pristine.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Failures among runs of one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Runs.
    pub runs: u32,
    /// Those of them that failed.
    pub failures: u32,
}

impl Rate {
    /// One more run.
    pub fn add(&mut self, failed: bool) {
        self.runs += 1;
        self.failures += u32::from(failed);
    }
}

impl std::ops::Add for Rate {
    type Output = Rate;

    fn add(self, other: Rate) -> Rate {
        Rate { runs: self.runs + other.runs, failures: self.failures + other.failures }
    }
}

/// What is known of one test from pristine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Runs among others.
    pub crowded: Rate,
    /// Runs with nothing beside them.
    pub alone: Rate,
    /// Runs that passed only in a further attempt of tinytest's own.
    #[serde(default)]
    pub retried: u32,
    /// It says that it cannot run on this host.
    pub skips: bool,
    /// Shortest run that passed; null if none did.
    pub seconds_min: Option<f64>,
    /// Longest run, failures included.
    pub seconds_max: f64,
}

impl Known {
    /// It fails among others and passes alone: its place is after the others, by itself.
    pub fn is_serial(&self) -> bool {
        2 * self.crowded.failures > self.crowded.runs && self.alone.runs > 0 && self.alone.failures == 0
    }

    /// What a candidate is compared with: of a serial test only the runs alone.
    pub fn rate(&self) -> Rate {
        if self.is_serial() { self.alone } else { self.crowded + self.alone }
    }

    /// No run of pristine passed: no number of repeats can show a candidate to be worse.
    pub fn fails_always(&self) -> bool {
        let rate = self.rate();
        rate.runs > 0 && rate.failures == rate.runs
    }

    /// The same with runs that passed only in a further attempt among the failures.
    pub fn rate_with_retries(&self) -> Rate {
        let rate = self.rate();
        Rate { failures: (rate.failures + self.retried).min(rate.runs), ..rate }
    }
}

/// What is known of one configuration from pristine, on one host and with one toolchain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownConfiguration {
    /// Every test of the list, by name.
    pub tests: BTreeMap<String, Known>,
    /// Reports of sanitizers, as [`super::reports::reports`] names them.
    pub reports: BTreeSet<String>,
}

/// Repeats of a test that failed; both sides are repeated in turns, so that both meet the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// [`ALONE`] runs of each side with nothing beside them.
    Alone,
    /// [`CROWDED`] more of each side, many at a time.
    Crowded,
}

/// Runs of each side up to the first look.
pub const ALONE: u32 = 5;
/// Runs of each side between the first look and the second.
pub const CROWDED: u32 = 15;

impl Look {
    /// Probability of calling an equally unstable test worse at this look. Both together: 0.01 of the tests that
    /// failed at all. Five failures of five, where pristine has none, has 1/252 even if pristine ran no more often.
    fn alpha(self) -> f64 {
        match self {
            Look::Alone | Look::Crowded => 0.005,
        }
    }
}

/// Of a comparison of rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The candidate fails more often, and chance does not explain it.
    Worse,
    /// It failed, but is not shown to fail more often than pristine: flaky.
    NotWorse,
    /// More runs are needed.
    Undecided,
}

/// Compares repeats of a candidate's test, without the failure that made it be repeated (it was chosen because
/// it failed), with all that is known of pristine's.
pub fn compare(candidate: Rate, pristine: Rate, look: Look) -> Answer {
    if fisher_greater(candidate, pristine) <= look.alpha() {
        return Answer::Worse;
    }
    match look {
        Look::Alone => Answer::Undecided,
        Look::Crowded => Answer::NotWorse,
    }
}

/// Fisher's exact test, one-sided: the probability that at least so many of all failures fall on the candidate if
/// both sides fail equally often. R. A. Fisher, "Statistical methods for research workers" (1934), section 21.02.
pub fn fisher_greater(candidate: Rate, pristine: Rate) -> f64 {
    let failures = candidate.failures + pristine.failures;
    let most = failures.min(candidate.runs);
    let all = log_choose(candidate.runs + pristine.runs, failures);
    let exactly = |k: u32| (log_choose(candidate.runs, k) + log_choose(pristine.runs, failures - k) - all).exp();
    let possible = (candidate.failures..=most).filter(|k| failures - k <= pristine.runs);
    possible.map(exactly).sum::<f64>().min(1.0)
}

fn log_choose(n: u32, k: u32) -> f64 {
    (1..=k).map(|i| (f64::from(n - k + i) / f64::from(i)).ln()).sum()
}

/// Longest time that a candidate's test may take: `factor` times pristine's longest, at least `floor_seconds`.
pub fn limit_seconds(pristine_max_seconds: f64, factor: f64, floor_seconds: f64) -> f64 {
    (pristine_max_seconds * factor).max(floor_seconds)
}

/// A test that waits for a second or more and passes in a quarter of that did not wait: timers that fire early, or a
/// report that was printed instead of earned. Optimisations shorten work, not what a test asked to wait for.
pub fn is_too_fast(candidate_seconds: f64, pristine_min_seconds: f64) -> bool {
    pristine_min_seconds >= 1.0 && candidate_seconds < 0.25 * pristine_min_seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::random::SplitMix64;

    fn rate(failures: u32, runs: u32) -> Rate {
        Rate { runs, failures }
    }

    #[test]
    fn agrees_with_exact_sums() {
        // Exact, from sums of integer binomial coefficients.
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        close(fisher_greater(rate(5, 5), rate(0, 5)), 1.0 / 252.0);
        close(fisher_greater(rate(1, 1), rate(0, 3)), 0.25);
        close(fisher_greater(rate(0, 5), rate(3, 5)), 1.0);
        close(fisher_greater(rate(3, 10), rate(3, 10)), 0.685_758_513_931_888_6);
        close(fisher_greater(rate(5, 20), rate(0, 25)), 0.012_689_900_381_335_436);
        close(fisher_greater(rate(0, 0), rate(0, 0)), 1.0);
    }

    #[test]
    fn a_test_that_always_fails_is_worse_at_once_and_an_unstable_one_is_not() {
        assert_eq!(compare(rate(5, 5), rate(0, 8), Look::Alone), Answer::Worse);
        assert_eq!(compare(rate(0, 5), rate(0, 8), Look::Alone), Answer::Undecided);
        assert_eq!(compare(rate(5, 5), rate(8, 8), Look::Alone), Answer::Undecided);
        assert_eq!(compare(rate(20, 20), rate(23, 23), Look::Crowded), Answer::NotWorse);
        assert_eq!(compare(rate(10, 20), rate(10, 23), Look::Crowded), Answer::NotWorse);
        assert_eq!(compare(rate(7, 20), rate(0, 23), Look::Crowded), Answer::Worse);
        assert_eq!(compare(rate(1, 20), rate(0, 23), Look::Crowded), Answer::NotWorse);
    }

    #[test]
    fn equal_sides_are_rarely_called_worse() {
        let mut random = SplitMix64::new(7);
        for percent in [5_u64, 30, 60, 95] {
            let mut draw = |runs| rate((0..runs).map(|_| u32::from(random.next_u64() % 100 < percent)).sum(), runs);
            let worse = (0..4000)
                .filter(|_| {
                    let (known, mine, theirs) = (draw(3), draw(ALONE), draw(ALONE));
                    compare(mine, known + theirs, Look::Alone) == Answer::Worse
                        || compare(mine + draw(CROWDED), known + theirs + draw(CROWDED), Look::Crowded) == Answer::Worse
                })
                .count();
            assert!(worse <= 48, "{percent}%: {worse} of 4000, and 0.01 is allowed");
        }
    }

    #[test]
    fn a_serial_test_is_compared_with_its_runs_alone() {
        let known = Known { crowded: rate(3, 3), alone: rate(0, 5), ..Known::default() };
        assert!(known.is_serial());
        assert_eq!(known.rate(), rate(0, 5));
        let unstable = Known { crowded: rate(1, 3), alone: rate(1, 5), retried: 2, ..Known::default() };
        assert!(!unstable.is_serial());
        assert_eq!((unstable.rate(), unstable.rate_with_retries()), (rate(2, 8), rate(4, 8)));
        assert!(!unstable.fails_always() && !Known::default().fails_always());
        assert!(Known { crowded: rate(3, 3), alone: rate(5, 5), ..Known::default() }.fails_always());
    }

    #[test]
    fn limits_and_times() {
        assert!((limit_seconds(0.1, 10.0, 20.0) - 20.0).abs() < 1e-12);
        assert!((limit_seconds(12.0, 10.0, 20.0) - 120.0).abs() < 1e-12);
        assert!(is_too_fast(0.01, 3.0) && !is_too_fast(0.01, 0.9) && !is_too_fast(2.9, 3.0));
    }
}
