//! What a run says by itself, and a test that has to be repeated: pure.

use super::test_case::Run;
use model::gate::Sanitizer;
use model::gate::judge::{self, Known, Rate};
use model::gate::tinytest::Outcome;
use std::collections::BTreeSet;

/// A test that must be repeated.
pub(super) struct Suspect {
    pub(super) index: usize,
    /// Repeats, without the run that made it suspect.
    pub(super) candidate: Rate,
    pub(super) pristine: Rate,
    /// Reports that pristine was not known to have.
    pub(super) reports: BTreeSet<String>,
    pub(super) hung_again: bool,
    /// It passed, but only when tinytest tried it again: such runs count as failures, on both sides.
    pub(super) retried: bool,
    /// It passed sooner than pristine was ever seen to; how long its repeats took, and pristine's beside them.
    pub(super) early: bool,
    pub(super) seconds: [Vec<f64>; 2],
}

impl Suspect {
    pub(super) fn new(index: usize, reports: BTreeSet<String>) -> Suspect {
        let (candidate, pristine) = (Rate::default(), Rate::default());
        let seconds = [vec![], vec![]];
        Suspect { index, candidate, pristine, reports, hung_again: false, retried: false, early: false, seconds }
    }

    /// Whether one of its repeats was a failure.
    pub(super) fn counts(&self, run: &Run) -> bool {
        run.has_failed() || self.retried && run.was_retried()
    }

    /// All runs of pristine, known ones included.
    pub(super) fn of_pristine(&self, known: &Known) -> Rate {
        self.pristine + if self.retried { known.rate_with_retries() } else { known.rate() }
    }

    /// The longest repeat was much shorter than pristine's shortest. Pristine's earlier times may be of a busier host.
    pub(super) fn is_early_again(&self) -> Option<(f64, f64)> {
        let longest = self.seconds[0].iter().copied().fold(0.0, f64::max);
        let least = self.seconds[1].iter().copied().fold(f64::INFINITY, f64::min);
        (self.early && least.is_finite() && judge::is_too_fast(longest, least)).then_some((longest, least))
    }
}

/// What a first run alone says.
pub(super) enum First {
    Fine,
    Worse(String),
    /// Pristine has failed in every run: no number of repeats can show a candidate to be worse.
    AsPristine,
    Repeat(BTreeSet<String>),
    /// Passed, and much sooner than pristine ever did.
    Early,
    /// Passed when tinytest tried it again, which pristine never needed.
    Retried,
}

/// What a first run says, beside what is known of pristine's test and of its sanitizer reports.
pub(super) fn first(run: &Run, known: &Known, known_reports: &BTreeSet<String>, sanitizer: Sanitizer) -> First {
    // The sanitizer did not work: by chance, on this host, or because of the candidate; repeats of both sides tell.
    if run.cannot_run.is_some() {
        return if known.fails_always() { First::AsPristine } else { First::Repeat(BTreeSet::new()) };
    }
    let new: BTreeSet<String> = run.reports.difference(known_reports).cloned().collect();
    if !new.is_empty() {
        // A race of pristine may not have shown itself yet; everything else is the same in every run.
        if sanitizer == Sanitizer::Thread {
            return First::Repeat(new);
        }
        // A test that ends early does not clean up: if it failed by chance, so did what is leaked.
        if run.outcome.is_failure() && new.iter().all(|report| report.starts_with("LeakSanitizer: ")) {
            return First::Repeat(BTreeSet::new());
        }
        return First::Worse(reported(&new));
    }
    match &run.outcome {
        Outcome::Failed(_) if known.fails_always() => First::AsPristine,
        Outcome::Failed(_) | Outcome::Hung => First::Repeat(new),
        Outcome::Skipped if !known.skips => First::Worse("skipped, and pristine does not skip it".to_owned()),
        Outcome::Passed if known.seconds_min.is_some_and(|least| judge::is_too_fast(run.seconds, least)) => {
            First::Early
        }
        Outcome::Passed if run.was_retried() && known.retried == 0 => First::Retried,
        Outcome::Skipped | Outcome::Passed => First::Fine,
    }
}

/// New reports, for readers.
pub(super) fn reported(reports: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = reports.iter().map(String::as_str).collect();
    format!("reports that pristine does not have: {}", shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome) -> Run {
        Run { outcome, seconds: 0.1, retries: 0, reports: BTreeSet::new(), cannot_run: None, hung_at: None }
    }

    fn reporting(outcome: Outcome, report: &str) -> Run {
        Run { reports: [report.to_owned()].into(), ..run(outcome) }
    }

    fn failed() -> Outcome {
        Outcome::Failed("exit status 1".to_owned())
    }

    fn known(failures: u32, runs: u32) -> Known {
        Known { crowded: Rate { runs, failures }, seconds_min: Some(0.1), seconds_max: 0.2, ..Known::default() }
    }

    fn said(run: &Run, known: &Known, sanitizer: Sanitizer) -> String {
        match first(run, known, &["LeakSanitizer: leak from old".to_owned()].into(), sanitizer) {
            First::Fine => "fine".to_owned(),
            First::Worse(why) => format!("worse: {why}"),
            First::AsPristine => "as pristine".to_owned(),
            First::Repeat(reports) => format!("repeat {}", reports.len()),
            First::Early => "early".to_owned(),
            First::Retried => "retried".to_owned(),
        }
    }

    #[test]
    fn failures_are_repeated_unless_pristine_never_passes() {
        let plain = |run: &Run, known: &Known| said(run, known, Sanitizer::None);
        assert_eq!(plain(&run(Outcome::Passed), &known(0, 3)), "fine");
        assert_eq!(plain(&run(failed()), &known(0, 3)), "repeat 0");
        assert_eq!(plain(&run(Outcome::Hung), &known(3, 3)), "repeat 0");
        assert_eq!(plain(&run(failed()), &known(3, 3)), "as pristine");
        assert_eq!(plain(&run(failed()), &known(0, 0)), "repeat 0", "nothing known is no excuse");
        assert!(plain(&run(Outcome::Skipped), &known(0, 3)).starts_with("worse"));
        let waits = Known { seconds_min: Some(2.0), ..known(0, 3) };
        assert_eq!(plain(&run(Outcome::Passed), &waits), "early");
    }

    #[test]
    fn a_pass_in_a_further_attempt_is_looked_into_where_pristine_needs_none() {
        let again = Run { retries: 3, ..run(Outcome::Passed) };
        assert_eq!(said(&again, &known(0, 3), Sanitizer::None), "retried");
        let unstable = Known { retried: 1, ..known(0, 3) };
        assert_eq!(said(&again, &unstable, Sanitizer::None), "fine");
        let suspect = Suspect { retried: true, ..Suspect::new(0, BTreeSet::new()) };
        assert!(
            suspect.counts(&again) && suspect.counts(&run(Outcome::Hung)) && !suspect.counts(&run(Outcome::Passed))
        );
        assert!(!Suspect::new(0, BTreeSet::new()).counts(&again));
        assert_eq!(suspect.of_pristine(&unstable), Rate { runs: 3, failures: 1 });
    }

    #[test]
    fn reports_count_at_once_but_races_and_leaks_of_failed_tests_must_come_again() {
        let address = |run: &Run| said(run, &known(0, 3), Sanitizer::Address);
        let freed = "AddressSanitizer: heap-use-after-free in f";
        assert!(address(&reporting(failed(), freed)).contains(freed), "no chance");
        assert!(address(&reporting(Outcome::Passed, "LeakSanitizer: leak from f")).starts_with("worse"));
        assert_eq!(address(&reporting(failed(), "LeakSanitizer: leak from f")), "repeat 0");
        assert_eq!(address(&reporting(Outcome::Passed, "LeakSanitizer: leak from old")), "fine");
        let race = reporting(Outcome::Passed, "ThreadSanitizer: data race in f");
        assert_eq!(said(&race, &known(0, 3), Sanitizer::Thread), "repeat 1");
    }

    #[test]
    fn a_sanitizer_that_does_not_work_is_no_pass_and_no_verdict_of_one_run() {
        let broken = Run { cannot_run: Some("FATAL: ThreadSanitizer".to_owned()), ..run(Outcome::Passed) };
        assert!(broken.has_failed() && !Run { retries: 1, ..broken.clone() }.was_retried());
        assert_eq!(said(&broken, &known(0, 3), Sanitizer::Thread), "repeat 0");
        assert_eq!(said(&broken, &known(3, 3), Sanitizer::Thread), "as pristine");
    }
}
