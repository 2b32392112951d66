use super::*;

fn trial(form: Form, injected_pct: f64, workload: &str, verdict: Option<&str>, estimate_pct: f64) -> Trial {
    Trial {
        number: 0,
        form,
        injected_pct,
        workload: workload.to_owned(),
        budget_s: 30.0,
        verdict: verdict.map(str::to_owned),
        estimate_pct: verdict.map(|_| estimate_pct),
        interval_pct: verdict.map(|_| [estimate_pct - 0.5, estimate_pct + 0.5]),
        blocks: 20,
        log_ratios: vec![0.01, -0.01, 0.01, -0.01],
        blocks_repeated: 0,
        seconds: 10.0,
        steal_share: None,
        error: None,
    }
}

#[test]
fn false_positives_are_counted_by_form_with_their_bound() {
    let mut trials: Vec<Trial> =
        (0..300).map(|i| trial(Form::Relink, 0.0, ["a", "b", "c"][i % 3], Some("no-change"), 0.1)).collect();
    for place in [3, 100] {
        trials[place].verdict = Some("slower".to_owned());
    }
    trials.push(trial(Form::Relink, 0.0, "a", None, 0.0));
    trials.push(trial(Form::Relink, 1.0, "a", Some("slower"), 1.0));
    let results = forms(&trials);
    let relink = results.iter().find(|result| result.form == Form::Relink).unwrap();
    assert_eq!((relink.comparisons, relink.false_positives, relink.without_answer), (300, 2, 1));
    // qbeta(0.95, 3, 298)
    assert!((relink.upper_bound_pct.unwrap() - 2.0849).abs() < 0.01, "{relink:?}");
    assert_eq!(relink.by_workload["a"], [100, 1]);
    assert!(!relink.errs_more_than(0.01));
    let often = |false_positives| FormResult { false_positives, ..relink.clone() }.errs_more_than(0.01);
    // 1 - pbinom(9, 300, 0.01) is 0.0011, 1 - pbinom(10, 300, 0.01) is 0.0003.
    assert!(!often(10) && often(11));
    let none = results.iter().find(|result| result.form == Form::Load).unwrap();
    assert_eq!((none.comparisons, none.upper_bound_pct), (0, None), "not run is not passed");
}

#[test]
fn a_slowdown_counts_as_found_only_if_it_is_called_slower() {
    let verdicts = [Some("slower"), Some("faster"), Some("inconclusive"), None, Some("slower")];
    let trials: Vec<Trial> = verdicts.iter().map(|v| trial(Form::Relink, 1.0, "a", *v, 1.2)).collect();
    let [result] = &detection(&trials)[..] else { panic!() };
    assert_eq!((result.detected, result.runs, result.covered), (2, 5, 4));
}

#[test]
fn the_floor_is_that_of_the_usual_length() {
    let mut trials: Vec<Trial> =
        (1..=40).map(|i| trial(Form::Relink, 0.0, "a", Some("no-change"), f64::from(i) / 100.0)).collect();
    trials.push(Trial { budget_s: 1.0, ..trial(Form::Relink, 0.0, "a", Some("slower"), 9.0) });
    for (size, found) in [(0.5, "inconclusive"), (1.0, "slower"), (2.0, "slower")] {
        trials.extend((0..10).map(|_| trial(Form::Relink, size, "a", Some(found), size)));
    }
    let [result] = &workloads(&trials)[..] else { panic!() };
    assert_eq!(result.noise_floor_pct, Some(0.38));
    assert_eq!(result.noise_floor_budget_s, Some(30.0));
    assert_eq!(result.smallest_detectable_kind.as_deref(), Some("about"));
    assert!((result.smallest_detectable_pct.unwrap() - 0.9).abs() < 1e-9);
    assert!((result.block_spread_pct.unwrap() - 1.1547).abs() < 1e-3);
    assert_eq!(result.block_autocorrelation, Some(-1.0), "these alternate");
}

#[test]
fn another_kernel_compiler_or_harness_is_said() {
    let host = |kernel: &str| {
        HostFingerprint { kernel_release: Some(kernel.to_owned()), ..HostFingerprint::default() }.sealed()
    };
    let calibration = Calibration {
        schema: CALIBRATE_SCHEMA.to_owned(),
        host: host("6.1"),
        partial: false,
        started_at: String::new(),
        finished_at: String::new(),
        hours: 1.0,
        method_sha256: "m".to_owned(),
        commit: None,
        dirty: None,
        build: String::new(),
        compiler: "gcc 12".to_owned(),
        seed: 1,
        forms: forms(&[trial(Form::Relink, 0.0, "a", Some("no-change"), 0.1)]),
        detection: vec![],
        workloads: workloads(&[trial(Form::Relink, 0.0, "a", Some("no-change"), 0.1)]),
    };
    let same = calibration.standing(&host("6.1"), "gcc 12", "m", &["a", "unknown"]);
    assert_eq!((same.differs.len(), same.noise_floor_pct.len(), same.comparisons), (1, 1, 1));
    assert_eq!(
        (same.differs[0].as_str(), same.budgets_s),
        ("1 of the 2 workloads compared here are not in it", vec![30.0])
    );
    let other = calibration.standing(&host("6.2"), "clang 14", "n", &["a"]);
    assert!(other.noise_floor_pct.is_empty(), "another host's floor widens no margin here");
    let other = other.differs;
    assert_eq!(other.len(), 3, "{other:?}");
    assert!(other[0].contains("kernel: 6.1 then, 6.2 now"), "{other:?}");
}
