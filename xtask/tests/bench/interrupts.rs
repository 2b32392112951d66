//! Runs that end early, and runs that meet.

use crate::support::{QUICK, TINY, World, eventually};
use serde_json::Value;
use std::fs;

/// A run that does not end by itself within a test.
const ENDLESS: &[&str] = &["bench", "--launches", "1000", "--workload", TINY];

#[test]
fn a_second_run_is_told_at_once_who_holds_the_lock() {
    let world = World::prepared();
    let mut first = world.start(&["bench", "--launches", "20", "--workload", TINY]);
    world.await_journal(&mut first, 1);
    let holder = format!("process {}", first.pid());
    world.run(QUICK).expect_refusal(6, &["another run", "bench", &holder, "LIBEVENT_PERF_WORK"]);
    assert!(first.goes_on(), "the answer came at once");
    first.wait().expect_code(0);
    let [folder] = world.records().try_into().expect("the second run left nothing");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!((&record["partial"], &record["workloads"][0]["launches"]), (&false.into(), &20.into()));
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let world = World::prepared();
    let mut run = world.start(ENDLESS);
    world.await_journal(&mut run, 2);
    run.signal(libc::SIGINT);
    let outcome = run.wait().expect_code(130);
    assert!(outcome.stdout.contains("PARTIAL") && outcome.stdout.contains(TINY), "{outcome:?}");
    let [folder] = world.records().try_into().expect("one run, one folder");
    let record: Value = serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap();
    assert_eq!(record["partial"], true);
    let result = &record["workloads"][0];
    let launches = result["launches"].as_u64().unwrap();
    assert!((2..1000).contains(&launches), "{launches}");
    assert_eq!(result["launch_records"].as_array().unwrap().len() as u64, launches);
    assert!(result["time_per_event_ns_median"].as_f64().is_some_and(|ns| ns > 0.0), "{result}");
    assert_eq!(result["error"], Value::Null, "an interrupt is no error of the workload");
    world.assert_no_worker_is_left();
    assert!(world.scratch_folders("links-").is_empty(), "linked workers go with the run");
}

#[test]
fn a_killed_run_keeps_its_launches_and_the_next_one_cleans_up() {
    let world = World::prepared();
    let mut run = world.start(&[ENDLESS, &["--workload", "http.keepalive.small.c1"]].concat());
    let journal = world.await_journal(&mut run, 3);
    assert!(eventually(|| !world.workers().is_empty()), "workers can be seen while they run");
    run.signal(libc::SIGKILL);
    assert_eq!(run.wait().code, None, "ended by the signal");
    world.assert_no_worker_is_left();
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.ends_with('\n'), "complete lines only");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 3 && lines.iter().all(|line| line["launch"]["cpu_time_ns"][0].is_u64()), "{lines:?}");
    let left = world.scratch_folders("links-");
    assert!(!left.is_empty(), "a killed program cannot clean up");

    world.run(QUICK).expect_code(0);
    assert!(world.scratch_folders("links-").is_empty(), "of {left:?}");
    assert_eq!(fs::read_to_string(&journal).unwrap(), text, "the killed run's launches stay");
}
