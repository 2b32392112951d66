//! Instructions per event under callgrind, of exactly the timed part of each batch.
//!
//! They are those of user space, libraries included, of a build for an instruction set that callgrind
//! knows; the kernel and the cache are invisible to it.

use super::subject::Subject;
use crate::context::Context;
use crate::session::{self, Surroundings};
use crate::{process, worker};
use anyhow::{Context as _, Result, bail};
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::path::Path;
use std::time::Duration;

/// Batches of the shorter run, cold ones among them; the longer run has twice as many, and the
/// difference is of warm batches alone.
const BATCHES: u64 = 2;
/// The function around the timed part (bench-harness/src/worker/batch.rs).
const TIMED: &str = "bench_timed_batch";
/// callgrind takes about fifty times as long.
const SLOWDOWN: u32 = 100;

/// Instructions per event of one workload.
pub(crate) fn count(
    context: &Context,
    build: &Build,
    subject: &Subject,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<f64> {
    let scratch = tempfile::tempdir()?;
    // A fixed order of functions: instructions do not depend on it.
    let worker = worker::link(&subject.code, build, 0, scratch.path())?;
    let collected = |batches: u64| -> Result<u64> {
        let mut command = session::command(Path::new("valgrind"), surroundings);
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", &format!("--toggle-collect={TIMED}")]);
        command.arg(&worker.program);
        command.args(["profile", "--workload", &spec.name, "--batches", &batches.to_string()]);
        let limit = (surroundings.limit * SLOWDOWN).min(Duration::from_secs(300));
        let got = process::capture(&mut command, limit)?;
        if !got.status.success() {
            bail!("callgrind ended with {}: {}", got.status, last_line(&got.stderr));
        }
        parse_collected(&got.stderr).with_context(|| format!("callgrind printed no total: {}", last_line(&got.stderr)))
    };
    let (short, long) = (collected(BATCHES)?, collected(2 * BATCHES)?);
    if short == 0 {
        bail!("callgrind did not see {TIMED}; is the worker stripped?");
    }
    let difference = long.checked_sub(short).context("twice the work took fewer instructions")?;
    Ok(difference as f64 / (BATCHES * spec.batch_events) as f64)
}

/// The total of `==123== Collected : 456`.
fn parse_collected(text: &str) -> Option<u64> {
    let line = text.lines().rev().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_callgrinds_total() {
        let text = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(parse_collected(text), Some(1_234_567));
        assert_eq!(parse_collected("==7== Events : Ir\n"), None);
    }
}
