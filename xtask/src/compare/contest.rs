//! The contest of two builds: blocks are added until every workload has its answer.

use super::block::{self, Disturbed, Draws, HostFailure, Linked};
use super::pair::{self, Attempt, Request};
use super::shape::{self, Division, Shape};
use crate::bench::plan::{Cost, draw};
use crate::bench::subject::Subject;
use crate::exit::{Exit, exit_of};
use crate::host::Pinning;
use crate::progress::Progress;
use crate::records::RunFolder;
use crate::session::Surroundings;
use anyhow::{Context as _, Result};
use model::compare::BlockRecord;
use model::stats::median;
use model::thresholds::Thresholds;
use model::verdict::{Plan, Question, Report, Sequential, Step, Stop};
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many times as long as the baseline took an answer may take, before it counts as a hang.
const PATIENCE: u32 = 20;
/// How many times its time a workload may take that has too few blocks for any answer; with enough, it ends when there
/// is no time for another one.
const MOST_OVERTIME: f64 = 4.0;
/// Pairs of launches on trial, so that one disturbance does not decide how many blocks there will be.
const TRIAL_PAIRS: usize = 3;

/// Two builds and the rules.
pub(crate) struct Contest<'a> {
    /// Baseline and candidate.
    pub(crate) subjects: [&'a Subject; 2],
    /// The candidate's programs are copies of the baseline's: a form of calibration.
    pub(crate) candidate_is_copy: bool,
    pub(crate) pinning: &'a Pinning,
    pub(crate) thresholds: &'a Thresholds,
    /// Where batches are written down, if they are.
    pub(crate) folder: Option<&'a RunFolder>,
    /// Least time for a worker's answer before it counts as a hang.
    pub(crate) limit: Duration,
    /// Nobody is told how far it is: a soak of many contests tells that.
    pub(crate) quiet: bool,
}

/// What a workload takes, measured on both sides before the first block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) shape: Shape,
    /// One pair of launches.
    pub(crate) pair: Duration,
    /// Most time for an answer.
    pub(crate) limit: Duration,
    /// About what a batch of the baseline takes, for how much work fills a time; nothing of it is a result.
    pub(crate) batch_ns: f64,
}

/// A workload that takes part.
pub(crate) struct Entry<'a> {
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) division: Division,
    pub(crate) slow_down: Option<u64>,
    pub(crate) limit: Duration,
    /// The looks that were planned.
    pub(crate) plan: Plan,
    /// What has been done.
    pub(crate) blocks: Vec<BlockRecord>,
    /// Time that blocks took until now, with this workload's share of their links, and with waiting.
    pub(crate) spent: Duration,
    /// The same of each block that was finished, in seconds.
    block_times_s: Vec<f64>,
    budget: Duration,
    sequential: Sequential,
    /// The answer, once there is one.
    pub(crate) report: Option<Report>,
    /// What ended it before its plan, if it was something that disturbed its last block.
    pub(crate) ended_early: Option<String>,
    /// Why there will be none.
    pub(crate) error: Option<String>,
    /// That is nothing of either side: the host was too busy.
    pub(crate) disturbed: bool,
}

impl<'a> Entry<'a> {
    /// A workload before its first block.
    pub(crate) fn new(
        spec: &'a WorkloadSpec,
        trial: &Trial,
        division: Division,
        plan: Plan,
        thresholds: &Thresholds,
        budget: Duration,
    ) -> Self {
        let question = question(thresholds, 1);
        Entry {
            spec,
            division,
            slow_down: None,
            limit: trial.limit,
            sequential: Sequential::new(plan.clone(), question),
            plan,
            blocks: Vec::new(),
            spent: Duration::ZERO,
            block_times_s: Vec::new(),
            budget,
            report: None,
            ended_early: None,
            error: None,
            disturbed: false,
        }
    }

    /// The workload is one of `count`: a change is looked at until it would stand as one of so many.
    pub(crate) fn among(&mut self, count: usize, thresholds: &Thresholds) {
        self.sequential = Sequential::new(self.plan.clone(), question(thresholds, count));
    }

    /// Time for the workload.
    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    fn is_open(&self) -> bool {
        self.report.is_none() && self.error.is_none()
    }

    fn log_ratios(&self) -> Vec<f64> {
        self.blocks.iter().map(|block| block.log_ratio).collect()
    }

    /// Most time for its blocks: the budget, or, as long as there are too few for any answer, several times as much.
    pub(crate) fn most_time(&self) -> Result<Duration> {
        let is_enough = self.blocks.len() >= Plan::least_blocks(self.plan.alpha())?;
        Ok(if is_enough { self.budget } else { self.budget.mul_f64(MOST_OVERTIME) })
    }

    /// Takes note of a block that is finished and took so long.
    fn add(&mut self, record: BlockRecord, took: Duration) {
        self.blocks.push(record);
        self.spent += took;
        self.block_times_s.push(took.as_secs_f64());
    }

    /// Takes the look that is due, if one is, and ends what has no time for another block.
    fn look(&mut self) -> Result<()> {
        let log_ratios = self.log_ratios();
        if self.sequential.next_look_blocks() == Some(log_ratios.len())
            && let Step::Done(report) = self.sequential.look(&log_ratios)?
        {
            self.report = Some(report);
            return Ok(());
        }
        if !self.has_time_for_a_block() {
            let least = Plan::least_blocks(self.plan.alpha())?;
            if log_ratios.len() >= least {
                self.report = Some(self.sequential.end_early(&log_ratios)?);
            } else if self.spent > self.most_time()? {
                self.disturbed = true;
                self.error = Some(format!(
                    "infrastructure: {} blocks took {:.0} s, and {least} are needed; the host is too busy, or give a \
                     larger --budget",
                    log_ratios.len(),
                    self.spent.as_secs_f64()
                ));
            }
        }
        Ok(())
    }

    /// There is time for another block, if it takes what most took. The median: one that waited for the host says
    /// nothing of the next.
    fn has_time_for_a_block(&self) -> bool {
        let block_s = median(&self.block_times_s).unwrap_or(0.0);
        // A clock that was read a hundred times has no exact sum.
        self.spent.as_secs_f64() + block_s <= self.budget.as_secs_f64() * (1.0 + 1e-9)
    }

    /// Ends after a block that failed: with the blocks of before, if they are enough and nothing but the host was in
    /// the way; with the error otherwise.
    fn give_up(&mut self, error: &anyhow::Error) -> Result<()> {
        let why = format!("{error:#}");
        self.disturbed = error.is::<Disturbed>();
        if self.disturbed {
            self.end_early()?;
        }
        if self.report.is_some() {
            self.ended_early = Some(format!("ended after {} blocks: {why}", self.blocks.len()));
        } else {
            self.error = Some(why);
        }
        Ok(())
    }

    /// Ends with the blocks that there are, if they are enough for an answer.
    fn end_early(&mut self) -> Result<()> {
        let log_ratios = self.log_ratios();
        if self.is_open() && log_ratios.len() >= Plan::least_blocks(self.plan.alpha())? {
            self.report = Some(self.sequential.end_early(&log_ratios)?);
        }
        Ok(())
    }
}

fn question(thresholds: &Thresholds, workloads: usize) -> Question {
    Question {
        margin_pct: thresholds.no_change_margin_pct,
        stop: Stop::Answered,
        sure_p_value: thresholds.alpha / workloads.max(1) as f64,
    }
}

/// Both sides do the workloads' work before anything is timed, and a pair of launches on trial tells what
/// they take. Returns an error for each workload that fails.
pub(crate) fn trials(
    contest: &Contest<'_>,
    specs: &[WorkloadSpec],
    linked: &Linked,
) -> Result<BTreeMap<String, Result<Trial, String>>> {
    let mut progress = Progress::new("checking", specs.len() as u64);
    let mut trials = BTreeMap::new();
    for spec in specs {
        let trial = match trial(contest, spec, linked) {
            Ok(trial) => Ok(trial),
            Err(error) if exit_of(&error) == Exit::Interrupted => return Err(error),
            Err(error) => {
                progress.note(&format!("{}: {error:#}", spec.name));
                Err(format!("{error:#}"))
            }
        };
        trials.insert(spec.name.clone(), trial);
        progress.step(&spec.name);
    }
    Ok(trials)
}

fn trial(contest: &Contest<'_>, spec: &WorkloadSpec, linked: &Linked) -> Result<Trial> {
    let surroundings = Surroundings { pinning: contest.pinning, environment_bytes: 0, limit: contest.limit };
    let cost: Cost = contest.subjects[0].check(&linked.workers[0], spec, &surroundings).context("baseline")?.cost;
    contest.subjects[1].check(&linked.workers[1], spec, &surroundings).context("candidate")?;
    let shape = shape::shape(cost);
    let batches = u32::try_from(shape.turn.max(shape.warm_up)).unwrap_or(u32::MAX);
    let limit = ((cost.overhead + cost.batch * batches) * PATIENCE).max(contest.limit);
    let surroundings = Surroundings { limit, ..surroundings };
    let [baseline, candidate] = &linked.workers;
    let workers = [baseline, candidate];
    let thresholds = contest.thresholds;
    let request = Request { workers, spec, shape, seed: 0, slow_down: None, thresholds, surroundings };
    let timed = |_| -> Result<(f64, Option<f64>)> {
        let started = Instant::now();
        let attempt = pair::pair(&request)?;
        let batch_ns = match attempt {
            Attempt::Done(record, _) => Some(record.figures.baseline_ns * spec.batch_events as f64),
            Attempt::Disturbed(..) => None,
        };
        Ok((started.elapsed().as_secs_f64(), batch_ns))
    };
    let attempts: Vec<(f64, Option<f64>)> = (0..TRIAL_PAIRS).map(timed).collect::<Result<_>>()?;
    let batches_ns: Vec<f64> = attempts.iter().filter_map(|(_, batch_ns)| *batch_ns).collect();
    Ok(Trial {
        shape,
        pair: Duration::from_secs_f64(typical_pair_s(&attempts)),
        limit,
        batch_ns: median(&batches_ns).unwrap_or(cost.batch.as_nanos() as f64),
    })
}

/// What a pair of launches takes, in seconds: the median of those on trial that nothing disturbed, because one that was
/// broken off tells no length; of all, if there are no others.
fn typical_pair_s<T>(attempts: &[(f64, Option<T>)]) -> f64 {
    let of = |sound: bool| -> Vec<f64> {
        attempts.iter().filter(|(_, figure)| figure.is_some() == sound).map(|(seconds, _)| *seconds).collect()
    };
    median(&of(true)).or(median(&of(false))).unwrap_or(0.0)
}

/// Adds blocks until every entry has its answer or its error. An interrupt ends the entries with what they
/// have and is returned, as is a failure of the host.
pub(crate) fn run(contest: &Contest<'_>, entries: &mut [Entry<'_>], seed: u64, confirms: bool) -> Result<()> {
    let total: usize = entries.iter().filter(|entry| entry.is_open()).map(|entry| entry.division.blocks).sum();
    let what = if confirms { "confirming" } else { "comparing" };
    let mut progress = if contest.quiet { Progress::hidden(total as u64) } else { Progress::new(what, total as u64) };
    let mut number = 0;
    let mut done = || -> Result<()> {
        while entries.iter().any(Entry::is_open) {
            round(contest, entries, seed, number, confirms, &mut progress)?;
            number += 1;
        }
        Ok(())
    };
    let result = done();
    if result.is_err() {
        for entry in entries.iter_mut() {
            entry.end_early()?;
        }
    }
    result
}

/// One block of every entry that is open, all in one order of functions.
fn round(
    contest: &Contest<'_>,
    entries: &mut [Entry<'_>],
    seed: u64,
    number: u64,
    confirms: bool,
    progress: &mut Progress,
) -> Result<()> {
    let draws = Draws { number, confirms, layout_seed: draw(seed, "layout", number), seed };
    let linked = block::link(contest, draws.layout_seed)?;
    let open = entries.iter().filter(|entry| entry.is_open()).count();
    let link_share = linked.took / u32::try_from(open).unwrap_or(u32::MAX).max(1);
    for entry in entries.iter_mut().filter(|entry| entry.is_open()) {
        let started = Instant::now();
        match block::block(contest, entry, &linked, &draws) {
            Ok(record) => {
                entry.add(record, started.elapsed() + link_share);
                entry.look()?;
            }
            Err(error) if exit_of(&error) == Exit::Interrupted || error.is::<HostFailure>() => return Err(error),
            Err(error) => {
                progress.note(&format!("{}: {error:#}", entry.spec.name));
                entry.spent += started.elapsed() + link_share;
                entry.give_up(&error)?;
            }
        }
        let left = if entry.is_open() { 1 } else { 1 + entry.division.blocks.saturating_sub(entry.blocks.len()) };
        progress.steps(left as u64, &entry.spec.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
