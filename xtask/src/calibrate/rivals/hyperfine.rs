//! hyperfine: whole processes, all runs of the baseline, then all of the candidate. Judged as its own
//! script for two results judges: Welch's test at 5%.

use super::method::{Call, Called, Task};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::session;
use crate::setup::Places;
use crate::worker::Worker;
use crate::{host, process, progress};
use anyhow::{Context as _, Result, bail};
use model::stats::welch::welch;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What is installed where PATH has none.
const VERSION: &str = "1.20.0";
/// Compiling it takes about a minute on two cores.
const INSTALL_LIMIT: Duration = Duration::from_secs(1200);
/// Batches of one process take about so long.
const RUN_NS: f64 = 100e6;
const ALPHA: f64 = 0.05;

pub(super) const RULES: &[&str] = &["Welch's t, 5%"];

/// The program: of PATH, or else of the work folder, where it is installed when it is first needed.
pub(super) fn find(context: &Context) -> Result<PathBuf> {
    if let Some(program) = Places::here().program("hyperfine") {
        return Ok(program);
    }
    let folder = context.work.join("tools");
    let program = folder.join("bin/hyperfine");
    if program.is_file() {
        return Ok(program);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install.args(["install", "hyperfine", "--version", VERSION, "--locked", "--root"]).arg(&folder);
    if !context.install {
        let message = format!("hyperfine is not in PATH; to install it: {}", process::shown(&install));
        return Err(failure(Exit::Infrastructure, message));
    }
    progress::note("installing hyperfine into the work folder (once; about a minute)");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let log = folder.join("hyperfine.log");
    let status = process::logged(install.current_dir(&folder), INSTALL_LIMIT, &log)?;
    if !status.success() || !program.is_file() {
        let message =
            format!("hyperfine cannot be installed; the end of {}:\n{}", log.display(), process::tail(&log, 20));
        return Err(failure(Exit::Infrastructure, message));
    }
    Ok(program)
}

/// As it tells it, such as `1.20.0`.
pub(super) fn version(program: &Path) -> Result<String> {
    let got = process::capture(Command::new(program).arg("--version"), Duration::from_secs(10))?;
    let version = got.stdout.trim().trim_start_matches("hyperfine ").to_owned();
    if version.is_empty() || !got.status.success() {
        bail!("{} does not tell its version", program.display());
    }
    Ok(version)
}

pub(super) fn compare(task: &Task<'_>) -> Result<Vec<Called>> {
    let program = task.tools.hyperfine.as_ref().context("hyperfine was looked for")?;
    let started = Instant::now();
    let batches = ((RUN_NS / task.trial.batch_ns).round() as u64).max(1);
    let [baseline, candidate] =
        [(task.workers[0], None), (task.workers[1], task.slow_down)].map(|(w, busy)| command(task, w, batches, busy));
    // How long a run is, as a user would find out first.
    let run = Instant::now();
    let got = process::capture(&mut command(task, task.workers[0], batches, None), task.surroundings.limit)?;
    if !got.status.success() {
        bail!("the worker failed: {}{}", got.stdout.trim(), got.stderr.trim());
    }
    let run = run.elapsed();
    let left = task.budget.saturating_sub(started.elapsed());
    // One more of each side is its warm-up.
    let runs = ((left.as_secs_f64() / run.as_secs_f64() / 2.0).floor() as u64).saturating_sub(1).max(2);
    let folder = task.context.scratch("hyperfine-")?;
    let export = folder.path().join("times.json");
    let mut hyperfine = session::unconfined(program, &task.surroundings);
    hyperfine.args([
        "--shell",
        "none",
        "--style",
        "none",
        "--warmup",
        "1",
        "--runs",
        &runs.to_string(),
        "--export-json",
    ]);
    hyperfine.arg(&export).args([process::shown(&baseline), process::shown(&candidate)]);
    host::restrict(&mut hyperfine, &[task.surroundings.pinning.worker]);
    let got = process::capture(&mut hyperfine, task.budget * 4 + Duration::from_secs(60))?;
    if !got.status.success() {
        bail!("hyperfine failed: {}", got.stderr.trim());
    }
    let text = std::fs::read_to_string(&export).context("hyperfine wrote no times")?;
    judge(&text)
}

/// One run: a whole process.
fn command(task: &Task<'_>, worker: &Worker, batches: u64, busy: Option<u64>) -> Command {
    let mut command = session::unconfined(&worker.program, &task.surroundings);
    let cpu = task.surroundings.pinning.worker.to_string();
    command.args(["--cpu", &cpu, "profile", "--workload", &task.spec.name, "--batches", &batches.to_string()]);
    if let Some(iterations) = busy {
        command.args(["--busy", &iterations.to_string()]);
    }
    command
}

#[derive(Deserialize)]
struct Export {
    results: Vec<CommandTimes>,
}

#[derive(Deserialize)]
struct CommandTimes {
    times: Vec<f64>,
}

fn judge(json: &str) -> Result<Vec<Called>> {
    let export: Export = serde_json::from_str(json).context("hyperfine's times")?;
    let [baseline, candidate] = &export.results[..] else { bail!("hyperfine wrote {} results", export.results.len()) };
    let test = welch(&baseline.times, &candidate.times).context("too few runs for a test")?;
    let mean = |side: &CommandTimes| side.times.iter().sum::<f64>() / side.times.len() as f64;
    let difference_pct = 100.0 * (mean(candidate) / mean(baseline) - 1.0);
    Ok(vec![Called::new(RULES[0], Call::of(test.p_value < ALPHA, test.t), Some(difference_pct))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_export_is_understood() {
        let export = |candidate: &str| {
            format!(
                r#"{{"results":[{{"command":"a","mean":0.1,"times":[0.100,0.101,0.102],"exit_codes":[0,0,0]}},
                   {{"command":"b","times":{candidate}}}]}}"#
            )
        };
        let call = |candidate: &str| judge(&export(candidate)).unwrap()[0].call;
        assert_eq!(call("[0.110,0.111,0.109]"), Call::Slower);
        assert_eq!(call("[0.090,0.091,0.089]"), Call::Faster);
        assert_eq!(call("[0.100,0.103,0.1015]"), Call::Nothing);
        assert!(judge(r#"{"results":[]}"#).unwrap_err().to_string().contains("0 results"));
        assert!(judge(&export("[0.1]")).unwrap_err().to_string().contains("too few"));
    }
}
