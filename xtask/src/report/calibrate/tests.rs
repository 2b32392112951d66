use super::*;
use model::calibration::{CALIBRATE_SCHEMA, Form};
use model::host::HostFingerprint;
use std::collections::BTreeMap;

fn form(form: Form, comparisons: u32, false_positives: u32) -> FormResult {
    FormResult {
        form,
        budget_s: (comparisons > 0).then_some(5.0),
        comparisons,
        false_positives,
        upper_bound_pct: upper_bound_pct(false_positives, comparisons),
        without_answer: 1,
        by_workload: if comparisons > 0 {
            BTreeMap::from([("a".to_owned(), [comparisons, false_positives])])
        } else {
            BTreeMap::new()
        },
    }
}

fn calibration() -> Calibration {
    Calibration {
        schema: CALIBRATE_SCHEMA.to_owned(),
        host: HostFingerprint::default().sealed(),
        partial: false,
        started_at: "2025-01-01T00:00:00Z".to_owned(),
        finished_at: "2025-01-01T02:00:00Z".to_owned(),
        hours: 1.5,
        method_sha256: "m".repeat(64),
        commit: None,
        dirty: None,
        build: "b".repeat(12),
        compiler: "gcc 12".to_owned(),
        seed: 7,
        forms: vec![form(Form::Relink, 300, 2), form(Form::Load, 0, 0)],
        detection: vec![DetectionResult {
            form: Form::Relink,
            workload: "a".to_owned(),
            injected_pct: 1.0,
            actual_pct_median: Some(1.04),
            actual_pct_range: Some([0.961, 1.12]),
            detected: 10,
            late: 0,
            runs: 10,
            budget_s: 30.0,
            seconds_median: Some(12.34),
            covered: 9,
            estimate_pct_median: Some(0.98),
        }],
        workloads: vec![WorkloadResult {
            workload: "a".to_owned(),
            noise_floors: vec![],
            noise_floor_pct: Some(0.38),
            noise_floor_budget_s: Some(30.0),
            smallest_detectable_pct: Some(0.9),
            smallest_detectable_kind: Some("about".to_owned()),
            smallest_detectable_budget_s: Some(20.0),
            block_spread_pct: Some(1.25),
            block_autocorrelation: Some(-0.02),
        }],
    }
}

/// Lines of the terminal, spaces taken together.
fn lines(calibration: &Calibration) -> Vec<String> {
    let text = full(calibration, Style::Terminal);
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_figure_is_in_its_table() {
    let lines = lines(&calibration());
    for expected in [
        "form within comparisons false positives share true share below (95%) without answer",
        "relink 5.0 s 300 2 0.67% 2.1% 1",
        "load - 0 - - - 1",
        "all 5.0 s 300 2 0.67% 2.1% 1",
        "workload relink load",
        "a 2 of 300 -",
        // Ten of ten: the lower bound is 0.025^(1/10).
        "a relink +1.0% +1.0% (0.96 to 1.12%) 30.0 s 10 of 10 100% [69%, 100%] 0 12.3 s +0.98% 9 of 10",
        "a 0.38% 30.0 s about 0.90% 20.0 s 1.2% -0.02",
        "1.50 hours of comparisons, from 2025-01-01T00:00:00Z to 2025-01-01T02:00:00Z",
        "build bbbbbbbbbbbb with gcc 12; harness mmmmmmmmmmmm, commit unknown; seed 7",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{}", lines.join("\n"));
    }
}

#[test]
fn lengths_have_lines_and_sums_of_their_own() {
    let mut calibration = calibration();
    let short = |form| FormResult { budget_s: Some(3.0), ..form };
    calibration.forms.push(short(form(Form::Relink, 100, 9)));
    let lines = lines(&calibration);
    for expected in ["relink 3.0 s 100 9 9.0% 15.2% 1", "all 3.0 s 100 9 9.0% 15.2% 1", "all 5.0 s 300 2 0.67% 2.1% 1"]
    {
        assert!(lines.iter().any(|line| line == expected), "{expected}\n{}", lines.join("\n"));
    }
    let header = lines.iter().find(|line| line.starts_with("workload relink")).unwrap();
    assert_eq!(header, "workload relink (5.0 s) load relink (3.0 s)");
    // A record that did not tell them apart.
    calibration.forms.iter_mut().for_each(|form| form.budget_s = None);
    calibration.detection[0].actual_pct_median = None;
    let text = full(&calibration, Style::Markdown);
    assert!(text.contains("| all") && text.contains("400"), "{text}");
}

#[test]
fn what_was_not_done_is_said() {
    let mut calibration = calibration();
    calibration.partial = true;
    calibration.detection.clear();
    calibration.workloads[0].noise_floor_pct = None;
    let lines = lines(&calibration);
    assert!(lines[0].starts_with("PARTIAL: "));
    let title = lines.iter().position(|line| line.starts_with("Slowdowns injected")).unwrap();
    assert_eq!(lines[title + 2], "none");
    assert!(lines.iter().any(|line| line == "a - - about 0.90% 20.0 s 1.2% -0.02"), "{}", lines.join("\n"));
}

#[test]
fn markdown_has_as_many_cells_in_every_line_of_a_table() {
    let text = full(&calibration(), Style::Markdown);
    let counts: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
    assert!(counts.windows(2).all(|two| two[0] == 0 || two[1] == 0 || two[0] == two[1]), "{text}");
}
