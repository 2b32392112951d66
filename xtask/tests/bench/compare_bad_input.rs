//! `compare` with candidates, hosts and budgets that make no honest answer possible.

use crate::desk::Desk;
use crate::support::{TINY, World, checkout, eventually, finish, scratch};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::Path;

const SHORT: &[&str] = &["--workload", TINY, "--budget", "24s", "--margin", "40", "--json"];

fn compare(world: &World, baseline: &str, candidate: &Path, more: &[&str]) -> crate::support::Outcome {
    world.run(&[&["compare", baseline, candidate.to_str().unwrap()], SHORT, more].concat())
}

/// No figure, and an error that has each of `words`.
fn assert_error(document: &Value, words: &[&str]) {
    let result = &document["workloads"][0];
    for field in ["verdict", "relative_change_pct", "interval_pct", "first", "checksum"] {
        assert_eq!(result[field], Value::Null, "{field}: {result}");
    }
    let error = result["error"].as_str().unwrap_or_else(|| panic!("no error: {result}"));
    words.iter().for_each(|word| assert!(error.contains(word), "no `{word}` in: {error}"));
}

#[test]
fn one_file_given_twice_is_said_and_run_as_a_comparison_of_equal_things() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let patch = desk.patch("buffer.c", "/* nothing */");
    let other_name = patch.with_file_name("the-same.patch");
    std::fs::copy(&patch, &other_name).unwrap();
    let outcome = compare(&world, patch.to_str().unwrap(), &other_name, &[]);
    assert!(matches!(outcome.code, Some(0 | 3)), "{outcome:?}");
    let document = outcome.expect_said(&["the same code", "A/A"]).document();
    assert_eq!((&document["identical"], &document["baseline"]), (&true.into(), &document["candidate"]));
    assert!(document["workloads"][0]["blocks"].as_u64().unwrap() >= 8);
}

#[test]
fn a_candidate_that_hangs_half_way_is_an_error_and_leaves_nothing() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{";
    // After the batches that check it, in the middle of those that are timed.
    let hang = "{ static unsigned long calls; if (++calls > 300000) for (;;) ; }";
    let patch = desk.replacement("buffer.c", head, &format!("{head}\n\t{hang}"));
    let document = compare(&world, "pristine", &patch, &["--timeout", "2"]).expect_code(2).document();
    assert_error(&document, &["candidate", "hangs"]);
    world.assert_no_worker_is_left();
}

#[test]
fn wrong_work_on_one_side_is_an_error_not_a_number() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{";
    // Much faster than the original: what is left in the buffer is found by the next look at it.
    let patch = desk.replacement("buffer.c", head, &format!("{head}\n\tif (len == 64) return 0;"));
    let document = compare(&world, "pristine", &patch, &[]).expect_code(2).document();
    assert_error(&document, &["candidate"]);
    let document = compare(&world, patch.to_str().unwrap(), Path::new("pristine"), &[]).expect_code(2).document();
    assert_error(&document, &["baseline"]);
}

#[test]
fn a_budget_too_small_for_a_look_is_refused_with_the_one_that_is_needed() {
    let world = World::prepared();
    let args = ["compare", "pristine", "--workload", TINY, "--budget", "200ms"];
    world.run(&args).expect_refusal(1, &[TINY, "at least 8 are needed", "give at least --budget"]);
    for wrong in ["0s", "soon", "-3s", "5"] {
        let outcome = world.run(&["compare", "pristine", &format!("--budget={wrong}")]).expect_code(1);
        assert!(outcome.stderr.contains("--budget"), "{wrong}: {}", outcome.stderr);
    }
}

#[test]
fn a_clock_that_jumps_is_noticed_and_never_timed_with() {
    let world = World::prepared();
    let file = checkout().join("bench-harness/tests/fixtures/jumping_clock.c");
    let more = ["--workload-file", file.to_str().unwrap()];
    let document = compare(&world, "pristine", Path::new("pristine"), &more).expect_code(4).document();
    assert_error(&document, &["infrastructure", "clock jumped", "disturbed 5 times"]);
}

#[test]
fn a_worker_killed_from_outside_is_an_error_not_a_number() {
    let world = World::prepared();
    let mut run = world.start(&["compare", "pristine", "--workload", TINY, "--budget", "10m", "--json"]);
    world.await_journal(&mut run, 2);
    assert!(eventually(|| world.kill_a_worker()), "workers can be seen while they run");
    let document = run.wait().expect_code(2).document();
    assert_error(&document, &["signal: 9"]);
    assert_eq!(document["partial"], false, "the run itself is whole");
    world.assert_no_worker_is_left();
}

#[test]
fn names_that_mean_nothing_are_refused_before_anything_is_built() {
    let world = World::prepared();
    world.run(&["compare", "nothing-of-that-name"]).expect_refusal(1, &["nothing-of-that-name", "patch file"]);
    world.run(&["compare", "pristine", "lto+O2+O3"]).expect_refusal(1, &["lto+O2+O3"]);
    world.run(&["compare", "pristine", "--workload", "no.such"]).expect_refusal(1, &["no.such"]);
    assert!(world.records().is_empty());
}

#[test]
fn without_valgrind_instructions_are_refused_with_the_command_that_installs_it() {
    let tools = scratch();
    let path = std::env::var_os("PATH").unwrap();
    let find = |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file()).unwrap();
    for name in ["cc", "git", "cmake", "ninja", "tar", "sh"] {
        symlink(find(name), tools.path().join(name)).unwrap();
    }
    symlink(find("sh"), tools.path().join("apt-get")).unwrap();
    let world = World::empty_at(&checkout());
    let mut command = world.command(&["compare", "pristine", "--instructions", "--no-install"]);
    command.env("PATH", tools.path());
    finish(command).expect_refusal(4, &["missing: valgrind", "apt-get install -y --no-install-recommends valgrind"]);
}
