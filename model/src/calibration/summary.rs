//! From trials to the figures of a calibration: pure.

use super::{DetectionResult, Form, FormResult, NoiseFloor, Trial, WorkloadResult};
use crate::compare::BlockRecord;
use crate::stats::binomial::{clopper_pearson_lower, clopper_pearson_upper};
use crate::stats::detection::{Detections, SmallestFound, noise_floor, smallest_found};
use crate::stats::log_ratio_to_pct;
use crate::stats::trimmed::trimmed_mean;
use std::collections::{BTreeMap, BTreeSet};

/// Confidence of the upper bound of the share of false positives.
const CONFIDENCE: f64 = 0.95;
/// Confidence with which a form is said to err more often than it should: six of them are looked at, in every
/// soak on every host.
const SURE: f64 = 0.999;
/// Detection rate that counts as "found".
const POWER: f64 = 0.8;

/// The size of an injected slowdown as it was in a comparison, in per cent: over each pair of launches, what the
/// multiplications took in the candidate's process against a batch of the baseline's, whose events are given; means
/// and trimmed mean over blocks as those of the estimate that it is compared with. `None` if nothing was injected.
pub fn injected_pct(blocks: &[BlockRecord], batch_events: u64) -> Option<f64> {
    let of_block = |block: &BlockRecord| {
        block.mean(|pair| {
            let batch_ns = pair.figures.baseline_ns * batch_events as f64;
            Some((pair.injected_ns? / batch_ns).ln_1p()).filter(|log_ratio| log_ratio.is_finite())
        })
    };
    let log_ratios: Vec<f64> = blocks.iter().map(of_block).collect::<Option<_>>()?;
    Some(log_ratio_to_pct(trimmed_mean(&log_ratios)?))
}

/// Comparisons of equal things, form by form and length by length: longer ones err in other ways than shorter ones,
/// and their sum would be of neither. A form that was not run has one entry, without a length.
pub fn forms(trials: &[Trial]) -> Vec<FormResult> {
    let equal = |form: Form| trials.iter().filter(move |trial| trial.form == form && trial.injected_pct == 0.0);
    let lengths = |form: Form| equal(form).map(|trial| thousandths(trial.budget_s)).collect::<BTreeSet<u64>>();
    let rows = Form::ALL.into_iter().flat_map(|form| match lengths(form) {
        none if none.is_empty() => vec![(form, None)],
        some => some.into_iter().map(|length| (form, Some(length))).collect(),
    });
    rows.map(|(form, length)| {
        let of_form: Vec<&Trial> = equal(form).filter(|trial| Some(thousandths(trial.budget_s)) == length).collect();
        let mut by_workload: BTreeMap<String, [u32; 2]> = BTreeMap::new();
        for trial in of_form.iter().filter(|trial| trial.verdict.is_some()) {
            let entry = by_workload.entry(trial.workload.clone()).or_default();
            entry[0] += 1;
            entry[1] += u32::from(trial.found_change());
        }
        let comparisons = by_workload.values().map(|entry| entry[0]).sum();
        let false_positives = by_workload.values().map(|entry| entry[1]).sum();
        FormResult {
            form,
            budget_s: length.map(seconds),
            comparisons,
            false_positives,
            upper_bound_pct: upper_bound_pct(false_positives, comparisons),
            without_answer: u32::try_from(of_form.len()).unwrap_or(u32::MAX) - comparisons,
            by_workload,
        }
    })
    .collect()
}

impl FormResult {
    /// There are more false positives than a share of `alpha` can explain.
    pub fn errs_more_than(&self, alpha: f64) -> bool {
        clopper_pearson_lower(self.false_positives, self.comparisons, SURE).is_ok_and(|share| share > alpha)
    }
}

/// The true share of false positives is below this, in per cent, with 95% confidence.
pub fn upper_bound_pct(false_positives: u32, comparisons: u32) -> Option<f64> {
    clopper_pearson_upper(false_positives, comparisons, CONFIDENCE).ok().map(|share| 100.0 * share)
}

/// Detection rates, by workload, budget and size.
pub fn detection(trials: &[Trial]) -> Vec<DetectionResult> {
    let mut groups: BTreeMap<(Form, &str, u64, u64), Vec<&Trial>> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.injected_pct != 0.0) {
        let key = (trial.form, trial.workload.as_str(), thousandths(trial.budget_s), thousandths(trial.injected_pct));
        groups.entry(key).or_default().push(trial);
    }
    groups
        .into_values()
        .map(|group| {
            let injected_pct = group[0].injected_pct;
            let count = |holds: &dyn Fn(&Trial) -> bool| {
                u32::try_from(group.iter().filter(|trial| holds(trial)).count()).unwrap_or(u32::MAX)
            };
            let covers =
                |trial: &Trial| trial.interval_pct.is_some_and(|[low, high]| (low..=high).contains(&trial.size_pct()));
            let slower = |trial: &Trial| trial.verdict.as_deref() == Some("slower");
            let actual: Vec<f64> = group.iter().filter_map(|trial| trial.actual_pct).collect();
            let range = [actual.iter().copied().reduce(f64::min), actual.iter().copied().reduce(f64::max)];
            let seconds: Vec<f64> = group.iter().map(|trial| trial.seconds).collect();
            let estimates: Vec<f64> = group.iter().filter_map(|trial| trial.estimate_pct).collect();
            DetectionResult {
                form: group[0].form,
                workload: group[0].workload.clone(),
                injected_pct,
                actual_pct_median: crate::stats::median(&actual),
                actual_pct_range: range[0].zip(range[1]).map(|(low, high)| [low, high]),
                detected: count(&|trial| slower(trial) && trial.is_in_time()),
                late: count(&|trial| slower(trial) && !trial.is_in_time()),
                runs: count(&|_| true),
                budget_s: group[0].budget_s,
                seconds_median: crate::stats::median(&seconds),
                covered: count(&covers),
                estimate_pct_median: crate::stats::median(&estimates),
            }
        })
        .collect()
}

fn thousandths(value: f64) -> u64 {
    (value * 1000.0).round() as u64
}

fn seconds(thousandths: u64) -> f64 {
    thousandths as f64 / 1000.0
}

/// What can be seen on each workload, in the order of their names.
pub fn workloads(trials: &[Trial]) -> Vec<WorkloadResult> {
    let detections = detection(trials);
    let names: BTreeSet<&str> = trials.iter().map(|trial| trial.workload.as_str()).collect();
    names.into_iter().map(|name| workload(name, trials, &detections)).collect()
}

fn workload(name: &str, trials: &[Trial], detections: &[DetectionResult]) -> WorkloadResult {
    let equal: Vec<&Trial> = trials.iter().filter(|t| t.workload == name && t.injected_pct == 0.0).collect();
    // The floor belongs to one length: that of most comparisons.
    let mut lengths: BTreeMap<u64, u32> = BTreeMap::new();
    equal.iter().for_each(|trial| *lengths.entry(thousandths(trial.budget_s)).or_default() += 1);
    let length = lengths.iter().max_by_key(|(_, count)| **count).map(|(length, _)| *length);
    let floor = |length: u64| {
        let of_length = equal.iter().filter(|trial| thousandths(trial.budget_s) == length);
        let estimates: Vec<f64> = of_length.filter_map(|trial| trial.estimate_pct).collect();
        let count = u32::try_from(estimates.len()).unwrap_or(u32::MAX);
        NoiseFloor { budget_s: seconds(length), estimates: count, pct: noise_floor(&estimates) }
    };
    let of_name = || detections.iter().filter(|d| d.workload == name && d.form == Form::Relink);
    // Likewise for the size that is found: the time with the most sizes, the shortest of these.
    let budgets: BTreeSet<u64> = of_name().map(|d| thousandths(d.budget_s)).collect();
    let sizes = |budget: u64| of_name().filter(|d| thousandths(d.budget_s) == budget).count();
    let budget = budgets.iter().copied().max_by_key(|budget| (sizes(*budget), std::cmp::Reverse(*budget)));
    let points: Vec<Detections> = of_name()
        .filter(|d| Some(thousandths(d.budget_s)) == budget)
        .map(|d| Detections {
            injected_pct: d.actual_pct_median.unwrap_or(d.injected_pct),
            detected: d.detected,
            runs: d.runs,
        })
        .collect();
    let (smallest, kind) = match smallest_found(&points, POWER) {
        Some(SmallestFound::About { injected_pct }) => (Some(injected_pct), Some("about")),
        Some(SmallestFound::AtMost { injected_pct }) => (Some(injected_pct), Some("at most")),
        Some(SmallestFound::MoreThan { injected_pct }) => (Some(injected_pct), Some("more than")),
        None => (None, None),
    };
    let blocks: Vec<&[f64]> = equal.iter().map(|trial| trial.log_ratios.as_slice()).collect();
    WorkloadResult {
        workload: name.to_owned(),
        noise_floors: lengths.keys().copied().map(floor).collect(),
        noise_floor_pct: length.and_then(|length| floor(length).pct),
        noise_floor_budget_s: length.map(seconds),
        smallest_detectable_pct: smallest,
        smallest_detectable_kind: kind.map(str::to_owned),
        smallest_detectable_budget_s: budget.map(seconds),
        block_spread_pct: pooled_spread(&blocks).map(|spread| 100.0 * spread),
        block_autocorrelation: autocorrelation(&blocks),
    }
}

/// Standard deviation within the groups.
fn pooled_spread(groups: &[&[f64]]) -> Option<f64> {
    let (mut squares, mut degrees) = (0.0, 0_usize);
    for group in groups.iter().filter(|group| group.len() > 1) {
        let mean = group.iter().sum::<f64>() / group.len() as f64;
        squares += group.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
        degrees += group.len() - 1;
    }
    (degrees > 0).then(|| (squares / degrees as f64).sqrt())
}

/// Correlation of neighbours within the groups, by their signs alone (-1, 0 or 1), so that a few wild blocks do not
/// decide. Signs are about zero, where blocks of equal things are symmetric: an offset that the blocks of a
/// comparison share counts as correlation, too, because the test knows neither.
fn autocorrelation(groups: &[&[f64]]) -> Option<f64> {
    let (mut products, mut pairs) = (0.0, 0_usize);
    for group in groups.iter().filter(|group| group.len() > 2) {
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        products += group.windows(2).map(|two| sign(two[0]) * sign(two[1])).sum::<f64>();
        pairs += group.len() - 1;
    }
    (pairs > 0).then(|| products / pairs as f64)
}
