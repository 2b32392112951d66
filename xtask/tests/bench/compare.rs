//! `compare`: answers, their provenance, and what is kept.

use crate::desk::Desk;
use crate::support::{TINY, World, snapshot};
use serde_json::Value;
use std::fs;

/// A comparison that ends at its first look, whatever the host does meanwhile: a wide margin, and time for the
/// blocks of that look.
const SHORT: &[&str] = &["--workload", TINY, "--budget", "24s", "--margin", "40"];

fn compare(world: &World, args: &[&str], more: &[&str]) -> crate::support::Outcome {
    world.run(&[&["compare"], args, more].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A patch that makes the tiny workload about a quarter slower, and does the right work.
fn slower(desk: &Desk) -> std::path::PathBuf {
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{";
    let work = "{ volatile unsigned i; for (i = 0; i < 8; i++) ; }";
    desk.replacement("buffer.c", head, &format!("{head}\n\t{work}"))
}

#[test]
fn a_slower_patch_is_found_confirmed_and_shown_with_everything_it_stands_on() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let patch = slower(&desk);
    let outcome = compare(&world, &["pristine", patch.to_str().unwrap()], &[SHORT, &["--json"]].concat());
    let document = outcome.expect_code(0).expect_said(&["record: ", "picture: "]).document();
    assert_eq!(document["schema"], "compare/1");
    assert_eq!((&document["partial"], &document["identical"]), (&false.into(), &false.into()));
    assert_eq!(document["baseline"], document["sides"][0]["build"]["variant"]["id"]);
    assert_ne!(document["baseline"], document["candidate"]);
    assert_eq!(document["calibration"], Value::Null);

    let [result] = document["workloads"].as_array().unwrap().as_slice() else { panic!("one workload") };
    assert_eq!((&result["verdict"], &result["error"]), (&"slower".into(), &Value::Null), "{result}");
    let (low, high) = (number(&result["interval_pct"][0]), number(&result["interval_pct"][1]));
    let change = number(&result["relative_change_pct"]);
    assert!(0.0 < low && low <= change && change <= high, "{low} {change} {high}");
    assert!(number(&result["candidate_ns"]) > number(&result["baseline_ns"]));
    assert_eq!(result["confirmation"]["verdict"], "slower");
    assert_eq!(result["relative_change_pct"], result["confirmation"]["relative_change_pct"], "not the lucky one");
    assert_eq!(result["gained"], false);
    assert_eq!(result["counts"]["syscalls_per_event"], serde_json::json!([0.0, 0.0]));

    let blocks = result["block_records"].as_array().unwrap();
    let first: Vec<&Value> = blocks.iter().filter(|block| block["confirms"] == false).collect();
    assert_eq!(first.len() as u64, result["blocks"].as_u64().unwrap());
    let layouts: std::collections::BTreeSet<u64> = blocks.iter().map(|b| b["layout_seed"].as_u64().unwrap()).collect();
    assert_eq!(layouts.len(), blocks.len(), "every block has an order of functions of its own, confirmations too");
    let starts: Vec<bool> =
        blocks.iter().map(|block| block["pairs"][0]["candidate_started_first"].as_bool().unwrap()).collect();
    assert!(starts.contains(&true) && starts.contains(&false), "who starts is drawn");
    for guard in ["all batches", "elapsed time", "peak memory"] {
        assert!(result["guards"].as_array().unwrap().iter().any(|g| g["guard"] == guard), "{guard}");
    }

    let [folder] = world.records().try_into().expect("one run, one folder");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!(record, document);
    let picture = fs::read_to_string(folder.join("picture.svg")).unwrap();
    assert!(picture.contains("<svg") && picture.contains(TINY), "{picture}");
    let samples = fs::read_to_string(folder.join("samples.jsonl")).unwrap();
    let lines: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (counted, disturbed): (Vec<&Value>, Vec<&Value>) = lines.iter().partition(|line| line["disturbed"].is_null());
    let sum = |field: &str| -> usize { blocks.iter().map(|block| block[field].as_array().unwrap().len()).sum() };
    assert_eq!(counted.len(), sum("pairs"), "every batch of every pair is kept");
    assert_eq!(disturbed.len(), sum("repeated"), "and of every attempt that was made again");
    let line = counted[0];
    let of = |side: &str, field: &str| line[side][field].as_array().unwrap().len();
    assert_eq!(of("baseline", "cpu_time_ns"), of("candidate", "cpu_time_ns"), "both sides did as much");
    assert_eq!(of("baseline", "cpu_time_ns"), of("baseline", "probe_ns"));
    let table = fs::read_to_string(folder.join("summary.txt")).unwrap();
    for word in ["slower", "no calibration for this host", "cargo xtask calibrate", "confirmed"] {
        assert!(table.contains(word), "no `{word}` in {table}");
    }
    world.assert_no_worker_is_left();
    assert!(world.scratch_folders("links-").is_empty());
}

#[test]
fn one_seed_draws_the_same_and_the_sources_stay_untouched() {
    let world = World::prepared();
    let before = snapshot(&world.root.join("libevent"));
    let draws = || {
        let args = [SHORT, &["--json", "--seed", "11", "--no-confirm"]].concat();
        let document = compare(&world, &["pristine"], &args).document();
        let blocks = document["workloads"][0]["block_records"].as_array().unwrap().clone();
        assert!(blocks.len() >= 8, "{document}");
        let draw = |b: &Value| {
            let pair = &b["pairs"][0];
            serde_json::json!([b["layout_seed"], pair["environment_bytes"], pair["candidate_started_first"]])
        };
        blocks.iter().take(8).map(draw).collect::<Vec<_>>()
    };
    assert_eq!(draws(), draws());
    assert_eq!(snapshot(&world.root.join("libevent")), before);
}

#[test]
fn build_profiles_are_compared_like_variants() {
    let world = World::prepared();
    let args = [SHORT, &["--json", "--no-confirm"]].concat();
    let outcome = compare(&world, &["O2", "-O3"], &args);
    assert!(matches!(outcome.code, Some(0 | 3)), "{outcome:?}");
    let document = outcome.document();
    let builds: Vec<&Value> = document["sides"].as_array().unwrap().iter().map(|side| &side["build"]).collect();
    assert_eq!(builds[0]["variant"]["id"], builds[1]["variant"]["id"], "the same code");
    assert_ne!(builds[0]["id"], builds[1]["id"], "built in another way");
    assert_eq!(document["identical"], false);
    assert!(builds[1]["event_c_command"].as_str().unwrap().contains("-O3"), "{}", builds[1]["event_c_command"]);
}

#[test]
fn ctrl_c_keeps_what_was_measured_and_says_that_it_is_partial() {
    let world = World::prepared();
    let mut run = world.start(&["compare", "pristine", "--workload", TINY, "--budget", "10m"]);
    world.await_journal(&mut run, 30);
    run.signal(libc::SIGINT);
    let outcome = run.wait().expect_code(130);
    assert!(outcome.stdout.contains("PARTIAL") && outcome.stdout.contains(TINY), "{outcome:?}");
    let [folder] = world.records().try_into().expect("one run, one folder");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    let result = &record["workloads"][0];
    assert_eq!(record["partial"], true);
    if world.root.join(".git").exists() {
        assert!(record["harness"]["commit"].is_string(), "an interrupt costs no provenance: {}", record["harness"]);
    }
    assert!(result["verdict"].is_string() && result["blocks"].as_u64().unwrap() >= 8, "{result}");
    world.assert_no_worker_is_left();
}
