//! `calibrate`: a soak that can be ended and resumed, and what comparisons say about it.

use crate::support::{TINY, World, edit};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Some seconds of calibration. A slowdown is found only within its time, so that of the first look is a quarter of it.
const SMALL: &[&str] =
    &["calibrate", "--workload", TINY, "--form", "relink", "--budget", "3s", "--inject", "100@40s", "--json"];
const COMPARE: &[&str] =
    &["compare", "pristine", "--workload", TINY, "--budget", "24s", "--margin", "40", "--no-confirm"];

fn small(world: &World, more: &[&str]) -> crate::support::Outcome {
    world.run(&[SMALL, more].concat())
}

fn kept(world: &World) -> PathBuf {
    let [file] = fs::read_dir(world.calibrations())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect::<Vec<_>>()
        .try_into()
        .expect("one calibration, one file");
    file
}

/// The journal of the only calibration with these comparisons.
fn journal(world: &World) -> String {
    let folders = fs::read_dir(world.work.join("calibration")).into_iter().flatten().flatten();
    let files = folders.map(|folder| folder.path().join("trials.jsonl"));
    files.filter_map(|file| fs::read_to_string(file).ok()).max_by_key(String::len).unwrap_or_default()
}

/// The form's figures are those of the comparisons of equal things in the journal, each of which has either an
/// answer with its figures or a reason for having none.
fn assert_agrees_with_journal(form: &Value, journal: &str, comparisons: usize) {
    let lines: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trials = lines.iter().flat_map(|line| line["trials"].as_array().unwrap());
    let equal: Vec<&Value> = trials.filter(|t| t["form"] == form["form"] && t["injected_pct"] == 0.0).collect();
    assert_eq!(equal.len(), comparisons, "{journal}");
    let numbers: Vec<u64> = equal.iter().map(|trial| trial["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..comparisons as u64).collect::<Vec<_>>(), "each has a number, and so a seed, of its own");
    let (answered, without): (Vec<&Value>, Vec<&Value>) = equal.into_iter().partition(|t| t["verdict"].is_string());
    for trial in &answered {
        let blocks = trial["blocks"].as_u64().unwrap();
        assert!(blocks >= 8 && trial["log_ratios"].as_array().unwrap().len() as u64 == blocks, "{trial}");
        let estimate = trial["estimate_pct"].as_f64().unwrap();
        let [low, high] = [0, 1].map(|end| trial["interval_pct"][end].as_f64().unwrap());
        assert!(low <= estimate && estimate <= high, "{trial}");
        let excludes_zero = low > 0.0 || high < 0.0;
        let word = trial["verdict"].as_str().unwrap();
        assert_eq!(excludes_zero, ["faster", "slower"].contains(&word), "{trial}");
        assert_eq!(trial["error"], Value::Null, "an answer or an error: {trial}");
    }
    for trial in &without {
        assert!(trial["error"].is_string() && trial["estimate_pct"].is_null(), "no answer has its reason: {trial}");
    }
    let changed = |trial: &&&Value| trial["verdict"] == "faster" || trial["verdict"] == "slower";
    let (count, wrong) = (answered.len() as u32, answered.iter().filter(changed).count() as u32);
    assert_eq!((&form["comparisons"], &form["false_positives"]), (&count.into(), &wrong.into()));
    assert_eq!(form["without_answer"], without.len());
    assert_eq!(form["upper_bound_pct"].as_f64(), model::calibration::upper_bound_pct(wrong, count));
    if count > 0 {
        assert_eq!(form["by_workload"][TINY], serde_json::json!([count, wrong]));
    }
}

/// The state without earlier calibrations.
fn prepared() -> World {
    let world = World::prepared();
    let old = world.work.join("calibration");
    fs::remove_dir_all(&old).unwrap_or_else(|error| assert!(!old.exists(), "{error}"));
    world
}

#[test]
fn equal_things_and_a_slowdown_are_compared_and_the_result_stands_under_verdicts() {
    let world = prepared();
    let document = small(&world, &["--comparisons", "2", "--detections", "1"]).expect_code(0).document();
    assert_eq!((&document["schema"], &document["partial"]), (&"calibrate/1".into(), &false.into()));
    let forms = document["forms"].as_array().unwrap();
    let relink = forms.iter().find(|form| form["form"] == "relink").unwrap();
    assert_agrees_with_journal(relink, &journal(&world), 2);
    let copies = forms.iter().find(|form| form["form"] == "byte-copy").unwrap();
    assert_eq!((&copies["comparisons"], &copies["upper_bound_pct"]), (&0.into(), &Value::Null), "not run, not passed");
    let [found] = document["detection"].as_array().unwrap().as_slice() else { panic!("one slowdown") };
    assert_eq!((&found["injected_pct"], &found["runs"]), (&100.0.into(), &1.into()));
    assert_eq!(found["detected"], 1, "twice as slow cannot be missed: {found}");
    let estimate = found["estimate_pct_median"].as_f64().unwrap();
    assert!((60.0..140.0).contains(&estimate), "{estimate}");
    // Its size is measured in the comparison itself, and the estimate is one of that size.
    let actual = found["actual_pct_median"].as_f64().unwrap();
    assert!((60.0..140.0).contains(&actual) && (actual - estimate).abs() < 20.0, "{actual} {estimate}");
    let lines: Vec<Value> = journal(&world).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trials = || lines.iter().flat_map(|line| line["trials"].as_array().unwrap());
    let slowed: Vec<&Value> = trials().filter(|trial| trial["injected_pct"] == 100.0).collect();
    assert!(slowed.iter().all(|trial| trial["iterations"].as_u64().unwrap() > 1000), "{slowed:?}");
    assert!(trials().filter(|trial| trial["injected_pct"] == 0.0).all(|trial| trial["actual_pct"].is_null()));
    assert_eq!(document["workloads"][0]["workload"], TINY);

    // Everything is known already: nothing is compared again.
    let before = journal(&world);
    small(&world, &["--comparisons", "2", "--detections", "1"]).expect_code(0);
    assert_eq!(journal(&world), before);

    let record: Value = serde_json::from_slice(&fs::read(kept(&world)).unwrap()).unwrap();
    assert_eq!(record["host"]["id"], document["host"]["id"]);
    let compared = world.run(&[COMPARE, &["--json"]].concat()).document();
    let standing = &compared["calibration"];
    assert_eq!(standing["comparisons"], relink["comparisons"], "{standing}");
    assert_eq!(standing["differs"], serde_json::json!([]));
    // Three seconds against 24, and two estimates.
    assert_eq!(standing["guard_floor_pct"], serde_json::json!({}), "{standing}");
    // On a host that was too busy for any answer there is no floor to give a reason for.
    match document["workloads"][0]["noise_floor_pct"].as_f64() {
        Some(_) => assert!(standing["floors_unused"].as_str().unwrap().contains("3 s a workload"), "{standing}"),
        None => assert_eq!(standing["floors_unused"], Value::Null, "{standing}"),
    }
}

#[test]
fn a_small_slowdown_is_as_large_as_it_is_said_to_be_and_another_calibration_takes_no_place() {
    let world = prepared();
    let run = |more: &[&str]| {
        let args = ["calibrate", "--workload", TINY, "--form", "relink", "--comparisons", "0", "--detections", "2"];
        world.run(&[&args[..], &["--inject", "4@4s", "--json"], more].concat()).expect_code(0).document()
    };
    let document = run(&[]);
    let found = &document["detection"][0];
    // A host that is busier than when the slowdown was aimed stretches batches and not multiplications: what it was is
    // measured for that reason. Seen: 60 for 100.
    let actual = found["actual_pct_median"].as_f64().unwrap();
    assert!((2.0..8.0).contains(&actual), "{found}");
    // Each interval holds it in 99 of 100; both miss it in one of ten thousand.
    let is_answered = !found["estimate_pct_median"].is_null();
    assert!(!is_answered || found["covered"].as_u64().unwrap() >= 1, "{found}");
    let first = kept(&world);
    let before = fs::read(&first).unwrap();
    run(&["--seed", "2"]);
    assert_eq!(fs::read_dir(world.calibrations()).unwrap().count(), 2, "another seed is another calibration");
    assert_eq!(fs::read(first).unwrap(), before);
}

#[test]
fn a_calibration_of_another_kernel_or_compiler_is_said_with_every_verdict() {
    let world = prepared();
    small(&world, &["--comparisons", "1", "--detections", "1"]).expect_code(0);
    let file = kept(&world);
    let text = fs::read_to_string(&file).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let kernel = record["host"]["kernel_release"].as_str().unwrap();
    let host = record["host"]["id"].as_str().unwrap();
    edit(&file, &format!("\"kernel_release\": \"{kernel}\""), "\"kernel_release\": \"1.2.3-other\"");
    edit(&file, &format!("\"id\": \"{host}\""), "\"id\": \"0123456789abcdef\"");
    let compiler = record["compiler"].as_str().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    // The build's compiler, not the host's.
    let place = text.rfind(&format!("\"compiler\": \"{compiler}\"")).unwrap();
    let changed = text[place..].replacen(compiler, "other compiler 1.0", 1);
    fs::write(&file, format!("{}{changed}", &text[..place])).unwrap();

    let outcome = world.run(COMPARE);
    assert!(matches!(outcome.code, Some(0 | 3)), "{outcome:?}");
    for word in ["1.2.3-other", kernel, "other compiler 1.0"] {
        assert!(outcome.stdout.contains(word), "no `{word}` in {}", outcome.stdout);
    }
}

#[test]
fn a_calibration_that_cannot_be_read_is_an_error_not_an_absence() {
    let world = prepared();
    fs::create_dir_all(world.calibrations()).unwrap();
    fs::write(world.calibrations().join("damaged.json"), "{").unwrap();
    world.run(COMPARE).expect_refusal(4, &["damaged.json", "no calibration of this version"]);
    assert!(world.records().is_empty(), "before anything is measured");
    small(&world, &["--comparisons", "1", "--detections", "1"]).expect_code(4).expect_said(&["damaged.json"]);
    assert_eq!(journal(&world), "", "before anything is compared");
}

#[test]
fn rivals_are_compared_and_gone_on_with_and_say_what_with() {
    let world = prepared();
    let rivals = |runs: &str, more: &[&str]| {
        let args = ["calibrate", "--rivals", "--workload", TINY, "--method", "medians", "--budget", "1s", "--json"];
        world.run(&[&args[..], &["--rival-runs", runs], more].concat())
    };
    let document = rivals("1", &[]).expect_code(0).document();
    assert_eq!((&document["schema"], &document["partial"]), (&"rivals/1".into(), &false.into()));
    assert_eq!(document["method_sha256"].as_str().map(str::len), Some(64), "{document}");
    assert_eq!(document["build"], world.build()["id"]);
    let rows = document["rivals"].as_array().unwrap();
    assert_eq!(rows.len(), 8, "two rules, two kinds of pairs, two sizes");
    for row in rows {
        assert_eq!((&row["comparisons"], &row["without_answer"]), (&1.into(), &0.into()), "{row}");
        assert_eq!(row["sized_pct"].is_null(), row["injected_pct"] == 0.0, "{row}");
        let sized = row["sized_pct"].as_f64().unwrap_or(1.0);
        assert!((0.98..1.02).contains(&sized), "{row}");
    }
    let files = || fs::read_dir(world.work.join("calibration")).unwrap().map(|entry| entry.unwrap().path());
    let text = || fs::read_to_string(files().find(|path| path.is_file()).unwrap()).unwrap();
    let before = text();
    // One more round; what was done stays, and the time ends it after one comparison at least.
    let partial = rivals("2", &["--time", "100ms"]).expect_code(0).document();
    assert_eq!(partial["partial"], true);
    assert!(text().starts_with(&before) && text().lines().count() > 4, "{}", text());
    let done = text();
    rivals("2", &["--status"]).expect_code(0);
    assert_eq!(text(), done, "compares nothing");
}

#[test]
fn a_soak_that_was_killed_goes_on_where_it_was() {
    let world = prepared();
    let args = [SMALL, &["--comparisons", "4", "--detections", "1"]].concat();
    let mut run = world.start(&args);
    assert!(
        crate::support::eventually_within(std::time::Duration::from_secs(300), || journal(&world).lines().count() >= 2
            || !run.goes_on()),
        "no comparison was done"
    );
    run.signal(libc::SIGKILL);
    run.wait();
    world.assert_no_worker_is_left();
    let before = journal(&world);
    let document = world.run(&args).expect_code(0).document();
    assert_eq!(document["partial"], false);
    assert!(journal(&world).starts_with(&before), "what was done stays");
    assert_eq!(journal(&world).lines().count(), 5, "four comparisons of equal things and one slowdown");
}

#[test]
fn a_soak_that_was_killed_leaves_no_load_behind() {
    let world = prepared();
    // Its first comparison is one beside a busy neighbour.
    let mut run = world.start(&["calibrate", "--workload", TINY, "--form", "neighbour", "--budget", "3s"]);
    let limit = std::time::Duration::from_secs(300);
    let mut loads = vec![];
    assert!(
        crate::support::eventually_within(limit, || {
            loads = busy_neighbours(|parent| parent == run.pid());
            !loads.is_empty() || !run.goes_on()
        }),
        "no load was started"
    );
    if loads.is_empty() {
        let outcome = run.wait().expect_said(&["lends one CPU"]);
        eprintln!("NOT RUN: a load needs another CPU: {}", outcome.stderr.trim());
        return;
    }
    run.signal(libc::SIGKILL);
    run.wait();
    let left = || busy_neighbours(|_| true).into_iter().filter(|pid| loads.contains(pid)).collect::<Vec<_>>();
    assert!(crate::support::eventually(|| left().is_empty()), "still running: {:?}", left());
    world.assert_no_worker_is_left();
}

/// Process ids of loads whose parent is so.
fn busy_neighbours(is_parent: impl Fn(u32) -> bool) -> Vec<u32> {
    let of = |entry: fs::DirEntry| -> Option<u32> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        (is_parent(parent) && command.contains("# busy neighbour")).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

#[test]
fn a_soak_that_is_out_of_time_says_what_it_has_done() {
    let world = prepared();
    let args = ["--comparisons", "500", "--detections", "1", "--time", "1s"];
    let outcome = small(&world, &args).expect_code(0);
    let document = outcome.document();
    assert_eq!(document["partial"], true);
    assert!(outcome.stderr.contains(" of 501 comparisons done"), "{}", outcome.stderr);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::prepared();
    for (args, word) in [
        (["--form", "nothing"], "byte-copy"),
        (["--inject", "1"], "PCT@TIME"),
        (["--inject", "0@3s"], "no slowdown"),
        (["--workload", "no.such"], "no.such"),
    ] {
        let outcome = world.run(&[&["calibrate"], &args[..]].concat()).expect_code(1);
        assert!(outcome.stderr.contains(word), "{args:?}: {}", outcome.stderr);
    }
    // What rivals do not know is refused, not ignored.
    for (args, word) in [
        (["--form", "relink"], "cannot be used with"),
        (["--inject", "1@3s"], "cannot be used with"),
        (["--comparisons", "3"], "cannot be used with"),
        (["--detections", "3"], "cannot be used with"),
        (["--rival-runs", "0"], "0 is not in"),
    ] {
        let outcome = world.run(&[&["calibrate", "--rivals"], &args[..]].concat()).expect_code(1);
        assert!(outcome.stderr.contains(word), "{args:?}: {}", outcome.stderr);
    }
    world.run(&["calibrate", "--status", "--workload", "tls.*"]).expect_refusal(1, &["nothing has been compared yet"]);
}
