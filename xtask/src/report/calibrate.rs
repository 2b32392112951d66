//! What people read of a calibration: how often this harness errs on this host, and what it can see.

use super::format::{UNKNOWN, bound, percent2, size};
use super::table::{Style, draw};
use model::calibration::{Calibration, DetectionResult, FormResult, WorkloadResult, upper_bound_pct};
use model::stats::binomial::clopper_pearson;
use std::collections::BTreeSet;

/// Confidence of the intervals of shares.
const CONFIDENCE: f64 = 0.95;

/// Everything about a calibration.
pub(crate) fn full(calibration: &Calibration, style: Style) -> String {
    let mut text = String::new();
    if calibration.partial {
        text.push_str("PARTIAL: fewer comparisons were done than asked for.\n\n");
    }
    let sections = [
        ("Comparisons of equal things: a change that is found is a false positive", forms(calibration, style)),
        ("The same by workload: false positives of comparisons", by_workload(calibration, style)),
        (
            "Slowdowns injected into the candidate, and how often first answers found them in time, before any confirmation",
            detection(calibration, style),
        ),
        ("What can be seen of each workload here", workloads(calibration, style)),
    ];
    for (title, table) in sections {
        let table = table.unwrap_or_else(|| "none\n".to_owned());
        text.push_str(&format!("{title}:\n\n{table}\n"));
    }
    text.push_str(&provenance(calibration));
    text
}

fn forms(calibration: &Calibration, style: Style) -> Option<String> {
    if calibration.forms.is_empty() {
        return None;
    }
    let header =
        ["form", "within", "comparisons", "false positives", "share", "true share below (95%)", "without answer"];
    let row = |name: &str, budget_s, comparisons: u32, found: u32, bound_pct: Option<f64>, without: u32| {
        let share = (comparisons > 0).then(|| 100.0 * f64::from(found) / f64::from(comparisons));
        // Not run is not passed: without answers there is no number of false positives either.
        let found = if comparisons > 0 { found.to_string() } else { UNKNOWN.to_owned() };
        vec![
            name.to_owned(),
            seconds(budget_s),
            comparisons.to_string(),
            found,
            known(share),
            bound_pct.map_or(UNKNOWN.to_owned(), bound),
            without.to_string(),
        ]
    };
    let of = |form: &FormResult| {
        let FormResult { budget_s, comparisons, false_positives, upper_bound_pct, without_answer, .. } = *form;
        row(form.form.name(), budget_s, comparisons, false_positives, upper_bound_pct, without_answer)
    };
    // What is of different lengths has no sum.
    let all = |budget_s: Option<f64>| {
        let rows = || calibration.forms.iter().filter(move |form| is_same(form.budget_s, budget_s));
        let sum = |of: fn(&FormResult) -> u32| -> u32 { rows().map(of).sum() };
        let (comparisons, found) = (sum(|form| form.comparisons), sum(|form| form.false_positives));
        let bound_pct = upper_bound_pct(found, comparisons);
        row("all", budget_s, comparisons, found, bound_pct, sum(|form| form.without_answer))
    };
    let sums = lengths(calibration).into_iter().map(all);
    Some(draw(&header, calibration.forms.iter().map(of).chain(sums).collect(), style))
}

/// Lengths of what was compared, each once; one unknown one where nothing was, or where they were not told apart.
fn lengths(calibration: &Calibration) -> Vec<Option<f64>> {
    let mut all: Vec<Option<f64>> = Vec::new();
    for form in calibration.forms.iter().filter(|form| form.budget_s.is_some()) {
        if !all.iter().any(|length| is_same(*length, form.budget_s)) {
            all.push(form.budget_s);
        }
    }
    if all.is_empty() { vec![None] } else { all }
}

fn is_same(a: Option<f64>, b: Option<f64>) -> bool {
    a.map(f64::to_bits) == b.map(f64::to_bits)
}

fn by_workload(calibration: &Calibration, style: Style) -> Option<String> {
    let names: BTreeSet<&String> = calibration.forms.iter().flat_map(|form| form.by_workload.keys()).collect();
    if names.is_empty() {
        return None;
    }
    let several = lengths(calibration).len() > 1;
    let title = |form: &FormResult| match form.budget_s.filter(|_| several) {
        Some(_) => format!("{} ({})", form.form.name(), seconds(form.budget_s)),
        None => form.form.name().to_owned(),
    };
    let titles: Vec<String> = calibration.forms.iter().map(title).collect();
    let header: Vec<&str> = ["workload"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    let of = |form: &FormResult, name: &String| match form.by_workload.get(name) {
        Some([comparisons, found]) => format!("{found} of {comparisons}"),
        None => UNKNOWN.to_owned(),
    };
    let row =
        |name: &String| [name.clone()].into_iter().chain(calibration.forms.iter().map(|form| of(form, name))).collect();
    Some(draw(&header, names.into_iter().map(row).collect(), style))
}

fn detection(calibration: &Calibration, style: Style) -> Option<String> {
    if calibration.detection.is_empty() {
        return None;
    }
    let header = [
        "workload",
        "form",
        "injected",
        "as it was",
        "within",
        "found",
        "share [95% interval]",
        "too late",
        "median time",
        "median estimate",
        "intervals with the true size",
    ];
    let row = |result: &DetectionResult| {
        vec![
            result.workload.clone(),
            result.form.name().to_owned(),
            percent2(result.injected_pct),
            as_it_was(result),
            seconds(Some(result.budget_s)),
            format!("{} of {}", result.detected, result.runs),
            share(result.detected, result.runs),
            result.late.to_string(),
            seconds(result.seconds_median),
            result.estimate_pct_median.map_or(UNKNOWN.to_owned(), percent2),
            format!("{} of {}", result.covered, result.runs),
        ]
    };
    Some(draw(&header, calibration.detection.iter().map(row).collect(), style))
}

/// Median and range of a slowdown's sizes.
fn as_it_was(result: &DetectionResult) -> String {
    match (result.actual_pct_median, result.actual_pct_range) {
        (Some(median), Some([low, high])) => format!("{} ({low:.2} to {high:.2}%)", percent2(median)),
        _ => UNKNOWN.to_owned(),
    }
}

fn workloads(calibration: &Calibration, style: Style) -> Option<String> {
    if calibration.workloads.is_empty() {
        return None;
    }
    let header = [
        "workload",
        "noise floor",
        "within",
        "smallest found in 80%",
        "within",
        "spread of blocks",
        "correlation of neighbours",
    ];
    let row = |result: &WorkloadResult| {
        // A budget without a figure would look like one.
        let floor_budget = result.noise_floor_pct.and(result.noise_floor_budget_s);
        let smallest_budget = result.smallest_detectable_pct.and(result.smallest_detectable_budget_s);
        vec![
            result.workload.clone(),
            known(result.noise_floor_pct),
            seconds(floor_budget),
            smallest(result),
            seconds(smallest_budget),
            known(result.block_spread_pct),
            result.block_autocorrelation.map_or(UNKNOWN.to_owned(), |value| format!("{value:+.2}")),
        ]
    };
    Some(draw(&header, calibration.workloads.iter().map(row).collect(), style))
}

fn smallest(result: &WorkloadResult) -> String {
    let kind = result.smallest_detectable_kind.as_deref().map_or(String::new(), |kind| format!("{kind} "));
    result.smallest_detectable_pct.map_or(UNKNOWN.to_owned(), |pct| format!("{kind}{}", size(pct)))
}

/// Where and with what, how long, and what the columns mean.
fn provenance(calibration: &Calibration) -> String {
    let Calibration { host, compiler, build, seed, hours, .. } = calibration;
    let commit = calibration.commit.as_deref().unwrap_or("unknown");
    let method = calibration.method_sha256.get(..12).unwrap_or(&calibration.method_sha256);
    [
        format!("host {}: {}", host.id, host.summary()),
        format!("build {build} with {compiler}; harness {method}, commit {commit}; seed {seed}"),
        format!("{hours:.2} hours of comparisons, from {} to {}", calibration.started_at, calibration.finished_at),
        "within: the time that each workload of a comparison had; bounds and intervals of shares: Clopper and Pearson; \
         found: called slower by the first answer, within that time, before any confirmation, which may take a part of \
         them back; a comparison without an answer counts as not found; as it was: median of the slowdown's size in each \
         comparison, against its own baseline, and the range; intervals with the true size: with the size as it was; \
         noise floor: 95th percentile of the size of estimates between equal things; spread: standard deviation of \
         blocks' log ratios within a comparison; correlation: of neighbouring blocks' signs, near zero if blocks are \
         independent and symmetric about zero (docs/METHODOLOGY.md)."
            .to_owned(),
    ]
    .join("\n")
        + "\n"
}

fn share(hits: u32, trials: u32) -> String {
    // Fails only without trials.
    let Ok(interval) = clopper_pearson(hits, trials, CONFIDENCE) else { return UNKNOWN.to_owned() };
    let share = 100.0 * f64::from(hits) / f64::from(trials);
    format!("{share:.0}% [{:.0}%, {:.0}%]", 100.0 * interval.low, 100.0 * interval.high)
}

fn known(pct: Option<f64>) -> String {
    pct.map_or(UNKNOWN.to_owned(), size)
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or(UNKNOWN.to_owned(), |s| format!("{s:.1} s"))
}

#[cfg(test)]
mod tests;
