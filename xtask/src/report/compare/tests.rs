use super::*;
use crate::report::fixtures::{compared, record, report};
use model::calibration::Standing;
use model::compare::GuardResult;
use model::verdict::Answer;
use model::verdict::guards::Guard;
use model::verdict::left_out::LeftOut;
use std::collections::BTreeMap;

/// The line that begins like this, spaces taken together.
fn line(text: &str, begins: &str) -> String {
    let line = text.lines().find(|line| line.trim_start().starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no line begins with {begins}:\n{text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn faster() -> Compared {
    Compared {
        relative_change_pct: Some(-2.9),
        interval_pct: Some([-3.25, -0.5]),
        verdict: Some("faster".to_owned()),
        baseline_ns: Some(20.0),
        candidate_ns: Some(19.42),
        blocks: 40,
        blocks_repeated: 3,
        seconds: 31.25,
        gained: true,
        p_adjusted: Some(0.004),
        ..compared("a.b")
    }
}

#[test]
fn a_line_has_figures_verdict_and_effort() {
    let mut record = record();
    record.workloads[0] = faster();
    let text = full(&record, Style::Terminal, None);
    assert_eq!(line(&text, "workload"), "workload baseline ns candidate ns change 99% interval verdict blocks s");
    assert_eq!(line(&text, "a.b"), "a.b 20.0 19.4 -2.9% [-3.2%, -0.50%] faster 40 (+3 repeated) 31.2");
    assert_eq!(line(&text, "c.d"), "c.d (w) - - - - no answer 0 0.0", "unknown is a dash, never zero");
    let markdown = full(&record, Style::Markdown, None);
    assert!(line(&markdown, "| a.b").contains("| faster"), "{markdown}");
    let widths: Vec<usize> = markdown.lines().take(4).map(|line| line.matches('|').count()).collect();
    assert_eq!(widths, [9; 4], "{markdown}");
}

#[test]
fn each_verdict_has_its_words() {
    let of = |word: &str| Compared { verdict: Some(word.to_owned()), ..compared("a") };
    assert_eq!(verdict(&of("slower")), "slower");
    assert_eq!(verdict(&of("no-change")), "no change > 1.0%");
    assert_eq!(verdict(&of("inconclusive")), "inconclusive");
    let sees = |pct| verdict(&Compared { smallest_detectable_pct: Some(pct), ..of("inconclusive") });
    assert_eq!(sees(0.82), "inconclusive (sees 0.8%)");
    assert_eq!(sees(0.043), "inconclusive (sees 0.04%)");
    assert_eq!(verdict(&Compared { error: Some("broke".to_owned()), ..compared("a") }), "error");
}

#[test]
fn what_was_counted_has_a_column_and_what_was_not_has_none() {
    let mut record = record();
    assert!(!full(&record, Style::Terminal, None).contains("/event"));
    record.workloads[0].counts = Some(CountedPair { syscalls_per_event: Some([2.0, 1.5]), ..CountedPair::default() });
    let text = full(&record, Style::Terminal, None);
    assert!(line(&text, "a.b").ends_with("0.0 2.00 → 1.50"), "{text}");
    assert!(line(&text, "c.d").ends_with("0.0 -") && !text.contains("instr/event"), "{text}");
}

#[test]
fn partial_and_identical_are_said_first() {
    let mut record = record();
    record.identical = true;
    assert!(
        full(&record, Style::Terminal, None).starts_with("Both sides are the same code, built in the same way: an A/A")
    );
    record.head.partial = true;
    let text = full(&record, Style::Markdown, None);
    assert!(text.starts_with("PARTIAL: ") && text.contains("every change found is a false positive"));
}

#[test]
fn reasons_guards_and_confirmation_are_behind_the_verdict() {
    let mut record = record();
    let guard = |guard: &str, state, interval_pct| GuardResult {
        guard: guard.to_owned(),
        relative_change_pct: Some(4.0),
        interval_pct,
        margin_pct: 2.0,
        state,
    };
    let guards = vec![
        guard("wall time", Guard::Violated, Some([3.0, 5.0])),
        guard("peak memory", Guard::Undecided, None),
        guard("p99", Guard::Holds, Some([0.0, 1.0])),
    ];
    record.workloads[0] = Compared {
        verdict_reason: Some("a guard is violated".to_owned()),
        ended_early: Some("the first answer ended after 12 blocks: infrastructure: busy".to_owned()),
        first: Some(report(Answer::Faster, -3.1, [-4.0, -2.2])),
        confirmation: Some(report(Answer::Faster, -2.9, [-3.25, -0.5])),
        guards,
        ..faster()
    };
    record.workloads[1] = Compared {
        first: Some(report(Answer::Faster, -1.5, [-2.0, -0.1])),
        confirmation: Some(report(Answer::NoChange { margin_pct: 1.0 }, -0.2, [-0.5, 0.1])),
        error: Some("the host was too loud".to_owned()),
        ..compared("c.d")
    };
    record.notes = vec!["a note".to_owned()];
    let text = full(&record, Style::Terminal, None);
    for expected in [
        "- a.b: a guard is violated\n",
        "- a.b: the first answer ended after 12 blocks: infrastructure: busy\n",
        "- a.b: first answer -3.1% [-4.0%, -2.2%], confirmed by fresh blocks: -2.9% [-3.2%, -0.50%] (40 and 40 blocks)\n",
        "- a.b: guard wall time VIOLATED: +4.0% [+3.0%, +5.0%], margin 2.0%\n",
        "- a.b: guard peak memory not shown to hold: +4.0%, no interval, margin 2.0%\n",
        "- c.d: first answer -1.5% [-2.0%, -0.10%], not confirmed by fresh blocks: -0.20% [-0.50%, +0.10%], no-change",
        "Errors (1):\n\n- c.d: the host was too loud\n",
        "Notes:\n\n- a note\n",
        "- gained, with 2 workloads taken into account: a.b (p = 0.0040)\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(!text.contains("p99"), "a guard that holds is not named\n{text}");
    record.workloads[0].gained = false;
    let text = full(&record, Style::Terminal, None);
    assert!(text.contains("- faster, but no gain with 2 workloads taken into account: a.b (p = 0.0040)"), "{text}");
}

#[test]
fn the_calibration_is_shown_or_its_absence() {
    let mut record = record();
    let text = full(&record, Style::Terminal, None);
    assert!(text.contains("how often this harness errs here is not known; run `cargo xtask calibrate`"), "{text}");
    record.calibration = Some(Standing {
        host: record.head.host.id.clone(),
        finished_at: "2025-01-01T00:00:00Z".to_owned(),
        comparisons: 300,
        false_positives: 2,
        upper_bound_pct: Some(2.085),
        budgets_s: vec![3.0],
        noise_floor_pct: BTreeMap::from([("a.b".to_owned(), 0.381)]),
        guard_floor_pct: BTreeMap::new(),
        floors_unused: Some("they are of 3 s a workload".to_owned()),
        differs: vec![],
    });
    let text = full(&record, Style::Terminal, None);
    let expected = "calibration of this host (2025-01-01): 2 false positives in 300 comparisons of equal things, 3 s a workload (true share \
                    below 2.1% with 95% confidence); noise floor: a.b 0.38%, c.d unknown\n";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("- noise floors that widen no guard's margin: they are of 3 s a workload\n"), "{text}");
    let standing = record.calibration.as_mut().unwrap();
    standing.host = "other".to_owned();
    standing.differs = vec!["kernel: 1 then, 2 now".to_owned()];
    let text = full(&record, Style::Terminal, None);
    assert!(text.contains("calibration of host other, which is not this one as it is now"), "{text}");
    assert!(text.contains("- the calibration may not hold here: kernel: 1 then, 2 now\n"), "{text}");
}

#[test]
fn figures_come_with_their_provenance() {
    let record = record();
    let text = full(&record, Style::Terminal, Some("runs/x"));
    assert!(
        text.contains("baseline: pristine (variant bbbbbbbbbbbb, build 888888888888): libevent release-2.1.12"),
        "{text}"
    );
    assert!(text.contains("worker 222222222222; sandbox: none") && text.contains("(seed 42)"), "{text}");
    assert!(text.ends_with("runs/x (2025-01-02T03:04:05Z)\n"), "{text}");
    let caption = caption(&record);
    assert!(
        caption.starts_with("record 20250102T030405Z-compare (2025-01-02T03:04:05Z)\nbaseline: pristine"),
        "{caption}"
    );
    assert!(caption.contains(&format!("host {}: EPYC <7>", record.head.host.id)), "{caption}");
}

#[test]
fn batches_left_out_on_one_side_are_said_and_chance_is_not() {
    let mut record = record();
    let left_out = LeftOut {
        kept_shares: [0.9, 0.6],
        relative_change_pct: -33.0,
        interval_pct: Some([-40.0, -25.0]),
        margin_pct: 10.0,
        differs: true,
    };
    record.workloads[0] = Compared { left_out: Some(left_out), ..faster() };
    record.workloads[1] = Compared { left_out: Some(LeftOut { differs: false, ..left_out }), ..compared("c.d") };
    let text = full(&record, Style::Terminal, None);
    assert!(text.contains("90.0% of the baseline's, 60.0% of the candidate's: -33.0% [-40.0%, -25.0%]"), "{text}");
    assert_eq!(text.matches("batches that counted").count(), 1, "{text}");
}
