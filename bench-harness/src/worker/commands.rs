//! The worker's commands. Each writes JSON lines and returns the exit code of the process.

use super::batch::{Checked, Sign};
use super::busy::Iterations;
use super::options::{Bound, MOST_BATCHES, MOST_ITERATIONS};
use super::{EXIT_FAILED, EXIT_OK, clock, library};
use crate::{cpus, registry};
use anyhow::{Context, Error, Result, bail};
use model::protocol::{Batches, Busy, Bye, Counted, Failed, List, Message, PROTOCOL_VERSION, Ready, Verified};
use model::workload::WorkloadSpec;
use std::ffi::c_int;
use std::io::{self, BufRead, Read, Write};
use std::time::{Duration, Instant};

/// Longest command line that a session reads; real ones have a dozen characters.
const MOST_COMMAND_BYTES: u64 = 256;

/// `list`: what this worker can run.
pub(super) fn list(output: &mut impl Write) -> c_int {
    let listed = || -> Result<List> {
        Ok(List {
            protocol: PROTOCOL_VERSION,
            variant: library::variant(),
            libevent_version: library::version(),
            backends: library::backends(),
            features: registry::features().iter().map(|feature| (*feature).to_owned()).collect(),
            workloads: registry::all()?,
        })
    };
    match listed().and_then(|list| write_line(output, &Message::List(list))) {
        Ok(()) => EXIT_OK,
        Err(error) => report_failure(output, None, &error),
    }
}

/// `verify`: the work of the named workloads, or of all; goes on after a failure.
pub(super) fn verify(output: &mut impl Write, names: &[String], batches: u64) -> c_int {
    let specs = match registry::all() {
        Ok(specs) => specs,
        Err(error) => return report_failure(output, None, &error),
    };
    // Workloads with threads make libevent use locks, and there is no way back for those after them.
    let (threaded, single): (Vec<_>, Vec<_>) = specs.iter().partition(|spec| spec.threads);
    let names: Vec<&str> = match names {
        [] => single.iter().chain(&threaded).map(|spec| spec.name.as_str()).collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    let mut code = EXIT_OK;
    for name in names {
        let verified = find(&specs, name).and_then(|spec| verify_one(spec, batches));
        match verified.and_then(|verified| write_line(output, &Message::Verified(verified))) {
            Ok(()) => {}
            Err(error) => code = report_failure(output, Some(name), &error),
        }
    }
    code
}

fn verify_one(spec: WorkloadSpec, batches: u64) -> Result<Verified> {
    let checksum = spec.checksum;
    let start = Instant::now();
    let mut checked = Checked::set_up(spec)?;
    let mut overhead = start.elapsed();

    let mut batch_wall_time_ns = u64::MAX;
    for _ in 0..batches {
        batch_wall_time_ns = batch_wall_time_ns.min(checked.batch()?.wall_time_ns);
    }
    let workload = checked.spec().name.clone();
    let start = Instant::now();
    drop(checked);
    overhead += start.elapsed();
    let overhead_wall_time_ns = u64::try_from(overhead.as_nanos())?;
    Ok(Verified { workload, batches, batch_wall_time_ns, overhead_wall_time_ns, checksum })
}

/// `run`: timed batches by command of standard input.
pub(super) fn run(output: &mut impl Write, workload: &str) -> c_int {
    let result = registry::all()
        .and_then(|specs| find(&specs, workload))
        .and_then(Checked::set_up)
        .and_then(|checked| run_session(checked, io::stdin().lock(), output));
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => report_failure(output, Some(workload), &error),
    }
}

/// Answers commands until `quit` or the end of input. After an error the caller ends the process.
pub fn run_session(mut checked: Checked, mut input: impl BufRead, output: &mut impl Write) -> Result<()> {
    let ready = Ready {
        protocol: PROTOCOL_VERSION,
        variant: library::variant(),
        libevent_version: library::version(),
        backend: library::default_backend()?,
        workload: checked.spec().name.clone(),
        batch_events: checked.spec().batch_events,
        cpus: cpus::allowed()?,
    };
    write_line(output, &Message::Ready(ready))?;
    while let Some(command) = next_command(&mut input)? {
        let answer = match command {
            Asked::Batches(count) => Message::Batches(timed_batches(&mut checked, count)?),
            Asked::Stops(count) => Message::Counted(signed_batches(&mut checked, count, Sign::stop())?),
            Asked::Marks(count) => Message::Counted(signed_batches(&mut checked, count, Sign::mark())?),
            Asked::Busy(iterations) => {
                checked.slow_down(Iterations(iterations));
                Message::Busy(Busy { iterations, cpu_time_ns: Iterations(iterations).time_ns() })
            }
        };
        write_line(output, &answer)?;
    }
    drop(checked);
    write_line(output, &Message::Bye(Bye { peak_rss_kib: clock::peak_rss_kib() }))
}

/// A command of a session, with the number of batches asked for.
enum Asked {
    Batches(u64),
    Stops(u64),
    Marks(u64),
    /// Make every timed batch from now on longer by so many multiplications.
    Busy(u64),
}

/// The next command; nothing after `quit` or the end of input.
fn next_command(input: &mut impl BufRead) -> Result<Option<Asked>> {
    let mut line = String::new();
    input.take(MOST_COMMAND_BYTES).read_line(&mut line).context("reading a command")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let (word, kind): (&str, fn(u64) -> Asked) = match words.as_slice() {
        [] if line.is_empty() => return Ok(None),
        ["quit"] => return Ok(None),
        ["batches", count] => (count, Asked::Batches),
        ["stops", count] => (count, Asked::Stops),
        ["marks", count] => (count, Asked::Marks),
        ["busy", count] => (count, Asked::Busy),
        _ => {
            let known = "`batches N`, `stops N`, `marks N`, `busy N` and `quit`";
            bail!("unknown command `{}`; known are {known}", line.trim_end())
        }
    };
    let most = if words[0] == "busy" { MOST_ITERATIONS } else { MOST_BATCHES };
    match word.parse() {
        Ok(count) if (1..=most).contains(&count) => Ok(Some(kind(count))),
        _ => bail!("command `{}`: the number must be from 1 to {most}", line.trim_end()),
    }
}

fn signed_batches(checked: &mut Checked, count: u64, sign: Sign) -> Result<Counted> {
    for _ in 0..count {
        checked.signed_batch(&sign)?;
    }
    // What they recorded is of batches that were held up; it must not reach a later answer.
    drop((checked.take_latency(), checked.take_extra()));
    Ok(Counted { batches: count, events: count * checked.spec().batch_events })
}

fn timed_batches(checked: &mut Checked, count: u64) -> Result<Batches> {
    let mut samples = Vec::with_capacity(usize::try_from(count)?);
    let before = clock::usage();
    for _ in 0..count {
        samples.push(checked.batch()?);
    }
    let usage = clock::usage_between(&before, &clock::usage());
    Ok(Batches { samples, usage, latency: checked.take_latency(), extra: checked.take_extra() })
}

/// `profile`: batches without end other than the bound; every one is checked nevertheless.
pub(super) fn profile(output: &mut impl Write, workload: &str, bound: Bound, busy: u64) -> c_int {
    let done =
        registry::all().and_then(|specs| find(&specs, workload)).and_then(Checked::set_up).and_then(|mut checked| {
            checked.slow_down(Iterations(busy));
            profiled_batches(checked, bound)
        });
    match done.and_then(|done| Ok(writeln!(output, "{done} batches")?)) {
        Ok(()) => EXIT_OK,
        Err(error) => report_failure(output, Some(workload), &error),
    }
}

fn profiled_batches(mut checked: Checked, bound: Bound) -> Result<u64> {
    let start = Instant::now();
    let mut done = 0;
    loop {
        let more = match bound {
            Bound::Batches(batches) => done < batches,
            Bound::Seconds(seconds) => start.elapsed() < Duration::from_secs(seconds),
        };
        if !more {
            return Ok(done);
        }
        checked.batch()?;
        done += 1;
    }
}

fn find(specs: &[WorkloadSpec], name: &str) -> Result<WorkloadSpec> {
    let found = specs.iter().find(|spec| spec.name == name).cloned();
    found.with_context(|| format!("unknown workload `{name}`; `list` shows the {} that this worker has", specs.len()))
}

fn write_line(output: &mut impl Write, message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line).and_then(|()| output.flush()).context("writing the answer")
}

/// Says what went wrong in the protocol, or on standard error if nobody reads the protocol any more.
pub(super) fn report_failure(output: &mut impl Write, workload: Option<&str>, error: &Error) -> c_int {
    let failed = Failed { workload: workload.map(str::to_owned), error: format!("{error:#}") };
    if write_line(output, &Message::Failed(failed)).is_err() {
        eprintln!("bench-worker: {error:#}");
    }
    EXIT_FAILED
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::told;
    use super::*;

    fn session(input: &str) -> (Result<()>, Vec<Message>) {
        let mut output = Vec::new();
        let result = run_session(told(10, 7), input.as_bytes(), &mut output);
        let lines = String::from_utf8(output).unwrap();
        (result, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[test]
    fn a_session_is_ready_then_answers_then_says_bye() {
        for input in ["batches 3\nbatches 1\nquit\nbatches 5\n", "batches 3\nbatches 1", "batches 3\nbatches 1\n"] {
            let (result, messages) = session(input);
            result.unwrap();
            let [Message::Ready(ready), Message::Batches(three), Message::Batches(one), Message::Bye(bye)] =
                messages.as_slice()
            else {
                panic!("{input:?} got {messages:?}");
            };
            assert_eq!((ready.workload.as_str(), ready.batch_events), ("told", 10));
            assert_eq!((three.samples.len(), one.samples.len()), (3, 1));
            assert!(bye.peak_rss_kib > 0);
        }
    }

    #[test]
    fn batches_for_a_counter_are_answered_with_their_number() {
        let (result, messages) = session("marks 4\nquit\n");
        result.unwrap();
        let counted = Counted { batches: 4, events: 40 };
        assert!(
            matches!(messages.as_slice(), [Message::Ready(_), Message::Counted(c), Message::Bye(_)] if *c == counted)
        );
    }

    #[test]
    fn a_slowdown_is_told_with_what_it_takes_and_is_in_the_times_that_follow() {
        let added = || {
            let (result, messages) = session("batches 20\nbusy 1000000\nbatches 20\nquit\n");
            result.unwrap();
            let [
                Message::Ready(_),
                Message::Batches(plain),
                Message::Busy(busy),
                Message::Batches(slow),
                Message::Bye(_),
            ] = messages.as_slice()
            else {
                panic!("{messages:?}");
            };
            let shortest = |batches: &Batches| batches.samples.iter().map(|sample| sample.cpu_time_ns).min().unwrap();
            assert_eq!(busy.iterations, 1_000_000);
            (shortest(slow) as f64 - shortest(plain) as f64) / busy.cpu_time_ns as f64
        };
        // A busy host can slow down the one measurement and not the other; it does not do so every time.
        let all: Vec<f64> = (0..5).map(|_| added()).take_while(|added| !(0.7..1.5).contains(added)).collect();
        assert!(all.len() < 5, "{all:?} of what was told");
    }

    #[test]
    fn a_command_that_makes_no_sense_ends_the_session() {
        let long = "x".repeat(1000);
        for input in ["dance\n", "batches\n", "batches 0\n", "batches -1\n", "batches 1 2\n", "busy 0\n", "\n", &long] {
            let (result, messages) = session(input);
            let error = result.expect_err(input).to_string();
            assert!(error.contains("command"), "{error}");
            assert!(error.len() < 500, "the message is bounded");
            assert!(matches!(messages.as_slice(), [Message::Ready(_)]));
        }
    }
}
