//! A full disk at each write, a clock that was set back, a ledger that was edited: of a run whose steps have their results, so
//! that all that is left is to write.

use crate::lab::Lab;
use crate::support::{Outcome, finish};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt as _;

/// Runs the program with a limit on the size of every file that it writes: beyond it, writes fail as on a full disk.
fn within(lab: &Lab, bytes: u64, args: &[&str]) -> Outcome {
    let mut command = lab.world.command(args);
    // SAFETY: between fork and exec only system calls on values of this stack frame are made.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    finish(command)
}

#[test]
fn a_disk_that_is_full_at_any_write_costs_nothing_but_the_command() {
    let lab = Lab::new();
    let id = lab.proposed(&lab.harmless());
    let beginning = fs::read(lab.ledger()).unwrap();
    let run = ["exp", "run", "1", "--quick", "--json"];
    let first = lab.world.run(&run).expect_code(3).document();
    let whole = fs::read_to_string(lab.ledger()).unwrap();
    let lengths: Vec<usize> = whole.split_inclusive('\n').map(str::len).collect();

    // The folder and the ledger as before the run; results of the steps stay in the work folder.
    for entry in fs::read_dir(lab.folder(&id)).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    fs::write(lab.ledger(), &beginning).unwrap();
    for page in ["EXPERIMENTS.md", "SUMMARY.md", "series"] {
        fs::remove_file(lab.world.root.join("experiments").join(page)).unwrap_or(());
    }
    // Nothing, the first file, some bytes of each entry, one byte less than each.
    let mut limits: Vec<u64> = vec![0, 1, 100];
    let mut end = beginning.len() as u64;
    for length in &lengths[2..] {
        limits.extend([end, end + 1, end + *length as u64 / 2, end + *length as u64 - 1]);
        end += *length as u64;
    }
    let mut failed = 0;
    for limit in limits {
        let before = fs::read(lab.ledger()).unwrap();
        let outcome = within(&lab, limit, &run);
        let after = fs::read(lab.ledger()).unwrap();
        assert!(after.starts_with(&before), "within {limit}: what was written stays");
        // Whole lines, or the rest of one that the next command sets aside.
        let acknowledged = after.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert!(whole_lines(&after[..acknowledged]), "within {limit}");
        match outcome.code {
            Some(4) => failed += 1,
            Some(3) => break,
            other => panic!("within {limit}: exit code {other:?}: {}", outcome.stderr),
        }
    }
    assert!(failed >= 3, "{failed}");
    // With space again, the same command ends as the first one did, but for what a clock says.
    if lab.kinds(&id).last().unwrap() != "decided" {
        let last = lab.world.run(&run).expect_code(3).document();
        assert_eq!(last["decision"], first["decision"]);
    }
    assert_eq!(lab.kinds(&id), ["opened", "attached", "gated", "measured", "decided"]);
    lab.world.run(&["ledger", "check"]).expect_code(0);
    lab.assert_nothing_is_left();
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
