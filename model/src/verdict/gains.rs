//! Whether at least one of several workloads gained.

use super::plan::Plan;
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

/// Which of these comparisons can come to a gain at all, if each finds the largest change there is: with few
/// blocks, or many workloads, the smallest p-value is too large for Holm's procedure. `None` stands for a
/// workload that cannot be measured; it stays in the family.
pub fn attainable(plans: &[Option<&Plan>], alpha: f64) -> Vec<bool> {
    let smallest: Vec<f64> = plans.iter().map(|plan| plan.map_or(1.0, Plan::smallest_p_value)).collect();
    // Holm's procedure rejects no less for smaller p-values, so none beyond these.
    holm(&smallest, alpha).iter().map(|adjusted| adjusted.rejected).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_blocks_or_many_workloads_no_gain_can_be_named() {
        let plans = [8, 12, 200].map(|blocks| Plan::new(blocks, 0.01).unwrap());
        let many = |plan: usize, count: usize| attainable(&vec![Some(&plans[plan]); count], 0.01)[0];
        assert!(many(0, 1) && !many(0, 2), "eight blocks can show one change of one");
        assert!(many(1, 10) && !many(1, 11), "twelve blocks are enough for ten workloads");
        assert!(many(2, 80) && !many(2, 83), "no number of blocks is enough for more than some 80");
        // What cannot be measured counts, and what can be attained makes room for others.
        assert_eq!(attainable(&[Some(&plans[0]), None], 0.01), [false, false]);
        assert_eq!(attainable(&[Some(&plans[0]), Some(&plans[2])], 0.01), [true, true]);
    }

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
