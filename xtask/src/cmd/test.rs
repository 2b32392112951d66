//! `cargo xtask test`: everything that decides whether this workspace is correct.

mod lanes;

use crate::context::Context;
use crate::exit::Exit;
use crate::process::{self, Group};
use crate::report::{self, readme};
use crate::setup::{self, Verb};
use crate::{host, interrupt, ledger, lock, progress, source};
use anyhow::{Context as _, Result};
use model::host::HostFingerprint;
use serde::Serialize;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Formatting, lints, tests, documentation and a quick benchmark, each from the checkout as it is.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask test             what CI runs; 25 to 40 minutes on two cores from nothing
  cargo xtask test --soak      the long runs, too
  cargo xtask test --only docs,readme")]
pub(crate) struct Args {
    /// The long runs, too: tests marked as ignored, the whole benchmark, two hours of calibration
    #[arg(long)]
    pub(crate) soak: bool,
    /// Only these steps
    #[arg(long, value_name = "STEP", value_delimiter = ',', value_parser = STEPS.map(|step| step.name))]
    pub(crate) only: Vec<String>,
}

/// What a step runs.
enum Action {
    /// cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// The tests, in lanes beside each other.
    Lanes,
    /// This program with these arguments; its standard output is dropped, its errors are shown.
    Own(&'static [&'static str]),
    /// README against the record that it shows.
    Readme,
    /// The ledger, what it vouches for, and what is generated from it.
    Ledger,
}

struct Step {
    name: &'static str,
    action: Action,
    limit: Duration,
    soak: bool,
    when: When,
}

/// What a step may run beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Compilers, one after the other.
    Compiling,
    /// Beside these: it waits for single processes most of the time, and no figure of it is kept.
    BesideCompilers,
    /// After all of them, alone.
    Alone,
}

const fn step(name: &'static str, minutes: u64, when: When, action: Action) -> Step {
    Step { name, action, limit: Duration::from_secs(60 * minutes), soak: false, when }
}

const STEPS: [Step; 10] = [
    step("format", 2, When::Compiling, Action::Cargo(&["fmt", "--all", "--check"])),
    step(
        "clippy",
        15,
        When::Compiling,
        Action::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    ),
    step(
        "docs",
        15,
        When::Compiling,
        Action::Cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]),
    ),
    step("readme", 1, When::BesideCompilers, Action::Readme),
    step("ledger", 1, When::BesideCompilers, Action::Ledger),
    step("bench", 15, When::BesideCompilers, Action::Own(&["bench", "--quick", "--json"])),
    step("tests", 35, When::Alone, Action::Lanes),
    Step {
        soak: true,
        ..step(
            "long-tests",
            120,
            When::Alone,
            Action::Cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--", "--ignored"]),
        )
    },
    Step { soak: true, ..step("whole-bench", 60, When::Alone, Action::Own(&["bench", "--instructions", "--json"])) },
    // Fails if equal things are called different too often.
    Step { soak: true, ..step("calibration", 150, When::Alone, Action::Own(&["calibrate", "--time", "2h", "--json"])) },
];

/// How a step ended.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    name: &'static str,
    /// `pass`, `fail` or `not-run`.
    verdict: &'static str,
    seconds: f64,
    error: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    setup::ensure(Verb::Test, context)?;
    interrupt::install()?;
    {
        // The tests build the pinned source; it must be there and right.
        let _lock = lock::take(context, "test")?;
        source::ensure_pinned(context)?;
    }
    let of =
        |when: When| -> Vec<&Step> { STEPS.iter().filter(|step| step.when == when && asked(step, args)).collect() };
    let one_by_one = |when| of(when).into_iter().map(|step| outcome(step, context)).collect::<Vec<_>>();
    let mut outcomes = std::thread::scope(|scope| {
        let beside = scope.spawn(|| one_by_one(When::BesideCompilers));
        let compiled = one_by_one(When::Compiling);
        beside
            .join()
            .map(|beside| [compiled, beside].concat())
            .map_err(|_| anyhow::anyhow!("a step of `test` panicked"))
    })?;
    outcomes.extend(one_by_one(When::Alone));
    report(context, &outcomes)
}

/// Runs a step, unless the user wants no more.
fn outcome(step: &Step, context: &Context) -> Outcome {
    progress::note(&format!("test: {}", step.name));
    let started = Instant::now();
    let result = if interrupt::asked() { None } else { Some(perform(step, context)) };
    Outcome {
        name: step.name,
        verdict: match &result {
            Some(Ok(())) => "pass",
            Some(Err(_)) if !interrupt::asked() => "fail",
            _ => "not-run",
        },
        seconds: started.elapsed().as_secs_f64(),
        error: result.and_then(|result| result.err()).map(|error| format!("{error:#}")),
    }
}

fn asked(step: &Step, args: &Args) -> bool {
    if args.only.is_empty() { !step.soak || args.soak } else { args.only.iter().any(|name| name == step.name) }
}

fn perform(step: &Step, context: &Context) -> Result<()> {
    let deadline = Instant::now() + step.limit;
    let mut command = match &step.action {
        Action::Readme => return readme::check(context),
        Action::Ledger => return ledger::require_sound(context),
        Action::Lanes => return lanes::run(context, deadline),
        Action::Cargo(words) => cargo(words, context),
        Action::Own(words) => {
            let mut own = Command::new(std::env::current_exe().context("this program has a path")?);
            own.args(*words).stdout(Stdio::null());
            // A test leaves the checkout as it is; the journal is shared, so `calibrate` then knows what it found.
            own.env("LIBEVENT_PERF_CALIBRATIONS", context.work.join("calibration"));
            own
        }
    };
    if step.name == "docs" {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    finish(&mut command, context, deadline)
}

/// Cargo with these arguments.
fn cargo(words: &[&str], context: &Context) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(words);
    if context.json {
        // One document on standard output: what the steps print goes to standard error.
        cargo.stdout(std::io::stderr());
    }
    cargo
}

/// Runs a command in the checkout to its end, which has to be a success and before `deadline`.
fn finish(command: &mut Command, context: &Context, deadline: Instant) -> Result<()> {
    command.current_dir(&context.root).stdin(Stdio::null());
    let mut group = Group::spawn(command)?;
    match group.wait_until(deadline)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => anyhow::bail!("{} ended with {status}", process::shown(command)),
        None => {
            interrupt::check()?;
            anyhow::bail!("{} was killed: the time of its step was over", process::shown(command))
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostFingerprint,
    /// A step was not run.
    partial: bool,
    steps: &'a [Outcome],
}

fn report(context: &Context, outcomes: &[Outcome]) -> Result<Exit> {
    let count = |verdict: &str| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
    let (passed, failed, not_run) = (count("pass"), count("fail"), count("not-run"));
    let text = if context.json {
        let document = Document { schema: "test/1", host: host::fingerprint(), partial: not_run > 0, steps: outcomes };
        serde_json::to_string(&document)? + "\n"
    } else {
        let lines: String = outcomes
            .iter()
            .map(|outcome| {
                let why = outcome.error.as_ref().map_or(String::new(), |error| format!("  {error}"));
                format!("{:12} {:8} {:6.1} s{why}\n", outcome.name, outcome.verdict, outcome.seconds)
            })
            .collect();
        format!("\n{lines}{passed} passed, {failed} failed, {not_run} skipped\n")
    };
    report::print(&text)?;
    Ok(match (failed, not_run) {
        (_, 1..) => Exit::Interrupted,
        (1.., _) => Exit::Failed,
        _ => Exit::Ok,
    })
}
