//! `--instructions`: the same figure in every run, or none and why.

use crate::support::{QUICK, TINY, World, checkout, copy_libevent, edit, finish, git, scratch};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Depends on the clock: without a pinned one its timers are due in other loop turns each time.
const CLOCKED: &str = "timers.fire.10k";
/// Depends on random numbers, as libevent draws them.
const RANDOM: &str = "dns.query.a.f16";
const COUNTED: &[&str] =
    &["bench", "--quick", "--launches", "2", "--instructions", "--json", "--workload", CLOCKED, "--workload"];

/// A run that counts; nothing where valgrind cannot be had.
fn count(world: &World, args: &[&str], code: i32) -> Option<Value> {
    let outcome = world.run(&[COUNTED, args].concat());
    if outcome.code == Some(4) && outcome.stderr.contains("valgrind") {
        eprintln!("NOT TESTED: instructions cannot be counted, valgrind is not to be had:\n{}", outcome.stderr);
        return None;
    }
    Some(outcome.expect_code(code).document())
}

fn result<'a>(document: &'a Value, workload: &str, role: &str) -> &'a Value {
    let results = document["workloads"].as_array().unwrap();
    let found = results.iter().find(|result| result["workload"] == workload && result["role"] == role);
    found.unwrap_or_else(|| panic!("no {workload}, {role}"))
}

#[test]
fn a_count_is_the_same_in_every_run_and_says_what_it_was_taken_from() {
    let world = World::prepared();
    let Some(first) = count(&world, &[RANDOM], 0) else { return };
    let Some(second) = count(&world, &[RANDOM, "--seed", "5"], 0) else { return };
    for workload in [CLOCKED, RANDOM] {
        let [first, second] = [&first, &second].map(|document| result(document, workload, "baseline"));
        let count = &first["instruction_count"];
        assert_eq!(count, &second["instruction_count"], "{workload}");
        assert_eq!(first["instructions_per_event"], count["per_event"], "{workload}");
        let number = |of: &Value, field: &str| of[field].as_u64().unwrap_or_else(|| panic!("{field}: {count}"));
        let further = |field| number(&count["long"], field) - number(&count["short"], field);
        let events = further("batches") * number(count, "batch_events");
        assert_eq!(further("instructions") as f64 / events as f64, count["per_event"].as_f64().unwrap(), "{workload}");
        assert!(number(count, "repeats") >= 2 && number(count, "clock_step_ns") > 0);
        assert!(count["valgrind"].as_str().unwrap().starts_with("valgrind-") && count["fixed_addresses"].is_boolean());
    }
    assert!(world.scratch_folders("count-").is_empty(), "what was made for counting is gone");
}

#[test]
fn work_that_differs_between_runs_has_no_count_and_wrong_work_is_an_error() {
    let world = World::prepared();
    let patch = unsteady(&world);
    let args = [TINY, "--variant", patch.to_str().unwrap()];
    let Some(document) = count(&world, &args, 2) else { return };
    for workload in [CLOCKED, TINY] {
        assert!(result(&document, workload, "baseline")["instructions_per_event"].is_f64(), "{workload}");
        let candidate = result(&document, workload, "candidate");
        assert_eq!(candidate["instructions_per_event"], Value::Null, "{workload}");
        assert_eq!(candidate["instruction_count"], Value::Null, "{workload}");
        assert!(candidate["time_per_event_ns_median"].is_f64(), "{workload}: what was timed before is kept");
    }
    let notes = document["notes"].to_string();
    assert!(notes.contains(&format!("{CLOCKED}: instructions not counted")), "{notes}");
    assert!(notes.contains("differ by") && notes.contains("no figure"), "{notes}");
    assert_eq!(result(&document, CLOCKED, "candidate")["error"], Value::Null, "it did the right work");
    let error = result(&document, TINY, "candidate")["error"].as_str().expect("it did wrong work").to_owned();
    assert!(error.contains("under callgrind") && error.contains("128 bytes instead of 64"), "{error}");
}

/// A patch with which a loop does more or less by the id of its process, and which drains nothing where
/// somebody counts.
fn unsteady(world: &World) -> PathBuf {
    let folder = world.folder.path().join("unsteady");
    let tree = folder.join("libevent");
    copy_libevent(&tree);
    git(&tree, &["init", "--quiet"]);
    git(&tree, &["add", "--all", "--force", "."]);
    git(&tree, &["commit", "--quiet", "-m", "pinned"]);
    let work = "\tvolatile unsigned work = (unsigned)getpid() % 100003;\n\twhile (work > 0)\n\t\t--work;\n";
    let head = "event_base_loop(struct event_base *base, int flags)\n{\n";
    edit(&tree.join("event.c"), head, &format!("{head}{work}"));
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{\n";
    edit(&tree.join("buffer.c"), head, &format!("{head}\tif (getenv(\"LD_PRELOAD\"))\n\t\treturn 0;\n"));
    let patch = folder.join("unsteady.patch");
    fs::write(&patch, git(&tree, &["diff"]) + "\n").unwrap();
    patch
}

#[test]
fn without_valgrind_it_is_named_with_the_command_that_installs_it() {
    let tools = scratch();
    for name in ["cc", "git", "cmake", "ninja", "tar", "sh"] {
        symlink(program(name), tools.path().join(name)).unwrap();
    }
    // A package manager, to know the command of; nobody calls it.
    symlink(program("sh"), tools.path().join("apt-get")).unwrap();
    let run = |args: &[&str]| {
        let world = World::empty_at(&checkout());
        let mut command = world.command(&[QUICK, &["--no-install"], args].concat());
        command.env("PATH", tools.path());
        finish(command)
    };
    let command = "apt-get install -y --no-install-recommends valgrind";
    run(&["--instructions"]).expect_refusal(4, &["missing: valgrind.", command]);
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program: &PathBuf| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is needed to run these tests"))
}
