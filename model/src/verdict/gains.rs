//! Whether at least one of several workloads gained.

use super::report::{Answer, Report};
use crate::stats::multiple::{Adjusted, holm};

/// A workload's part in the question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Holm's answer to "it did not change", for this workload among all.
    pub adjusted: Adjusted,
    /// It changed by that answer, and to the better.
    pub gained: bool,
}

/// Asks of every workload whether it gained, so that with probability `1 - alpha` at least none is
/// named that did not change. `None` stands for a workload that could not be measured; it stays in the
/// family. The answers are in the order of the reports.
///
/// A plan stops as soon as its own alpha is reached, which may be too early for the stricter levels of
/// Holm's procedure. To name one workload among k with few blocks lost, plan each with `alpha / k`.
pub fn gains(reports: &[Option<Report>], alpha: f64) -> Vec<Gain> {
    let p_values: Vec<f64> = reports.iter().map(|report| report.map_or(1.0, |r| r.p_value_sequential)).collect();
    let is_faster = |report: &Option<Report>| matches!(report, Some(Report { answer: Answer::Faster, .. }));
    reports
        .iter()
        .zip(holm(&p_values, alpha))
        .map(|(report, adjusted)| Gain { adjusted, gained: adjusted.rejected && is_faster(report) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(answer: Answer, p_value_sequential: f64) -> Option<Report> {
        Some(Report {
            answer,
            log_ratio: 0.0,
            relative_change_pct: 0.0,
            interval_log_ratio: None,
            interval_pct: None,
            coverage_pct: 99.0,
            p_value: p_value_sequential,
            p_value_sequential,
            blocks: 40,
            level: 0.005,
        })
    }

    #[test]
    fn a_gain_must_survive_the_number_of_workloads() {
        let reports = [
            report(Answer::Faster, 0.008),
            report(Answer::Faster, 0.001),
            report(Answer::Slower, 0.002),
            report(Answer::Inconclusive { smallest_detectable_pct: None }, 0.6),
            None,
        ];
        let gained: Vec<bool> = gains(&reports, 0.01).iter().map(|gain| gain.gained).collect();
        // Five hypotheses: 0.001 * 5 and 0.002 * 4 are within 1%, 0.008 * 3 is not; slower is no gain.
        assert_eq!(gained, [false, true, false, false, false]);
        assert!((gains(&reports, 0.01)[2].adjusted.p_adjusted - 0.008).abs() < 1e-12);
    }
}
