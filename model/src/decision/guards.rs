//! Is nothing slower? Guarded workloads exclude a loss beyond their margins, by time or, where they are too noisy, by counts.

use super::{DecisionRule, Evidence, Findings, Topic, Verdict, pct, range};
use crate::compare::{CompareRecord, Compared, CountedPair, GuardResult};
use crate::thresholds::Thresholds;
use crate::verdict::Answer;

/// The guard of [`crate::verdict::settle::guard_results`] that counts say nothing of.
pub(super) const PEAK_MEMORY: &str = "peak memory";

/// How a guard stands.
enum Standing {
    Holds,
    /// Too noisy for its margin, and counts show no growth.
    ByCounts,
    Undecided(String),
    Lost,
}

pub(super) fn judge(evidence: &Evidence<'_>, thresholds: &Thresholds, rule: &DecisionRule, findings: &mut Findings) {
    let Some(record) = evidence.compare else { return };
    let mut held = 0;
    for compared in record.workloads.iter().filter(|compared| compared.error.is_none()) {
        // A workload that is not guarded may be undecided; a loss that was found counts wherever it is.
        let guarded = thresholds.guarded.contains(&compared.workload);
        let mut by_counts = Vec::new();
        let mut sound = true;
        for (what, interval, estimate, margin) in guarded_figures(record, compared, rule) {
            match stands(what, interval, estimate, margin, compared.counts.as_ref(), rule) {
                Standing::Holds => {}
                Standing::ByCounts => by_counts.push(what),
                Standing::Lost => {
                    sound = false;
                    let text = format!(
                        "{}: {what} grew by {} {}, beyond its margin of {margin:.2}%",
                        compared.workload,
                        estimate.map_or("an unknown amount".to_owned(), pct),
                        interval.map_or(String::new(), range)
                    );
                    findings.add(Topic::Guard, Verdict::Reject, text);
                }
                Standing::Undecided(why) if guarded => {
                    sound = false;
                    let text =
                        format!("{}: {what} does not exclude a loss beyond {margin:.2}%: {why}", compared.workload);
                    // What disturbed the host is not the patch's fault; a budget that is too small is nobody's.
                    let (allows, text) = match &compared.ended_early {
                        Some(cause) => (Verdict::InfraError, format!("{text}; its blocks were cut short: {cause}")),
                        None => (Verdict::Inconclusive, text),
                    };
                    findings.add(Topic::Guard, allows, text);
                }
                Standing::Undecided(_) => {}
            }
        }
        if guarded && sound {
            held += 1;
            if !by_counts.is_empty() {
                let text = format!(
                    "{}: {} too noisy for the margin; guarded by system calls and instructions, which did not grow",
                    compared.workload,
                    by_counts.join(", ")
                );
                findings.add(Topic::Guard, Verdict::Accept, text);
                findings.guarded_by_counts.push(compared.workload.clone());
            }
        }
    }
    let (all, text) = (thresholds.guarded.len(), "guarded workloads exclude a loss beyond their margins");
    findings.add(Topic::Guard, Verdict::Accept, format!("{held} of {all} {text}"));
    slower(record, findings);
}

/// Guarded workloads of which it is not known whether they hold, while none is lost: what more time could tell. Blocks that the host
/// cut short would be cut short again.
pub(super) fn undecided(record: &CompareRecord, thresholds: &Thresholds, rule: &DecisionRule) -> Vec<String> {
    let mut undecided = Vec::new();
    for compared in record.workloads.iter().filter(|compared| compared.error.is_none()) {
        for (what, interval, estimate, margin) in guarded_figures(record, compared, rule) {
            match stands(what, interval, estimate, margin, compared.counts.as_ref(), rule) {
                Standing::Lost => return vec![],
                Standing::Undecided(_) => undecided.push(compared),
                Standing::Holds | Standing::ByCounts => {}
            }
        }
    }
    undecided.dedup_by_key(|compared| &compared.workload);
    let is_asked =
        |compared: &&&Compared| thresholds.guarded.contains(&compared.workload) && compared.ended_early.is_none();
    undecided.iter().filter(is_asked).map(|compared| compared.workload.clone()).collect()
}

/// A certain loss rejects where nothing gained: a patch that only costs has nothing for it. Beside a gain, a loss within the
/// margin is its price.
fn slower(record: &CompareRecord, findings: &mut Findings) {
    if !findings.gains.is_empty() {
        return;
    }
    for compared in record.workloads.iter().filter(|compared| compared.error.is_none()) {
        let confirmed = compared.confirmation.is_some_and(|report| report.answer == Answer::Slower);
        if compared.verdict.as_deref() != Some("slower") || !confirmed {
            continue;
        }
        let change = compared.relative_change_pct.map_or("an unknown amount".to_owned(), pct);
        let interval = compared.interval_pct.map_or(String::new(), range);
        let text = format!("{} is slower by {change} {interval}, confirmed, and nothing is faster", compared.workload);
        findings.add(Topic::Guard, Verdict::Reject, text);
    }
}

type Figure<'a> = (&'a str, Option<[f64; 2]>, Option<f64>, f64);

/// What must not grow: the metric, and what is beside it.
fn guarded_figures<'a>(record: &CompareRecord, compared: &'a Compared, rule: &DecisionRule) -> Vec<Figure<'a>> {
    let floor = record.calibration.as_ref().and_then(|standing| standing.guard_floor_pct.get(&compared.workload));
    let margin = rule.guard_margin_pct.max(floor.copied().unwrap_or(0.0));
    let metric: Figure<'_> = ("its time", compared.interval_pct, compared.relative_change_pct, margin);
    let of = |guard: &'a GuardResult| {
        (guard.guard.as_str(), guard.interval_pct, guard.relative_change_pct, guard.margin_pct)
    };
    std::iter::once(metric).chain(compared.guards.iter().map(of)).collect()
}

/// How one figure stands. Whether a workload is too noisy for its margin is not told by the width of its interval: then a
/// wide one, which is worse, would be let off what a narrow one is not.
fn stands(
    what: &str,
    interval: Option<[f64; 2]>,
    estimate: Option<f64>,
    margin: f64,
    counts: Option<&CountedPair>,
    rule: &DecisionRule,
) -> Standing {
    let Some([low, high]) = interval.filter(|[low, high]| !low.is_nan() && !high.is_nan()) else {
        return Standing::Undecided("there is no interval".to_owned());
    };
    if high <= margin {
        return Standing::Holds;
    }
    if low > margin {
        return Standing::Lost;
    }
    let shown = range([low, high]);
    if what == PEAK_MEMORY {
        return Standing::Undecided(format!("{shown}, and counts say nothing of memory"));
    }
    if low > 0.0 || estimate.is_none_or(|estimate| estimate > margin) {
        return Standing::Undecided(format!("{shown} is more than noise"));
    }
    if high > margin * rule.noisy_margins {
        return Standing::Undecided(format!("{shown} is too wide to be guarded at all; give a larger budget"));
    }
    match grown(counts, rule) {
        Ok(()) => Standing::ByCounts,
        Err(why) => Standing::Undecided(format!("{shown}, and {why}")),
    }
}

/// Whether system calls and instructions per event are known and did not grow.
fn grown(counts: Option<&CountedPair>, rule: &DecisionRule) -> Result<(), String> {
    let counts = counts.ok_or("nothing was counted in its place")?;
    let check = |what: &str, pair: Option<[f64; 2]>, margin_pct: f64| {
        let [baseline, candidate] = pair.ok_or_else(|| format!("{what} were not counted in its place"))?;
        let sound = baseline.is_finite() && candidate.is_finite() && candidate <= baseline * (1.0 + margin_pct / 100.0);
        if sound { Ok(()) } else { Err(format!("{what} per event went from {baseline:.2} to {candidate:.2}")) }
    };
    check("system calls", counts.syscalls_per_event, rule.syscalls_margin_pct)?;
    check("instructions", counts.instructions_per_event, rule.instructions_margin_pct)
}
