//! A disk that is full or fails at each write of a run, a clock that was set back, a ledger that was edited.

use crate::lab::Lab;
use crate::support::{Outcome, finish};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

const RUN: &[&str] = &["exp", "run", "1", "--quick", "--json"];

/// Runs the program with a write that fails: `N:KIND[:PART]`, see `failpoint.rs`.
fn failing(lab: &Lab, failpoint: &str, args: &[&str]) -> Outcome {
    let mut command = lab.world.command(args);
    command.env("LIBEVENT_PERF_FAIL_WRITE", failpoint);
    finish(command)
}

/// What failed, by the end of its path and the last entry that was there.
fn failed_at(outcome: &Outcome, last: &str) -> Option<String> {
    let path = outcome.stderr.lines().find_map(|line| line.strip_prefix("failpoint: "))?;
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(format!("{name} after {last}"))
}

#[test]
#[ignore = "a run for every write of a run; part of the soak"]
fn a_disk_that_is_full_at_any_write_costs_nothing_but_the_command() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let (experiments, beginning) = (lab.world.root.join("experiments"), lab.world.folder.path().join("beginning"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(from).arg(to);
        finish(copy).expect_code(0);
    };
    copy(&experiments, &beginning);
    let first = lab.world.run(RUN).expect_code(3).document();
    let kinds = lab.kinds(&id);
    assert_eq!(kinds, ["opened", "attached", "begun", "gated", "measured", "decided"]);

    // Every write, one after the other: of what is written when the steps have their results, and of the steps themselves.
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    for (part, forgets) in [("", false), ("/steps/", true)] {
        for number in 1.. {
            fs::remove_dir_all(&experiments).unwrap();
            copy(&beginning, &experiments);
            if forgets {
                lab.forget_runs();
            } else {
                fs::remove_dir_all(lab.world.work.join("experiments")).unwrap_or(());
            }
            let before = fs::read(lab.ledger()).unwrap();
            let outcome = failing(&lab, &format!("{number}:full:{part}"), RUN);
            let after = fs::read(lab.ledger()).unwrap();
            assert!(after.starts_with(&before), "write {number}: what was written stays");
            // Whole lines, or the rest of one that the next command sets aside.
            let acknowledged = after.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert!(whole_lines(&after[..acknowledged]), "write {number}");
            let last = lab.kinds(&id).pop().unwrap();
            let Some(place) = failed_at(&outcome, &last) else {
                // There was no such write.
                assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
                break;
            };
            assert_eq!(outcome.code, Some(4), "{place}: {}", outcome.stderr);
            *failed.entry(place.clone()).or_default() += 1;
            // With space again, the same command ends as the first one did, but for what a clock says.
            let ended = lab.world.run(RUN).expect_code(3).document();
            assert_eq!(lab.kinds(&id), kinds, "{place}");
            assert_eq!(ended["decision"]["verdict"], first["decision"]["verdict"], "{place}");
            lab.world.run(&["ledger", "check"]).expect_code(0);
        }
    }
    println!("failed writes: {failed:#?}");
    for place in [
        "ledger.jsonl after attached",
        "gate.json after begun",
        "ledger.jsonl after begun",
        "compare.json after gated",
        "ledger.jsonl after gated",
        "ledger.jsonl after measured",
        "EXPERIMENTS.md after decided",
        "result.json after begun",
        "result.json after gated",
    ] {
        assert!(failed.contains_key(place), "no failure of {place}: {failed:#?}");
    }
    lab.assert_nothing_is_left();
}

#[test]
fn a_step_that_the_host_ends_is_an_answer_that_says_nothing_of_the_patch() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let ran = failing(&lab, "1:broken:/steps/gate-", RUN).expect_code(4).document();
    assert_eq!((&ran["state"], &ran["decision"]["verdict"]), (&"infra-error".into(), &"infra-error".into()));
    assert_eq!(lab.kinds(&id), ["opened", "attached", "begun", "decided"]);
    let text = ran["decision"]["reasons"].to_string();
    assert!(text.contains("a step ended without a result") && text.contains("$WORK/steps/gate-"), "{text}");
    assert!(!text.contains(lab.world.work.to_str().unwrap()), "a folder of this machine: {text}");
    // It is measured anew with a reason only.
    lab.world.run(RUN).expect_code(4).expect_said(&["has ended", "--reason"]);
    assert_eq!(lab.kinds(&id).len(), 4);
    lab.world.run(&["ledger", "check"]).expect_code(0);
}

fn whole_lines(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .all(|line| serde_json::from_slice::<Value>(line).is_ok())
}

#[test]
fn a_ledger_that_was_edited_is_tampering_with_its_line() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    lab.exp(&["note", &id, "a third line"]).expect_code(0);
    let text = fs::read_to_string(lab.ledger()).unwrap();
    let first = text.lines().next().unwrap();
    fs::write(lab.ledger(), text.replacen("a test's own", "a tester's", 1)).unwrap();
    assert_ne!(fs::read_to_string(lab.ledger()).unwrap().lines().next().unwrap(), first);
    for args in [&["show", "1"][..], &["run", "1", "--quick"], &["accept", "1", "--reason", "x"], &["list"]] {
        lab.exp(args).expect_code(5).expect_said(&["ledger.jsonl:1:", "restore the file from git"]);
    }
    fs::write(lab.ledger(), &text).unwrap();
    lab.exp(&["show", "1"]).expect_code(0);

    // A patch that is not what was attached.
    let patch = fs::read_dir(lab.folder(&id)).unwrap().flatten().map(|entry| entry.path());
    let patch = patch.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "patch")).unwrap();
    let content = fs::read_to_string(&patch).unwrap();
    fs::write(&patch, content.replace("return 1", "return 2")).unwrap();
    lab.exp(&["run", "1", "--quick"]).expect_code(5).expect_said(&["is not what the ledger says"]);
    fs::remove_file(&patch).unwrap();
    lab.exp(&["run", "1", "--quick"]).expect_code(5).expect_said(&["is gone"]);
    // What could not be run is not taken up again either.
    lab.exp(&["park", "1", "--reason", "its patch is gone"]).expect_code(0);
    lab.exp(&["resume", "1", "--quick", "--reason", "anew"]).expect_code(5).expect_said(&["is gone"]);
    assert_eq!(lab.kinds(&id).last().unwrap(), "parked");
}

#[test]
#[ignore = "a run of its own; part of the soak"]
fn a_clock_that_was_set_back_is_marked_and_changes_no_order() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    // An entry of a host whose clock is years ahead, as the last one, in a ledger without anything that knows its head.
    let mut lines: Vec<String> = fs::read_to_string(lab.ledger()).unwrap().lines().map(str::to_owned).collect();
    let last = lines.pop().unwrap();
    let mut entry: Value = serde_json::from_str(&last).unwrap();
    let time = entry["time"].as_str().unwrap().to_owned();
    entry["time"] = "2099-01-01T00:00:00Z".into();
    lines.push(last.replacen(&time, "2099-01-01T00:00:00Z", 1));
    fs::write(lab.ledger(), lines.join("\n") + "\n").unwrap();
    for page in ["EXPERIMENTS.md", "SUMMARY.md"] {
        fs::remove_file(lab.world.root.join("experiments").join(page)).unwrap_or(());
    }
    lab.exp(&["note", &id, "written with the right clock"]).expect_code(0).expect_said(&["clock"]);
    let entries = lab.entries();
    assert_eq!(entries[2]["clock_set_back"], true);
    assert_eq!(entries[2]["sequence"], 3);
    let log = lab.exp(&["log"]).expect_code(0).document();
    let kinds: Vec<&str> = log["entries"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "attached", "noted"]);
    lab.world.run(&["ledger", "check"]).expect_code(0);
}
