//! A pair of launches in figures: from the batches of both sides to log ratios.
//!
//! **Which batches count.** On a shared host the same batch takes 1.3 to 2.5 times as long for a part of
//! every few milliseconds, because somebody else uses the core's execution units; nothing in the guest
//! shows it but a probe. Batches beside a slow probe are left out. The rule looks at the probe alone,
//! never at the batch, and at both sides with one yardstick, so it cannot favour one.
//!
//! **Why the lower quartile.** What disturbs a batch without the probes seeing it only ever makes it
//! longer. Among trimmed mean, median, lower quartile, tenth percentile and minimum, each with and
//! without probes, the lower quartile of the undisturbed batches had the smallest spread from block to
//! block (docs/METHODOLOGY.md has the table). What it cannot see, a cost that falls on few batches, is
//! the business of a guard: the mean over all batches, with nothing cut off.

use crate::protocol::Sample;
use crate::stats::quantile;
use crate::thresholds::ProbeRule;
use crate::workload::Metric;
use serde::{Deserialize, Serialize};

/// The quantile of a side's undisturbed batches that stands for the side.
pub const QUANTILE: f64 = 0.25;
/// The quantile of all probes that counts as undisturbed.
const UNDISTURBED: f64 = 0.1;

/// Log ratios, candidate to baseline, of one pair of launches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairFigures {
    /// Of the metric: lower quartile of the undisturbed batches.
    pub log_ratio: f64,
    /// Of the time that is not the metric, in the same way.
    pub other_time_log_ratio: f64,
    /// Of the metric: mean over all batches, disturbed and costly ones included.
    pub all_batches_log_ratio: f64,
    /// The baseline's figure of the metric, per event.
    pub baseline_ns: f64,
    /// The candidate's.
    pub candidate_ns: f64,
    /// Undisturbed batches of each side, and all of them.
    pub batches: [u32; 2],
    /// Batches of each side.
    pub batches_all: [u32; 2],
    /// There were enough undisturbed batches; if not, all count.
    pub probed: bool,
}

/// Figures of a pair of launches; `None` if a side has no batch or a batch took no time.
pub fn pair_figures(sides: [&[Sample]; 2], metric: Metric, rule: ProbeRule) -> Option<PairFigures> {
    let probes: Vec<f64> = sides.iter().flat_map(|side| side.iter()).map(|sample| sample.probe_ns as f64).collect();
    let limit = quantile(&probes, UNDISTURBED)? * rule.slow_factor;
    let undisturbed = sides
        .map(|side| side.iter().filter(|sample| sample.probe_ns as f64 <= limit).copied().collect::<Vec<Sample>>());
    let probed = undisturbed.iter().all(|side| side.len() >= rule.fewest_batches);
    let counted: [&[Sample]; 2] = if probed { [&undisturbed[0], &undisturbed[1]] } else { sides };
    let other = match metric {
        Metric::CpuTime => Metric::WallTime,
        Metric::WallTime => Metric::CpuTime,
    };
    let low = |side: &[Sample], metric| positive(quantile(&per_event(side, metric), QUANTILE)?);
    let mean = |side: &[Sample]| {
        let figures = per_event(side, metric);
        positive(figures.iter().sum::<f64>() / figures.len() as f64)
    };
    let (baseline_ns, candidate_ns) = (low(counted[0], metric)?, low(counted[1], metric)?);
    let count = |side: &[Sample]| u32::try_from(side.len()).unwrap_or(u32::MAX);
    Some(PairFigures {
        log_ratio: (candidate_ns / baseline_ns).ln(),
        other_time_log_ratio: (low(counted[1], other)? / low(counted[0], other)?).ln(),
        all_batches_log_ratio: (mean(sides[1])? / mean(sides[0])?).ln(),
        baseline_ns,
        candidate_ns,
        batches: counted.map(count),
        batches_all: sides.map(count),
        probed,
    })
}

fn per_event(side: &[Sample], metric: Metric) -> Vec<f64> {
    side.iter()
        .map(|sample| {
            let time_ns = match metric {
                Metric::CpuTime => sample.cpu_time_ns,
                Metric::WallTime => sample.wall_time_ns,
            };
            time_ns as f64 / sample.events as f64
        })
        .collect()
}

fn positive(value: f64) -> Option<f64> {
    (value > 0.0 && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Checksum;

    const RULE: ProbeRule = ProbeRule { slow_factor: 1.2, fewest_batches: 4, kept_margin_pct: 10.0 };

    fn sample(cpu_time_ns: u64, probe_ns: u64) -> Sample {
        Sample { wall_time_ns: 2 * cpu_time_ns, cpu_time_ns, events: 10, checksum: Checksum(0), probe_ns }
    }

    fn figures(baseline: &[Sample], candidate: &[Sample]) -> PairFigures {
        pair_figures([baseline, candidate], Metric::CpuTime, RULE).unwrap()
    }

    #[test]
    fn a_neighbour_that_slows_down_half_of_one_side_changes_nothing() {
        let quiet: Vec<Sample> = (0..40).map(|i| sample(1000 + i % 3, 100 + i % 5)).collect();
        let mut disturbed = quiet.clone();
        for sample in &mut disturbed[..25] {
            (sample.cpu_time_ns, sample.probe_ns) = (1900, 190);
        }
        let figures = figures(&quiet, &disturbed);
        assert!(figures.probed && figures.log_ratio.abs() < 0.002, "{figures:?}");
        assert_eq!((figures.batches, figures.batches_all), ([40, 15], [40, 40]));
        assert!(figures.all_batches_log_ratio > 0.3, "the guard sees all batches");
    }

    #[test]
    fn a_change_is_seen_at_its_size_in_both_times() {
        let baseline: Vec<Sample> = (0..40).map(|_| sample(1000, 100)).collect();
        let candidate: Vec<Sample> = (0..40).map(|_| sample(1030, 100)).collect();
        let figures = figures(&baseline, &candidate);
        for log_ratio in [figures.log_ratio, figures.other_time_log_ratio, figures.all_batches_log_ratio] {
            assert!((log_ratio - 1.03_f64.ln()).abs() < 1e-12);
        }
        assert_eq!((figures.baseline_ns, figures.candidate_ns), (100.0, 103.0));
    }

    #[test]
    fn a_cost_on_few_batches_is_seen_by_the_guard() {
        let baseline: Vec<Sample> = (0..40).map(|_| sample(1000, 100)).collect();
        for every in [5, 10, 20] {
            // Most batches are 5% faster; one in some pays for them.
            let paid = |i| if i % every == 0 { 1000 * every + 3000 } else { 950 };
            let candidate: Vec<Sample> = (0..40).map(|i| sample(paid(i), 100)).collect();
            let figures = figures(&baseline, &candidate);
            assert!(figures.log_ratio < -0.04 && figures.all_batches_log_ratio > 0.1, "{every}: {figures:?}");
        }
    }

    #[test]
    fn with_too_few_undisturbed_batches_all_count_on_both_sides() {
        let quiet: Vec<Sample> = (0..10).map(|_| sample(1000, 100)).collect();
        let noisy: Vec<Sample> = (0..10).map(|i| sample(1000, if i < 3 { 100 } else { 200 })).collect();
        let figures = figures(&quiet, &noisy);
        assert!(!figures.probed);
        assert_eq!(figures.batches, [10, 10]);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let some = [sample(1000, 100)];
        assert_eq!(pair_figures([&some, &[]], Metric::CpuTime, RULE), None);
        assert_eq!(pair_figures([&some, &[sample(0, 100)]], Metric::CpuTime, RULE), None);
    }
}
