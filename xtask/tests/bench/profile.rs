//! `profile`: what a record holds, whatever the host lets be seen; two sides; wrong command lines.

use crate::support::{TINY, World};
use serde_json::Value;

/// Makes system calls: one wait, one read and, mostly, one write of an event.
const CALLS: &str = "cascade.pipes.n100.a1.w100";
const SHORT: &[&str] = &["profile", "pristine", "--seconds", "0.3", "--json"];

fn workload<'a>(document: &'a Value, name: &str, role: &str) -> &'a Value {
    let all = document["workloads"].as_array().unwrap();
    let found = all.iter().find(|workload| workload["workload"] == name && workload["role"] == role);
    found.unwrap_or_else(|| panic!("no {name}, {role}"))
}

/// Whether a phase was done; what this host does not show is said, since nothing about it is tested then.
fn is_done(workload: &Value, name: &str) -> bool {
    let done = phase(workload, name)["source"].is_string();
    if !done {
        eprintln!("NOT TESTED: {name} of {}: {}", workload["workload"], phase(workload, name)["fallback"]);
    }
    done
}

fn phase<'a>(workload: &'a Value, name: &str) -> &'a Value {
    workload["phases"].as_array().unwrap().iter().find(|phase| phase["phase"] == name).unwrap_or(&Value::Null)
}

/// Sum of the shares of the wall clock; nothing if one is unknown.
fn shares(workload: &Value) -> Option<f64> {
    ["user_share", "kernel_share", "idle_share"].iter().map(|share| workload[share].as_f64()).sum()
}

#[test]
fn a_profile_says_where_the_time_goes_and_how_it_was_seen() {
    let world = World::prepared();
    let args =
        [SHORT, &["--only", "samples,off-cpu,syscalls", "--no-pictures", "--workload", TINY, "--workload", CALLS]];
    let document = world.run(&args.concat()).expect_code(0).document();
    assert_eq!((document["schema"].as_str(), document["partial"].as_bool()), (Some("profile/1"), Some(false)));
    assert!(document["host"]["id"].is_string() && document["settings"]["missing"].is_array());
    for name in [TINY, CALLS] {
        let found = workload(&document, name, "baseline");
        assert!(found["error"].is_null() && found["bottleneck"].is_string(), "{found}");
        assert!(shares(found).is_none_or(|sum| (sum - 1.0).abs() < 1e-6), "{found}");
        for name in ["cycle-budget", "attribution", "off-cpu", "system-calls"] {
            let phase = phase(found, name);
            assert!(phase["source"].is_string() || phase["fallback"].is_string(), "{name}: {phase}");
            // What was done without a profiler's best means says why.
            assert!(phase["source"].is_string() || !phase["fallback"].as_str().unwrap().is_empty());
            assert!(
                phase["source"].is_null() || phase["perturbation"]["without_ns"].as_f64().unwrap() > 0.0,
                "{phase}"
            );
        }
        assert!(found["instructions"].is_null(), "not asked for is not zero");
        assert!(found["budget"]["instructions_per_cycle"].as_f64().is_none_or(|ipc| ipc > 0.0));
        if is_done(found, "attribution") {
            let symbols = found["symbols"].as_array().unwrap();
            let sum: f64 = symbols.iter().map(|symbol| symbol["self_share"].as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "self shares add up to everything: {sum}");
            let folded = found["files"]["on-cpu-folded"].as_str().unwrap();
            let folded = std::fs::read_to_string(world.records()[0].join(folded)).unwrap();
            assert!(
                folded.lines().all(|line| line.starts_with("bench_timed_batch") || line.starts_with('[')),
                "{folded}"
            );
        }
    }
    let tiny = workload(&document, TINY, "baseline");
    if is_done(tiny, "attribution") {
        let add = tiny["symbols"].as_array().unwrap().iter().find(|symbol| symbol["symbol"] == "evbuffer_add").unwrap();
        assert_eq!(add["origin"], "libevent");
        assert!(
            add["inclusive_share"].as_f64().unwrap() > add["self_share"].as_f64().unwrap(),
            "callers are known: {add}"
        );
        assert!(add["charged_share"].as_f64().unwrap() > 0.05, "{add}");
    }
    let calls = workload(&document, CALLS, "baseline");
    if is_done(calls, "system-calls") {
        let by_name = calls["syscalls"].as_array().unwrap();
        let wait = by_name.iter().find(|call| call["name"] == "epoll_wait").unwrap();
        assert!((0.95..1.05).contains(&wait["per_event"].as_f64().unwrap()), "{wait}");
        let read = by_name.iter().find(|call| call["name"] == "recvfrom").unwrap();
        assert_eq!(read["transfers"]["bytes_mean"], 1.0);
        assert!(calls["io"]["waits"]["ready_mean"].as_f64().unwrap() >= 1.0);
        assert!(workload(&document, TINY, "baseline")["syscalls"].as_array().unwrap().is_empty());
    }
    world.assert_no_worker_is_left();
}

#[test]
#[ignore = "profiles two sides; part of the soak"]
fn two_equal_sides_have_not_moved_and_a_prediction_is_held_against_that() {
    let world = World::prepared();
    let args =
        [SHORT, &["--against", "pristine", "--only", "samples", "--workload", TINY, "--predict", "evbuffer_add=-50%"]];
    let outcome = world.run(&args.concat()).expect_code(0);
    let document = outcome.document();
    let shift = &document["shifts"][0];
    assert_eq!(document["sides"].as_array().unwrap().len(), 2);
    assert_eq!(shift["workload"], TINY);
    assert!(shift["syscalls"].as_array().unwrap().is_empty());
    let candidate = workload(&document, TINY, "candidate");
    let prediction = &shift["predictions"][0];
    match shift["not_compared"].as_str() {
        None => assert_eq!(prediction["outcome"], "refuted", "{shift}"),
        // So short a profile may have too few samples: then nothing is confirmed, and why is said.
        Some(why) => {
            assert_eq!((prediction["outcome"].as_str(), prediction["why"].as_str()), (Some("unknown"), Some(why)));
        }
    }
    for side in ["baseline", "candidate"] {
        let functions = document["functions"][side].as_array().unwrap();
        assert!(functions.iter().any(|function| function == "evbuffer_add"), "{side}");
    }
    if is_done(candidate, "attribution") {
        for file in ["on-cpu-folded", "on-cpu-flames", "on-cpu-difference"] {
            let name = candidate["files"][file].as_str().unwrap_or_else(|| panic!("no {file}: {document}"));
            let text = std::fs::read_to_string(world.records()[0].join(name)).unwrap();
            assert!(text.contains("evbuffer_add"), "{file}");
        }
    }
}

#[test]
fn wrong_command_lines_cost_nothing() {
    let world = World::empty_at(&crate::support::checkout());
    for (args, words) in [
        (&["profile", "--workload", "evbuffer.nope"][..], &["no workload matches"][..]),
        (&["profile", "--predict", "a=-5"], &["--against"]),
        (&["profile", "--against", "tip", "--predict", "a"], &["NAME=-30%"]),
        (&["profile", "--seconds", "0"], &["0.05"]),
        (&["profile", "--only", "nothing"], &["syscalls"]),
        (&["profile", "--update-manifest", "--only", "off-cpu"], &["--update-manifest"]),
    ] {
        world.run(args).expect_refusal(1, words);
    }
    assert!(!world.work.join("builds").exists());
}
