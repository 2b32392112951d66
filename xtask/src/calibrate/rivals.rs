//! `calibrate --rivals`: the same questions, in the same time, put to other ways of comparing two builds.
//!
//! Every method answers about the same pairs of equal builds, with and without an injected slowdown. What
//! it calls a change between equal builds is a false positive; a slowdown that it calls slower is found.

mod criterion;
mod hyperfine;
mod journal;
mod medians;
mod method;
mod ours;
mod table;
mod tango;

pub(crate) use method::Method;
pub(crate) use table::{Row, Table, interval_pct};

use super::sizing::{self, Size};
use crate::bench::plan::draw;
use crate::bench::prepare::{self, Prepared};
use crate::bench::select;
use crate::compare::contest::{self, Contest, Trial};
use crate::compare::{block, shape};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::progress::Progress;
use crate::session::Surroundings;
use crate::side::Side;
use crate::worker::Worker;
use crate::{files, git, host, interrupt, progress, source, variant, worker};
use anyhow::{Context as _, Result};
use journal::{Done, Journal, Key};
use method::{Task, Tools};
use model::build_config::Profile;
use model::thresholds::Thresholds;
use model::verdict::Plan;
use model::workload::WorkloadSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    /// Another libevent than the pinned one.
    pub(crate) source: Option<String>,
    /// Ends when this time is over.
    pub(crate) until: Option<Instant>,
    /// Compares nothing; what is known until now is the answer.
    pub(crate) status: bool,
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
    let tools = Tools::find(context, options)?;
    let prepared = prepare(context, options.source.as_deref())?;
    let specs = select::select(&prepared.workloads, &options.workloads)?;
    let race = Race { context, options, tools: &tools, prepared: &prepared, thresholds: &thresholds, specs: &specs };
    let mut journal = Journal::open(&race.journal_path()?)?;
    let stopped = if options.status { None } else { race.run(&mut journal).err() };
    if let Some(error) = stopped
        && exit_of(&error) != Exit::Interrupted
    {
        return Err(error);
    }
    prepared.check_unchanged()?;
    let build = &prepared.subjects[0].build;
    let provenance = table::Provenance {
        method_sha256: worker::method_sha256(context)?,
        checkout: git::describe_checkout(&context.root),
        source: prepared.subjects[0].build.variant.source.label.clone(),
    };
    Ok(table::table(options, build, provenance, &specs, tools.versions, &journal.done))
}

/// One source without patches, twice: a pair without a difference.
fn prepare(context: &Context, source: Option<&str>) -> Result<Prepared> {
    let source = source::resolve(context, source)?;
    let side = Side { variant: variant::pristine(context, &source)?, profile: Profile::default() };
    let sides = [side.clone(), side];
    let request = prepare::Request { sides: &sides, candidate_place: None, instructions: false, user_files: &[] };
    prepare::prepare_sides(context, &request)
}

/// All comparisons.
struct Race<'a> {
    context: &'a Context,
    options: &'a Options,
    tools: &'a Tools,
    prepared: &'a Prepared,
    thresholds: &'a Thresholds,
    specs: &'a [WorkloadSpec],
}

/// The programs of a round: what every method but ours compares.
struct Programs {
    baseline: Worker,
    copy: Worker,
    rebuilt: Worker,
    /// Criterion's benches, in the same order and the same layouts, if criterion takes part.
    criterion: Option<[PathBuf; 3]>,
}

impl Programs {
    fn workers(&self, pair: Pair) -> [&Worker; 2] {
        [&self.baseline, if pair == Pair::ByteCopies { &self.copy } else { &self.rebuilt }]
    }

    fn criterion(&self, pair: Pair) -> Option<[&Path; 2]> {
        let [baseline, copy, rebuilt] = self.criterion.as_ref()?;
        Some([baseline, if pair == Pair::ByteCopies { copy } else { rebuilt }])
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let workers = [&self.baseline, &self.copy, &self.rebuilt].map(|worker| &worker.program);
        for program in workers.into_iter().chain(self.criterion.iter().flatten()) {
            // Their folder goes at the end; a leftover costs only its space.
            drop(std::fs::remove_file(program));
        }
    }
}

/// What a workload takes, measured before the first round.
struct Costs {
    trials: BTreeMap<String, Trial>,
    /// What slowdowns are made of.
    sizes: BTreeMap<String, Size>,
    /// Both links of `compare`.
    links: Duration,
    /// What criterion takes besides what it is given; by workload, if criterion takes part.
    criterion: BTreeMap<String, criterion::Overheads>,
}

impl Race<'_> {
    fn run(&self, journal: &mut Journal) -> Result<()> {
        let all: Vec<Key> = (0..self.options.runs).flat_map(|round| self.keys(round)).collect();
        let missing = all.iter().filter(|key| !journal.has(key)).count();
        if missing == 0 {
            return Ok(());
        }
        let scratch = self.context.scratch("benches-")?;
        let costs = self.costs(scratch.path())?;
        let mut progress = Progress::new("rivals", missing as u64);
        let before = journal.done.len();
        for round in 0..self.options.runs {
            // At least one comparison, whatever the builds took: the same command gets on each time.
            if self.is_out_of_time() && journal.done.len() > before {
                break;
            }
            self.round(round, &costs, scratch.path(), journal, &mut progress)?;
        }
        Ok(())
    }

    fn is_out_of_time(&self) -> bool {
        self.options.until.is_some_and(|until| Instant::now() >= until)
    }

    fn costs(&self, scratch: &Path) -> Result<Costs> {
        let contest = self.contest(Pair::Rebuilt)?;
        let linked = block::link(&contest, 0)?;
        let links = linked.took;
        let trials = self.sound(contest::trials(&contest, self.specs, &linked)?)?;
        drop(linked);
        let sizes = sizing::sizes(&contest, self.specs, &trials, draw(self.options.seed, "sizes", 0))?;
        self.mention_overtime(&trials, links)?;
        let mut criterion = BTreeMap::new();
        if self.options.methods().contains(&Method::Criterion) {
            progress::note("compiling criterion's benches (the first time, some minutes)");
            let program = scratch.join("benches-trial");
            criterion::link(self.context, &self.prepared.subjects[0].build, 0, &program)?;
            for spec in self.specs {
                let trial = &trials[&spec.name];
                let overheads = criterion::overheads(self.context, &program, spec, trial, &self.surroundings(trial));
                criterion.insert(spec.name.clone(), overheads.with_context(|| spec.name.clone())?);
            }
        }
        Ok(Costs { trials, sizes, links, criterion })
    }

    fn surroundings(&self, trial: &Trial) -> Surroundings<'_> {
        Surroundings { pinning: &self.prepared.pinning, environment_bytes: 0, limit: trial.limit }
    }

    /// The comparisons of a round: one of each method for each workload, kind of pair and size. The method
    /// that begins is another one each time, so that the host's mood favours none.
    fn keys(&self, round: u32) -> Vec<Key> {
        let methods = self.options.methods();
        let sizes = |pair: Pair| INJECTED_PCT.map(|pct| (pair, pct));
        let cases: Vec<(Pair, f64)> = Pair::ALL.into_iter().flat_map(sizes).collect();
        let asked = self.specs.iter().flat_map(|spec| cases.iter().map(move |case| (spec, case)));
        let mut keys = Vec::new();
        for (place, (spec, (pair, injected_pct))) in asked.enumerate() {
            let mut turns = methods.clone();
            turns.rotate_left((round as usize + place) % methods.len());
            keys.extend(turns.into_iter().map(|method| Key::new(round, &spec.name, *pair, *injected_pct, method)));
        }
        keys
    }

    /// What is missing of a round, all with the same programs.
    fn round(
        &self,
        round: u32,
        costs: &Costs,
        scratch: &Path,
        journal: &mut Journal,
        progress: &mut Progress,
    ) -> Result<()> {
        let missing: Vec<Key> = self.keys(round).into_iter().filter(|key| !journal.has(key)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let programs = self.programs(round, scratch)?;
        for (place, key) in missing.into_iter().enumerate() {
            interrupt::check()?;
            if place > 0 && self.is_out_of_time() {
                break;
            }
            let spec = self.specs.iter().find(|spec| spec.name == key.workload).context("keys are made of these")?;
            let (trial, size) = (&costs.trials[&spec.name], &costs.sizes[&spec.name]);
            let overheads = costs.criterion.get(&spec.name).copied();
            let task = Task {
                context: self.context,
                tools: self.tools,
                criterion: programs.criterion(key.pair).zip(overheads),
                contest: &self.contest(key.pair)?,
                workers: programs.workers(key.pair),
                spec,
                trial,
                links: costs.links,
                slow_down: size.iterations(key.injected_pct()),
                budget: self.options.budget,
                surroundings: self.surroundings(trial),
                seed: draw(self.options.seed, &format!("{key:?}"), 0),
            };
            let next = format!("{}, {}", key.workload, key.method.name());
            journal.append(one(&task, key, size, progress)?)?;
            progress.step(&next);
        }
        Ok(())
    }

    /// Links the round's programs: two orders of functions, and a copy of the first.
    fn programs(&self, round: u32, scratch: &Path) -> Result<Programs> {
        let [baseline, candidate] = self.subjects()?;
        let seeds =
            ["rivals-baseline", "rivals-candidate"].map(|purpose| draw(self.options.seed, purpose, u64::from(round)));
        let criterion = if self.options.methods().contains(&Method::Criterion) {
            let paths = ["a/benches", "b/benches", "c/benches"].map(|name| scratch.join(name));
            criterion::link(self.context, &baseline.build, seeds[0], &paths[0])?;
            criterion::link(self.context, &candidate.build, seeds[1], &paths[2])?;
            std::fs::create_dir_all(scratch.join("b"))?;
            std::fs::copy(&paths[0], &paths[1]).with_context(|| format!("cannot write {}", paths[1].display()))?;
            Some(paths)
        } else {
            None
        };
        let original = baseline.link(seeds[0])?;
        let copy = candidate.copy(&original)?;
        Ok(Programs { baseline: original, copy, rebuilt: candidate.link(seeds[1])?, criterion })
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
            quiet: true,
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

    /// Ours needs a number of blocks for any answer, whatever they take.
    fn mention_overtime(&self, trials: &BTreeMap<String, Trial>, links: Duration) -> Result<()> {
        if !self.options.methods().contains(&Method::Ours) {
            return Ok(());
        }
        let least = Plan::least_blocks(self.thresholds.alpha)?;
        for (name, trial) in trials {
            let division = shape::divide(trial.shape, trial.pair, links, 1, self.options.budget);
            if division.blocks < least {
                let needed = division.block.as_secs_f64() * least as f64;
                progress::note(&format!(
                    "{name}: compare cannot answer in {:.1} s and will take about {needed:.0} s; its time would not \
                     be that of the others. Give more time",
                    self.options.budget.as_secs_f64()
                ));
            }
        }
        Ok(())
    }

    /// One journal for everything that its comparisons depend on, however many of them are asked for.
    fn journal_path(&self) -> Result<PathBuf> {
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
        Ok(self.context.work.join("calibration").join(format!("rivals-{}.jsonl", &key[..12])))
    }
}

impl Options {
    /// The methods, all by default.
    pub(crate) fn methods(&self) -> Vec<Method> {
        let all = Method::ALL.into_iter();
        all.filter(|method| self.methods.is_empty() || self.methods.contains(method)).collect()
    }
}

/// One comparison. An interrupt is an error, whatever else goes wrong is a result.
fn one(task: &Task<'_>, key: Key, size: &Size, progress: &Progress) -> Result<Done> {
    let started = Instant::now();
    let answer = key.method.compare(task);
    let seconds = started.elapsed().as_secs_f64();
    let (calls, error) = match answer {
        Ok(calls) => (calls, None),
        Err(error) if exit_of(&error) == Exit::Interrupted => return Err(error),
        Err(error) => {
            let error = format!("{error:#}");
            progress.note(&format!("{}, {}: {error}", key.workload, key.method.name()));
            (vec![], Some(error))
        }
    };
    let injected_pct = task.slow_down.map(|iterations| size.pct(iterations));
    Ok(Done { key, seconds, busy_iterations: task.slow_down, sized_pct: injected_pct, calls, error })
}
