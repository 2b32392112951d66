//! What is known of pristine's tests on this host: learned once for each configuration, kept in the work folder.

use super::queue::{self, Order, Patience};
use super::test_case::{Lane, Run, Test, log_name};
use crate::context::Context;
use crate::{files, host};
use anyhow::{Context as _, Result};
use model::gate::Configuration;
use model::gate::config::GateConfig;
use model::gate::judge::{ALONE, KnownConfiguration};
use model::gate::tinytest::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Raised when what is learned changes its meaning.
const VERSION: &str = "known 3";

/// A file of the cache.
#[derive(Serialize, Deserialize)]
struct Cached {
    /// What it was learned of, for people; its hash is the file's name.
    inputs: String,
    known: KnownConfiguration,
}

/// Where knowledge of a configuration is kept: by the content of everything that decides it.
pub(super) fn place(
    context: &Context,
    config: &GateConfig,
    configuration: &Configuration,
    tests: &[Test],
) -> Result<(PathBuf, String)> {
    let mut programs: BTreeMap<&PathBuf, String> = BTreeMap::new();
    for test in tests {
        if !programs.contains_key(&test.program) {
            programs.insert(&test.program, files::sha256_file(&test.program)?);
        }
    }
    let runs: Vec<(&str, &[String], &str)> = tests
        .iter()
        .map(|test| (test.name.as_str(), test.arguments.as_slice(), programs[&test.program].as_str()))
        .collect();
    let environment = config.environment(configuration);
    let hashed = files::sha256_hex(&[serde_json::to_string(&runs)?.as_bytes()]);
    let inputs = format!(
        "{VERSION}, host {}, configuration {} {environment:?}, sanitizer {}, {} runs of {} tests {hashed}",
        host::fingerprint().id,
        configuration.name,
        configuration.sanitizer.name(),
        config.limits.pristine_runs,
        tests.len(),
    );
    let key = files::sha256_hex(&[inputs.as_bytes()])[..16].to_owned();
    Ok((context.work.join("gate/known").join(format!("{}-{key}.json", configuration.name)), inputs))
}

/// What was learned earlier.
pub(super) fn load(path: &Path, inputs: &str) -> Option<KnownConfiguration> {
    let cached: Cached = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (cached.inputs == inputs).then_some(cached.known)
}

/// Keeps what is known, also what pristine turned out to report in a later run: races show themselves rarely.
pub(super) fn remember(path: &Path, inputs: &str, known: &KnownConfiguration) -> Result<()> {
    let cached = Cached { inputs: inputs.to_owned(), known: known.clone() };
    files::write_atomic(path, &serde_json::to_vec(&cached)?)
}

/// Tests of one configuration of which nothing is known yet.
pub(super) struct Unknown<'a> {
    pub(super) lane: &'a Lane<'a>,
    pub(super) tests: Vec<&'a Test>,
    /// What is known of others.
    pub(super) known: KnownConfiguration,
    /// Where it is kept, and under what; none where a few tests are all that is wanted, which say nothing of a crowd.
    pub(super) cache: Option<(PathBuf, String)>,
}

/// Learns what pristine's tests do: all that are asked for some times, many at a time; those that failed then, alone.
/// Keeping it is the caller's, once the harness is known to have been the same all the while.
pub(super) fn learn(
    unknown: &[Unknown<'_>],
    config: &GateConfig,
    jobs: usize,
    told: &(dyn Fn(&Order<'_>, Option<&Run>) + Sync),
) -> Result<Vec<KnownConfiguration>> {
    let limits = &config.limits;
    let patience: Vec<Patience> = unknown.iter().map(|_| Patience::new(usize::MAX)).collect();
    let mut known: Vec<KnownConfiguration> = unknown.iter().map(|unknown| unknown.known.clone()).collect();
    let limit = Duration::from_secs_f64(limits.pristine_seconds);
    for round in 0..limits.pristine_runs {
        let orders: Vec<Order<'_>> = all(unknown, |lane, test| Order {
            lane: unknown[lane].lane,
            patience: lane,
            test,
            log: format!("pristine/{round}/{}", log_name(&test.name)),
            limit,
            expected_seconds: known[lane].tests.get(&test.name).map_or(0.0, |known| known.seconds_max),
        });
        let done = queue::run(&orders, &patience, jobs, limits.output_bytes, told);
        if let Some(error) = done.stopped {
            return Err(error);
        }
        for (order, run) in orders.iter().zip(done.runs) {
            take(&mut known[order.patience], &order.test.name, &run.context("nothing was given up")?, true);
        }
    }
    let failed = |lane: usize, test: &Test| known[lane].tests.get(&test.name).is_some_and(|k| k.crowded.failures > 0);
    let mut orders = Vec::new();
    for repeat in 0..ALONE {
        orders.extend(all(unknown, |lane, test| Order {
            lane: unknown[lane].lane,
            patience: lane,
            test,
            log: format!("pristine/alone-{repeat}/{}", log_name(&test.name)),
            limit,
            expected_seconds: 0.0,
        }));
    }
    orders.retain(|order| failed(order.patience, order.test));
    let done = queue::run(&orders, &patience, quiet_jobs(), limits.output_bytes, &|_, _| {});
    if let Some(error) = done.stopped {
        return Err(error);
    }
    for (order, run) in orders.iter().zip(done.runs) {
        take(&mut known[order.patience], &order.test.name, &run.context("nothing was given up")?, false);
    }
    Ok(known)
}

fn all<'a>(unknown: &'a [Unknown<'a>], order: impl Fn(usize, &'a Test) -> Order<'a>) -> Vec<Order<'a>> {
    let lanes = unknown.iter().enumerate();
    lanes
        .flat_map(|(lane, unknown)| unknown.tests.iter().map(move |test| (lane, *test)))
        .map(|(l, t)| order(l, t))
        .collect()
}

/// Runs with hardly anything beside them: tests that sleep still leave a CPU idle two at a time.
pub(super) fn quiet_jobs() -> usize {
    2 * std::thread::available_parallelism().map_or(1, usize::from)
}

fn take(known: &mut KnownConfiguration, name: &str, run: &Run, crowded: bool) {
    known.reports.extend(run.reports.iter().cloned());
    let test = known.tests.entry(name.to_owned()).or_default();
    let rate = if crowded { &mut test.crowded } else { &mut test.alone };
    rate.add(run.has_failed());
    test.retried += u32::from(run.was_retried());
    test.skips |= run.outcome == Outcome::Skipped;
    test.seconds_max = test.seconds_max.max(run.seconds);
    if run.outcome == Outcome::Passed {
        test.seconds_min = Some(test.seconds_min.map_or(run.seconds, |least| least.min(run.seconds)));
    }
}
