//! One block: both sides linked in one fresh order of functions, and pairs of launches of each workload.

use super::contest::{Contest, Entry};
use super::pair::{self, Attempt, Request};
use super::patience::{Disturbance, Patience};
use super::samples;
use crate::bench::plan::draw;
use crate::exit::{Exit, failure};
use crate::interrupt;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::compare::{BlockRecord, PairRecord};
use model::protocol::Sample;
use std::time::{Duration, Instant};

/// Both sides' programs in one order of functions; removed when dropped.
pub(crate) struct Linked {
    pub(crate) workers: [Worker; 2],
    /// What linking took.
    pub(crate) took: Duration,
}

impl Drop for Linked {
    fn drop(&mut self) {
        for worker in &self.workers {
            // The whole folder goes at the end of the run; until then, a leftover costs only its space.
            drop(std::fs::remove_file(&worker.program));
        }
    }
}

/// Links both sides, at the same time: nothing is measured meanwhile.
pub(crate) fn link(contest: &Contest<'_>, layout_seed: u64) -> Result<Linked> {
    let started = Instant::now();
    let [baseline, candidate] = contest.subjects;
    let workers = if contest.candidate_is_copy {
        let original = baseline.link(layout_seed)?;
        let copy = candidate.copy(&original)?;
        [original, copy]
    } else {
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| baseline.link(layout_seed));
            let other = candidate.link(layout_seed);
            (one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), other)
        });
        [one?, other?]
    };
    Ok(Linked { workers, took: started.elapsed() })
}

/// The block of one workload. An error is the workload's, or an interrupt.
pub(crate) fn block(contest: &Contest<'_>, entry: &Entry<'_>, linked: &Linked, draws: &Draws) -> Result<BlockRecord> {
    let started = Instant::now();
    let mut pairs: Vec<PairRecord> = Vec::new();
    let mut repeated = Vec::new();
    for number in 0..entry.division.pairs {
        let at_once = contest.thresholds.external.repeats_at_once;
        let left = entry.most_time()?.saturating_sub(entry.spent + started.elapsed());
        let patience = Patience::within(entry.budget(), left, at_once);
        pairs.push(undisturbed(contest, entry, linked, draws, number, patience, &mut repeated)?);
    }
    let mut record = BlockRecord {
        number: draws.number,
        confirms: draws.confirms,
        layout_seed: draws.layout_seed,
        log_ratio: 0.0,
        pairs,
        repeated,
    };
    record.log_ratio = record.mean(|pair| Some(pair.figures.log_ratio)).context("a block has pairs")?;
    Ok(record)
}

/// An error that is no workload's: it ends the run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFailure(String);

/// A block that something outside of both sides, which may pass, disturbed for longer than it was waited for. It
/// knows nothing of which side was faster: blocks of before may answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Disturbed(pub(super) String);

/// What a block draws from.
pub(crate) struct Draws {
    pub(crate) number: u64,
    pub(crate) confirms: bool,
    pub(crate) layout_seed: u64,
    pub(crate) seed: u64,
}

/// A pair of launches that nothing outside disturbed; attempts that were disturbed are made again with the
/// same draws, as long as there is patience.
fn undisturbed(
    contest: &Contest<'_>,
    entry: &Entry<'_>,
    linked: &Linked,
    draws: &Draws,
    number: u32,
    patience: Patience,
    repeated: &mut Vec<String>,
) -> Result<PairRecord> {
    let seed = draw(draws.seed, &entry.spec.name, 64 * draws.number + u64::from(number));
    let [baseline, candidate] = &linked.workers;
    let request = Request {
        workers: [baseline, candidate],
        spec: entry.spec,
        shape: entry.division.shape,
        seed,
        slow_down: entry.slow_down,
        thresholds: contest.thresholds,
        surroundings: Surroundings { pinning: contest.pinning, environment_bytes: 0, limit: entry.limit },
    };
    let write = |attempt: u32, disturbed: Option<&str>, batches: &[Vec<Sample>; 2]| {
        let Some(folder) = contest.folder else { return Ok(()) };
        let place = samples::Place { workload: &entry.spec.name, pair: number, attempt, disturbed };
        samples::write(folder, draws, &place, batches)
            .map_err(|error| anyhow::Error::new(HostFailure(format!("{error:#}"))))
    };
    let started = Instant::now();
    let mut attempts_made = 0;
    let outcome = attempts(&request, patience, |attempt, made| {
        attempts_made = attempt;
        match made {
            Attempt::Done(_, batches) => write(attempt, None, batches),
            Attempt::Disturbed(cause, batches) => {
                repeated.push(format!("pair {number}, attempt {attempt}: {}", cause.why));
                write(attempt, Some(&cause.why), batches)
            }
        }
    })?;
    let cause = match outcome {
        Ok(record) => return Ok(*record),
        Err(cause) => cause,
    };
    let last = repeated.last().map_or("", String::as_str);
    let message = format!(
        "infrastructure: block {} was disturbed {attempts_made} times in a row, for {:.0} s ({last}); measure when the \
         host is quieter, or give a larger --budget",
        draws.number,
        started.elapsed().as_secs_f64()
    );
    // A clock that jumps may be one side's doing.
    Err(if cause.passes { anyhow::Error::new(Disturbed(message)) } else { failure(Exit::Infrastructure, message) })
}

/// Attempts at a pair with the same draws, until one is not disturbed or patience ends; each is shown to `seen`, with its
/// number from 1. The inner error is what disturbed the last one.
pub(crate) fn attempts(
    request: &Request<'_>,
    patience: Patience,
    mut seen: impl FnMut(u32, &Attempt) -> Result<()>,
) -> Result<std::result::Result<Box<PairRecord>, Disturbance>> {
    let started = Instant::now();
    let mut number = 0;
    loop {
        interrupt::check()?;
        number += 1;
        let attempt = pair::pair(request)?;
        seen(number, &attempt)?;
        match attempt {
            Attempt::Done(record, _) => return Ok(Ok(record)),
            Attempt::Disturbed(cause, _) => match patience.pause(number, started.elapsed(), &cause) {
                Some(pause) => interrupt::sleep(pause)?,
                None => return Ok(Err(cause)),
            },
        }
    }
}
