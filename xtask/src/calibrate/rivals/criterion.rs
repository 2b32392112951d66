//! criterion's saved baselines: the benches of this workspace (bench-harness/benches), one run with
//! `--save-baseline`, one with `--baseline`, and criterion's own word for the difference.

use super::method::{Call, Called, Task};
use crate::bench::plan::draw;
use crate::compare::contest::Trial;
use crate::context::Context;
use crate::exit::{Exit, Failure, failure};
use crate::session::{self, Surroundings};
use crate::{build, host, layout, process, rust_object, variant};
use anyhow::{Context as _, Result, bail};
use model::variant::Build;
use model::workload::WorkloadSpec;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The first time it compiles criterion and the benches optimised; later the benches' own file alone.
const COMPILE_LIMIT: Duration = Duration::from_secs(1800);
/// criterion's default; the benches' own is smaller, for exploring many workloads.
const SAMPLES: &str = "100";
/// criterion's defaults are 3 s of warm-up and 5 s of measurement; here they share what time there is.
const WARM_UP_SHARE: f64 = 3.0 / 8.0;
/// Measurement with which its own time is found out; three times that, too.
const TRIAL: Duration = Duration::from_millis(500);
/// It refuses no time at all.
const LEAST: Duration = Duration::from_millis(50);

pub(super) const RULES: &[&str] = &["its own word", "its test alone, p < 0.05"];

/// What criterion spends besides warm-up and measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overheads {
    /// Starting, setting up and resampling, of both runs.
    fixed: Duration,
    /// Its measurement counts the work alone, not what prepares and checks each batch: so many times as long
    /// as it was asked for does it take.
    stretch: f64,
}

/// Orders that are tried.
const ORDERS: u64 = 8;

/// Compiles the benches against a build into `program`, with libevent's functions in the order of `seed`. How Rust
/// links does not keep every order; then the next one is drawn, and the one that is used is kept exactly.
pub(super) fn link(context: &Context, build: &Build, seed: u64, program: &Path) -> Result<()> {
    let mut refused = None;
    for attempt in 0..ORDERS {
        match link_in_order(context, build, draw(seed, "criterion's order", attempt), program) {
            Ok(()) => return Ok(()),
            // A compiler that fails, or an interrupt, would only do so again.
            Err(error) if error.downcast_ref::<Failure>().is_some() => return Err(error),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("no order was tried")?)
}

fn link_in_order(context: &Context, build: &Build, seed: u64, program: &Path) -> Result<()> {
    let libraries = build::library_paths(build);
    let ordered = layout::order(&layout::functions(&libraries)?, seed);
    let folder = program.parent().context("a program has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let script = program.with_extension("ld");
    std::fs::write(&script, layout::linker_script(&ordered))
        .with_context(|| format!("cannot write {}", script.display()))?;
    let mut command = rust_object::plain_cargo(context);
    command.args(["rustc", "--locked", "--profile", "bench", "--package", "bench-harness", "--bench", "workloads"]);
    // For the benches alone: what they are made of stays compiled.
    command.args(["--message-format", "json", "--", "-C"]).arg(format!("link-arg=-Wl,-T,{}", script.display()));
    // The linker of all other programs here: Rust's own does not keep every order that it is given.
    command.args(["-C", "link-arg=-fuse-ld=bfd"]);
    command
        .env_remove("LIBEVENT_INCLUDE_DIR")
        .env("CARGO_TARGET_DIR", context.work.join("target"))
        .env("LIBEVENT_SOURCE_DIR", variant::checkout(context, &build.variant, None)?)
        .env("LIBEVENT_BUILD_DIR", build.folder.join("cmake"));
    let got = process::capture(&mut command, COMPILE_LIMIT)?;
    if !got.status.success() {
        let end: Vec<&str> = got.stderr.lines().rev().take(30).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        return Err(failure(Exit::Infrastructure, format!("criterion's benches do not compile:\n{}", end.join("\n"))));
    }
    let made = executable(&got.stdout).context("cargo names no executable of the benches")?;
    std::fs::copy(&made, program).with_context(|| format!("cannot write {}", program.display()))?;
    layout::verify(program, &ordered)
}

/// What cargo says it made.
fn executable(messages: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        kind: Vec<String>,
    }
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter(|message| message.target.as_ref().is_some_and(|t| t.kind.iter().any(|kind| kind == "bench")))
        .find_map(|message| message.executable)
}

/// Measures what criterion takes besides the time that it is given.
pub(super) fn overheads(
    context: &Context,
    program: &Path,
    spec: &WorkloadSpec,
    trial: &Trial,
    surroundings: &Surroundings<'_>,
) -> Result<Overheads> {
    let home = context.scratch("criterion-")?;
    // As many batches as samples, at least: no less can be measured.
    let samples: f64 = SAMPLES.parse().context("a number")?;
    let short = Duration::from_nanos((trial.batch_ns * samples) as u64).max(TRIAL);
    let time = |side: Side, measurement: Duration| -> Result<f64> {
        let started = Instant::now();
        run(program, spec, side, None, [LEAST, measurement], home.path(), surroundings)?;
        Ok(started.elapsed().saturating_sub(LEAST).as_secs_f64())
    };
    let (baseline, longer) = (time(Side::Baseline, short)?, time(Side::Baseline, 3 * short)?);
    let candidate = time(Side::Candidate, short)?;
    Ok(fit(short.as_secs_f64(), baseline, longer, candidate))
}

/// From what a baseline took with a measurement of `short` and of three times that, and a candidate with
/// `short`, all in seconds.
fn fit(short: f64, baseline: f64, longer: f64, candidate: f64) -> Overheads {
    // One undisturbed trial is no statistics; what cannot be is left out.
    let stretch = ((longer - baseline) / (2.0 * short)).clamp(1.0, 20.0);
    let fixed = (baseline + candidate - 2.0 * stretch * short).max(0.0);
    Overheads { fixed: Duration::from_secs_f64(fixed), stretch }
}

pub(super) fn compare(task: &Task<'_>) -> Result<Vec<Called>> {
    let (programs, overheads) = task.criterion.context("criterion's benches were linked")?;
    let home = task.context.scratch("criterion-")?;
    let times = times(task.budget, overheads);
    let go = |side: Side, program: &Path, busy: Option<u64>| {
        run(program, task.spec, side, busy, times, home.path(), &task.surroundings)
    };
    go(Side::Baseline, programs[0], None).context("baseline")?;
    let said = go(Side::Candidate, programs[1], task.slow_down).context("candidate")?;
    let estimate_pct = estimate_pct(home.path());
    let tested = tested(&said, estimate_pct)?;
    Ok(vec![Called::new(RULES[0], call(&said)?, estimate_pct), Called::new(RULES[1], tested, estimate_pct)])
}

/// Warm-up and measurement of each side.
fn times(budget: Duration, overheads: Overheads) -> [Duration; 2] {
    let measurement_share = 1.0 - WARM_UP_SHARE;
    let each = budget.saturating_sub(overheads.fixed) / 2;
    let asked = each.div_f64(WARM_UP_SHARE + measurement_share * overheads.stretch);
    [WARM_UP_SHARE, measurement_share].map(|share| asked.mul_f64(share).max(LEAST))
}

#[derive(Clone, Copy)]
enum Side {
    Baseline,
    Candidate,
}

/// One run of the benches; returns what criterion printed.
fn run(
    program: &Path,
    spec: &WorkloadSpec,
    side: Side,
    busy: Option<u64>,
    [warm_up, measurement]: [Duration; 2],
    home: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<String> {
    let mut command = session::unconfined(program, surroundings);
    let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
    command.args(["--bench", "--exact", &benchmark(&spec.name), "--color", "never", "--noplot"]);
    command.args(["--sample-size", SAMPLES, "--warm-up-time", &seconds(warm_up)]);
    command.args(["--measurement-time", &seconds(measurement)]);
    command.arg(match side {
        Side::Baseline => "--save-baseline",
        Side::Candidate => "--baseline",
    });
    command.arg("before").env("CRITERION_HOME", home);
    if let Some(iterations) = busy {
        command.env("BENCH_BUSY_ITERATIONS", iterations.to_string());
    }
    host::restrict(&mut command, &[surroundings.pinning.worker]);
    let limit = (warm_up + measurement) * 20 + Duration::from_secs(120);
    let got = process::capture(&mut command, limit)?;
    if !got.status.success() {
        bail!("criterion's benches failed: {}", got.stderr.trim());
    }
    Ok(got.stdout)
}

/// The name that the benches give a workload: `evbuffer/add_drain.64`.
fn benchmark(workload: &str) -> String {
    workload.replacen('.', "/", 1)
}

/// The one of its four sentences that criterion printed.
fn call(said: &str) -> Result<Call> {
    let sentences = [
        ("Performance has regressed.", Call::Slower),
        ("Performance has improved.", Call::Faster),
        ("No change in performance detected.", Call::Nothing),
        ("Change within noise threshold.", Call::Nothing),
    ];
    let found: Vec<Call> =
        sentences.into_iter().filter(|(sentence, _)| said.contains(sentence)).map(|(_, call)| call).collect();
    match found[..] {
        [call] => Ok(call),
        _ => bail!("criterion gave {} answers instead of one: {}", found.len(), said.trim()),
    }
}

/// What its test says before its noise threshold takes a part of it back: `(p = 0.00 < 0.05)`, in the direction of its
/// estimate.
fn tested(said: &str, estimate_pct: Option<f64>) -> Result<Call> {
    let mut found = said.match_indices("(p = ").map(|(place, _)| &said[place..]);
    let (Some(text), None) = (found.next(), found.next()) else { bail!("criterion tells no p-value: {}", said.trim()) };
    let inside = text.split(')').next().unwrap_or_default();
    match (inside.contains(" < "), inside.contains(" > ")) {
        (true, false) => Ok(Call::of(true, estimate_pct.context("criterion kept no estimate of its change")?)),
        (false, true) => Ok(Call::Nothing),
        _ => bail!("criterion's p-value is not understood: {inside}"),
    }
}

/// Criterion's estimate of the change of the mean, from the one file below `home` that has it.
fn estimate_pct(home: &Path) -> Option<f64> {
    #[derive(Deserialize)]
    struct Estimates {
        mean: Estimate,
    }
    #[derive(Deserialize)]
    struct Estimate {
        point_estimate: f64,
    }
    let folders = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let file = folders(home.to_owned()).flat_map(folders).map(|case| case.join("change/estimates.json"));
    let text = file.filter_map(|path| std::fs::read_to_string(path).ok()).next()?;
    Some(100.0 * serde_json::from_str::<Estimates>(&text).ok()?.mean.point_estimate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_sentences_are_understood_and_nothing_else_is() {
        let said =
            |sentence: &str| format!("evbuffer/add time: [1 ns 2 ns 3 ns]\n change: [+1%]\n {sentence}\nFound 3");
        assert_eq!(call(&said("Performance has regressed.")).unwrap(), Call::Slower);
        assert_eq!(call(&said("Performance has improved.")).unwrap(), Call::Faster);
        assert_eq!(call(&said("Change within noise threshold.")).unwrap(), Call::Nothing);
        assert_eq!(call(&said("No change in performance detected.")).unwrap(), Call::Nothing);
        assert!(call(&said("")).is_err(), "a filter that found nothing is no answer");
    }

    #[test]
    fn its_test_counts_without_its_threshold() {
        let said = |p: &str| format!("change: [+0.5% +1.0% +1.5%] ({p})\n Change within noise threshold.");
        assert_eq!(tested(&said("p = 0.00 < 0.05"), Some(1.0)).unwrap(), Call::Slower);
        assert_eq!(tested(&said("p = 0.01 < 0.05"), Some(-1.0)).unwrap(), Call::Faster);
        assert_eq!(tested(&said("p = 0.05 > 0.05"), Some(1.0)).unwrap(), Call::Nothing);
        assert_eq!(call(&said("p = 0.00 < 0.05")).unwrap(), Call::Nothing, "its own word is another");
        assert!(tested(&said("p = 0.00 < 0.05"), None).is_err(), "a change has a direction");
        for unknown in ["", "p = 0.1", "p = 0.1 < 0.05) (p = 0.2 > 0.05"] {
            assert!(tested(&said(unknown), Some(1.0)).is_err(), "{unknown}");
        }
    }

    #[test]
    fn the_estimate_is_that_of_its_file() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(estimate_pct(home.path()), None);
        let folder = home.path().join("evbuffer/add_drain.64/change");
        std::fs::create_dir_all(&folder).unwrap();
        let text = r#"{"mean":{"confidence_interval":{},"point_estimate":-0.025,"standard_error":1},"median":{}}"#;
        std::fs::write(folder.join("estimates.json"), text).unwrap();
        assert_eq!(estimate_pct(home.path()), Some(-2.5));
    }

    #[test]
    fn cargo_tells_what_it_made() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"bin\"]},\"executable\":\"/a\"}\n\
                        {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"lib\"]},\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"target\":{\"kind\":[\"bench\"]},\"executable\":\"/b\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/b")));
        assert_eq!(benchmark("cascade.pipes.n100.a1.w100"), "cascade/pipes.n100.a1.w100");
    }

    #[test]
    fn the_time_is_shared_after_what_criterion_takes_itself() {
        let second = Duration::from_secs(1);
        let plain = Overheads { fixed: 2 * second, stretch: 1.0 };
        assert_eq!(times(18 * second, plain), [3, 5].map(Duration::from_secs));
        assert_eq!(times(second, plain), [LEAST; 2]);
        // Checking takes as long as the work: 3 s of warm-up, 5 s of measurement in 10 s.
        assert_eq!(times(28 * second, Overheads { stretch: 2.0, ..plain }), [3, 5].map(Duration::from_secs));
        let fitted = fit(0.5, 1.5, 3.5, 2.0);
        assert_eq!((fitted.stretch, fitted.fixed), (2.0, Duration::from_millis(1500)));
        assert_eq!(fit(0.5, 3.0, 2.0, 0.1).stretch, 1.0, "a disturbed trial");
    }
}
