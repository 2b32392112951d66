//! Is the comparison whole, and of these sides? Whose fault is it where it has no figures?

use super::{Evidence, Findings, Topic, Verdict};
use crate::compare::CompareRecord;
use crate::thresholds::Thresholds;
use serde_json::Value;

pub(super) fn judge(evidence: &Evidence<'_>, thresholds: &Thresholds, findings: &mut Findings) {
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
    // Margins of guards and when a disturbed block counts are in the record; looser ones would let off what today's do not.
    let others = differing(&record.settings.thresholds, thresholds);
    if !others.is_empty() {
        missing(format!(
            "the comparison was made by other thresholds than those of today, and has to be made anew: {}",
            others.join("; ")
        ));
    }
    let compared = |name: &String| record.workloads.iter().any(|compared| compared.workload == *name);
    let absent: Vec<&str> = thresholds.guarded.iter().filter(|name| !compared(name)).map(String::as_str).collect();
    if !absent.is_empty() {
        missing(format!("guarded workloads were not compared: {}", absent.join(", ")));
    }
}

/// Thresholds that are not the same, each with what it was and what it is; empty if all are.
fn differing(then: &Thresholds, now: &Thresholds) -> Vec<String> {
    let (then, now) = match (serde_json::to_value(then), serde_json::to_value(now)) {
        (Ok(then), Ok(now)) if then == now => return vec![],
        (Ok(then), Ok(now)) => (then, now),
        // Never: they are tables of numbers and names. What cannot be compared is not the same.
        _ => return vec!["they cannot be compared".to_owned()],
    };
    let mut found = Vec::new();
    compare_values("", &then, &now, &mut found);
    found
}

fn compare_values(name: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                compare_values(&name, &of(one), &of(other), found);
            }
        }
        _ if then == now => {}
        // Lists of workloads are long.
        (Value::Array(_), _) | (_, Value::Array(_)) => found.push(format!("{name} is another list")),
        _ => found.push(format!("{name} was {then} and is {now}")),
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
