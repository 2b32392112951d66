//! A comparison in the making: takes the planned looks, in their order, and refuses all others.

use super::plan::Plan;
use super::report::{Answer, Report};
use crate::stats::log_ratio_to_pct;
use crate::stats::sign_flip::{Interval, SignFlip, SignFlipError};
use serde::{Deserialize, Serialize};

/// Share of the cases in which the smallest detectable change would have been found.
pub const POWER: f64 = 0.8;

/// What a comparison is to answer; fixed before its first block, as the plan is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Changes up to this size count as none. An interval inside `ln(1 ± margin)` says so; both ends
    /// are taken at `ln(1 + margin)` from zero, the nearer one.
    pub margin_pct: f64,
    /// When to stop before the last look.
    pub stop: Stop,
    /// A change ends the comparison before its last look only if its sequential p-value is at most this:
    /// alpha, or less where the change must stay one among several workloads.
    pub sure_p_value: f64,
}

/// When a comparison may stop before its last look. The interval covers under either rule: see
/// [`plan`](super::plan).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Once zero is excluded, or the interval is inside the margin.
    Answered,
    /// Once it is also known on which side of this size the change lies: a change is looked at further
    /// while the interval holds this many per cent.
    Settled {
        /// Size that matters, to both sides.
        threshold_pct: f64,
    },
}

/// Where a comparison stands after a look. While it goes on, nothing of the figures is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// More blocks are needed.
    Continue {
        /// Blocks of the next look, those of before included.
        next_look_blocks: usize,
    },
    /// The comparison has ended.
    Done(Report),
}

/// Why a look was refused. The comparison stands where it stood.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum LookError {
    /// Not the planned number of blocks.
    #[error("a look at {blocks} blocks is not planned; the next is at {due}")]
    NotPlanned {
        /// Blocks that were shown.
        blocks: usize,
        /// Blocks of the next look.
        due: usize,
    },
    /// The comparison has ended.
    #[error("the comparison has ended; no further look is planned")]
    Ended,
    /// Blocks of an earlier look are missing, changed or in another order.
    #[error("block {place} (from 0) is not what it was at an earlier look")]
    Rewritten {
        /// The first such block.
        place: usize,
    },
    /// The figures cannot be tested.
    #[error(transparent)]
    Figures(#[from] SignFlipError),
}

/// The state of a comparison. No copies: a copy would be a look that nobody counts.
#[derive(Debug)]
pub struct Sequential {
    plan: Plan,
    question: Question,
    looks_done: usize,
    seen: Vec<f64>,
    /// Smallest p-value until now, each divided by its look's share of alpha.
    p_value_sequential: f64,
    has_ended: bool,
}

impl Sequential {
    /// Begins a comparison, before its first block.
    pub fn new(plan: Plan, question: Question) -> Self {
        Sequential { plan, question, looks_done: 0, seen: vec![], p_value_sequential: 1.0, has_ended: false }
    }

    /// Blocks of the next look; `None` after the end.
    pub fn next_look_blocks(&self) -> Option<usize> {
        let look = self.plan.looks().get(self.looks_done).filter(|_| !self.has_ended)?;
        Some(look.blocks)
    }

    /// Takes the next look at all blocks until now, in the order in which they were made.
    ///
    /// # Errors
    /// The number of blocks is not the planned one, the comparison has ended, earlier blocks have
    /// changed, or a figure is not finite.
    pub fn look(&mut self, log_ratios: &[f64]) -> Result<Step, LookError> {
        let due = self.next_look_blocks().ok_or(LookError::Ended)?;
        if log_ratios.len() != due {
            return Err(LookError::NotPlanned { blocks: log_ratios.len(), due });
        }
        let look = self.plan.looks()[self.looks_done];
        let is_last = self.looks_done + 1 == self.plan.looks().len();
        let (report, interval) = self.evaluate(log_ratios, look.alpha, look.spent)?;
        self.looks_done += 1;
        let p_value = self.p_value_sequential;
        if !is_last && !interval.is_some_and(|interval| self.question.is_answered(interval, p_value)) {
            return Ok(Step::Continue { next_look_blocks: self.plan.looks()[self.looks_done].blocks });
        }
        self.has_ended = true;
        Ok(Step::Done(report))
    }

    /// Ends the comparison with the blocks that there are, and with all of alpha that is left.
    ///
    /// Only for causes that do not know which side was faster: the time is up, the user interrupts. The
    /// time that a block takes is a sum over both sides, so it says nothing of the sign of their
    /// difference, on which the test stands. Deciding by the figures would be peeking.
    ///
    /// # Errors
    /// As [`Self::look`]; any number of blocks from those of the last look up to the plan's is taken.
    pub fn end_early(&mut self, log_ratios: &[f64]) -> Result<Report, LookError> {
        let due = self.next_look_blocks().ok_or(LookError::Ended)?;
        if log_ratios.len() > self.plan.blocks() {
            return Err(LookError::NotPlanned { blocks: log_ratios.len(), due });
        }
        let alpha = self.plan.left_after(self.looks_done);
        let spent = crate::stats::sign_flip::attainable_level(log_ratios.len(), alpha);
        let (report, _) = self.evaluate(log_ratios, alpha, spent)?;
        self.has_ended = true;
        Ok(report)
    }

    fn evaluate(
        &mut self,
        log_ratios: &[f64],
        alpha: f64,
        spent: f64,
    ) -> Result<(Report, Option<Interval>), LookError> {
        // Compared as bits: the very same figures, not equal ones.
        let is_same = |place: &usize| log_ratios.get(*place).map(|x| x.to_bits()) == Some(self.seen[*place].to_bits());
        if let Some(place) = (0..self.seen.len()).find(|place| !is_same(place)) {
            return Err(LookError::Rewritten { place });
        }
        let test = SignFlip::new(log_ratios)?;
        self.seen = log_ratios.to_vec();
        let p_value = test.p_value(0.0);
        let interval = test.interval(alpha);
        if spent > 0.0 {
            // Weighted Bonferroni over the looks: the weights are their shares of alpha.
            self.p_value_sequential = self.p_value_sequential.min(p_value * self.plan.alpha() / spent);
        }
        let report = Report {
            answer: self.question.answer(&test, interval),
            log_ratio: test.estimate(),
            relative_change_pct: log_ratio_to_pct(test.estimate()),
            interval_log_ratio: interval.map(|i| [i.low, i.high]),
            interval_pct: interval.map(|i| [i.low, i.high].map(log_ratio_to_pct)),
            coverage_pct: 100.0 * (1.0 - self.plan.alpha()),
            p_value,
            p_value_sequential: self.p_value_sequential,
            blocks: log_ratios.len(),
            level: spent,
        };
        Ok((report, interval))
    }
}

impl Question {
    fn answer(&self, test: &SignFlip, interval: Option<Interval>) -> Answer {
        match interval {
            Some(interval) if interval.high < 0.0 => Answer::Faster,
            Some(interval) if interval.low > 0.0 => Answer::Slower,
            Some(interval) if is_inside(interval, self.margin_pct) => Answer::NoChange { margin_pct: self.margin_pct },
            _ => Answer::Inconclusive {
                smallest_detectable_pct: interval.map(|i| log_ratio_to_pct(test.smallest_detectable(i, POWER))),
            },
        }
    }

    fn is_answered(&self, interval: Interval, p_value_sequential: f64) -> bool {
        if interval.contains(0.0) {
            return is_inside(interval, self.margin_pct);
        }
        if p_value_sequential > self.sure_p_value {
            return false;
        }
        match self.stop {
            Stop::Answered => true,
            Stop::Settled { threshold_pct } => {
                let threshold = (threshold_pct / 100.0).ln_1p();
                is_inside(interval, threshold_pct) || interval.low > threshold || interval.high < -threshold
            }
        }
    }
}

fn is_inside(interval: Interval, size_pct: f64) -> bool {
    let size = (size_pct / 100.0).ln_1p();
    interval.low >= -size && interval.high <= size
}

#[cfg(test)]
mod tests;
