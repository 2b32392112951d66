//! What decides: `config/thresholds.toml` as a type.

use serde::{Deserialize, Serialize};

/// The whole of `config/thresholds.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Probability that a comparison of equal things finds a change.
    pub alpha: f64,
    /// An interval within this, to both sides, is no change.
    pub no_change_margin_pct: f64,
    /// Workloads that no patch may harm, by name.
    pub guarded: Vec<String>,
    /// Workloads that are calibrated, by name.
    pub calibrated: Vec<String>,
    /// Margins of what is not the metric.
    pub guards: GuardMargins,
    /// Which batches count.
    pub probe: ProbeRule,
    /// When a block is repeated.
    pub external: ExternalRule,
}

/// By how much a guard may grow, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardMargins {
    /// The time that is not the metric.
    pub other_time_pct: f64,
    /// The metric over all batches, disturbed ones included.
    pub all_batches_pct: f64,
    /// Time outside of the timed work, by the harness's own clock, against the baseline's timed work.
    pub untimed_pct: f64,
    /// Largest resident set.
    pub peak_memory_pct: f64,
    /// 99th percentile of latencies.
    pub latency_p99_pct: f64,
    /// Estimates that a noise floor needs before it widens any of these margins.
    #[serde(default = "floor_estimates_of_old")]
    pub floor_estimates: u32,
}

/// Records that were made before there was such a figure had no bound.
fn floor_estimates_of_old() -> u32 {
    0
}

/// Which batches count in a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRule {
    /// Slower probes than this many times the undisturbed one mark a disturbed batch.
    pub slow_factor: f64,
    /// With fewer undisturbed batches on a side, all count.
    pub fewest_batches: usize,
    /// By how much the shares of batches that count may differ between the sides, in per cent.
    pub kept_margin_pct: f64,
}

/// Causes outside of both sides for which a block is measured again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalRule {
    /// Share of the block's time that the hypervisor withheld on the measured CPU.
    pub steal_share: f64,
    /// Share of the block's time that our processes were runnable without a CPU, where CPU time is judged.
    pub run_delay_share: f64,
    /// The same where elapsed time is judged.
    pub run_delay_share_wall: f64,
    /// Share by which the worker's clocks may exceed the harness's.
    pub clock_tolerance: f64,
    /// Repeats of one pair of launches without a pause; further ones wait, within the workload's budget.
    pub repeats_at_once: u32,
}

/// Why thresholds are refused.
#[derive(Debug, thiserror::Error)]
pub enum ThresholdsError {
    /// Not TOML, or a field is missing, unknown or of another type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A figure that decides nothing, or everything.
    #[error("{0}")]
    Range(&'static str),
}

impl Thresholds {
    /// Reads `config/thresholds.toml`.
    ///
    /// # Errors
    /// A missing or unknown field, or a figure out of range.
    pub fn parse(text: &str) -> Result<Self, ThresholdsError> {
        let thresholds: Thresholds = toml::from_str(text)?;
        let guards = &thresholds.guards;
        let margins = [
            thresholds.no_change_margin_pct,
            guards.other_time_pct,
            guards.all_batches_pct,
            guards.peak_memory_pct,
            guards.latency_p99_pct,
            guards.untimed_pct,
            thresholds.probe.kept_margin_pct,
        ];
        let external = &thresholds.external;
        let shares =
            [external.steal_share, external.run_delay_share, external.run_delay_share_wall, external.clock_tolerance];
        let checks = [
            (thresholds.alpha >= 1e-4 && thresholds.alpha <= 0.1, "alpha must be from 0.0001 to 0.1"),
            (margins.iter().all(|margin| *margin > 0.0 && *margin < 100.0), "margins must be above 0 and below 100"),
            (guards.floor_estimates >= 1, "floor_estimates must be at least 1"),
            (thresholds.probe.slow_factor > 1.0, "slow_factor must be above 1"),
            (shares.iter().all(|share| *share > 0.0 && *share <= 1.0), "shares must be above 0, up to 1"),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(ThresholdsError::Range(why)),
            None => Ok(thresholds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../config/thresholds.toml");

    #[test]
    fn the_file_of_this_workspace_is_valid_and_names_real_workloads() {
        let thresholds = Thresholds::parse(TEXT).unwrap();
        let manifest = crate::workload::Manifest::parse(include_str!("../../config/workloads.toml")).unwrap();
        for name in thresholds.guarded.iter().chain(&thresholds.calibrated) {
            assert!(manifest.workloads.iter().any(|spec| spec.name == *name), "{name} is no workload");
        }
    }

    #[test]
    fn figures_out_of_range_are_refused() {
        for (from, to) in [
            ("alpha = 0.01", "alpha = 0.0"),
            ("no_change_margin_pct = 1.0", "no_change_margin_pct = 0.0"),
            ("slow_factor = 1.2", "slow_factor = 1.0"),
            ("kept_margin_pct = 10.0", "kept_margin_pct = 0.0"),
            ("floor_estimates = 20", "floor_estimates = 0"),
            ("steal_share = 0.2", "steal_share = 1.5"),
            ("repeats_at_once = 4", "repeats_at_once = -1"),
            ("alpha = 0.01", "alpha = 0.01\nother = 1"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            assert!(Thresholds::parse(&TEXT.replace(from, to)).is_err(), "{to}");
        }
    }
}
