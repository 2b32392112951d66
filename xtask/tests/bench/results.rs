//! A good run: what it prints, what it keeps, what it leaves alone.

use crate::support::{QUICK, TINY, World, checkout, finish, git};
use std::fs;

/// Fields that DESIGN promises to scripts, with the type of their value in a run without errors.
const PROMISED: &[(&str, &str)] = &[
    ("workload", "string"),
    ("variant", "string"),
    ("role", "string"),
    ("time_per_event_ns_median", "number"),
    ("events_per_second", "number"),
    ("syscalls_per_event", "number or null"),
    ("instructions_per_event", "null"),
    ("latency_ns_p50", "null"),
    ("latency_ns_p99", "null"),
    ("launches", "number"),
    ("samples", "number"),
    ("checksum", "string"),
    ("error", "null"),
];

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::String(_) => "string",
        _ => "something else",
    }
}

#[test]
fn json_is_one_complete_document_and_the_record_is_the_same() {
    let world = World::prepared();
    let outcome = world.run(&[QUICK, &["--json", "--seed", "7"]].concat()).expect_code(0);
    assert!(outcome.stdout.starts_with(r#"{"schema":"bench/1","#), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.lines().count(), 1, "one document and nothing else");
    let document = outcome.document();
    assert_eq!(document["partial"], false);
    assert_eq!(document["host"]["id"].as_str().unwrap().len(), 16);
    assert_eq!(document["settings"]["seed"], 7);

    let of_baseline = |result: &&serde_json::Value| result["role"] == "baseline";
    let results: Vec<&serde_json::Value> =
        document["workloads"].as_array().unwrap().iter().filter(of_baseline).collect();
    let [result] = results.as_slice() else { panic!("one workload") };
    for (field, kinds) in PROMISED {
        let value = result.get(field).unwrap_or_else(|| panic!("no {field}"));
        assert!(kinds.contains(kind(value)), "{field} is {value}, not {kinds}");
    }
    assert_eq!((&result["workload"], &result["role"]), (&TINY.into(), &"baseline".into()));
    assert_eq!(result["checksum"], manifest_checksum(TINY));
    assert_eq!((&result["launches"], result["launch_records"].as_array().unwrap().len()), (&3.into(), 3));
    let samples: usize =
        result["launch_records"].as_array().unwrap().iter().map(|l| l["cpu_time_ns"].as_array().unwrap().len()).sum();
    assert_eq!(result["samples"], samples);
    let (ns, rate) = (result["time_per_event_ns_median"].as_f64().unwrap(), result["events_per_second"].as_f64());
    assert!(ns > 0.0 && (rate.unwrap() * ns / 1e9 - 1.0).abs() < 1e-9, "one is the other's inverse");
    let source = &document["sides"][0]["build"]["variant"]["source"];
    assert_eq!(source["pinned"], true);

    let [folder] = world.records().try_into().expect("one run, one folder");
    assert_eq!(folder.file_name().unwrap().to_str(), document["id"].as_str());
    assert_eq!(fs::read_to_string(folder.join("record.json")).unwrap(), outcome.stdout.trim_end());
    assert!(fs::read_to_string(folder.join("summary.txt")).unwrap().contains(TINY));
    assert!(!folder.join("launches.jsonl").exists(), "the record holds all of it");
}

#[test]
fn a_second_run_leaves_the_first_and_the_checkout_alone() {
    let status = || git(&checkout(), &["status", "--porcelain"]);
    let world = World::prepared();
    let before = status();
    world.run(QUICK).expect_code(0);
    let first = world.records().pop().unwrap();
    let record = fs::read(first.join("record.json")).unwrap();
    let table = world.run(QUICK).expect_code(0).stdout;
    assert!(table.contains("ns/event") && table.contains(TINY), "{table}");
    assert_eq!(world.records().len(), 2, "a folder of its own for each run");
    assert_eq!(fs::read(first.join("record.json")).unwrap(), record);
    assert_eq!(status(), before);
    assert!(world.scratch_folders("links-").is_empty(), "linked workers go with the run");
}

#[test]
fn markdown_is_a_table_for_a_pull_request() {
    let world = World::prepared();
    let text = world.run(&[QUICK, &["--markdown"]].concat()).expect_code(0).stdout;
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
    let columns = |row: &str| row.matches('|').count();
    // A head, a rule, and a row of each side: there are two where patches are accepted.
    let sides = if text.contains("\ncandidate: ") { 2 } else { 1 };
    assert!(rows.len() == 2 + sides && rows.iter().all(|row| columns(row) == columns(rows[0])), "{text}");
    assert!(rows[0].contains("| workload") && rows[1].contains("|---") && rows[2].contains(TINY), "{text}");
    assert!(text.contains("baseline: pristine"), "figures come with where they come from: {text}");
    let place = world.folder.path().to_str().unwrap();
    assert!(!text.contains(place), "no path of this machine in what is pasted elsewhere: {text}");
}

#[test]
fn a_reader_that_went_away_or_a_full_disk_costs_no_record() {
    let world = World::prepared();
    // The streams of a test are always read; a shell gives them to somebody else.
    let status = world.folder.path().join("status");
    let run = |redirected: &str| {
        let script = format!(r#"status=$0; {{ "$@"; echo $? > "$status"; }} {redirected}"#);
        let before = ["-c", &script, status.to_str().unwrap(), env!("CARGO_BIN_EXE_xtask")];
        let outcome = finish(world.wrapped("sh", &before, QUICK));
        (fs::read_to_string(&status).unwrap(), outcome.stderr)
    };
    let (code, said) = run("> /dev/full");
    assert_eq!(code, "4\n", "{said}");
    assert!(said.contains("cannot print the results") && said.contains("the record is"), "{said}");
    // A reader that ends before anything is printed.
    assert_eq!(run("| true").0, "0\n");
    assert_eq!(run("2>&1 | true").0, "0\n");
    assert_eq!(world.records().iter().filter(|folder| folder.join("record.json").is_file()).count(), 3);
}

/// The checksum of a workload in config/workloads.toml.
fn manifest_checksum(name: &str) -> String {
    let text = fs::read_to_string(checkout().join("config/workloads.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let workloads = manifest["workload"].as_array().unwrap();
    let found = workloads.iter().find(|workload| workload["name"].as_str() == Some(name)).unwrap();
    found["checksum"].as_str().unwrap().to_owned()
}
