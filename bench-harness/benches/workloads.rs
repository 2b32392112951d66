//! `cargo bench`: every workload in criterion, a group for each family.
//!
//! For exploration while one works on libevent: one process, no relinking, no interleaving, so a
//! change of a few percent here may be layout or the host (docs/BIAS.md); `cargo xtask bench` has neither flaw.
//! A filter selects workloads: `cargo bench -p bench-harness -- evbuffer`.

use anyhow::{Context, Result, ensure};
use bench_harness::worker::busy::Iterations;
use bench_harness::{Workload, registry};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Multiplications that make every batch slower: `calibrate --rivals` asks whether criterion sees it.
static BUSY: LazyLock<Iterations> = LazyLock::new(|| {
    let given = std::env::var("BENCH_BUSY_ITERATIONS").unwrap_or_default();
    Iterations(if given.is_empty() { 0 } else { given.parse().expect("BENCH_BUSY_ITERATIONS is a number") })
});

fn main() -> ExitCode {
    eprintln!(
        "note: exploration, not a verdict. Criterion runs one side in one process and one layout; figures with \
         replication and provenance come from `cargo xtask bench`."
    );
    match bench_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn bench_all() -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    let mut failed = BTreeMap::new();
    for (family, specs) in families(registry::all()?) {
        let mut group = criterion.benchmark_group(&family);
        group.sampling_mode(SamplingMode::Flat);
        for spec in specs {
            if let Err(error) = bench_one(&mut group, &family, &spec) {
                eprintln!("{}: {error:#}", spec.name);
                failed.insert(spec.name, error);
            }
        }
        group.finish();
    }
    criterion.final_summary();
    ensure!(failed.is_empty(), "{} workloads failed: {:?}", failed.len(), failed.keys());
    Ok(())
}

/// Workloads by the first part of their names, those that enable locks last: they stay enabled, and
/// would slow down every base that is made afterwards.
fn families(specs: Vec<WorkloadSpec>) -> Vec<(String, Vec<WorkloadSpec>)> {
    let mut families: Vec<(String, Vec<WorkloadSpec>)> = Vec::new();
    for spec in specs {
        let family = spec.name.split('.').next().unwrap_or_default().to_owned();
        match families.iter_mut().find(|(name, _)| *name == family) {
            Some((_, members)) => members.push(spec),
            None => families.push((family, vec![spec])),
        }
    }
    families.sort_by_key(|(_, members)| members.iter().any(|spec| spec.threads));
    families
}

/// Sets a workload up when criterion first runs it, so that a filter skips the set-up, too.
fn bench_one(group: &mut BenchmarkGroup<'_, WallTime>, family: &str, spec: &WorkloadSpec) -> Result<()> {
    let mut workload: Option<Box<dyn Workload>> = None;
    let mut outcome = Ok(());
    group.throughput(Throughput::Elements(spec.batch_events));
    let case = spec.name.strip_prefix(family).unwrap_or(&spec.name).trim_start_matches('.');
    group.bench_function(case, |bencher| {
        bencher.iter_custom(|batches| {
            // Criterion cannot be stopped from here: after an error the rest is skipped, and the figure
            // that it prints is void. A duration of zero would be refused.
            if outcome.is_err() {
                return Duration::from_nanos(batches);
            }
            match timed_batches(&mut workload, spec, batches) {
                Ok(elapsed) => elapsed.max(Duration::from_nanos(batches)),
                Err(error) => {
                    outcome = Err(error);
                    Duration::from_nanos(batches)
                }
            }
        });
    });
    outcome.context("its figure above is void")
}

/// Only `run` is timed; what was done is checked after every batch.
fn timed_batches(workload: &mut Option<Box<dyn Workload>>, spec: &WorkloadSpec, batches: u64) -> Result<Duration> {
    if workload.is_none() {
        workload.insert(registry::build(spec)?).verify()?;
    }
    let workload = workload.as_mut().context("set up above")?;
    let busy = *BUSY;
    let mut elapsed = Duration::ZERO;
    for _ in 0..batches {
        workload.prepare()?;
        let start = Instant::now();
        let events = workload.run();
        busy.run();
        elapsed += start.elapsed();
        let (events, checksum) = (events?, workload.finish()?);
        ensure!(events == spec.batch_events, "expected {} events, got {events}", spec.batch_events);
        ensure!(checksum == spec.checksum.0, "expected checksum {}, got {checksum:#018x}", spec.checksum);
    }
    Ok(elapsed)
}
