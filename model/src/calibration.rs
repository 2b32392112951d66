//! What is known of the harness's errors on one host: the result of `calibrate`.

use crate::host::HostFingerprint;
use crate::stats::binomial::{clopper_pearson_lower, clopper_pearson_upper};
use crate::stats::detection::{Detections, SmallestFound, noise_floor, smallest_found};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema of this version.
pub const CALIBRATE_SCHEMA: &str = "calibrate/1";

/// Confidence of the upper bound of the share of false positives.
const CONFIDENCE: f64 = 0.95;
/// Confidence with which a form is said to err more often than it should: six of them are looked at, in every
/// soak on every host.
const SURE: f64 = 0.999;
/// Detection rate that counts as "found".
const POWER: f64 = 0.8;

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
    /// The injected slowdown; zero for comparisons of equal things.
    pub injected_pct: f64,
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
    /// Time that it took.
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

/// Comparisons of equal things in one form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FormResult {
    /// Which.
    pub form: Form,
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

/// How often an injected slowdown was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectionResult {
    /// How the sides were made equal before the slowdown.
    pub form: Form,
    /// Name of the workload.
    pub workload: String,
    /// Size of the slowdown.
    pub injected_pct: f64,
    /// Found as slower.
    pub detected: u32,
    /// Comparisons; those without an answer count as not found.
    pub runs: u32,
    /// Time that a comparison had.
    pub budget_s: f64,
    /// Time that it took, median.
    pub seconds_median: Option<f64>,
    /// Intervals that held the injected size.
    pub covered: u32,
    /// Median of the estimates.
    pub estimate_pct_median: Option<f64>,
}

/// What can be seen on a workload here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadResult {
    /// Name of the workload.
    pub workload: String,
    /// The 95th percentile of the size of estimates between equal things, with the default budget; null
    /// if none was made with it.
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

/// The part of a calibration that goes with a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Host id of the calibration.
    pub host: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Comparisons of equal things, over all forms.
    pub comparisons: u32,
    /// Of these, a change was found.
    pub false_positives: u32,
    /// The true share is below this with 95% confidence.
    pub upper_bound_pct: Option<f64>,
    /// Time that each workload of these comparisons had.
    pub budgets_s: Vec<f64>,
    /// Noise floors of the workloads that were compared; none of another host.
    pub noise_floor_pct: BTreeMap<String, f64>,
    /// How this host, harness or compiler differs from the calibrated one; empty if it does not.
    pub differs: Vec<String>,
}

/// Comparisons of equal things, form by form.
pub fn forms(trials: &[Trial]) -> Vec<FormResult> {
    Form::ALL
        .into_iter()
        .map(|form| {
            let of_form: Vec<&Trial> = trials.iter().filter(|t| t.form == form && t.injected_pct == 0.0).collect();
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
                |trial: &Trial| trial.interval_pct.is_some_and(|[low, high]| (low..=high).contains(&injected_pct));
            let seconds: Vec<f64> = group.iter().map(|trial| trial.seconds).collect();
            let estimates: Vec<f64> = group.iter().filter_map(|trial| trial.estimate_pct).collect();
            DetectionResult {
                form: group[0].form,
                workload: group[0].workload.clone(),
                injected_pct,
                detected: count(&|trial| trial.verdict.as_deref() == Some("slower")),
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

/// What can be seen on each workload, in the order of their names.
pub fn workloads(trials: &[Trial]) -> Vec<WorkloadResult> {
    let detections = detection(trials);
    let names: std::collections::BTreeSet<&str> = trials.iter().map(|trial| trial.workload.as_str()).collect();
    names.into_iter().map(|name| workload(name, trials, &detections)).collect()
}

fn workload(name: &str, trials: &[Trial], detections: &[DetectionResult]) -> WorkloadResult {
    let equal: Vec<&Trial> = trials.iter().filter(|t| t.workload == name && t.injected_pct == 0.0).collect();
    // The floor belongs to one length: that of most comparisons.
    let mut lengths: BTreeMap<u64, u32> = BTreeMap::new();
    equal.iter().for_each(|trial| *lengths.entry(thousandths(trial.budget_s)).or_default() += 1);
    let length = lengths.iter().max_by_key(|(_, count)| **count).map(|(length, _)| *length);
    let of_length = equal.iter().filter(|trial| Some(thousandths(trial.budget_s)) == length);
    let estimates: Vec<f64> = of_length.filter_map(|trial| trial.estimate_pct).collect();
    let of_name = || detections.iter().filter(|d| d.workload == name && d.form == Form::Relink);
    // Likewise for the size that is found: the time with the most sizes, the shortest of these.
    let budgets: std::collections::BTreeSet<u64> = of_name().map(|d| thousandths(d.budget_s)).collect();
    let sizes = |budget: u64| of_name().filter(|d| thousandths(d.budget_s) == budget).count();
    let budget = budgets.iter().copied().max_by_key(|budget| (sizes(*budget), std::cmp::Reverse(*budget)));
    let points: Vec<Detections> = of_name()
        .filter(|d| Some(thousandths(d.budget_s)) == budget)
        .map(|d| Detections { injected_pct: d.injected_pct, detected: d.detected, runs: d.runs })
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
        noise_floor_pct: noise_floor(&estimates),
        noise_floor_budget_s: length.map(|thousandths| thousandths as f64 / 1000.0),
        smallest_detectable_pct: smallest,
        smallest_detectable_kind: kind.map(str::to_owned),
        smallest_detectable_budget_s: budget.map(|thousandths| thousandths as f64 / 1000.0),
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

/// Correlation of neighbours within the groups, about the groups' means. A few wild blocks must not
/// decide, so values count by their sign about the median: -1, 0 or 1.
fn autocorrelation(groups: &[&[f64]]) -> Option<f64> {
    let (mut products, mut pairs) = (0.0, 0_usize);
    for group in groups.iter().filter(|group| group.len() > 2) {
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        products += group.windows(2).map(|two| sign(two[0]) * sign(two[1])).sum::<f64>();
        pairs += group.len() - 1;
    }
    (pairs > 0).then(|| products / pairs as f64)
}

impl Calibration {
    /// What goes with a verdict on these workloads, on this host, with this compiler and method.
    pub fn standing(&self, host: &HostFingerprint, compiler: &str, method_sha256: &str, names: &[&str]) -> Standing {
        let comparisons = self.forms.iter().map(|form| form.comparisons).sum();
        let false_positives = self.forms.iter().map(|form| form.false_positives).sum();
        let floor = |name: &&str| {
            let found = self.workloads.iter().find(|result| result.workload == **name)?;
            Some(((**name).to_owned(), found.noise_floor_pct?))
        };
        let mut differs = Vec::new();
        let is_here = self.host.id == host.id;
        if !is_here {
            differs.extend(host_differences(&self.host, host));
        }
        if self.compiler != compiler {
            differs.push(format!("it was made with {}, this comparison with {compiler}", self.compiler));
        }
        if self.method_sha256 != method_sha256 {
            differs.push("the harness has changed since".to_owned());
        }
        let known = |name: &&&str| self.workloads.iter().any(|result| result.workload == ***name);
        let unknown = names.iter().filter(|name| !known(name)).count();
        if unknown > 0 {
            differs.push(format!("{unknown} of the {} workloads compared here are not in it", names.len()));
        }
        let mut budgets_s: Vec<f64> = self.workloads.iter().filter_map(|result| result.noise_floor_budget_s).collect();
        budgets_s.sort_by(f64::total_cmp);
        budgets_s.dedup();
        Standing {
            host: self.host.id.clone(),
            finished_at: self.finished_at.clone(),
            comparisons,
            false_positives,
            upper_bound_pct: upper_bound_pct(false_positives, comparisons),
            budgets_s,
            noise_floor_pct: names.iter().filter(|_| is_here).filter_map(floor).collect(),
            differs,
        }
    }
}

/// In words, what makes two hosts different ones.
pub fn host_differences(calibrated: &HostFingerprint, here: &HostFingerprint) -> Vec<String> {
    let parts = [
        ("CPU", &calibrated.cpu_model, &here.cpu_model),
        ("microcode", &calibrated.cpu_microcode, &here.cpu_microcode),
        ("kernel", &calibrated.kernel_release, &here.kernel_release),
        ("compiler", &calibrated.compiler, &here.compiler),
        ("linker", &calibrated.linker, &here.linker),
        ("C library", &calibrated.libc, &here.libc),
        ("rustc", &calibrated.rustc, &here.rustc),
        ("governor", &calibrated.governor, &here.governor),
        ("hypervisor", &calibrated.hypervisor, &here.hypervisor),
    ];
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let mut differences: Vec<String> = parts
        .into_iter()
        .filter(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("{what}: {} then, {} now", shown(then), shown(now)))
        .collect();
    if calibrated.cores_allowed != here.cores_allowed {
        let cores = |host: &HostFingerprint| host.cores_allowed.map_or("?".to_owned(), |n| n.to_string());
        differences.push(format!("CPUs: {} then, {} now", cores(calibrated), cores(here)));
    }
    if differences.is_empty() {
        differences.push(format!("another host ({} then, {} now)", calibrated.id, here.id));
    }
    differences
}

#[cfg(test)]
mod tests;
