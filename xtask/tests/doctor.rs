//! `cargo xtask doctor` as its users run it.

use assert_cmd::Command;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

/// What doctor promises: an answer within about 20 s.
const LIMIT: Duration = Duration::from_secs(20);

fn doctor() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["doctor", "--json"]);
    command
}

/// Runs doctor, checks what holds on every host, and returns the document and the exit code.
fn answer(command: std::process::Command) -> (Value, i32) {
    let output = Command::from_std(command).timeout(LIMIT).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.trim_start_matches(['{', '\n', ' ']).starts_with("\"schema\": \"doctor/1\""), "{text}");
    let document: Value = serde_json::from_str(&text).expect("exactly one JSON document");
    assert_eq!(document["partial"], false);
    assert_eq!(document["host"]["id"].as_str().unwrap().len(), 16);

    let mut names = BTreeSet::new();
    for check in document["checks"].as_array().unwrap() {
        let name = check["name"].as_str().unwrap();
        assert!(names.insert(name), "{name} is there twice");
        let (status, fix) = (check["status"].as_str().unwrap(), check["fix"].as_str());
        assert!(["ok", "degraded", "missing", "unknown"].contains(&status), "{check}");
        assert_eq!(status != "ok", fix.is_some_and(|fix| !fix.is_empty()), "a fix for all that is not ok: {check}");
        assert!(status != "unknown" || check["value"].is_null(), "unknown figures are null: {check}");
        assert!(!check["why"].as_str().unwrap().is_empty(), "{check}");
    }
    let code = output.status.code().expect("ended by itself");
    let blocked = document["checks"].as_array().unwrap().iter().any(|check| check["blocks"] == true);
    assert_eq!(document["can_measure"], !blocked);
    assert_eq!(code, if blocked { 4 } else { 0 });
    (document, code)
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut all = document["checks"].as_array().unwrap().iter();
    all.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check {name}"))
}

#[test]
fn looks_at_everything_that_moves_figures() {
    let (document, _) = answer(doctor());
    for name in [
        "cores",
        "pinning",
        "cpu_quota",
        "governor",
        "turbo",
        "smt",
        "aslr",
        "perf_event_paranoid",
        "hardware_counters",
        "tracepoints",
        "ptrace",
        "steal",
        "other_processes",
        "clock_monotonic",
        "clock_process_cpu",
        "launch_noise",
        "transparent_huge_pages",
        "memory",
        "disk",
        "open_files",
        "valgrind",
        "cmake",
        "libclang",
    ] {
        check(&document, name);
    }
    let noise = &check(&document, "launch_noise")["value"];
    assert!(noise["launches"].as_u64().unwrap() >= 4);
    assert!(noise["median_ns"].as_u64().unwrap() > 0, "fixed work takes time");
    assert!(noise["range_pct"].as_f64() >= noise["spread_pct"].as_f64());
}

#[test]
fn one_cpu_is_shared_by_worker_and_peers() {
    let (everywhere, _) = answer(doctor());
    let allowed = check(&everywhere, "cores")["value"]["allowed"].as_array().unwrap().clone();
    let only = usize::try_from(allowed[0].as_u64().unwrap()).unwrap();

    let mut command = doctor();
    // SAFETY: between fork and exec only sched_setaffinity is called, on a mask of this stack frame.
    unsafe {
        command.pre_exec(move || {
            let mut mask: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(only, &mut mask);
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const mask) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let (document, _) = answer(command);
    assert_eq!(document["host"]["cores_allowed"], 1);
    assert_eq!(check(&document, "cores")["value"]["allowed"], serde_json::json!([only]));
    assert_eq!(check(&document, "cores")["status"], "degraded");
    let pinning = check(&document, "pinning");
    assert_eq!(pinning["status"], "degraded");
    assert_eq!(pinning["value"]["shared"], true);
    assert_eq!(pinning["value"]["worker"], only);
    assert_eq!(pinning["value"]["peers"], serde_json::json!([only]));
    if allowed.len() > 1 {
        assert_ne!(document["host"]["id"], everywhere["host"]["id"], "one CPU is another host to a calibration");
    }
}

#[test]
fn answers_without_any_tool_and_says_what_blocks() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = doctor();
    command.env("PATH", empty.path()).env("LIBCLANG_PATH", empty.path());
    let (document, code) = answer(command);
    assert_eq!(code, 4, "no package manager in PATH could install them");
    for tool in ["cc", "git", "cmake", "ninja", "libclang"] {
        let check = check(&document, tool);
        assert_eq!((&check["status"], &check["blocks"]), (&"missing".into(), &true.into()), "{check}");
    }
    assert_eq!(check(&document, "clang")["blocks"], false, "bench does without it");
    assert_eq!(document["host"]["compiler"], Value::Null);
}

#[test]
fn people_are_told_the_fix_for_everything_that_is_not_ok() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("doctor");
    let output = Command::from_std(command).timeout(LIMIT).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let wanting = text
        .lines()
        .filter(|line| ["degraded", "missing", "unknown"].contains(&line.split_whitespace().next().unwrap_or("")))
        .count();
    assert_eq!(text.lines().filter(|line| line.starts_with("  fix: ")).count(), wanting, "{text}");
    assert!(text.contains("measuring is "), "{text}");
}
