//! The sequential procedure without its figures: only what it would answer, hence fast.

use model::stats::random::SplitMix64;
use model::stats::sign_flip::SignFlip;
use model::verdict::Plan;

/// What the procedure answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Changed,
    NoChange,
    Inconclusive,
}

/// How a run went.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) test: SignFlip,
    /// Blocks of the look at which it ended.
    pub(crate) blocks: usize,
    /// Level of that look.
    pub(crate) alpha: f64,
}

impl Run {
    /// The interval at that look holds this change.
    pub(crate) fn covers(&self, truth: f64) -> bool {
        !self.test.rejects(truth, self.alpha)
    }
}

/// Goes through the looks until one answers, with `rejects` instead of intervals: a shift lies outside
/// of the interval exactly when it is rejected. Without a margin, equivalence is not asked for.
pub(crate) fn run(plan: &Plan, figures: &[f64], margin: Option<f64>) -> Run {
    let mut looks = plan.looks().iter().peekable();
    while let Some(look) = looks.next() {
        let test = SignFlip::new(&figures[..look.blocks]).expect("finite figures");
        let outcome = if test.rejects(0.0, look.alpha) {
            Outcome::Changed
        } else if margin.is_some_and(|m| test.rejects(m, look.alpha) && test.rejects(-m, look.alpha)) {
            Outcome::NoChange
        } else {
            Outcome::Inconclusive
        };
        if outcome != Outcome::Inconclusive || looks.peek().is_none() {
            return Run { outcome, test, blocks: look.blocks, alpha: look.alpha };
        }
    }
    unreachable!("a plan has looks")
}

/// Runs `repetitions` times with fresh figures each and counts those that satisfy `is_hit`.
pub(crate) fn count(
    repetitions: u32,
    seed: u64,
    mut figures: impl FnMut(&mut SplitMix64) -> Vec<f64>,
    mut is_hit: impl FnMut(&[f64]) -> bool,
) -> u32 {
    let mut random = SplitMix64::new(seed);
    (0..repetitions).filter(|_| is_hit(&figures(&mut random))).count() as u32
}
