//! The command line: what is listed, what is refused, and with which exit code.

use crate::support::{TINY, World, checkout, scratch};
use std::fs;

#[test]
fn lists_workloads_and_measures_nothing() {
    let world = World::empty_at(&checkout());
    let text = world.run(&["bench", "--list", "--workload", "evbuffer.*"]).expect_code(0).stdout;
    assert!(text.lines().all(|line| line.starts_with("evbuffer.")) && text.contains(TINY), "{text}");
    let outcome = world.run(&["bench", "--list", "--json"]).expect_code(0);
    let document = outcome.document();
    assert_eq!((&document["schema"], &document["partial"]), (&"bench-list/1".into(), &false.into()));
    assert!(document["workloads"].as_array().unwrap().iter().any(|workload| workload["name"] == TINY));
    assert!(document["host"].is_object());
    assert!(outcome.stdout.starts_with(r#"{"schema":"bench-list/1""#), "the schema is the first field");
    assert!(!world.work.exists() && world.records().is_empty(), "nothing is built, nothing is kept");
}

#[test]
fn an_unknown_workload_is_a_usage_error_that_names_its_neighbours() {
    let world = World::empty_at(&checkout());
    world.run(&["bench", "--workload", "evbuffer.nope"]).expect_refusal(1, &["evbuffer.nope", TINY]);
    world.run(&["bench", "--workload", "nothing.like.it"]).expect_refusal(1, &["nothing.like.it", "--list"]);
    world.run(&["bench", "--workload", "evbuffer.[x"]).expect_refusal(1, &["evbuffer.[x"]);
    assert!(!world.work.exists(), "refused before anything is done");
}

#[test]
fn an_unknown_variant_is_a_usage_error() {
    let world = World::prepared();
    world
        .run(&["bench", "--workload", TINY, "--variant", "no-such.patch"])
        .expect_refusal(1, &["no-such.patch", "pristine", "tip"]);
}

#[test]
fn a_source_that_is_no_libevent_is_a_usage_error() {
    let folder = scratch();
    fs::write(folder.path().join("letters.txt"), "private").unwrap();
    let world = World::empty_at(&checkout());
    let run = |source: &str| world.run(&["bench", "--workload", TINY, "--source", source]);
    let path = folder.path().to_str().unwrap();
    run(path).expect_refusal(1, &[path, "no libevent", "CMakeLists.txt"]);
    fs::write(folder.path().join("CMakeLists.txt"), "project(other C)\n").unwrap();
    run(path).expect_refusal(1, &[path, "no libevent", "event.c"]);
    let missing = folder.path().join("missing");
    run(missing.to_str().unwrap()).expect_refusal(1, &["no such folder"]);
    run(&format!("file://{}", missing.display())).expect_refusal(1, &["cannot fetch"]);
    assert!(world.records().is_empty());
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let world = World::empty_at(&checkout());
    for args in [
        &["bench", "--no-such-option"][..],
        &["bench", "--launches", "0"],
        &["bench", "--launches", "many"],
        &["bench", "--timeout", "0"],
        &["bench", "--workload-file", "missing.c", "--list"],
        &["bench", "--workload-file", "Cargo.toml", "--list"],
        &["no-such-verb"],
        &[],
    ] {
        let outcome = world.run(args).expect_code(1);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{args:?}: {outcome:?}");
    }
}

#[test]
fn every_verb_has_help_with_examples_and_exit_codes_are_listed() {
    let world = World::empty_at(&checkout());
    let help = world.run(&["--help"]).expect_code(0).stdout;
    assert!(help.contains("Exit codes: 0 ok; 1 usage; 2 ") && help.contains("130 interrupted"), "{help}");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A name stands two columns in; what continues a description stands further right.
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let verbs: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).filter(|v| *v != "help").collect();
    assert!(["setup", "bench", "doctor", "test"].iter().all(|verb| verbs.contains(verb)), "{verbs:?}");
    for verb in verbs {
        let help = world.run(&[verb, "--help"]).expect_code(0).stdout;
        let examples = help.lines().skip_while(|line| *line != "Examples:").skip(1);
        let first = examples.map(str::trim).find(|line| !line.is_empty());
        assert!(first.is_some_and(|line| line.starts_with(&format!("cargo xtask {verb}"))), "{verb}: {help}");
    }
}
