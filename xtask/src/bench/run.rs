//! The run itself: checks, launches, counts, originals. What it did until an interrupt is kept.

use super::counts::{self, Counting};
use super::launches::{self, Pair};
use super::originals;
use super::plan::{self, Cost};
use super::prepare::Prepared;
use super::subject::Subject;
use super::syscalls::Source;
use crate::context::Context;
use crate::exit::{Exit, exit_of};
use crate::progress::Progress;
use crate::records::RunFolder;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::Result;
use model::record::{Launch, Parity, Role};
use model::summary::Counts;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// How much is measured.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) launches: Option<u32>,
    pub(crate) instructions: bool,
    pub(crate) limit: Duration,
    pub(crate) seed: u64,
}

impl Options {
    /// Launches of each side.
    pub(crate) fn launches(&self) -> u32 {
        self.launches.unwrap_or(if self.quick { plan::QUICK_LAUNCHES } else { plan::LAUNCHES })
    }
}

/// A workload on a side.
pub(crate) type Key = (String, Role);

/// What a run found out.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) launches: BTreeMap<Key, Vec<Launch>>,
    pub(crate) counts: BTreeMap<Key, Counts>,
    pub(crate) errors: BTreeMap<Key, String>,
    pub(crate) parity: Vec<Parity>,
    pub(crate) notes: Vec<String>,
    pub(crate) launch_time: Duration,
    pub(crate) syscalls_source: Option<&'static str>,
    /// Why the run ended before its end; what it did until then is kept.
    pub(crate) stopped: Option<anyhow::Error>,
}

/// A seed that no other run has.
pub(crate) fn random_seed() -> u64 {
    // Fewer digits are easier to type again; RandomState is seeded by the operating system.
    RandomState::new().hash_one("seed") >> 16
}

/// Measures; an interrupt, or a failure of the host such as a full disk, ends the run with what it has.
pub(crate) fn run(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    folder: &RunFolder,
) -> Measured {
    let surroundings = Surroundings { pinning: &prepared.pinning, environment_bytes: 0, limit: options.limit };
    let run = Run { context, prepared, selected, options, folder, surroundings };
    let mut measured = Measured::default();
    measured.stopped = run.stages(&mut measured).err();
    measured
}

/// What every stage looks at.
struct Run<'a> {
    context: &'a Context,
    prepared: &'a Prepared,
    selected: &'a [WorkloadSpec],
    options: &'a Options,
    folder: &'a RunFolder,
    surroundings: Surroundings<'a>,
}

impl Run<'_> {
    fn stages(&self, measured: &mut Measured) -> Result<()> {
        let costs = self.check(measured)?;
        self.time(&costs, measured)?;
        self.count(measured)?;
        let baseline = &self.prepared.subjects[0];
        let (selected, options) = (self.selected, self.options);
        let (parity, notes) = originals::parity(baseline, selected, options, &self.surroundings)?;
        measured.parity = parity;
        measured.notes.extend(notes);
        Ok(())
    }

    /// Every workload does the right work on every side before it is timed there.
    fn check(&self, measured: &mut Measured) -> Result<BTreeMap<String, Cost>> {
        let mut costs = BTreeMap::new();
        let mut progress = Progress::new("checking", self.workloads_on_sides());
        for subject in &self.prepared.subjects {
            let worker = subject.link(0)?;
            for spec in self.selected {
                match subject.check(&worker, spec, &self.surroundings) {
                    // Both sides do as many batches as the baseline's cost allows.
                    Ok(checked) => drop(costs.entry(spec.name.clone()).or_insert(checked.cost)),
                    Err(error) => fail(measured, &progress, subject, spec, error)?,
                }
                progress.step(&spec.name);
            }
        }
        Ok(costs)
    }

    /// Fresh launches of both sides in turn, in layouts of their own.
    fn time(&self, costs: &BTreeMap<String, Cost>, measured: &mut Measured) -> Result<()> {
        let launches = self.options.launches();
        let all_costs: Vec<Cost> = costs.values().copied().collect();
        let sides = self.prepared.subjects.len() as u32;
        measured.launch_time = match self.options.quick {
            true => plan::quick_launch_time(&all_costs, sides, launches),
            false => plan::LAUNCH_TIME,
        };
        let mut progress = Progress::new("measuring", u64::from(launches) * self.selected.len() as u64);
        for number in 0..launches {
            let pair = Pair::draw(self.options.seed, number);
            let linked = launches::link(&self.prepared.subjects, &pair)?;
            for spec in self.selected {
                if let Some(cost) = costs.get(&spec.name) {
                    self.time_pair(spec, &pair, *cost, &linked, &progress, measured)?;
                }
                progress.step(&spec.name);
            }
            launches::remove(&linked)?;
        }
        Ok(())
    }

    fn time_pair(
        &self,
        spec: &WorkloadSpec,
        pair: &Pair,
        cost: Cost,
        linked: &[(&Subject, Worker)],
        progress: &Progress,
        measured: &mut Measured,
    ) -> Result<()> {
        let batches = plan::batches(cost, measured.launch_time);
        let limit = plan::limit(cost, batches, self.options.limit);
        let surroundings = &Surroundings { limit, ..self.surroundings };
        let in_turn = pair.order().into_iter().filter_map(|role| linked.iter().find(|(s, _)| s.role == role));
        for (position, (subject, worker)) in (0_u8..).zip(in_turn) {
            let key = (spec.name.clone(), subject.role);
            if measured.errors.contains_key(&key) {
                continue;
            }
            match launches::launch(worker, spec, pair, position, batches, surroundings) {
                Ok(launch) => {
                    if let Err(error) = launches::journal(self.folder, &spec.name, subject.role, &launch) {
                        without_journal(measured, progress, &error);
                    }
                    measured.launches.entry(key).or_default().push(launch);
                }
                Err(error) => fail(measured, progress, subject, spec, error)?,
            }
        }
        Ok(())
    }

    /// System calls and instructions, in launches of their own.
    fn count(&self, measured: &mut Measured) -> Result<()> {
        let source = Source::find(self.context);
        if let Err(why) = &source {
            measured.notes.push(format!("system calls not counted: {why}"));
        }
        measured.syscalls_source = source.as_ref().ok().map(|source| source.name());
        let builds = self.prepared.instruction_builds.as_ref();
        let mut progress = Progress::new("counting", self.workloads_on_sides());
        for (index, subject) in self.prepared.subjects.iter().enumerate() {
            let worker = subject.link(0)?;
            let counting =
                Counting { syscalls: source.as_ref().ok().copied(), instructions: builds.map(|all| &all[index]) };
            for spec in self.selected {
                progress.step(&spec.name);
                let key = (spec.name.clone(), subject.role);
                if measured.errors.contains_key(&key) {
                    continue;
                }
                let counted = counts::count(self.context, &counting, subject, &worker, spec, &self.surroundings)?;
                counted.notes.iter().for_each(|note| progress.note(note));
                measured.notes.extend(counted.notes);
                measured.counts.insert(key, counted.counts);
                if let Some(error) = counted.wrong {
                    fail(measured, &progress, subject, spec, error)?;
                }
            }
        }
        Ok(())
    }

    fn workloads_on_sides(&self) -> u64 {
        (self.selected.len() * self.prepared.subjects.len()) as u64
    }
}

/// A journal that cannot be written is said once and ends nothing: what was measured is still printed,
/// and the record may find the disk with space again.
fn without_journal(measured: &mut Measured, progress: &Progress, error: &anyhow::Error) {
    let note = format!("launches were not written to the journal: {error:#}");
    if !measured.notes.contains(&note) {
        progress.note(&note);
        measured.notes.push(note);
    }
}

/// Keeps an error of one workload and goes on; an interrupt ends the run.
fn fail(
    measured: &mut Measured,
    progress: &Progress,
    subject: &Subject,
    spec: &WorkloadSpec,
    error: anyhow::Error,
) -> Result<()> {
    if exit_of(&error) == Exit::Interrupted {
        return Err(error);
    }
    let message = format!("{error:#}");
    progress.note(&format!("{} on variant {}: {message}", spec.name, subject.build.variant.id));
    measured.errors.insert((spec.name.clone(), subject.role), message);
    Ok(())
}
