//! Is it faster, for certain, by enough, and by no more than one believes?

use super::{DecisionRule, Evidence, Findings, GainFound, Topic, Verdict, pct, range};
use crate::compare::{CompareRecord, Compared};
use crate::ledger::event::About;
use crate::verdict::Answer;

pub(super) fn judge(evidence: &Evidence<'_>, rule: &DecisionRule, findings: &mut Findings) {
    let Some(record) = evidence.compare else { return };
    best(record, rule, findings);
    suspicion(record, evidence, rule, findings);
}

/// Largest gain that its interval holds to be certain; `None` if it is not confirmed by fresh blocks, or may be one of many
/// workloads by chance.
pub(super) fn certain_gain(compared: &Compared) -> Option<(f64, [f64; 2])> {
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

fn best(record: &CompareRecord, rule: &DecisionRule, findings: &mut Findings) {
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
