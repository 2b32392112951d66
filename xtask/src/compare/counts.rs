//! What is counted on both sides of a comparison: system calls always, instructions with `--instructions`.

use super::block::Linked;
use crate::bench::counts::{self, Counting};
use crate::bench::prepare::Prepared;
use crate::bench::syscalls::Source;
use crate::context::Context;
use crate::progress::Progress;
use crate::session::Surroundings;
use anyhow::Result;
use model::compare::CountedPair;
use model::workload::WorkloadSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Counts of every workload, wrong work that only counting saw, and what could not be counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) pairs: BTreeMap<String, CountedPair>,
    pub(crate) wrong: BTreeMap<String, String>,
    pub(crate) notes: Vec<String>,
}

/// Counts every workload on both sides. An interrupt is an error.
pub(crate) fn count(
    context: &Context,
    prepared: &Prepared,
    specs: &[&WorkloadSpec],
    linked: &Linked,
    limit: Duration,
) -> Result<Counts> {
    let mut counted = Counts::default();
    let source = Source::find(context);
    if let Err(why) = &source {
        counted.notes.push(format!("system calls not counted: {why}"));
    }
    let surroundings = Surroundings { pinning: &prepared.pinning, environment_bytes: 0, limit };
    let mut progress = Progress::new("counting", specs.len() as u64);
    for spec in specs {
        let mut sides = Vec::new();
        for (index, (subject, worker)) in prepared.subjects.iter().zip(&linked.workers).enumerate() {
            let builds = prepared.instruction_builds.as_ref();
            let counting =
                Counting { syscalls: source.as_ref().ok().copied(), instructions: builds.map(|all| &all[index]) };
            let side = counts::count(context, &counting, subject, worker, spec, &surroundings)?;
            counted.notes.extend(side.notes);
            if let Some(error) = side.wrong {
                counted.wrong.insert(spec.name.clone(), format!("{}: {error:#}", ["baseline", "candidate"][index]));
            }
            sides.push(side.counts);
        }
        progress.step(&spec.name);
        if let [baseline, candidate] = &sides[..] {
            counted.pairs.insert(spec.name.clone(), together(baseline, candidate));
        }
    }
    Ok(counted)
}

fn together(baseline: &model::summary::Counts, candidate: &model::summary::Counts) -> CountedPair {
    let both = baseline.syscalls.as_ref().zip(candidate.syscalls.as_ref());
    let names: BTreeSet<&String> = both.iter().flat_map(|(a, b)| a.1.keys().chain(b.1.keys())).collect();
    let by_name = |name: &String| both.map(|(a, b)| [a, b].map(|side| side.1.get(name).copied().unwrap_or(0.0)));
    CountedPair {
        syscalls_per_event: both.map(|(a, b)| [a.0, b.0]),
        syscalls_by_name: names.into_iter().filter_map(|name| Some((name.clone(), by_name(name)?))).collect(),
        instructions_per_event: (baseline.instructions.as_ref().zip(candidate.instructions.as_ref()))
            .map(|(a, b)| [a.per_event, b.per_event]),
    }
}
