//! Workloads that crash, hang, lie or do not compile: each is an error of its own, the rest goes on.

use crate::support::{TINY, World, checkout};
use serde_json::Value;
use std::fs;

/// Workload and what its error must name.
const HOSTILE: &[(&str, &[&str])] = &[
    ("hostile.wrong_checksum", &["expected checksum 0x00000000000003e8", "got 0x00000000000003e9"]),
    ("hostile.few_events", &["expected 1000 events", "got 999"]),
    ("hostile.setup_fails", &["this workload never sets up"]),
    ("hostile.run_fails", &["this workload cannot run"]),
    ("hostile.crash", &["SIGSEGV"]),
    ("hostile.hang", &["hangs", "2 s"]),
];

#[test]
fn hostile_workloads_are_errors_with_their_causes_and_the_good_ones_have_figures() {
    let world = World::prepared();
    let file = checkout().join("bench-harness/tests/fixtures/hostile.c");
    let args = ["bench", "--quick", "--launches", "3", "--timeout", "2", "--json", "--workload", "hostile.*"];
    let added = ["--workload", TINY, "--workload-file", file.to_str().unwrap()];
    let document = world.run(&[&args[..], &added].concat()).expect_code(2).document();
    assert_eq!(document["partial"], false, "the run itself is whole");
    let results = document["workloads"].as_array().unwrap();
    let result = |name: &str| results.iter().find(|r| r["workload"] == name).unwrap_or_else(|| panic!("no {name}"));
    for (name, causes) in HOSTILE {
        let error = result(name)["error"].as_str().unwrap_or_else(|| panic!("{name} has no error"));
        causes.iter().for_each(|cause| assert!(error.contains(cause), "{name}: {error}"));
        assert_eq!(result(name)["time_per_event_ns_median"], Value::Null, "{name}: an unknown figure is null");
        assert_eq!((&result(name)["checksum"], &result(name)["samples"]), (&Value::Null, &0.into()), "{name}");
    }
    for name in [TINY, "hostile.correct"] {
        assert_eq!((&result(name)["error"], &result(name)["launches"]), (&Value::Null, &3.into()), "{name}");
        assert!(result(name)["time_per_event_ns_median"].as_f64().is_some_and(|ns| ns > 0.0), "{name}");
    }
    assert_eq!(results.iter().filter(|result| result["role"] == "baseline").count(), HOSTILE.len() + 2);
    assert_eq!(document["harness"]["user_workloads"], serde_json::json!([file.to_str().unwrap()]));
    let [folder] = world.records().try_into().expect("one run, one folder");
    assert!(folder.join("record.json").is_file(), "failures are kept, too");
    world.assert_no_worker_is_left();
}

#[test]
fn a_workload_file_that_does_not_compile_shows_the_compilers_message() {
    let world = World::prepared();
    // Always the same path: a worker is kept for each.
    let file = world.work.with_file_name("broken.c");
    fs::write(&file, "#include <bench_workload.h>\n\nthis is no C;\n").unwrap();
    world
        .run(&["bench", "--quick", "--workload-file", file.to_str().unwrap()])
        .expect_refusal(2, &["broken.c:3", "error:", "does not compile"]);
    assert!(world.records().is_empty());
}
