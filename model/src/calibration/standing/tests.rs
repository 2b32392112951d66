use super::super::{CALIBRATE_SCHEMA, Form, WorkloadResult};
use super::*;

fn host(kernel: &str) -> HostFingerprint {
    HostFingerprint { kernel_release: Some(kernel.to_owned()), ..HostFingerprint::default() }.sealed()
}

fn row(budget_s: Option<f64>, comparisons: u32, false_positives: u32) -> FormResult {
    FormResult {
        form: Form::Relink,
        budget_s,
        comparisons,
        false_positives,
        upper_bound_pct: None,
        without_answer: 0,
        by_workload: BTreeMap::new(),
    }
}

/// What is known of a workload; floors by length, estimates and size.
fn result(workload: &str, floors: &[(f64, u32, f64)]) -> WorkloadResult {
    let floor = |(budget_s, estimates, pct): &(f64, u32, f64)| NoiseFloor {
        budget_s: *budget_s,
        estimates: *estimates,
        pct: Some(*pct),
    };
    WorkloadResult {
        workload: workload.to_owned(),
        noise_floors: floors.iter().map(floor).collect(),
        noise_floor_pct: Some(9.0),
        noise_floor_budget_s: Some(3.0),
        smallest_detectable_pct: None,
        smallest_detectable_kind: None,
        smallest_detectable_budget_s: None,
        block_spread_pct: None,
        block_autocorrelation: None,
    }
}

fn calibration() -> Calibration {
    Calibration {
        schema: CALIBRATE_SCHEMA.to_owned(),
        host: host("6.1"),
        partial: false,
        started_at: String::new(),
        finished_at: "2025".to_owned(),
        hours: 1.0,
        method_sha256: "m".to_owned(),
        commit: None,
        dirty: None,
        build: "b".to_owned(),
        compiler: "gcc 12".to_owned(),
        seed: 1,
        forms: vec![row(Some(5.0), 300, 4), row(Some(30.0), 60, 0), row(None, 0, 0)],
        detection: vec![],
        workloads: vec![result("a", &[(5.0, 100, 3.0), (30.0, 40, 1.5), (60.0, 10, 0.8)])],
    }
}

/// A comparison of one workload that fits in everything.
fn standing(calibration: &Calibration, change: impl FnOnce(&mut Here<'_>)) -> Standing {
    let host = host("6.1");
    let mut here = Here {
        host: &host,
        compiler: "gcc 12",
        build: "b",
        method_sha256: "m",
        names: &["a"],
        budget_s: 30.0,
        floor_estimates: 20,
    };
    change(&mut here);
    calibration.standing(&here)
}

#[test]
fn another_kernel_compiler_build_or_harness_is_said() {
    let calibration = calibration();
    let same = standing(&calibration, |here| here.names = &["a", "unknown"]);
    assert_eq!(same.differs, ["1 of the 2 workloads compared here are not in it"]);
    assert_eq!(same.noise_floor_pct.len(), 1);
    let here = host("6.2");
    let other = calibration.standing(&Here {
        host: &here,
        compiler: "clang 14",
        build: "c",
        method_sha256: "n",
        names: &["a"],
        budget_s: 30.0,
        floor_estimates: 20,
    });
    assert!(other.noise_floor_pct.is_empty(), "another host's floor is none of this one");
    assert!(other.guard_floor_pct.is_empty() && other.floors_unused.is_none());
    let other = other.differs;
    assert_eq!(other.len(), 3, "{other:?}");
    assert!(other[0].contains("kernel: 6.1 then, 6.2 now"), "{other:?}");
    let differs = standing(&calibration, |here| here.build = "c").differs;
    assert_eq!(differs, ["it compared build b, the baseline here is build c"]);
}

#[test]
fn errors_and_floors_are_those_of_the_length() {
    let calibration = calibration();
    let of = |budget_s| {
        let standing = standing(&calibration, |here| here.budget_s = budget_s);
        let floor = standing.noise_floor_pct["a"];
        (standing.false_positives, standing.comparisons, standing.budgets_s, floor)
    };
    assert_eq!(of(5.0), (4, 300, vec![5.0], 3.0));
    assert_eq!(of(30.0), (0, 60, vec![30.0], 1.5));
    assert_eq!(of(10.0), (0, 60, vec![30.0], 1.5), "the shortest that is no shorter");
    assert_eq!(of(90.0), (0, 60, vec![30.0], 0.8), "or the longest that there is");
}

#[test]
fn a_floor_widens_margins_only_of_this_method_and_length_and_of_enough_estimates() {
    let calibration = calibration();
    let applied = |change: fn(&mut Here<'_>)| {
        let standing = standing(&calibration, change);
        assert_eq!(standing.noise_floor_pct.len(), 1, "shown in any case");
        assert_eq!(standing.guard_floor_pct.is_empty(), standing.floors_unused.is_some(), "{standing:?}");
        (standing.guard_floor_pct.get("a").copied(), standing.floors_unused.unwrap_or_default())
    };
    assert_eq!(applied(|_| ()), (Some(1.5), String::new()));
    assert_eq!(applied(|here| here.build = "another one").0, Some(1.5), "what is compared need not be what was");
    assert_eq!(applied(|here| here.budget_s = 5.0).0, Some(3.0));
    assert!(applied(|here| here.budget_s = 40.0).1.contains("20 estimates"), "ten are too few");
    assert!(applied(|here| here.budget_s = 90.0).1.contains("of 60 s a workload, and this comparison has 90 s"));
    assert!(applied(|here| here.method_sha256 = "n").1.contains("harness"));
    assert!(applied(|here| here.compiler = "clang").1.contains("compiler"));
    assert!(applied(|here| here.floor_estimates = 41).1.contains("41 estimates"));
}

#[test]
fn a_record_that_kept_one_floor_shows_it_and_widens_nothing() {
    let mut old = calibration();
    old.forms = vec![row(None, 24, 1), row(None, 21, 0)];
    old.workloads = vec![result("a", &[])];
    let standing = standing(&old, |here| here.budget_s = 1.0);
    assert_eq!((standing.comparisons, standing.false_positives, standing.budgets_s), (45, 1, vec![3.0]));
    assert_eq!((standing.noise_floor_pct["a"], standing.guard_floor_pct.len()), (9.0, 0));
    assert!(standing.floors_unused.is_some());
}

#[test]
fn the_calibration_that_fits_best_is_found() {
    let with = |change: fn(&mut Calibration)| {
        let mut made = calibration();
        change(&mut made);
        made
    };
    // From the worst to the best: each differs from the next in what counts more.
    let ranked = [
        with(|c| c.host = host("5.0")),
        with(|c| c.method_sha256 = "old".to_owned()),
        with(|c| c.compiler = "clang".to_owned()),
        with(|c| c.workloads[0].workload = "other".to_owned()),
        with(|c| c.build = "other".to_owned()),
        with(|c| c.forms = vec![row(Some(5.0), 900, 0)]),
        with(|c| c.forms[1].comparisons = 30),
        with(|c| c.finished_at = "2024".to_owned()),
        with(|_| ()),
    ];
    let host = host("6.1");
    let here = Here {
        host: &host,
        compiler: "gcc 12",
        build: "b",
        method_sha256: "m",
        names: &["a"],
        budget_s: 30.0,
        floor_estimates: 20,
    };
    for length in 1..=ranked.len() {
        let mut some = ranked[..length].to_vec();
        assert_eq!(best(&some, &here), Some(&ranked[length - 1]), "{length}");
        some.reverse();
        assert_eq!(best(&some, &here), Some(&ranked[length - 1]), "whichever comes first: {length}");
    }
    assert_eq!(best(&[], &here), None);
}

#[test]
fn a_standing_that_was_written_earlier_is_read() {
    let mut value = serde_json::to_value(standing(&calibration(), |_| ())).unwrap();
    let fields = value.as_object_mut().unwrap();
    for new in ["guard_floor_pct", "floors_unused"] {
        fields.remove(new).unwrap();
    }
    let read: Standing = serde_json::from_value(value).unwrap();
    assert_eq!((read.comparisons, read.guard_floor_pct.len(), read.floors_unused), (60, 0, None));
}
