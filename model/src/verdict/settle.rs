//! From a first answer, its confirmation and its guards to the verdict that is shown: pure.

use super::guards::{Guard, guard};
use super::left_out::LeftOut;
use super::report::{Answer, Report};
use crate::compare::{BlockRecord, GuardResult, PairRecord};
use crate::stats::log_ratio_to_pct;
use crate::stats::sign_flip::{Interval, SignFlip};
use crate::thresholds::GuardMargins;
use crate::workload::Metric;

/// The guard over all batches, whose figure can take a verdict back.
pub const ALL_BATCHES: &str = "all batches";

/// The guard over what is not timed, which can, too.
pub const UNTIMED: &str = "untimed work";

/// What is shown of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// `faster`, `slower`, `no-change` or `inconclusive`.
    pub verdict: &'static str,
    /// Why it is not what the first answer alone says.
    pub reason: Option<String>,
    /// Whose estimate and interval are shown: the confirmation's, if it confirms.
    pub shown: Report,
}

/// Settles one workload. A change stands only if fresh blocks find it, too, in the same direction, and if
/// all batches together do not say the opposite. No answer stands that batches left out on one side may have made.
pub fn settle(
    first: &Report,
    confirmation: Option<&Report>,
    guards: &[GuardResult],
    left_out: Option<&LeftOut>,
) -> Settled {
    let changed = matches!(first.answer, Answer::Faster | Answer::Slower);
    let taken_back =
        |reason: String, shown: &Report| Settled { verdict: "inconclusive", reason: Some(reason), shown: *shown };
    if let Some(second) = confirmation.filter(|_| changed)
        && second.answer.word() != first.answer.word()
    {
        let reason = format!(
            "the first answer was {} by {:+.2}%; fresh blocks did not confirm it ({:+.2}%)",
            first.answer.word(),
            first.relative_change_pct,
            second.relative_change_pct
        );
        return taken_back(reason, second);
    }
    let shown = confirmation.unwrap_or(first);
    let opposite = |[low, high]: [f64; 2]| match first.answer {
        Answer::Faster => low > 0.0,
        Answer::Slower => high < 0.0,
        _ => false,
    };
    let all = guards.iter().find(|result| result.guard == ALL_BATCHES);
    if let Some(interval) = all.and_then(|result| result.interval_pct).filter(|interval| opposite(*interval)) {
        let reason = format!(
            "most batches are {}, but all of them together changed by {:+.2}% to {:+.2}%: the cost has moved to a few \
             batches",
            first.answer.word(),
            interval[0],
            interval[1]
        );
        return taken_back(reason, shown);
    }
    let moved = guards.iter().find(|result| result.guard == UNTIMED && result.state == Guard::Violated);
    if let (Some(moved), Answer::Faster) = (moved, first.answer) {
        let reason = format!(
            "the timed work is faster, but the time outside of it has grown by {:+.2}% of that work: work was moved out of \
             what is timed, or its clock was slowed down",
            moved.relative_change_pct.unwrap_or(f64::NAN)
        );
        return taken_back(reason, shown);
    }
    if let Some(left_out) = left_out.filter(|left_out| left_out.speaks_for(&first.answer)) {
        let reason = format!(
            "disturbed batches are left out, but not alike on both sides: {:.0}% of the baseline's counted and {:.0}% of \
             the candidate's; that may have made the answer {} ({:+.2}%)",
            100.0 * left_out.kept_shares[0],
            100.0 * left_out.kept_shares[1],
            first.answer.word(),
            shown.relative_change_pct
        );
        return taken_back(reason, shown);
    }
    Settled { verdict: first.answer.word(), reason: None, shown: *shown }
}

/// A change whose confirmation the host did not let come to an answer: it is not taken for one, and it is not lost. `why`
/// says what was in the way.
pub fn unconfirmed(first: &Report, why: &str) -> Settled {
    let reason = format!(
        "the first answer was {} by {:+.2}%; its confirmation has no answer: {why}",
        first.answer.word(),
        first.relative_change_pct
    );
    Settled { verdict: "inconclusive", reason: Some(reason), shown: *first }
}

/// What is not the metric, over all blocks. `floor_pct` is the workload's noise floor, where one is known:
/// no margin is narrower.
pub fn guard_results(
    blocks: &[BlockRecord],
    metric: Metric,
    margins: &GuardMargins,
    floor_pct: Option<f64>,
    alpha: f64,
) -> Vec<GuardResult> {
    let other = match metric {
        Metric::CpuTime => "elapsed time",
        Metric::WallTime => "CPU time",
    };
    let ratio = |[baseline, candidate]: [u64; 2]| {
        (baseline > 0 && candidate > 0).then(|| (candidate as f64 / baseline as f64).ln())
    };
    type Figure<'a> = &'a dyn Fn(&PairRecord) -> Option<f64>;
    // The floor is one of times; memory has none.
    let timed = |margin_pct: f64| margin_pct.max(floor_pct.unwrap_or(0.0));
    let guards: [(&str, f64, Figure<'_>); 5] = [
        (ALL_BATCHES, timed(margins.all_batches_pct), &|pair| Some(pair.figures.all_batches_log_ratio)),
        (other, timed(margins.other_time_pct), &|pair| Some(pair.figures.other_time_log_ratio)),
        (UNTIMED, timed(margins.untimed_pct), &|pair| pair.untimed_log_ratio),
        ("peak memory", margins.peak_memory_pct, &|pair| ratio(pair.peak_rss_kib)),
        ("latency p99", timed(margins.latency_p99_pct), &|pair| ratio(pair.latency_p99_ns?)),
    ];
    guards
        .into_iter()
        .filter_map(|(name, margin_pct, figure)| {
            let known: Vec<f64> = blocks.iter().filter_map(|block| block.mean(figure)).collect();
            if known.is_empty() {
                // The workload has no such figure.
                return None;
            }
            let Some(test) = SignFlip::new(&known).ok().filter(|_| known.len() == blocks.len()) else {
                return Some(GuardResult {
                    guard: name.to_owned(),
                    relative_change_pct: None,
                    interval_pct: None,
                    margin_pct,
                    state: Guard::Undecided,
                });
            };
            // Figures that never differ, such as a peak that is a whole number of pages, are their own interval.
            let constant = known.iter().all(|figure| figure.to_bits() == known[0].to_bits());
            let point = Interval { low: known[0], high: known[0] };
            let interval = if constant { Some(point) } else { test.interval(alpha) };
            Some(GuardResult {
                guard: name.to_owned(),
                relative_change_pct: Some(log_ratio_to_pct(test.estimate())),
                interval_pct: interval.map(|i| [i.low, i.high].map(log_ratio_to_pct)),
                margin_pct,
                state: guard(interval, (margin_pct / 100.0).ln_1p()),
            })
        })
        .collect()
}

/// The worst state, for a table.
pub fn worst(guards: &[GuardResult]) -> Guard {
    super::guards::together(guards.iter().map(|result| result.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(answer: Answer, change_pct: f64) -> Report {
        Report {
            answer,
            log_ratio: (change_pct / 100.0).ln_1p(),
            relative_change_pct: change_pct,
            interval_log_ratio: None,
            interval_pct: Some([change_pct - 1.0, change_pct + 1.0]),
            coverage_pct: 99.0,
            p_value: 0.001,
            p_value_sequential: 0.001,
            blocks: 40,
            level: 0.005,
        }
    }

    fn all_batches(interval_pct: [f64; 2]) -> GuardResult {
        GuardResult {
            guard: ALL_BATCHES.to_owned(),
            relative_change_pct: Some(0.0),
            interval_pct: Some(interval_pct),
            margin_pct: 2.0,
            state: Guard::Undecided,
        }
    }

    #[test]
    fn a_confirmed_change_is_shown_with_the_fresh_estimate() {
        let settled = settle(&report(Answer::Faster, -3.0), Some(&report(Answer::Faster, -2.2)), &[], None);
        assert_eq!((settled.verdict, settled.reason, settled.shown.relative_change_pct), ("faster", None, -2.2));
    }

    #[test]
    fn a_change_that_fresh_blocks_do_not_find_is_inconclusive() {
        for second in [Answer::Inconclusive { smallest_detectable_pct: None }, Answer::Slower] {
            let settled = settle(&report(Answer::Faster, -3.0), Some(&report(second, 0.4)), &[], None);
            assert_eq!(settled.verdict, "inconclusive");
            assert!(settled.reason.unwrap().contains("did not confirm"));
            assert_eq!(settled.shown.relative_change_pct, 0.4, "not the lucky one");
        }
    }

    #[test]
    fn a_gain_that_a_few_batches_pay_for_is_none() {
        let faster = report(Answer::Faster, -3.0);
        assert_eq!(settle(&faster, None, &[all_batches([-4.0, 1.0])], None).verdict, "faster");
        let settled = settle(&faster, None, &[all_batches([0.5, 4.0])], None);
        assert_eq!(settled.verdict, "inconclusive");
        assert!(settled.reason.unwrap().contains("a few batches"));
        let unchanged = report(Answer::NoChange { margin_pct: 1.0 }, 0.1);
        assert_eq!(settle(&unchanged, None, &[all_batches([0.5, 4.0])], None).verdict, "no-change");
    }

    #[test]
    fn work_that_moves_out_of_the_timed_part_is_no_gain() {
        let faster = report(Answer::Faster, -30.0);
        let grown = |state| GuardResult { guard: UNTIMED.into(), state, ..all_batches([25.0, 35.0]) };
        let settled = settle(&faster, Some(&faster), &[grown(Guard::Violated)], None);
        assert_eq!(settled.verdict, "inconclusive");
        assert!(settled.reason.unwrap().contains("outside of it"));
        assert_eq!(settle(&faster, None, &[grown(Guard::Undecided)], None).verdict, "faster");
        assert_eq!(settle(&report(Answer::Slower, 3.0), None, &[grown(Guard::Violated)], None).verdict, "slower");
    }

    #[test]
    fn an_answer_that_batches_left_out_on_one_side_may_have_made_is_inconclusive() {
        let left_out = LeftOut {
            kept_shares: [0.9, 0.6],
            relative_change_pct: -33.0,
            interval_pct: Some([-40.0, -25.0]),
            margin_pct: 10.0,
            differs: true,
        };
        let (faster, slower) = (report(Answer::Faster, -3.0), report(Answer::Slower, 3.0));
        let settled = settle(&faster, Some(&faster), &[], Some(&left_out));
        assert_eq!(settled.verdict, "inconclusive");
        let reason = settled.reason.unwrap();
        assert!(reason.contains("90% of the baseline's") && reason.contains("60% of the candidate's"), "{reason}");
        assert_eq!(settle(&slower, Some(&slower), &[], Some(&left_out)).verdict, "slower");
        assert_eq!(settle(&faster, None, &[], Some(&LeftOut { differs: false, ..left_out })).verdict, "faster");
    }

    #[test]
    fn a_change_without_a_confirmation_is_none_and_is_shown() {
        let first = report(Answer::Faster, -3.0);
        let settled = unconfirmed(&first, "infrastructure: the host was busy");
        assert_eq!((settled.verdict, settled.shown), ("inconclusive", first));
        let reason = settled.reason.unwrap();
        assert!(reason.contains("faster by -3.00%") && reason.ends_with("the host was busy"), "{reason}");
    }
}
