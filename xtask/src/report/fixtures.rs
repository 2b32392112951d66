//! Records made by hand, for the tests of what is made of records.

use model::build_config::Profile;
use model::compare::{BlockRecord, COMPARE_SCHEMA, CompareRecord, CompareSettings, Compared};
use model::host::HostFingerprint;
use model::record::{Harness, RecordHead, Role, Side};
use model::thresholds::Thresholds;
use model::variant::{Build, Purpose, Source, Variant};
use model::verdict::{Answer, Report};
use model::workload::{Manifest, Metric, WorkloadSpec};
use std::collections::BTreeMap;

/// Two workloads without answers, patched against pristine, uncalibrated.
pub(super) fn record() -> CompareRecord {
    CompareRecord {
        head: RecordHead {
            schema: COMPARE_SCHEMA.to_owned(),
            host: HostFingerprint { cpu_model: Some("EPYC <7>".to_owned()), ..HostFingerprint::default() }.sealed(),
            partial: false,
            id: "20250102T030405Z-compare".to_owned(),
            started_at: "2025-01-02T03:04:05Z".to_owned(),
            finished_at: "2025-01-02T03:05:05Z".to_owned(),
            command: vec!["compare".to_owned()],
        },
        baseline: "b".repeat(12),
        candidate: "c".repeat(12),
        identical: false,
        sides: vec![side(Role::Baseline, "pristine"), side(Role::Candidate, "faster")],
        harness: Harness {
            commit: None,
            dirty: None,
            xtask_sha256: "1".repeat(64),
            worker_sha256: BTreeMap::from([(Role::Baseline, "2".repeat(64)), (Role::Candidate, "2".repeat(64))]),
            ingredients_sha256: "3".repeat(64),
            rustc: "rustc 1".to_owned(),
            user_workloads: vec![],
        },
        settings: CompareSettings {
            budget_s: 30.0,
            seed: 42,
            worker_cpu: 1,
            peer_cpus: vec![0],
            thresholds: Thresholds::parse(include_str!("../../../config/thresholds.toml")).unwrap(),
            sandbox: "none".to_owned(),
        },
        calibration: None,
        workloads: vec![compared("a.b"), Compared { metric: Metric::WallTime, ..compared("c.d") }],
        notes: vec![],
    }
}

fn side(role: Role, name: &str) -> Side {
    let source = Source {
        label: "release-2.1.12".to_owned(),
        tree: "4".repeat(40),
        root_commit: "5".repeat(40),
        upstream_commit: None,
        pinned: true,
    };
    let variant = Variant {
        id: if role == Role::Baseline { "b" } else { "c" }.repeat(12),
        name: name.to_owned(),
        source,
        patches: vec![],
        tree: "6".repeat(40),
        commit: "7".repeat(40),
    };
    let build = Build {
        id: "8".repeat(12),
        variant,
        purpose: Purpose::Measure,
        profile: Profile::default(),
        place: None,
        compiler: "gcc 12".to_owned(),
        build_type: "Release".to_owned(),
        c_flags: vec!["-O2".to_owned()],
        options: vec![],
        event_c_command: String::new(),
        lto_command: None,
        pgo_profile_sha256: None,
        tls: false,
        headers_sha256: "9".repeat(64),
        libraries: vec![],
        folder: std::path::PathBuf::new(),
    };
    Side { role, build, instructions_build: None }
}

/// Not measured.
pub(super) fn compared(workload: &str) -> Compared {
    let manifest = Manifest::parse(include_str!("../../../config/workloads.toml")).unwrap();
    let spec = WorkloadSpec { name: workload.to_owned(), metric: Metric::CpuTime, ..manifest.workloads[0].clone() };
    Compared::unmeasured(&spec, 1.0)
}

/// An answer with its figures.
pub(super) fn report(answer: Answer, relative_change_pct: f64, interval_pct: [f64; 2]) -> Report {
    Report {
        answer,
        log_ratio: (relative_change_pct / 100.0).ln_1p(),
        relative_change_pct,
        interval_log_ratio: Some(interval_pct.map(|pct| (pct / 100.0).ln_1p())),
        interval_pct: Some(interval_pct),
        coverage_pct: 99.0,
        p_value: 0.001,
        p_value_sequential: 0.002,
        blocks: 40,
        level: 0.005,
    }
}

/// Blocks whose differences are these, in per cent.
pub(super) fn blocks(differences_pct: impl IntoIterator<Item = f64>, confirms: bool) -> Vec<BlockRecord> {
    let block = |(number, pct): (usize, f64)| BlockRecord {
        number: number as u64,
        confirms,
        layout_seed: 0,
        log_ratio: (pct / 100.0).ln_1p(),
        pairs: vec![],
        repeated: vec![],
    };
    differences_pct.into_iter().enumerate().map(block).collect()
}
