//! What is known of the harness's errors on one host: the result of `calibrate`.

mod standing;
mod summary;

pub use standing::{Here, Standing, best, host_differences};
pub use summary::{detection, forms, injected_pct, upper_bound_pct, workloads};

use crate::host::HostFingerprint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of this version.
pub const CALIBRATE_SCHEMA: &str = "calibrate/1";

/// By what share a comparison may exceed its time and still have answered within it: blocks are not begun that would
/// not end in time, and the one in progress is not measured exactly.
pub const IN_TIME_TOLERANCE: f64 = 0.02;

/// How two sides of a comparison of equal things came to be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The candidate's program is a copy of the baseline's, byte for byte.
    ByteCopy,
    /// Each side is linked by itself.
    Relink,
    /// The candidate was compiled again, in a worktree whose path has another length.
    Rebuild,
    /// As relink, while a load on another CPU starts and stops without regard to the sides.
    Load,
    /// The candidate has one more function, which nobody calls, in a hot file.
    NullPatch,
    /// As relink, while another CPU is busy all the time.
    Neighbour,
}

impl Form {
    /// All of them, in the order in which they are run.
    pub const ALL: [Form; 6] =
        [Form::ByteCopy, Form::Relink, Form::Rebuild, Form::Load, Form::NullPatch, Form::Neighbour];

    /// As in records and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Form::ByteCopy => "byte-copy",
            Form::Relink => "relink",
            Form::Rebuild => "rebuild",
            Form::Load => "load",
            Form::NullPatch => "null-patch",
            Form::Neighbour => "neighbour",
        }
    }
}

/// One workload in one comparison of a calibration: a line of its journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Number of the comparison among those of its kind; its seed follows from both.
    pub number: u64,
    /// How the sides came to be equal.
    pub form: Form,
    /// The slowdown that was asked for; zero for comparisons of equal things.
    pub injected_pct: f64,
    /// Multiplications that made each batch of the candidate slower; null between equal things, and in trials that were
    /// made before it was kept.
    #[serde(default)]
    pub iterations: Option<u64>,
    /// The slowdown as it was: what the multiplications took in the candidate's processes, of what the baseline's
    /// batches took beside them ([`injected_pct`]). Null as above.
    #[serde(default)]
    pub actual_pct: Option<f64>,
    /// Name of the workload.
    pub workload: String,
    /// Time that the comparison had for the workload.
    pub budget_s: f64,
    /// The first answer, before any confirmation: `faster`, `slower`, `no-change`, `inconclusive`.
    pub verdict: Option<String>,
    /// Estimated change.
    pub estimate_pct: Option<f64>,
    /// Its interval.
    pub interval_pct: Option<[f64; 2]>,
    /// Blocks that the answer took.
    pub blocks: u32,
    /// Log ratios of the blocks.
    pub log_ratios: Vec<f64>,
    /// Blocks measured again for external causes.
    pub blocks_repeated: u32,
    /// Time that its blocks took, with their links and with waiting; what was measured before the first one, for all
    /// comparisons of a form at once, is not in it.
    pub seconds: f64,
    /// Share of the time that the hypervisor withheld, over all CPUs.
    pub steal_share: Option<f64>,
    /// Why there is no answer.
    pub error: Option<String>,
}

impl Trial {
    /// A change was found.
    pub fn found_change(&self) -> bool {
        matches!(self.verdict.as_deref(), Some("faster" | "slower"))
    }

    /// The size of the slowdown: as it was, where that is known, or as it was asked for.
    pub fn size_pct(&self) -> f64 {
        self.actual_pct.unwrap_or(self.injected_pct)
    }

    /// It took no longer than it had, give or take [`IN_TIME_TOLERANCE`].
    pub fn is_in_time(&self) -> bool {
        self.seconds <= self.budget_s * (1.0 + IN_TIME_TOLERANCE)
    }
}

/// A calibration: what `calibrate --json` prints and what is stored per host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`CALIBRATE_SCHEMA`].
    pub schema: String,
    /// Where it holds.
    pub host: HostFingerprint,
    /// Fewer comparisons were done than asked for.
    pub partial: bool,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Hours that its comparisons took.
    pub hours: f64,
    /// SHA-256 of what measures and decides.
    pub method_sha256: String,
    /// Commit of this workspace, where it is a checkout.
    pub commit: Option<String>,
    /// The checkout had changes.
    pub dirty: Option<bool>,
    /// Build id of the baseline.
    pub build: String,
    /// Compiler of the baseline.
    pub compiler: String,
    /// Seed of all comparisons.
    pub seed: u64,
    /// Comparisons of equal things, by form.
    pub forms: Vec<FormResult>,
    /// Injected slowdowns, by workload, size and time.
    pub detection: Vec<DetectionResult>,
    /// What can be seen, by workload.
    pub workloads: Vec<WorkloadResult>,
}

/// Comparisons of equal things in one form, of one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormResult {
    /// Which.
    pub form: Form,
    /// Time that each comparison had for each workload; null of a form that was not run, and in records that did
    /// not tell lengths apart.
    #[serde(default)]
    pub budget_s: Option<f64>,
    /// Answers given.
    pub comparisons: u32,
    /// Of these, a change was found.
    pub false_positives: u32,
    /// The true share is below this with 95% confidence (Clopper and Pearson); null without answers.
    pub upper_bound_pct: Option<f64>,
    /// Comparisons without an answer: too much steal, an error.
    pub without_answer: u32,
    /// By workload: answers and false positives.
    pub by_workload: BTreeMap<String, [u32; 2]>,
}

/// How often an injected slowdown was found by the first answer, before any confirmation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionResult {
    /// How the sides were made equal before the slowdown.
    pub form: Form,
    /// Name of the workload.
    pub workload: String,
    /// Size of the slowdown that was asked for.
    pub injected_pct: f64,
    /// Median of what it was; null in records that did not keep it.
    #[serde(default)]
    pub actual_pct_median: Option<f64>,
    /// The smallest and the largest that it was.
    #[serde(default)]
    pub actual_pct_range: Option<[f64; 2]>,
    /// First answers that called it slower within their time.
    pub detected: u32,
    /// First answers that called it slower, too late to count.
    #[serde(default)]
    pub late: u32,
    /// Comparisons; those without an answer count as not found.
    pub runs: u32,
    /// Time that a comparison had.
    pub budget_s: f64,
    /// Time that it took, median.
    pub seconds_median: Option<f64>,
    /// Intervals that held the size: as it was in that comparison, where it was kept.
    pub covered: u32,
    /// Median of the estimates.
    pub estimate_pct_median: Option<f64>,
}

/// What can be seen on a workload here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadResult {
    /// Name of the workload.
    pub workload: String,
    /// Noise floors, by the time that comparisons had, ascending; empty in records that kept only the next one.
    #[serde(default)]
    pub noise_floors: Vec<NoiseFloor>,
    /// That of the length of most comparisons; null without any.
    pub noise_floor_pct: Option<f64>,
    /// Time that these comparisons had.
    pub noise_floor_budget_s: Option<f64>,
    /// Slowdown that is found in 80% of the runs.
    pub smallest_detectable_pct: Option<f64>,
    /// How that figure is meant: `about`, `at most` the smallest size that was injected, or `more than`
    /// the largest.
    pub smallest_detectable_kind: Option<String>,
    /// Time that these comparisons had.
    pub smallest_detectable_budget_s: Option<f64>,
    /// Standard deviation of the blocks' log ratios within comparisons of equal things, in per cent.
    pub block_spread_pct: Option<f64>,
    /// Correlation of neighbouring blocks' log ratios: near zero if blocks are independent.
    pub block_autocorrelation: Option<f64>,
}

/// The 95th percentile of the size of estimates between equal things, over comparisons of one length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// Time that these comparisons had.
    pub budget_s: f64,
    /// Estimates that it is of.
    pub estimates: u32,
    /// The floor; null without estimates.
    pub pct: Option<f64>,
}

#[cfg(test)]
mod tests;
