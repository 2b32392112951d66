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
    pub(crate) partial: bool,
}

/// A seed that no other run has.
pub(crate) fn random_seed() -> u64 {
    // Fewer digits are easier to type again; RandomState is seeded by the operating system.
    RandomState::new().hash_one("seed") >> 16
}

/// Measures; an interrupt ends the run with what it has, marked as partial.
pub(crate) fn run(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    folder: &RunFolder,
) -> Result<Measured> {
    let mut measured = Measured::default();
    match stages(context, prepared, selected, options, folder, &mut measured) {
        Ok(()) => Ok(measured),
        Err(error) if exit_of(&error) == Exit::Interrupted => {
            measured.partial = true;
            Ok(measured)
        }
        Err(error) => Err(error),
    }
}

fn stages(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    folder: &RunFolder,
    measured: &mut Measured,
) -> Result<()> {
    let surroundings = Surroundings { pinning: &prepared.pinning, environment_bytes: 0, limit: options.limit };
    let costs = check(context, prepared, selected, &surroundings, measured)?;
    timed(context, prepared, selected, options, folder, &costs, &surroundings, measured)?;
    count(context, prepared, selected, options, &surroundings, measured)?;
    measured.parity = originals::parity(context, &prepared.subjects[0], selected, options.seed, &surroundings)?;
    Ok(())
}

/// Every workload does the right work on every side before it is timed there.
fn check(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    surroundings: &Surroundings<'_>,
    measured: &mut Measured,
) -> Result<BTreeMap<String, Cost>> {
    let mut costs = BTreeMap::new();
    let mut progress = Progress::new("checking", (selected.len() * prepared.subjects.len()) as u64);
    for subject in &prepared.subjects {
        let worker = subject.link(context, 0)?;
        for spec in selected {
            match subject.check(&worker, spec, surroundings) {
                // Both sides do as many batches as the baseline's cost allows.
                Ok(checked) => drop(costs.entry(spec.name.clone()).or_insert(checked.cost)),
                Err(error) => fail(measured, &progress, subject, spec, error)?,
            }
            progress.step(&spec.name);
        }
    }
    Ok(costs)
}

#[expect(clippy::too_many_arguments, reason = "a stage of the run, called once")]
fn timed(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    folder: &RunFolder,
    costs: &BTreeMap<String, Cost>,
    surroundings: &Surroundings<'_>,
    measured: &mut Measured,
) -> Result<()> {
    let all_costs: Vec<Cost> = costs.values().copied().collect();
    let sides = prepared.subjects.len() as u32;
    measured.launch_time = match options.quick {
        true => plan::quick_launch_time(&all_costs, sides, options.launches()),
        false => plan::LAUNCH_TIME,
    };
    let total = u64::from(options.launches()) * selected.len() as u64;
    let mut progress = Progress::new("measuring", total);
    for number in 0..options.launches() {
        let pair = Pair::draw(options.seed, number);
        let linked = launches::link(context, &prepared.subjects, &pair)?;
        for spec in selected {
            let Some(cost) = costs.get(&spec.name) else { continue };
            let batches = plan::batches(*cost, measured.launch_time);
            let sides = pair.order().into_iter().filter_map(|role| linked.iter().find(|(s, _)| s.role == role));
            for (position, (subject, worker)) in (0_u8..).zip(sides) {
                let key = (spec.name.clone(), subject.role);
                if measured.errors.contains_key(&key) {
                    continue;
                }
                match launches::launch(worker, spec, &pair, position, batches, surroundings) {
                    Ok(launch) => {
                        launches::journal(folder, &spec.name, subject.role, &launch)?;
                        measured.launches.entry(key).or_default().push(launch);
                    }
                    Err(error) => fail(measured, &progress, subject, spec, error)?,
                }
            }
            progress.step(&spec.name);
        }
        launches::remove(&linked)?;
    }
    Ok(())
}

fn count(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    surroundings: &Surroundings<'_>,
    measured: &mut Measured,
) -> Result<()> {
    let source = Source::find();
    if let Err(why) = &source {
        measured.notes.push(format!("system calls not counted: {why}"));
    }
    measured.syscalls_source = source.as_ref().ok().map(|source| source.name());
    let mut progress = Progress::new("counting", (selected.len() * prepared.subjects.len()) as u64);
    for (index, subject) in prepared.subjects.iter().enumerate() {
        let worker = subject.link(context, 0)?;
        let counting = Counting {
            syscalls: source.as_ref().ok().copied(),
            instructions: prepared.instruction_builds.as_ref().filter(|_| options.instructions).map(|all| &all[index]),
        };
        for spec in selected {
            progress.step(&spec.name);
            let key = (spec.name.clone(), subject.role);
            if measured.errors.contains_key(&key) {
                continue;
            }
            let notes = &mut measured.notes;
            let counts = counts::count(context, &counting, subject, &worker, spec, surroundings, &progress, notes)?;
            measured.counts.insert(key, counts);
        }
    }
    Ok(())
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
