//! Workloads that users add: the examples work, hostile ones are told apart, mistakes are named.
//!
//! A worker with them is built by cargo into a target folder of its own; what cargo compiled for this
//! test already, the dependencies and libevent, is used again (cargo before 1.91 compiles it anew).

mod support;

use model::protocol::Message;
use model::workload::Metric;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::time::Duration;
use support::{run, run_within};

const TARGET: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/user-workloads");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/user_workloads");
const HOSTILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/hostile.c");

/// One build at a time in the shared target folder.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds a worker with `files` and copies it away, since the next build replaces it.
fn build(files: &[&str], copy: &str) -> Result<PathBuf, String> {
    let _one = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Output { status, stderr, .. } = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--bin", "bench-worker", "--features", "user-workloads-test"])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .env("CARGO_TARGET_DIR", TARGET)
        .env("CARGO_BUILD_BUILD_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder of cargo's"))
        .env("BENCH_USER_WORKLOADS", files.join(":"))
        .output()
        .expect("cargo starts");
    if !status.success() {
        return Err(String::from_utf8_lossy(&stderr).into_owned());
    }
    let path = Path::new(TARGET).join(copy);
    fs::copy(Path::new(TARGET).join("debug/bench-worker"), &path).expect("the worker was built");
    Ok(path)
}

#[test]
fn the_examples_are_measured_like_our_own_workloads() {
    let c = format!("{EXAMPLES}/hello.c");
    let rust = format!("{EXAMPLES}/hello.rs");
    let worker = build(&[&c, &rust], "with-examples").expect("the examples compile");

    let listed = run(&worker, &["list"], "").messages();
    let [Message::List(list)] = listed.as_slice() else { panic!("{listed:?}") };
    for name in ["hello.prepend.32", "hello.pullup.4096"] {
        let spec = list.workloads.iter().find(|workload| workload.name == name).expect(name);
        assert!(spec.exact_counts && !spec.threads && spec.metric == Metric::CpuTime);

        let finished = run(&worker, &["verify", "--workload", name, "--batches", "3"], "");
        assert_eq!(finished.code(), Some(0), "{}", finished.stdout);
        let messages = run(&worker, &["run", "--workload", name], "batches 4\n").messages();
        let [Message::Ready(ready), Message::Batches(batches), Message::Bye(_)] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!(ready.batch_events, spec.batch_events);
        assert_eq!(batches.samples.len(), 4);
        assert!(batches.samples.iter().all(|sample| sample.checksum == spec.checksum && sample.wall_time_ns > 0));
    }
}

#[test]
fn hostile_workloads_are_told_apart_and_correct_ones_beside_them_work() {
    let worker = build(&[HOSTILE], "with-hostile").expect("the fixture compiles");
    let verify = |name: &str| run(&worker, &["verify", "--workload", &format!("hostile.{name}")], "");

    assert_eq!(verify("correct").code(), Some(0));
    for (name, said) in [
        ("wrong_checksum", "batch 1: expected checksum 0x00000000000003e8, got 0x00000000000003e9"),
        ("few_events", "batch 1: expected 1000 events, got 999"),
        ("setup_fails", "this workload never sets up"),
        ("run_fails", "this workload cannot run"),
    ] {
        let finished = verify(name);
        assert_eq!(finished.code(), Some(2), "{name}");
        let failure = finished.failure();
        assert!(failure.contains(said) && failure.contains(&format!("hostile.{name}")), "{failure}");
        let session = run(&worker, &["run", "--workload", &format!("hostile.{name}")], "batches 1\n");
        assert_eq!(session.code(), Some(2), "{name}");
        assert!(session.failure().contains(said), "{}", session.failure());
    }
    assert_eq!(verify("crash").status.signal(), Some(11), "SIGSEGV is not hidden");
    let limit = Duration::from_secs(2);
    assert!(run_within(limit, &worker, &["verify", "--workload", "hostile.hang"], "").is_none(), "it hangs");
}

#[test]
fn mistakes_in_user_files_end_the_build_with_their_reason() {
    let folder = tempfile::tempdir().expect("scratch folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("scratch file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let missing = folder.path().join("missing.c").to_str().expect("UTF-8").to_owned();
    let broken = write("broken.c", "#include <bench_workload.h>\nthis is no C\n");
    let other = write("notes.txt", "");
    for (file, said) in [
        ("hello.c", "must be an absolute path"),
        (missing.as_str(), "does not exist"),
        (other.as_str(), "a workload is a .c or a .rs file"),
        (broken.as_str(), "does not compile"),
    ] {
        let error = build(&[file], "never").expect_err(file);
        assert!(error.contains(said) && error.contains("BENCH_USER_WORKLOADS"), "{file}: {error}");
    }
}
