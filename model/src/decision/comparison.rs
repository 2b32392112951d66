//! Is the comparison whole, and of these sides? Whose fault is it where it has no figures?

use super::{Evidence, Findings, Topic, Verdict};
use crate::compare::CompareRecord;
use crate::thresholds::Thresholds;

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
