//! A run that is killed at any instant, and resumed: the same ledger, the same inputs of the verdict, nothing left behind.

use crate::lab::Lab;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Kills in CI.
const FEW: u64 = 2;
/// Kills in a soak.
const MANY: u64 = 50;

const RUN: &[&str] = &["exp", "run", "1", "--quick", "--json"];

/// Everything below a folder, so that it can be put back.
fn saved(from: &Path, to: &Path) {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(from).arg(to);
    crate::support::finish(copy).expect_code(0);
}

/// A run that nothing disturbs, and then the same from the same beginning with kills. Instants are spread over the length of
/// the run by a fixed sequence; where a run has ended by itself, the next kill begins a new one.
fn killed(kills: u64) {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let (experiments, beginning) = (lab.world.root.join("experiments"), lab.world.folder.path().join("beginning"));
    saved(&experiments, &beginning);
    // What is built once is no part of the length.
    lab.world.run(RUN).expect_code(3);
    let afresh = || {
        fs::remove_dir_all(&experiments).unwrap();
        saved(&beginning, &experiments);
        lab.forget_runs();
    };
    afresh();
    let started = Instant::now();
    lab.world.run(RUN).expect_code(3);
    let length = started.elapsed();
    let expected = lab.inputs(&id);
    let kinds = lab.kinds(&id);
    assert_eq!(kinds, ["opened", "attached", "begun", "gated", "measured", "decided"]);

    let (mut killed, mut ended, mut state) = (0_u64, 0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut where_killed: Vec<String> = Vec::new();
    afresh();
    while killed < kills {
        if killed % 2 == 0 {
            // Every other one begins anew: there is a gate to be killed in again.
            check_whole(&lab, &id, &kinds);
            afresh();
        }
        // xorshift, spread over the run: the same instants, relative to its length, in every run of this test.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let drawn = (state >> 11) as f64 / (1_u64 << 53) as f64;
        let share = ((killed * 3 % kills) as f64 + drawn) / kills as f64;
        let mut run = lab.world.start(RUN);
        std::thread::sleep(length.mul_f64(share));
        if !run.goes_on() {
            run.wait().expect_code(3);
            ended += 1;
            check(&lab, &id, &expected, &kinds);
            afresh();
            continue;
        }
        run.signal(libc::SIGKILL);
        assert_eq!(run.wait().code, None, "ended by the signal");
        killed += 1;
        // Whatever is there is whole.
        let entries = lab.kinds(&id);
        where_killed.push(format!("{:.2} after {}", share, entries.last().unwrap()));
        lab.world.assert_no_worker_is_left();
        if killed == 1 {
            // The lock went with the process that held it, and is held by the one that goes on.
            let mut first = lab.world.start(RUN);
            let lock = lab.world.work.join("lock");
            let holds = format!("process {}", first.pid());
            assert!(crate::support::eventually(|| fs::read_to_string(&lock).is_ok_and(|text| text.contains(&holds))));
            if first.goes_on() {
                lab.world.run(RUN).expect_code(6).expect_said(&["another run", "exp run"]);
            }
            first.signal(libc::SIGKILL);
            drop(first.wait());
        }
    }
    // The same command goes on, to its end.
    lab.world.run(RUN).expect_code(3);
    check(&lab, &id, &expected, &kinds);
    println!("{killed} kills over runs of {:.1} s, {ended} ended before: {where_killed:?}", length.as_secs_f64());
}

/// Whatever a kill has left is the beginning of what a whole run leaves.
fn check_whole(lab: &Lab, id: &str, kinds: &[String]) {
    let entries = lab.kinds(id);
    assert_eq!(entries[..], kinds[..entries.len()], "the same entries in the same order");
    // Pages may be stale, and files may be there that no entry speaks of yet; nothing looks like tampering.
    let checked = lab.world.run(&["ledger", "check"]);
    assert!(matches!(checked.code, Some(0 | 2)), "{checked:?}");
}

fn check(lab: &Lab, id: &str, expected: &Value, kinds: &[String]) {
    assert_eq!(lab.kinds(id), kinds, "each step is in the ledger once");
    assert_eq!(&lab.inputs(id), expected, "a resumed run draws the same, and tests the same");
    lab.world.run(&["ledger", "check"]).expect_code(0);
    lab.assert_nothing_is_left();
    // What was measured before a kill is kept beside what counts.
    let cut: Vec<PathBuf> = fs::read_dir(lab.folder(id))
        .unwrap()
        .flatten()
        .flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("cut-short-"))
        .collect();
    for file in cut {
        assert!(file.metadata().unwrap().len() > 0, "{}", file.display());
    }
}

#[test]
#[ignore = "some minutes; part of the soak"]
fn killed_at_some_instants_a_run_goes_on_as_if_nothing_had_happened() {
    killed(FEW);
}

/// A long run: `cargo xtask test --soak`.
#[test]
#[ignore = "takes a quarter of an hour and more; part of the soak"]
fn killed_at_fifty_instants_a_run_goes_on_as_if_nothing_had_happened() {
    killed(MANY);
}

#[test]
#[ignore = "a whole run besides that of the kills; part of the soak"]
fn ctrl_c_leaves_a_state_from_which_the_same_command_resumes() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let mut run = lab.world.start(RUN);
    let steps = lab.world.work.join("steps");
    let measuring = || {
        let journals = fs::read_dir(&steps).into_iter().flatten().flatten();
        let tries = journals.flat_map(|step| fs::read_dir(step.path()).into_iter().flatten().flatten());
        tries.into_iter().any(|of| of.path().join("launches.jsonl").metadata().is_ok_and(|m| m.len() > 0))
    };
    assert!(crate::support::eventually_within(Duration::from_secs(300), measuring), "it does not measure");
    assert!(run.goes_on());
    run.signal(libc::SIGINT);
    run.wait().expect_code(130);
    assert_eq!(lab.kinds(&id), ["opened", "attached", "begun", "gated"], "what was done is kept, and no more is said");
    lab.exp(&["resume", "1"]).expect_code(3);
    assert_eq!(lab.kinds(&id), ["opened", "attached", "begun", "gated", "measured", "decided"]);
    let cut = lab.entries().iter().any(|entry| entry["files"].to_string().contains("cut-short-1.jsonl.gz"));
    assert!(cut, "its samples are kept");
    lab.assert_nothing_is_left();
}
