//! What a decision is made of. Whatever is absent was not done, or has no result.

use crate::compare::CompareRecord;
use crate::gate::VerifyRecord;
use crate::ledger::event::{Direction, Explained, Prediction, Quantity};
use crate::ledger::history::Attempts;
use serde::{Deserialize, Serialize};

/// Everything about one attempt of an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Variant id of the tip that it started from.
    pub baseline: &'a str,
    /// Variant id of that tip with the patch.
    pub candidate: &'a str,
    /// Why a step has no result, if the host or a tool ended it.
    pub infrastructure: Option<&'a str>,
    /// The gate of the candidate.
    pub gate: Option<&'a VerifyRecord>,
    /// The comparison of both.
    pub compare: Option<&'a CompareRecord>,
    /// The profile of both.
    pub profile: Option<&'a ProfileEvidence>,
    /// Lines of the patch that a reviewer should look at.
    pub screened: &'a [String],
    /// Steps whose entries were written by a harness with changes that no commit has.
    pub unclean: &'a [String],
    /// SHA-256 of the test patch that came with the patch.
    pub test_patch: Option<&'a str>,
    /// How often this patch was tried on this tip, this attempt included; `None` beside the ledger, where nothing counts.
    pub attempts: Option<&'a Attempts>,
    /// What reviewers have explained, by entries of the ledger.
    pub explained: &'a [Explained],
}

/// What the profile of both sides says of the predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileEvidence {
    /// Variant ids of baseline and candidate.
    pub sides: [String; 2],
    /// Each prediction with what was found; empty if nothing was predicted.
    pub shifts: Vec<Shift>,
}

/// A prediction and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// What was predicted.
    #[serde(flatten)]
    pub prediction: Prediction,
    /// Workload that was profiled.
    pub workload: String,
    /// The quantity on the baseline, in the unit of [`Quantity`]; null if it was not seen. A function that is known and has
    /// no samples has 0.
    pub baseline: Option<f64>,
    /// The same on the candidate.
    pub candidate: Option<f64>,
    /// What the quantity differs by between two profiles of the same, in its unit, by the number of samples; null of what is
    /// counted, and in evidence from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
}

impl Shift {
    /// Whether it went the predicted way by enough: shares by points, counts by per cent of the baseline's (from nothing, any). Unknown
    /// figures confirm nothing.
    pub fn is_confirmed(&self, share_points: f64, count_pct: f64) -> bool {
        let (Some(baseline), Some(candidate)) = (self.baseline, self.candidate) else { return false };
        let least = match self.prediction.quantity {
            Quantity::SelfSharePct => share_points,
            Quantity::SyscallsPerEvent | Quantity::InstructionsPerEvent => baseline.abs() * count_pct / 100.0,
        };
        let moved = match self.prediction.direction {
            Direction::Less => baseline - candidate,
            Direction::More => candidate - baseline,
        };
        moved > 0.0 && moved >= least.max(self.noise.unwrap_or(0.0))
    }

    /// What it moved by, in per cent of the baseline's figure, negative downwards; `None` where that is unknown or nothing.
    pub fn moved_pct(&self) -> Option<f64> {
        let (baseline, candidate) = (self.baseline?, self.candidate?);
        (baseline > 0.0).then(|| (candidate / baseline - 1.0) * 100.0)
    }

    /// Whether it moved the predicted way by at least half of the predicted size; `None` without a size, or where nobody knows what it
    /// moved by. It is told, and confirms nothing: that is [`Shift::is_confirmed`].
    pub fn reached_half(&self) -> Option<bool> {
        let size_pct = self.prediction.size_pct?;
        Some(self.moved_pct()? / size_pct >= 0.5)
    }

    /// What became of the predicted size, as pages and sentences have it; `None` if none was predicted.
    pub fn of_size(&self) -> Option<String> {
        let size_pct = self.prediction.size_pct?;
        Some(match (self.moved_pct(), self.reached_half()) {
            (Some(moved), Some(reached)) => {
                let half = if reached { "at least half of it" } else { "less than half of it" };
                format!("{size_pct:+}% of it was predicted, and it moved by {moved:+.1}%: {half}")
            }
            _ => format!("{size_pct:+}% of it was predicted, and what it moved by is unknown"),
        })
    }
}
