//! Is it faster, and is nothing slower?

use super::{DecisionRule, Evidence, Findings, GainFound, Topic, Verdict, pct, range};
use crate::compare::{CompareRecord, Compared, CountedPair, GuardResult};
use crate::ledger::event::About;
use crate::thresholds::Thresholds;
use crate::verdict::Answer;

/// The guard of [`crate::verdict::settle::guard_results`] that counts say nothing of.
pub(super) const PEAK_MEMORY: &str = "peak memory";

pub(super) fn judge(evidence: &Evidence<'_>, thresholds: &Thresholds, rule: &DecisionRule, findings: &mut Findings) {
    let Some(record) = evidence.compare else {
        return findings.add(Topic::Comparison, Verdict::Inconclusive, "baseline and candidate were not compared");
    };
    whole(record, evidence, thresholds, findings);
    calibration(record, findings);
    for compared in &record.workloads {
        if let Some(error) = &compared.error {
            let (allows, whose) = blame(error);
            findings.add(Topic::Comparison, allows, format!("{}: {whose}: {error}", compared.workload));
        }
    }
    gains(record, rule, findings);
    guards(record, thresholds, rule, findings);
    suspicion(record, evidence, rule, findings);
}

/// The record is of these sides, and whole.
fn whole(record: &CompareRecord, evidence: &Evidence<'_>, thresholds: &Thresholds, findings: &mut Findings) {
    let mut missing = |text: String| findings.add(Topic::Comparison, Verdict::Inconclusive, text);
    if [record.baseline.as_str(), record.candidate.as_str()] != [evidence.baseline, evidence.candidate] {
        missing(format!(
            "the comparison is of {} and {}, not of {} and {}",
            record.baseline, record.candidate, evidence.baseline, evidence.candidate
        ));
    }
    if record.identical {
        missing("both sides of the comparison are the same code built in the same way".to_owned());
    }
    if record.head.partial {
        missing(format!("the comparison was cut short (run {})", record.head.id));
    }
    if record.settings.thresholds.alpha > thresholds.alpha {
        missing(format!(
            "the comparison allowed an error of {}, and the thresholds allow {}",
            record.settings.thresholds.alpha, thresholds.alpha
        ));
    }
    let compared = |name: &String| record.workloads.iter().any(|compared| compared.workload == *name);
    let absent: Vec<&str> = thresholds.guarded.iter().filter(|name| !compared(name)).map(String::as_str).collect();
    if !absent.is_empty() {
        missing(format!("guarded workloads were not compared: {}", absent.join(", ")));
    }
}

/// What is known of this host's errors is said; that nothing is, too.
fn calibration(record: &CompareRecord, findings: &mut Findings) {
    let text = match &record.calibration {
        None => "no calibration: how often verdicts on this host are wrong is not known, and no noise floor".to_owned(),
        Some(standing) => {
            let differs = match standing.differs.len() {
                0 => String::new(),
                _ => format!("; it differs: {}", standing.differs.join("; ")),
            };
            let bound = standing.upper_bound_pct.map_or("unknown".to_owned(), |bound| format!("{bound:.1}%"));
            format!(
                "calibrated: {} of {} comparisons of equal things found a change, at most {bound} of all{differs}",
                standing.false_positives, standing.comparisons
            )
        }
    };
    findings.add(Topic::Calibration, Verdict::Accept, text);
}

/// Whose an error of a workload is.
fn blame(error: &str) -> (Verdict, &'static str) {
    // The chain of causes, outermost first; `compare` names the side in it.
    let of_candidate = error.split(": ").any(|part| part == "candidate");
    // Nothing in a worker sends it: the kernel does for want of memory, or somebody did.
    let killed = error.contains("signal: 9 ");
    match (error.starts_with("infrastructure"), of_candidate) {
        (false, true) if !killed => (Verdict::Reject, "the candidate fails"),
        _ => (Verdict::InfraError, "no figure, and not by the candidate's fault"),
    }
}

/// Largest gain that its interval holds to be certain; `None` if it is not confirmed by fresh blocks, or may be one of many
/// workloads by chance.
fn certain_gain(compared: &Compared) -> Option<(f64, [f64; 2])> {
    let confirmed = compared.confirmation.is_some_and(|report| report.answer == Answer::Faster);
    let (change, interval) = (compared.relative_change_pct?, compared.interval_pct?);
    let is_certain = compared.error.is_none()
        && compared.verdict.as_deref() == Some("faster")
        && compared.gained
        && confirmed
        && interval[1] < 0.0
        && change <= interval[1];
    is_certain.then_some((change, interval))
}

fn floor(record: &CompareRecord, workload: &str) -> Option<f64> {
    record.calibration.as_ref()?.noise_floor_pct.get(workload).copied()
}

fn gains(record: &CompareRecord, rule: &DecisionRule, findings: &mut Findings) {
    let mut best: Option<(Verdict, String)> = None;
    for compared in &record.workloads {
        let Some((change, interval)) = certain_gain(compared) else { continue };
        let noise_floor_pct = floor(record, &compared.workload);
        let known = noise_floor_pct.unwrap_or(0.0);
        let needed_pct = rule.accept_gain_pct.max(known);
        let is_enough = interval[1] <= -needed_pct;
        let is_kept = change <= -rule.park_gain_pct.max(known);
        let noise =
            noise_floor_pct.map_or("no noise floor is known".to_owned(), |pct| format!("noise floor {pct:.2}%"));
        let text = format!(
            "{} is faster by {} {}, confirmed; an accept needs the interval beyond -{needed_pct:.2}% ({noise})",
            compared.workload,
            pct(change),
            range(interval)
        );
        let workload = compared.workload.clone();
        findings.gains.push(GainFound {
            workload,
            relative_change_pct: change,
            interval_pct: interval,
            needed_pct,
            noise_floor_pct,
            is_enough,
        });
        let allows = match (is_enough, is_kept) {
            (true, _) => Verdict::Accept,
            (false, true) => Verdict::Park,
            (false, false) => Verdict::Inconclusive,
        };
        if best.as_ref().is_none_or(|(before, _)| *before < allows) {
            best = Some((allows, text));
        }
    }
    let (allows, text) = best.unwrap_or_else(|| {
        let unchanged = record.workloads.iter().filter(|w| w.verdict.as_deref() == Some("no-change")).count();
        let text = format!(
            "no workload has a certain gain; {unchanged} of {} are shown not to change by more than their margin",
            record.workloads.len()
        );
        (Verdict::Inconclusive, text)
    });
    findings.add(Topic::Gain, allows, text);
}

/// How a guard stands.
enum Standing {
    Holds,
    /// Too noisy for its margin, and counts show no growth.
    ByCounts,
    Undecided(String),
    Lost,
}

fn guards(record: &CompareRecord, thresholds: &Thresholds, rule: &DecisionRule, findings: &mut Findings) {
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

/// Gains that are larger than one believes.
fn suspicion(record: &CompareRecord, evidence: &Evidence<'_>, rule: &DecisionRule, findings: &mut Findings) {
    let mut sentences = Vec::new();
    let mut uncounted = Vec::new();
    for compared in &record.workloads {
        let most = 100.0 * (1.0 - 1.0 / rule.suspicious_speedup);
        let mut why = Vec::new();
        if let Some(change) = compared.relative_change_pct.filter(|change| -change > most) {
            why.push(format!(
                "its time changed by {}, more than {:.1} times as fast",
                pct(change),
                rule.suspicious_speedup
            ));
        }
        let counted = compared.counts.as_ref().and_then(|counts| counts.instructions_per_event);
        let floor = rule.instruction_floor.get(&compared.workload);
        if let (Some([baseline, candidate]), Some(floor)) = (counted, floor)
            && candidate < *floor
        {
            why.push(format!("it takes {candidate:.1} instructions per event, fewer than the floor of {floor:.0} (baseline {baseline:.1})"));
        }
        if counted.is_none() && floor.is_some() && certain_gain(compared).is_some() {
            uncounted.push(compared.workload.as_str());
        }
        if !why.is_empty() {
            findings.suspicious.push(compared.workload.clone());
            sentences.push(format!("{}: {}", compared.workload, why.join(", and ")));
        }
    }
    if !uncounted.is_empty() {
        let text = format!("not held against its floor, as instructions were not counted: {}", uncounted.join(", "));
        findings.add(Topic::Suspicion, Verdict::Accept, text);
    }
    if sentences.is_empty() {
        return;
    }
    let said = sentences.join("; ");
    match evidence.explained.iter().rev().find(|explained| explained.about == About::Suspicion) {
        Some(explained) => {
            let text = format!("suspicious, and explained by {}: {} ({said})", explained.by, explained.text);
            findings.add(Topic::Suspicion, Verdict::Accept, text);
        }
        None => {
            let text = format!("suspicious; an accept needs the explanation of a reviewer: {said}");
            findings.add(Topic::Suspicion, Verdict::Park, text);
        }
    }
}
