//! From what was measured to the record.

use super::prepare::Prepared;
use super::run::{Measured, Options};
use super::subject::Subject;
use crate::context::Context;
use crate::{git, records};
use model::record::{BENCH_SCHEMA, BenchRecord, Harness, Role, Settings, Side, WorkloadResult};
use model::summary;
use model::workload::WorkloadSpec;

/// The record of a run.
pub(crate) fn record(
    context: &Context,
    prepared: &Prepared,
    selected: &[WorkloadSpec],
    options: &Options,
    measured: &Measured,
    id: &str,
    started_at: &str,
) -> BenchRecord {
    let mut notes = prepared.notes.clone();
    notes.extend(measured.notes.iter().cloned());
    notes.extend(measured.stopped.iter().map(|error| format!("the run ended early: {error:#}")));
    BenchRecord {
        head: records::head(BENCH_SCHEMA, id, started_at, measured.stopped.is_some()),
        settings: Settings {
            quick: options.quick,
            launches: options.launches(),
            launch_time_ms: u64::try_from(measured.launch_time.as_millis()).unwrap_or(u64::MAX),
            seed: options.seed,
            worker_cpu: prepared.pinning.worker,
            peer_cpus: prepared.pinning.peers.clone(),
            syscalls_source: measured.syscalls_source.map(str::to_owned),
            instructions_source: options.instructions.then(|| "callgrind".to_owned()),
            sandbox: crate::sandbox::described(),
        },
        harness: harness(context, prepared),
        sides: sides(prepared),
        workloads: results(prepared, selected, measured),
        parity: measured.parity.clone(),
        notes,
    }
}

/// What did the measuring.
pub(crate) fn harness(context: &Context, prepared: &Prepared) -> Harness {
    let code = &prepared.subjects[0].code;
    let checkout = git::describe_checkout(&context.root);
    Harness {
        commit: checkout.as_ref().map(|(commit, _)| commit.clone()),
        dirty: checkout.map(|(_, dirty)| dirty),
        xtask_sha256: prepared.xtask_sha256.clone(),
        worker_sha256: prepared.subjects.iter().map(|s| (s.role, s.code.sha256.clone())).collect(),
        ingredients_sha256: code.ingredients_sha256.clone(),
        rustc: code.rustc.clone(),
        user_workloads: code.user_workloads.iter().map(|path| path.display().to_string()).collect(),
    }
}

/// What was measured.
pub(crate) fn sides(prepared: &Prepared) -> Vec<Side> {
    let counted = |index: usize| prepared.instruction_builds.as_ref().and_then(|builds| builds.get(index)).cloned();
    let side = |(index, subject): (usize, &Subject)| Side {
        role: subject.role,
        build: subject.build.clone(),
        instructions_build: counted(index),
    };
    prepared.subjects.iter().enumerate().map(side).collect()
}

/// One result a workload and side, in the order of the manifest.
fn results(prepared: &Prepared, selected: &[WorkloadSpec], measured: &Measured) -> Vec<WorkloadResult> {
    let mut results = Vec::new();
    for spec in selected {
        for subject in &prepared.subjects {
            let key = (spec.name.clone(), subject.role);
            let launches = measured.launches.get(&key).cloned().unwrap_or_default();
            let counts = measured.counts.get(&key).cloned().unwrap_or_default();
            let error = measured.errors.get(&key).cloned();
            if launches.is_empty() && error.is_none() && measured.stopped.is_some() {
                // Not reached before the interrupt: no line is better than an empty one.
                continue;
            }
            let variant = &subject.build.variant.id;
            let mut result = summary::summarise(spec, variant, subject.role, launches, &counts, error);
            if subject.role == Role::Candidate {
                let baseline = measured.launches.get(&(spec.name.clone(), Role::Baseline));
                result.change =
                    baseline.and_then(|launches| summary::change(launches, &result.launch_records, spec.metric));
            }
            results.push(result);
        }
    }
    results
}
