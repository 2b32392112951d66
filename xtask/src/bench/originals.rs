//! libevent's own benchmark programs, unmodified, beside our workloads: interleaved, in one run.

use super::launches::Pair;
use super::run::Options;
use super::subject::Subject;
use crate::exit::{Exit, exit_of};
use crate::host::restrict;
use crate::process::{self, Group};
use crate::progress::Progress;
use crate::sandbox::Policy;
use crate::session::{Session, Surroundings};
use crate::worker::Worker;
use crate::{build, interrupt, session};
use anyhow::{Context as _, Result, bail};
use model::record::{Change, Parity};
use model::workload::WorkloadSpec;
use model::{stats, summary};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Pairs of launches, and fewer with `--quick`; six are the fewest that give an interval.
const PAIRS: (u32, u32) = (12, 6);
/// Most time for one launch of an original; `bench` spins for ever when an event is lost.
const LIMIT: Duration = Duration::from_secs(20);
/// Figures that `bench` and `bench_cascade` print; the first is cold and left out.
const RUNS: usize = 25;
/// Requests to `bench_http`: to warm up, and counted.
const HTTP_REQUESTS: (u64, u64) = (300, 3000);
/// Without it the CPU time of another process is only known in ticks, too coarse for a launch.
const NO_SCHEDSTAT: &str = "this kernel has no /proc/PID/schedstat";
/// Beyond this difference an explanation is owed.
const TOLERANCE_PCT: f64 = 3.0;

/// An original and our counterpart.
struct Original {
    program: &'static str,
    args: &'static [&'static str],
    workload: &'static str,
    unit: &'static str,
    measure: Measure,
    /// What could make ours differ; nobody has measured that it does.
    suspect: &'static str,
}

enum Measure {
    /// The program prints microseconds of each run, and a run has this many events.
    PrintedRuns { events: f64 },
    /// The program serves; its CPU time per request is read from the kernel.
    ServedRequests { body_bytes: &'static str },
}

const WALL: &str = "elapsed ns per event";
const LAYOUT: &str = "the original is one fixed layout of its own, ours a new one each launch; the original reads its clock in \
whole microseconds";

const ORIGINALS: &[Original] = &[
    Original {
        program: "bench",
        args: &["-n", "100", "-a", "1", "-w", "100"],
        workload: "cascade.pipes.n100.a1.w100",
        unit: WALL,
        measure: Measure::PrintedRuns { events: 101.0 },
        suspect: LAYOUT,
    },
    Original {
        program: "bench",
        args: &["-n", "100", "-a", "100", "-w", "100"],
        workload: "cascade.pipes.n100.a100.w100",
        unit: WALL,
        measure: Measure::PrintedRuns { events: 200.0 },
        suspect: LAYOUT,
    },
    Original {
        program: "bench",
        args: &["-n", "1000", "-a", "1", "-w", "1000"],
        workload: "cascade.pipes.n1000.a1.w1000",
        unit: WALL,
        measure: Measure::PrintedRuns { events: 1001.0 },
        suspect: LAYOUT,
    },
    Original {
        program: "bench_cascade",
        args: &["-n", "100"],
        workload: "cascade.chain.n100",
        unit: WALL,
        measure: Measure::PrintedRuns { events: 100.0 },
        suspect: LAYOUT,
    },
    Original {
        program: "bench_http",
        args: &[],
        workload: "http.keepalive.small.c1",
        unit: "server CPU ns per request",
        measure: Measure::ServedRequests { body_bytes: "13" },
        suspect: "our server picks a body by the path, counts responses and keeps a watchdog; two processes that wake each \
                  other vary more than one process alone",
    },
];

/// Measures every original whose counterpart is among `selected`. A failure is the row's error.
pub(crate) fn parity(
    subject: &Subject,
    selected: &[WorkloadSpec],
    options: &Options,
    surroundings: &Surroundings<'_>,
) -> Result<(Vec<Parity>, Vec<String>)> {
    let pairs = if options.quick { PAIRS.1 } else { PAIRS.0 };
    let pairs_of: Vec<(&Original, &WorkloadSpec)> = ORIGINALS
        .iter()
        .filter_map(|original| Some((original, selected.iter().find(|spec| spec.name == original.workload)?)))
        .collect();
    let (pairs_of, absent): (Vec<_>, Vec<_>) =
        pairs_of.into_iter().partition(|(original, _)| build::program(&subject.build, original.program).is_file());
    let absent: BTreeSet<&str> = absent.iter().map(|(original, _)| original.program).collect();
    let mut notes: Vec<String> =
        absent.into_iter().map(|program| format!("this source builds no {program}: no parity with it")).collect();
    let mut rows: Vec<Parity> = pairs_of.iter().map(|(original, _)| empty(original)).collect();
    if rows.is_empty() {
        return Ok((rows, notes));
    }
    let mut progress = Progress::new("libevent's own programs", u64::from(pairs) * rows.len() as u64);
    for number in 0..pairs {
        let pair = Pair::draw(options.seed, number);
        let worker = subject.link(pair.layout_seed)?;
        for ((original, spec), row) in pairs_of.iter().zip(&mut rows) {
            progress.step(&row.program);
            if row.error.is_some() {
                continue;
            }
            let theirs = || original_figure(original, subject, &worker, surroundings);
            let ours = || our_figure(original, spec, &worker, surroundings);
            let both = if pair.candidate_first {
                ours().and_then(|o| Ok((theirs()?, o)))
            } else {
                theirs().and_then(|t| Ok((t, ours()?)))
            };
            match both {
                Ok((theirs, ours)) => {
                    row.original.push(theirs);
                    row.ours.push(ours);
                }
                Err(error) if exit_of(&error) == Exit::Interrupted => return Err(error),
                Err(error) => row.error = Some(format!("{error:#}")),
            }
        }
    }
    for ((original, _), row) in pairs_of.iter().zip(&mut rows) {
        finish(original, row);
    }
    // What this kernel does not tell is no error of a workload.
    rows.retain(|row| {
        let unknown = row.error.as_ref().filter(|error| error.contains(NO_SCHEDSTAT));
        notes.extend(unknown.map(|error| format!("no parity with {}: {error}", row.program)));
        unknown.is_none()
    });
    Ok((rows, notes))
}

fn empty(original: &Original) -> Parity {
    let program = std::iter::once(&original.program).chain(original.args).copied().collect::<Vec<_>>().join(" ");
    Parity {
        program,
        workload: original.workload.to_owned(),
        unit: original.unit.to_owned(),
        original_median: None,
        ours_median: None,
        difference: None,
        explanation: None,
        error: None,
        original: vec![],
        ours: vec![],
    }
}

fn finish(original: &Original, row: &mut Parity) {
    row.original_median = stats::median(&row.original);
    row.ours_median = stats::median(&row.ours);
    let pairs: Vec<(f64, f64)> = row.original.iter().copied().zip(row.ours.iter().copied()).collect();
    row.difference = summary::change_of_pairs(&pairs);
    row.explanation = row.difference.and_then(|change| explain(change, original.suspect));
}

/// What is said of a difference: nothing within the tolerance, and beyond it whether that is certain.
fn explain(change: Change, suspect: &str) -> Option<String> {
    let beyond = |pct: f64| pct.abs() > TOLERANCE_PCT;
    let certain = change.interval_pct.is_some_and(|[low, high]| beyond(low) && beyond(high) && low * high > 0.0);
    match (beyond(change.relative_change_pct), certain) {
        (false, _) => None,
        (true, false) => Some(format!(
            "beyond {TOLERANCE_PCT}%, but its interval reaches within: this run cannot tell; repeat it on a quiet host"
        )),
        (true, true) => Some(format!(
            "beyond {TOLERANCE_PCT}% for certain: our workload is not the original's equal here. To look into first, not \
             verified: {suspect}"
        )),
    }
}

fn original_figure(
    original: &Original,
    subject: &Subject,
    worker: &Worker,
    surroundings: &Surroundings<'_>,
) -> Result<f64> {
    let program = build::program(&subject.build, original.program);
    let mut command = session::command(&program, surroundings)?;
    command.args(original.args);
    restrict(&mut command, &[surroundings.pinning.worker]);
    match original.measure {
        Measure::PrintedRuns { events } => {
            let got = process::capture(&mut command, LIMIT)?;
            if !got.status.success() {
                bail!("{} ended with {}: {}", original.program, got.status, got.stderr.trim());
            }
            let runs_us =
                parse_runs(&got.stdout).with_context(|| format!("{} printed no figures", original.program))?;
            let middle = stats::interquartile_mean(&runs_us[1..]).context("there are figures")?;
            Ok(middle * 1000.0 / events)
        }
        Measure::ServedRequests { body_bytes } => served(command, body_bytes, worker, surroundings),
    }
}

/// Exactly the figures that the program is known to print.
fn parse_runs(text: &str) -> Option<Vec<f64>> {
    let runs: Vec<f64> = text.lines().map(|line| line.trim().parse().ok()).collect::<Option<_>>()?;
    (runs.len() == RUNS).then_some(runs)
}

fn our_figure(
    original: &Original,
    spec: &WorkloadSpec,
    worker: &Worker,
    surroundings: &Surroundings<'_>,
) -> Result<f64> {
    let mut session = Session::start(worker, &spec.name, surroundings)?;
    let per_event = |ns: u64| ns as f64 / spec.batch_events as f64;
    let figures: Vec<f64> = match original.measure {
        Measure::PrintedRuns { .. } => {
            session.batches(1)?;
            let samples = session.batches(RUNS as u64 - 1)?.samples;
            samples.iter().map(|sample| per_event(sample.wall_time_ns)).collect()
        }
        Measure::ServedRequests { .. } => {
            let (warm_up, counted) = HTTP_REQUESTS;
            session.batches(warm_up.div_ceil(spec.batch_events))?;
            let samples = session.batches(counted.div_ceil(spec.batch_events))?.samples;
            samples.iter().map(|sample| per_event(sample.cpu_time_ns)).collect()
        }
    };
    session.quit()?;
    stats::interquartile_mean(&figures).context("batches were done")
}

/// CPU time per request of a server that is driven by our client.
fn served(mut command: Command, body_bytes: &str, worker: &Worker, surroundings: &Surroundings<'_>) -> Result<f64> {
    /// What the client prints.
    #[derive(Deserialize)]
    struct Answer {
        requests: u64,
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    command.args(["-p", &port.to_string(), "-l", body_bytes]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = Group::spawn(&mut command)?;
    let address = format!("127.0.0.1:{port}");
    await_listener(&mut server, port)?;
    let policy = Policy { network_of: Some(server.pid()), ..Policy::measure() };
    let request = |requests: u64| -> Result<()> {
        let mut client = session::command_within(&policy, &worker.program, surroundings)?;
        // It leaves the CPU that it finds itself on for one of the peers', as our workload's client does.
        restrict(&mut client, &[surroundings.pinning.worker]);
        client.args(["client", "--connect", &address, "--path", "/ind", "--connections", "1", "--json"]);
        let got = process::capture(client.args(["--requests", &requests.to_string()]), LIMIT)?;
        let answer: Answer = serde_json::from_str(&got.stdout)
            .with_context(|| format!("the client failed ({}): {}", got.status, got.stderr.trim()))?;
        if answer.requests != requests {
            bail!("the server answered {} of {requests} requests", answer.requests);
        }
        Ok(())
    };
    request(HTTP_REQUESTS.0)?;
    let before = cpu_time_ns(server.pid())?;
    request(HTTP_REQUESTS.1)?;
    let after = cpu_time_ns(server.pid())?;
    Ok((after - before) as f64 / HTTP_REQUESTS.1 as f64)
}

/// Waits until the server listens: its network is one of its own, so the kernel is asked, not the server.
fn await_listener(server: &mut Group, port: u16) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let sockets = ["tcp", "tcp6"].map(|name| format!("/proc/{}/net/{name}", server.pid()));
    let listens =
        || sockets.iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| is_listening(&text, port)));
    while !listens() {
        interrupt::check()?;
        if let Some(status) = server.wait_until(Instant::now())? {
            bail!("bench_http ended with {status} before it listened on port {port}");
        }
        if Instant::now() > deadline {
            bail!("bench_http does not listen on port {port}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Whether a socket of /proc/PID/net/tcp listens on the port: state 0A, ports in hexadecimal digits.
fn is_listening(sockets: &str, port: u16) -> bool {
    let local = format!(":{port:04X}");
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|address| address.ends_with(&local)) && words.nth(1) == Some("0A")
    })
}

/// CPU time of a single-threaded process, exact to the nanosecond.
fn cpu_time_ns(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/schedstat");
    if !std::path::Path::new("/proc/self/schedstat").exists() {
        bail!("{NO_SCHEDSTAT}");
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; bench_http ended"))?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.with_context(|| format!("{path} holds no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_explained_only_as_far_as_it_is_known() {
        let change = |pct: f64, low: f64, high: f64| Change {
            relative_change_pct: pct,
            interval_pct: Some([low, high]),
            coverage_pct: Some(96.0),
            pairs: 12,
        };
        assert_eq!(explain(change(2.9, -5.0, 9.0), "x"), None);
        assert!(explain(change(4.0, 1.0, 9.0), "x").unwrap().contains("cannot tell"));
        assert!(explain(change(4.0, -4.0, 9.0), "x").unwrap().contains("cannot tell"));
        assert!(explain(change(-40.0, -45.0, -35.0), "x").unwrap().contains("not verified: x"));
    }

    #[test]
    fn only_the_full_output_of_an_original_counts() {
        let full: String = (0..RUNS).map(|n| format!("{n}\n")).collect();
        assert_eq!(parse_runs(&full).unwrap()[24], 24.0);
        assert_eq!(parse_runs("85\n84\n"), None);
        assert_eq!(parse_runs(&full.replace("24", "lost")), None);
    }
}
