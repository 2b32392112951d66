//! What a comparison of one workload comes to.

use serde::{Deserialize, Serialize};

/// One of three answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Answer {
    /// The interval lies below zero: the candidate takes less. By how much, say the estimate and the
    /// interval; that it matters is not said.
    Faster,
    /// The interval lies above zero: the candidate takes more.
    Slower,
    /// The interval holds zero and lies inside the margin.
    NoChange {
        /// The margin, to both sides.
        margin_pct: f64,
    },
    /// The interval holds zero and reaches beyond the margin.
    Inconclusive {
        /// Smallest change that a run like this one would have found in 80% of the cases, from the
        /// spread of its blocks; unknown where no number of blocks like these would have done.
        smallest_detectable_pct: Option<f64>,
    },
}

impl Answer {
    /// The word for it in records and on the screen.
    pub fn word(&self) -> &'static str {
        match self {
            Answer::Faster => "faster",
            Answer::Slower => "slower",
            Answer::NoChange { .. } => "no-change",
            Answer::Inconclusive { .. } => "inconclusive",
        }
    }
}

/// Figures of the look at which a comparison ended. Negative changes are faster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// Trimmed mean of the blocks' log ratios. Of a run that stopped early it is a little too large
    /// in size, since luck helps to stop: a confirmation with fresh seeds is not.
    pub log_ratio: f64,
    /// The same as a change in per cent.
    pub relative_change_pct: f64,
    /// Interval of the log ratio; null where the blocks were too few for one.
    pub interval_log_ratio: Option<[f64; 2]>,
    /// The same as changes in per cent.
    pub interval_pct: Option<[f64; 2]>,
    /// What the interval covers at least, all looks together.
    pub coverage_pct: f64,
    /// Two-sided p-value of no change for the blocks of this look alone.
    pub p_value: f64,
    /// The p-value with the looks taken into account: at most the plan's alpha exactly when one of the
    /// looks until now excluded zero. This one goes into a correction over workloads.
    pub p_value_sequential: f64,
    /// Blocks that were looked at.
    pub blocks: usize,
    /// Level of the test and the interval at this look.
    pub level: f64,
}
