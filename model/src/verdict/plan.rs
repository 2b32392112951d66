//! When a comparison is looked at, fixed before its first block.
//!
//! **Why several looks keep the error.** Under the hypothesis of no change, the test at look k rejects
//! with probability at most its level, and the probability that any look does is at most the sum of
//! the levels (Bonferroni), which the plan keeps at `alpha` or below. The looks share blocks, so the
//! sum is conservative: the price is a slightly wider interval, and no assumption about how they hang
//! together. A quarter, half and all of the blocks get 2, 3 and 5 tenths of `alpha`.
//!
//! **What was not spent is carried on.** With few blocks a permutation test cannot attain every level:
//! three blocks reject nothing at any level below 1/4. What an attained level falls short of its
//! allotment is added to the next look's. Attained levels depend on the number of blocks alone, not on
//! the data, so they are known in advance and the sum stays at most `alpha`. Nothing is carried on
//! because a look "was not significant": that look has spent its level.
//!
//! **The interval.** Look k's interval is the set of shifts that its test does not reject at its level.
//! The true shift is missed at some look with probability at most `alpha`, so the interval covers with
//! at least `1 - alpha` at whichever look the run stops, whatever the reason to stop there: Jennison
//! and Turnbull, "Interim analyses: the repeated confidence interval approach", Journal of the Royal
//! Statistical Society B 51 (1989). At the last look that is the interval at its own level (0.5% with
//! nothing carried on), not at 1%: the other half was spent on the earlier looks.

use crate::stats::sign_flip::{attainable_level, smallest_p_value};
use serde::{Deserialize, Serialize};

/// Probability that a comparison of equal things finds a change.
pub const ALPHA: f64 = 0.01;

/// Looks: share of the blocks as a divisor, share of alpha in tenths.
const SCHEDULE: [(usize, f64); 3] = [(4, 2.0), (2, 3.0), (1, 5.0)];

/// Blocks beyond which no plan helps: the smallest alpha that the test can attain is 2^-14.
const MOST_FOR_LEAST: usize = 64;

/// One look that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedLook {
    /// Blocks that must be done, no more and no fewer.
    pub blocks: usize,
    /// Level at which this look tests: its allotment and what was carried on.
    pub alpha: f64,
    /// The part of it that so many blocks can attain, and which this look spends.
    pub spent: f64,
}

/// The looks of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    alpha: f64,
    looks: Vec<PlannedLook>,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No outcome of so few blocks would be significant.
    #[error("{blocks} blocks cannot show a change at {alpha}; at least {least} are needed")]
    TooFewBlocks {
        /// What was planned.
        blocks: usize,
        /// What is needed.
        least: usize,
        /// The error probability.
        alpha: f64,
    },
    /// No probability between 0 and 1/2, or smaller than the test can attain with any number of blocks.
    #[error("an error probability of {0} cannot be kept: it must be between 0.0001 and 0.5")]
    Alpha(f64),
}

impl Plan {
    /// Plans the looks of a comparison of so many blocks, which finds a change between equal things
    /// with probability `alpha` at most. Looks that could not reject are left out, so that the last
    /// one, which always stays, has their share.
    ///
    /// # Errors
    /// Too few blocks for any answer, or an alpha out of range.
    pub fn new(blocks: usize, alpha: f64) -> Result<Self, PlanError> {
        let least = Self::least_blocks(alpha)?;
        if blocks < least {
            return Err(PlanError::TooFewBlocks { blocks, least, alpha });
        }
        let mut looks = vec![];
        let mut carried = 0.0;
        for (divisor, tenths) in SCHEDULE {
            let blocks = blocks.div_ceil(divisor);
            let alpha = alpha * tenths / 10.0 + carried;
            let spent = attainable_level(blocks, alpha);
            carried = alpha - spent;
            if spent > 0.0 {
                looks.push(PlannedLook { blocks, alpha, spent });
            }
        }
        Ok(Plan { alpha, looks })
    }

    /// One look at the end, for a confirmation: its estimate is not of a run that stopped when it was lucky.
    ///
    /// # Errors
    /// Too few blocks for any answer, or an alpha out of range.
    pub fn once(blocks: usize, alpha: f64) -> Result<Self, PlanError> {
        let least = Self::least_blocks(alpha)?;
        if blocks < least {
            return Err(PlanError::TooFewBlocks { blocks, least, alpha });
        }
        Ok(Plan { alpha, looks: vec![PlannedLook { blocks, alpha, spent: attainable_level(blocks, alpha) }] })
    }

    /// Fewest blocks that can show a change: 8 at 1%.
    ///
    /// # Errors
    /// Alpha out of range.
    pub fn least_blocks(alpha: f64) -> Result<usize, PlanError> {
        if !(1e-4..=0.5).contains(&alpha) {
            return Err(PlanError::Alpha(alpha));
        }
        // From some number of blocks on all are enough; below it, a trimmed block can set one back.
        let too_few = (1..MOST_FOR_LEAST).rev().find(|blocks| attainable_level(*blocks, alpha) <= 0.0);
        Ok(too_few.map_or(1, |blocks| blocks + 1))
    }

    /// Probability that the comparison of equal things finds a change, and that the interval of the
    /// report misses the true change.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The looks, in ascending order of blocks; at least one.
    pub fn looks(&self) -> &[PlannedLook] {
        &self.looks
    }

    /// Blocks of the last look.
    pub fn blocks(&self) -> usize {
        self.looks.last().map_or(0, |look| look.blocks)
    }

    /// Smallest p-value that the comparison can come to, its looks taken into account: that of the most extreme
    /// blocks, however large the change. Just above 15 blocks a drawn flip can happen to be the identity, which
    /// doubles it.
    pub fn smallest_p_value(&self) -> f64 {
        let at = |look: &PlannedLook| smallest_p_value(look.blocks) * self.alpha / look.spent;
        self.looks.iter().filter(|look| look.spent > 0.0).map(at).fold(1.0, f64::min)
    }

    /// Alpha that is left after the first `looks` looks.
    pub(super) fn left_after(&self, looks: usize) -> f64 {
        self.alpha - self.looks[..looks].iter().map(|look| look.spent).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Question, Sequential, Step, Stop};

    fn blocks(plan: &Plan) -> Vec<usize> {
        plan.looks().iter().map(|look| look.blocks).collect()
    }

    #[test]
    fn many_blocks_have_three_looks_at_two_three_and_five_tenths() {
        let plan = Plan::new(400, ALPHA).unwrap();
        assert_eq!(blocks(&plan), [100, 200, 400]);
        for (look, alpha) in plan.looks().iter().zip([0.002, 0.003, 0.005]) {
            // A look can fall short of its allotment by one of 2^14 flips, which the next has.
            assert!((look.alpha - alpha).abs() < 1.0 / 16384.0 && look.spent <= look.alpha, "{look:?}");
        }
    }

    #[test]
    fn looks_that_cannot_reject_are_left_out_and_their_share_carried_on() {
        let plan = Plan::new(12, ALPHA).unwrap();
        assert_eq!(blocks(&plan), [12], "neither three nor six blocks can reject");
        assert!((plan.looks()[0].alpha - 0.01).abs() < 1e-15);
        assert_eq!(plan.looks()[0].spent, 20.0 / 2048.0);

        let plan = Plan::new(40, ALPHA).unwrap();
        assert_eq!(blocks(&plan), [20, 40], "ten blocks reject at 2/512 at best, above 0.002");
        assert!((plan.looks()[0].alpha - 0.005).abs() < 1e-15);
    }

    #[test]
    fn no_plan_spends_more_than_it_has() {
        for count in 8..300 {
            for alpha in [0.01, 0.01 / 6.0, 0.05] {
                let Ok(plan) = Plan::new(count, alpha) else { continue };
                let spent: f64 = plan.looks().iter().map(|look| look.spent).sum();
                assert!(spent <= alpha * (1.0 + 1e-12) && spent > 0.4 * alpha, "{count} blocks: {plan:?}");
                assert_eq!(plan.blocks(), count, "the last look is at the end");
                assert!((plan.left_after(plan.looks().len()) - (alpha - spent)).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn a_confirmation_has_one_look_with_all_of_alpha() {
        let plan = Plan::once(100, ALPHA).unwrap();
        assert_eq!(blocks(&plan), [100]);
        assert!(plan.looks()[0].spent <= 0.01 && plan.looks()[0].spent > 0.0098);
        assert!(Plan::once(7, ALPHA).is_err());
    }

    #[test]
    fn the_smallest_p_value_is_that_of_blocks_that_are_all_far_to_one_side() {
        for blocks in [8, 9, 12, 15, 40, 200] {
            let figures: Vec<f64> = (0..blocks).map(|block| 1.0 + block as f64 / 1e3).collect();
            for plan in [Plan::new(blocks, ALPHA).unwrap(), Plan::once(blocks, ALPHA).unwrap()] {
                let smallest = plan.smallest_p_value();
                // A question that is never sure enough sees all looks.
                let question = Question { margin_pct: 1.0, stop: Stop::Answered, sure_p_value: 0.0 };
                let mut sequential = Sequential::new(plan.clone(), question);
                let mut report = None;
                while let Some(due) = sequential.next_look_blocks() {
                    if let Step::Done(done) = sequential.look(&figures[..due]).unwrap() {
                        report = Some(done);
                    }
                }
                let found = report.unwrap().p_value_sequential;
                assert!((found / smallest - 1.0).abs() < 1e-9, "{blocks} blocks: {found}, not {smallest}");
            }
        }
    }

    #[test]
    fn too_few_blocks_are_refused() {
        assert_eq!(Plan::least_blocks(0.01), Ok(8));
        assert_eq!(Plan::new(7, 0.01), Err(PlanError::TooFewBlocks { blocks: 7, least: 8, alpha: 0.01 }));
        // Ten blocks would do worse than nine here, so eleven are asked for.
        assert_eq!(Plan::least_blocks(0.0039), Ok(11));
        for alpha in [0.0, -0.1, 0.7, f64::NAN] {
            assert!(matches!(Plan::new(100, alpha), Err(PlanError::Alpha(_))), "{alpha}");
        }
    }
}
