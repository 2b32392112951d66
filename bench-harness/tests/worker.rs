//! The worker's commands, end to end, against libevent as libevent-sys built it.

mod support;

use model::protocol::{Message, PROTOCOL_VERSION};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Finished, run};

/// A workload that is quick to set up and always there.
const WORKLOAD: &str = "signals.raise";

fn worker(arguments: &[&str], input: &str) -> Finished {
    run(Path::new(env!("CARGO_BIN_EXE_bench-worker")), arguments, input)
}

#[test]
fn list_names_what_the_worker_can_do() {
    let finished = worker(&["list"], "");
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let messages = finished.messages();
    let [Message::List(list)] = messages.as_slice() else { panic!("one list, not {messages:?}") };
    assert_eq!(list.protocol, PROTOCOL_VERSION);
    assert_eq!(list.variant, "unlinked", "cargo's binary has no variant, and says so");
    assert!(!list.libevent_version.is_empty());
    assert!(!list.backends.is_empty());
    let names: BTreeSet<&str> = list.workloads.iter().map(|workload| workload.name.as_str()).collect();
    assert_eq!(names.len(), list.workloads.len(), "names are unique");
    assert!(names.contains(WORKLOAD));
    let needs: Vec<&String> = list.workloads.iter().filter_map(|workload| workload.needs.as_ref()).collect();
    assert!(needs.iter().all(|need| list.features.contains(need)), "only what this build can run: {needs:?}");
}

#[test]
fn verify_does_the_work_of_every_named_workload() {
    let finished = worker(&["verify", "--workload", WORKLOAD, "--workload", "signals.burst.32", "--batches", "3"], "");
    assert_eq!(finished.code(), Some(0), "{}", finished.stdout);
    let messages = finished.messages();
    let [Message::Verified(first), Message::Verified(second)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((first.workload.as_str(), second.workload.as_str()), (WORKLOAD, "signals.burst.32"));
    assert_eq!((first.batches, second.batches), (3, 3));
    assert!(first.batch_wall_time_ns > 0 && first.overhead_wall_time_ns > 0);
}

#[test]
fn verify_goes_on_after_a_failure() {
    let finished = worker(&["verify", "--workload", "no.such", "--workload", WORKLOAD], "");
    assert_eq!(finished.code(), Some(2));
    let messages = finished.messages();
    let [Message::Failed(failed), Message::Verified(verified)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(failed.workload.as_deref(), Some("no.such"));
    assert!(failed.error.contains("unknown workload `no.such`"), "{}", failed.error);
    assert_eq!(verified.workload, WORKLOAD);
}

#[test]
fn run_answers_every_command_with_as_many_samples() {
    let finished = worker(&["run", "--workload", WORKLOAD], "batches 2\nbatches 5\nquit\n");
    assert_eq!(finished.code(), Some(0), "{}", finished.stdout);
    let messages = finished.messages();
    let [Message::Ready(ready), Message::Batches(two), Message::Batches(five), Message::Bye(bye)] = messages.as_slice()
    else {
        panic!("{messages:?}")
    };
    assert_eq!((ready.protocol, ready.workload.as_str()), (PROTOCOL_VERSION, WORKLOAD));
    assert_eq!(ready.variant, "unlinked");
    assert!(!ready.cpus.is_empty() && !ready.backend.is_empty() && !ready.libevent_version.is_empty());
    assert_eq!((two.samples.len(), five.samples.len()), (2, 5));
    for sample in two.samples.iter().chain(&five.samples) {
        assert_eq!(sample.events, ready.batch_events);
        assert_eq!(sample.checksum, two.samples[0].checksum);
        assert!(sample.wall_time_ns > 0 && sample.cpu_time_ns > 0);
    }
    assert!(bye.peak_rss_kib > 0);
}

#[test]
fn the_end_of_input_ends_a_run_like_quit() {
    for input in ["", "batches 1\n", "batches 1"] {
        let finished = worker(&["run", "--workload", WORKLOAD], input);
        assert_eq!(finished.code(), Some(0));
        assert!(matches!(finished.messages().last(), Some(Message::Bye(_))), "{}", finished.stdout);
    }
}

#[test]
fn latencies_are_reported_with_buckets_that_add_up() {
    let finished = worker(&["run", "--workload", "limits.callbacks.8"], "batches 2\nbatches 1\n");
    let counts: Vec<u64> = finished
        .messages()
        .into_iter()
        .filter_map(|message| match message {
            Message::Batches(batches) => batches.latency,
            _ => None,
        })
        .map(|latency| {
            assert_eq!(latency.count, latency.buckets.iter().map(|(_, count)| count).sum::<u64>());
            assert!(latency.p50_ns <= latency.p95_ns && latency.p95_ns <= latency.p99_ns);
            assert!(latency.p99_ns <= latency.max_ns);
            latency.count
        })
        .collect();
    assert_eq!(counts.len(), 2);
    assert_eq!(counts[0], 2 * counts[1], "each answer has the latencies of its own batches");
}

#[test]
fn an_unknown_workload_or_command_is_a_failure_in_the_protocol() {
    let finished = worker(&["run", "--workload", "no.such"], "batches 1\n");
    assert_eq!(finished.code(), Some(2));
    assert!(finished.failure().contains("unknown workload `no.such`"));

    let finished = worker(&["run", "--workload", WORKLOAD], "batches 1\nfaster please\n");
    assert_eq!(finished.code(), Some(2));
    assert!(finished.failure().contains("unknown command `faster please`"), "{}", finished.failure());
    assert!(matches!(finished.messages()[1], Message::Batches(_)), "what came before stays valid");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [&["run"][..], &["dance"], &["list", "--workload", "a"], &[]] {
        let finished = worker(arguments, "");
        assert_eq!(finished.code(), Some(1), "{arguments:?}");
        assert!(finished.stdout.is_empty() && finished.stderr.contains("usage:"), "{arguments:?}");
    }
}

#[test]
fn pinning_is_reported_and_refused_for_cpus_that_do_not_exist() {
    let Message::Ready(free) = worker(&["run", "--workload", WORKLOAD], "").messages().remove(0) else { panic!() };
    let last = *free.cpus.last().expect("the test runs somewhere");
    let pinned = worker(&["--cpu", &last.to_string(), "run", "--workload", WORKLOAD], "");
    let Message::Ready(pinned) = pinned.messages().remove(0) else { panic!() };
    assert_eq!(pinned.cpus, [last]);

    // The second is beyond what the sets of this program hold, the first beyond what kernels support.
    for absent in ["60000", "100000"] {
        let finished = worker(&["--cpu", absent, "run", "--workload", WORKLOAD], "batches 1\n");
        assert_eq!(finished.code(), Some(2), "CPU {absent}");
        assert!(finished.failure().contains(&format!("cannot pin to CPU {absent}")), "{}", finished.failure());
    }
}

#[test]
fn threads_make_progress_on_a_single_cpu() {
    let Message::Ready(free) = worker(&["run", "--workload", WORKLOAD], "").messages().remove(0) else { panic!() };
    let cpu = free.cpus[0].to_string();
    for workload in ["threads.active.running.p4", "threads.active.asleep.p4"] {
        let finished = worker(&["--cpu", &cpu, "verify", "--workload", workload, "--batches", "2"], "");
        assert_eq!(finished.code(), Some(0), "{}", finished.stdout);
    }
}

/// `producer-0` and so on of a process, with the CPUs that the kernel lets each run on.
fn producers(process: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the worker runs");
    let mut producers: Vec<(String, String)> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter_map(|status| {
            let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
            Some((field("Name:")?, field("Cpus_allowed_list:")?))
        })
        .filter(|(name, _)| name.starts_with("producer-"))
        .collect();
    producers.sort();
    producers
}

#[test]
fn producers_run_beside_the_cpu_of_the_worker_where_there_is_another() {
    let Message::Ready(free) = worker(&["run", "--workload", WORKLOAD], "").messages().remove(0) else { panic!() };
    let (own, others) = free.cpus.split_first().expect("the test runs somewhere");
    // With none, one, and (where the host has them) two other CPUs.
    for others in (0..=others.len().min(2)).map(|count| &others[..count]) {
        let all: Vec<String> = others.iter().chain([own]).map(usize::to_string).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench-worker"))
            .args(["--cpu", &own.to_string(), "run", "--workload", "threads.active.running.p4"])
            .env("BENCH_ALL_CPUS", all.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("worker starts");
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        output.read_line(&mut ready).expect("a line");
        let placed = producers(child.id());
        drop(child.stdin.take());
        child.wait().expect("our child");
        let expected: Vec<(String, String)> = (0..4)
            .map(|index| {
                (format!("producer-{index}"), others.get(index % others.len().max(1)).unwrap_or(own).to_string())
            })
            .collect();
        assert_eq!(placed, expected, "{ready}");
    }
}

#[test]
fn profile_does_as_many_batches_as_asked() {
    let finished = worker(&["profile", "--workload", WORKLOAD, "--batches", "3"], "");
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(0), "3 batches\n"));
    let finished = worker(&["profile", "--workload", WORKLOAD, "--seconds", "1"], "");
    let batches: u64 = finished.stdout.trim_end().strip_suffix(" batches").expect("a count").parse().expect("a number");
    assert!(batches > 1, "a second is longer than a batch");
}

#[test]
fn version_names_the_variant() {
    let finished = worker(&["--version"], "");
    assert_eq!(finished.code(), Some(0));
    assert!(finished.stdout.contains("variant unlinked, libevent "), "{}", finished.stdout);
}

#[test]
fn a_reader_that_goes_away_is_an_error_and_no_signal() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bench-worker"))
        .arg("list")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("worker starts");
    drop(child.stdout.take());
    let status = child.wait().expect("our child");
    // The list is larger than nothing but may fit the pipe before it is closed.
    assert!(matches!(status.code(), Some(0 | 2)), "{status}");
}
