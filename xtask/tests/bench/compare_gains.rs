//! `compare` with a candidate that is really faster: what counts as gained, and what does not.

use crate::desk::Desk;
use crate::support::{TINY, World, finish, on_one_cpu};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Ends at its first look, whatever the host does meanwhile; the confirmation has twice the blocks of that look.
const SHORT: &[&str] = &["--workload", TINY, "--budget", "24s", "--margin", "40"];

/// A patch that makes the tiny workload about twice as slow: a baseline that everything else is faster than.
fn slow(desk: &Desk) -> PathBuf {
    let head = "evbuffer_drain(struct evbuffer *buf, size_t len)\n{";
    let work = "{ volatile unsigned i; for (i = 0; i < 40; i++) ; }";
    named(&desk.replacement("buffer.c", head, &format!("{head}\n\t{work}")), "slow.patch")
}

/// A patch that takes eight megabytes more, and no time in a batch.
fn fat(desk: &Desk) -> PathBuf {
    let head = "evbuffer_new(void)\n{";
    let more = "static char more[8 << 20]; if (!more[0]) memset(more, 1, sizeof(more));";
    named(&desk.replacement("buffer.c", head, &format!("{head}\n\t{more}")), "fat.patch")
}

/// Patches of one file have one name until they get another.
fn named(patch: &Path, name: &str) -> PathBuf {
    let place = patch.with_file_name(name);
    fs::rename(patch, &place).unwrap();
    place
}

fn record(world: &World) -> Value {
    let folder = world.records().pop().expect("a record");
    serde_json::from_slice(&fs::read(folder.join("record.json")).unwrap()).unwrap()
}

#[test]
fn a_confirmed_gain_counts_and_is_shown_as_markdown_also_on_one_cpu() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let slow = slow(&desk);
    let mut command = world.command(&[&["compare", slow.to_str().unwrap(), "pristine", "--markdown"], SHORT].concat());
    on_one_cpu(&mut command);
    let outcome = finish(command).expect_code(0);
    let record = record(&world);
    let result = &record["workloads"][0];
    assert_eq!((&result["verdict"], &result["gained"]), (&"faster".into(), &true.into()), "{result}");
    assert_eq!(result["confirmation"]["verdict"], "faster");
    assert!(result["p_adjusted"].as_f64().is_some_and(|p| p <= 0.01), "{result}");
    assert!(result["interval_pct"][1].as_f64().is_some_and(|high| high < -10.0), "{result}");
    let shares = &result["left_out"]["kept_shares"];
    assert!([0, 1].iter().all(|side| shares[side].as_f64().is_some_and(|s| s > 0.0 && s <= 1.0)), "{shares}");
    let notes = record["notes"].to_string();
    assert!(notes.contains("one CPU"), "{notes}");

    let table: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with('|')).collect();
    let [header, rule, row] = table.as_slice() else { panic!("one row: {}", outcome.stdout) };
    let columns = |line: &str| line.matches('|').count();
    assert!(rule.chars().all(|letter| "|-: ".contains(letter)), "{rule}");
    assert_eq!([columns(rule), columns(row)], [columns(header); 2], "{}", outcome.stdout);
    assert!(row.contains(TINY) && row.contains("| faster"), "{row}");
    let id = record["id"].as_str().unwrap();
    assert!(outcome.stdout.contains(id), "a reader elsewhere finds the record by its name: {}", outcome.stdout);
    assert!(!outcome.stdout.contains(world.runs().to_str().unwrap()), "and learns nothing of this host's folders");
    world.assert_no_worker_is_left();
}

#[test]
fn a_gain_with_a_violated_guard_is_none() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let [slow, fat] = [slow(&desk), fat(&desk)];
    let outcome = world.run(&[&["compare", slow.to_str().unwrap(), fat.to_str().unwrap()], SHORT].concat());
    let outcome = outcome.expect_code(0);
    let record = record(&world);
    let result = &record["workloads"][0];
    assert_eq!((&result["verdict"], &result["confirmation"]["verdict"]), (&"faster".into(), &"faster".into()));
    assert!(result["p_adjusted"].as_f64().is_some_and(|p| p <= 0.01), "the gain is certain: {result}");
    let guards = result["guards"].as_array().unwrap();
    let memory = guards.iter().find(|guard| guard["guard"] == "peak memory").unwrap();
    assert_eq!(memory["state"], "violated", "{memory}");
    assert_eq!(result["gained"], false, "and is none");
    assert!(outcome.stdout.contains("guard peak memory VIOLATED"), "{}", outcome.stdout);
}

#[test]
fn without_a_confirmation_nothing_counts_as_gained_and_the_table_says_so() {
    let world = World::prepared();
    let desk = Desk::new(&world);
    let slow = slow(&desk);
    let args = [&["compare", slow.to_str().unwrap(), "pristine", "--no-confirm"], SHORT].concat();
    let outcome = world.run(&args).expect_code(0);
    let record = record(&world);
    let result = &record["workloads"][0];
    assert_eq!((&result["verdict"], &result["confirmation"]), (&"faster".into(), &Value::Null), "{result}");
    assert!(result["p_adjusted"].as_f64().is_some_and(|p| p <= 0.01), "{result}");
    assert_eq!(result["gained"], false);
    let blocks = result["block_records"].as_array().unwrap();
    assert!(blocks.iter().all(|block| block["confirms"] == false), "no fresh blocks were made");
    assert!(outcome.stdout.contains("not confirmed by fresh blocks"), "{}", outcome.stdout);
}
