//! `calibrate --rivals`: the same questions, in the same time, put to other ways of comparing two builds.
//!
//! Every method answers about the same pairs of equal builds, with and without an injected slowdown. What
//! it calls a change between equal builds is a false positive; a slowdown that it calls slower is found.

mod journal;
mod medians;
mod method;
mod ours;
mod table;
mod tango;

pub(crate) use method::Method;
pub(crate) use table::{Row, Table};

use crate::bench::plan::draw;
use crate::bench::prepare::{self, Prepared};
use crate::bench::select;
use crate::compare::contest::{self, Contest, Trial};
use crate::compare::{block, shape};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::session::Surroundings;
use crate::side::Side;
use crate::worker::Worker;
use crate::{files, host, interrupt, progress, source, variant, worker};
use anyhow::{Context as _, Result};
use journal::{Done, Journal};
use method::{Called, Task};
use model::build_config::Profile;
use model::thresholds::Thresholds;
use model::verdict::Plan;
use model::workload::WorkloadSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Sizes of the injected slowdown: none, and what every method is asked to find.
const INJECTED_PCT: [f64; 2] = [0.0, 1.0];

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Names or patterns.
    pub(crate) workloads: Vec<String>,
    /// Which methods; empty means all.
    pub(crate) methods: Vec<Method>,
    /// Time of one comparison, the same for every method.
    pub(crate) budget: Duration,
    /// Comparisons of each method for each workload, kind of pair and size.
    pub(crate) runs: u32,
    /// Draws layouts and orders; a resumed run has the same.
    pub(crate) seed: u64,
    /// Least time for a worker's answer before it counts as a hang.
    pub(crate) limit: Duration,
}

/// How the two sides of a pair came to be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pair {
    /// The candidate's program is the baseline's, byte for byte.
    ByteCopies,
    /// Each side is linked by itself.
    Rebuilt,
}

impl Pair {
    /// Both.
    pub(crate) const ALL: [Pair; 2] = [Pair::ByteCopies, Pair::Rebuilt];
}

/// Compares the methods; comparisons that an earlier run of the same command finished are not repeated.
/// After an interrupt the table is partial.
pub(crate) fn run(context: &Context, options: &Options) -> Result<Table> {
    let thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let tools = method::tools(context, options)?;
    let prepared = prepare(context)?;
    let specs = select::select(&prepared.workloads, &options.workloads)?;
    let race = Race { context, options, prepared: &prepared, thresholds: &thresholds, specs: &specs };
    let mut journal = Journal::open(&race.journal_path()?)?;
    let stopped = race.run(&mut journal).err();
    if let Some(error) = stopped
        && exit_of(&error) != Exit::Interrupted
    {
        return Err(error);
    }
    prepared.check_unchanged()?;
    let build = &prepared.subjects[0].build;
    Ok(table::table(options, build, &specs, tools, &journal.done))
}

/// The pristine source, twice: a pair without a difference.
fn prepare(context: &Context) -> Result<Prepared> {
    let source = source::resolve(context, None)?;
    let side = Side { variant: variant::pristine(context, &source)?, profile: Profile::default() };
    let sides = [side.clone(), side];
    let request =
        prepare::Request { sides: &sides, candidate_place: None, instructions: false, user_files: &[] };
    prepare::prepare_sides(context, &request)
}

/// All comparisons.
struct Race<'a> {
    context: &'a Context,
    options: &'a Options,
    prepared: &'a Prepared,
    thresholds: &'a Thresholds,
    specs: &'a [WorkloadSpec],
}

/// The programs of a round: what every method but ours compares.
struct Programs {
    baseline: Worker,
    copy: Worker,
    rebuilt: Worker,
}

impl Drop for Programs {
    fn drop(&mut self) {
        for worker in [&self.baseline, &self.copy, &self.rebuilt] {
            // Their folder goes at the end; a leftover costs only its space.
            drop(std::fs::remove_file(&worker.program));
        }
    }
}

impl Race<'_> {
    fn run(&self, journal: &mut Journal) -> Result<()> {
        let contest = self.contest(Pair::Rebuilt)?;
        let linked = block::link(&contest, 0)?;
        let links = linked.took;
        let trials = contest::trials(&contest, self.specs, &linked)?;
        drop(linked);
        let trials = self.sound(trials)?;
        self.refuse_short_budget(&trials, links)?;
        let started = Instant::now();
        let mut spent_rounds = 0;
        for round in 0..self.options.runs {
            if self.round(round, &trials, links, journal)? {
                spent_rounds += 1;
                let left = started.elapsed() / spent_rounds * (self.options.runs - round - 1);
                let minutes = left.as_secs_f64() / 60.0;
                progress::note(&format!(
                    "rivals: round {} of {} done, about {minutes:.0} min left",
                    round + 1,
                    self.options.runs
                ));
            }
        }
        Ok(())
    }

    /// One comparison of each method for each workload, kind of pair and size; whether any was left to do.
    fn round(
        &self,
        round: u32,
        trials: &BTreeMap<String, Trial>,
        links: Duration,
        journal: &mut Journal,
    ) -> Result<bool> {
        let methods = self.options.methods();
        let mut programs: Option<Programs> = None;
        let mut place = round as usize;
        for spec in self.specs {
            let trial = &trials[&spec.name];
            for (pair, injected_pct) in Pair::ALL.into_iter().flat_map(|pair| INJECTED_PCT.map(|pct| (pair, pct))) {
                // The host's mood must not favour the method that always comes first.
                place += 1;
                for turn in 0..methods.len() {
                    let method = methods[(place + turn) % methods.len()];
                    let key = Done::key(round, &spec.name, pair, injected_pct, method);
                    if journal.has(&key) {
                        continue;
                    }
                    interrupt::check()?;
                    let programs = match &mut programs {
                        Some(programs) => programs,
                        none => none.insert(self.programs(round)?),
                    };
                    let candidate = if pair == Pair::ByteCopies { &programs.copy } else { &programs.rebuilt };
                    let task = Task {
                        context: self.context,
                        contest: &self.contest(pair)?,
                        workers: [&programs.baseline, candidate],
                        spec,
                        trial,
                        links,
                        slow_down: iterations(trial, injected_pct),
                        budget: self.options.budget,
                        surroundings: Surroundings {
                            pinning: &self.prepared.pinning,
                            environment_bytes: 0,
                            limit: trial.limit,
                        },
                        seed: draw(self.options.seed, &format!("{key:?}"), 0),
                    };
                    journal.append(self.one(method, &task, key)?)?;
                }
            }
        }
        Ok(programs.is_some())
    }

    /// One comparison. An interrupt is an error, whatever else goes wrong is a result.
    fn one(&self, method: Method, task: &Task<'_>, key: journal::Key) -> Result<Done> {
        let started = Instant::now();
        let answer = method.compare(task);
        let seconds = started.elapsed().as_secs_f64();
        let (calls, error) = match answer {
            Ok(calls) => (calls, None),
            Err(error) if exit_of(&error) == Exit::Interrupted => return Err(error),
            Err(error) => {
                let error = format!("{error:#}");
                progress::note(&format!("{}, {}: {error}", task.spec.name, method.name()));
                (Vec::<Called>::new(), Some(error))
            }
        };
        Ok(Done { key, seconds, calls, error })
    }

    /// Links the round's programs: two orders of functions, and a copy of the first.
    fn programs(&self, round: u32) -> Result<Programs> {
        let [baseline, candidate] = self.subjects()?;
        let seeds = ["rivals-baseline", "rivals-candidate"]
            .map(|purpose| draw(self.options.seed, purpose, u64::from(round)));
        let original = baseline.link(seeds[0])?;
        let copy = candidate.copy(&original)?;
        Ok(Programs { baseline: original, copy, rebuilt: candidate.link(seeds[1])? })
    }

    fn subjects(&self) -> Result<[&crate::bench::subject::Subject; 2]> {
        let [baseline, candidate] = &self.prepared.subjects[..] else { anyhow::bail!("a comparison has two sides") };
        Ok([baseline, candidate])
    }

    fn contest(&self, pair: Pair) -> Result<Contest<'_>> {
        Ok(Contest {
            subjects: self.subjects()?,
            candidate_is_copy: pair == Pair::ByteCopies,
            pinning: &self.prepared.pinning,
            thresholds: self.thresholds,
            folder: None,
            limit: self.options.limit,
        })
    }

    fn sound(&self, trials: BTreeMap<String, Result<Trial, String>>) -> Result<BTreeMap<String, Trial>> {
        trials
            .into_iter()
            .map(|(name, trial)| match trial {
                Ok(trial) => Ok((name, trial)),
                Err(error) => Err(failure(Exit::Failed, format!("{name}: {error}; no method can be asked about it"))),
            })
            .collect()
    }

    /// Before hours are spent: a budget in which ours cannot answer.
    fn refuse_short_budget(&self, trials: &BTreeMap<String, Trial>, links: Duration) -> Result<()> {
        if !self.options.methods().contains(&Method::Ours) {
            return Ok(());
        }
        let least = Plan::least_blocks(self.thresholds.alpha)?;
        for (name, trial) in trials {
            let division = shape::divide(trial.shape, trial.pair, links, 1, self.options.budget);
            if division.blocks < least {
                let needed = (division.block.as_secs_f64() * least as f64 * 1.2).ceil();
                let message = format!(
                    "{name}: {:.1} s are enough for {} blocks, and no answer comes from fewer than {least}; give at \
                     least {needed:.0}s",
                    self.options.budget.as_secs_f64(),
                    division.blocks
                );
                return Err(failure(Exit::Usage, message));
            }
        }
        Ok(())
    }

    /// One journal for everything that its comparisons depend on, however many of them are asked for.
    fn journal_path(&self) -> Result<std::path::PathBuf> {
        let here = self.context.root.join("xtask/src/calibrate");
        let subject = &self.prepared.subjects[0];
        let parts = [
            host::fingerprint().id,
            subject.build.id.clone(),
            subject.code.sha256.clone(),
            worker::method_sha256(self.context)?,
            files::sha256_file(&here.join("rivals.rs"))?,
            files::sha256_tree(&here.join("rivals"))?,
            files::sha256_tree(&self.context.root.join("bench-harness/benches"))?,
            self.options.seed.to_string(),
            self.options.budget.as_millis().to_string(),
        ];
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| [part.as_bytes(), b"\n"].concat()).collect();
        let key = files::sha256_hex(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Ok(self.context.work.join("calibrate").join(format!("rivals-{}.jsonl", &key[..12])))
    }
}

impl Options {
    /// The methods, all by default.
    pub(crate) fn methods(&self) -> Vec<Method> {
        let all = Method::ALL.into_iter();
        all.filter(|method| self.methods.is_empty() || self.methods.contains(method)).collect()
    }
}

/// Multiplications that make a batch slower by so much.
fn iterations(trial: &Trial, injected_pct: f64) -> Option<u64> {
    if injected_pct == 0.0 {
        return None;
    }
    let wanted = injected_pct / 100.0 * trial.batch_ns / trial.iteration_ns;
    Some((wanted.round() as u64).max(1))
}
