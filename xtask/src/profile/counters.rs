//! What the CPU itself counts during the work of some batches, where this host lets it be counted.

use super::launch::{Work, threads};
use super::watched::Session;
use crate::host::counters;
use anyhow::{Context as _, Result};
use model::profile::Budget;
use perf_event::Builder;
use perf_event::events::Hardware;
use std::collections::BTreeMap;

/// Batches that are counted, after one that warms up.
const BATCHES: u64 = 20;
/// A counter that had the CPU's counter for less of the time than this says too little.
const LEAST_RUNNING: f64 = 0.2;

const COUNTED: &[(&str, Hardware)] = &[
    ("cycles", Hardware::CPU_CYCLES),
    ("instructions", Hardware::INSTRUCTIONS),
    ("branches", Hardware::BRANCH_INSTRUCTIONS),
    ("branch-misses", Hardware::BRANCH_MISSES),
    ("cache-misses", Hardware::CACHE_MISSES),
];

/// Counts of one event by name; a counter that this host does not have is not there. The second is why, if any is missing.
pub(super) type Counted = (BTreeMap<&'static str, f64>, Option<String>);

/// Counts in a launch of its own. `kernel`: what the kernel does is counted, too.
pub(super) fn count(work: &Work<'_>, kernel: bool) -> Result<Counted> {
    // By reason: most often it is one for all.
    let mut missing: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let open = |event: &Hardware, thread: i32| {
        let mut builder = Builder::new(*event);
        builder.observe_pid(thread).any_cpu().exclude_kernel(!kernel).exclude_hv(true);
        builder.build()
    };
    let available: Vec<&(&str, Hardware)> = COUNTED
        .iter()
        .filter(|(name, event)| match open(event, 0) {
            Ok(_) => true,
            Err(error) => {
                missing.entry(counters::explain(&error)).or_default().push(name);
                false
            }
        })
        .collect();
    let reasons = missing.iter().map(|(why, names)| format!("no {}: {why}", names.join(", ")));
    let why = (!missing.is_empty()).then(|| reasons.collect::<Vec<_>>().join("; "));
    if available.is_empty() {
        return Ok((BTreeMap::new(), why));
    }
    let mut session = Session::start(work.worker, &work.spec.name, work.surroundings)?;
    session.batches_of(work.spec, 1)?;
    let threads = threads(session.pid())?;
    let mut open_all: Vec<(&'static str, Vec<perf_event::Counter>)> = Vec::new();
    for (name, event) in available {
        let of_threads = threads.iter().map(|thread| open(event, *thread)).collect::<std::io::Result<Vec<_>>>();
        open_all.push((name, of_threads.context("the kernel refuses a counter of the worker")?));
    }
    for counter in open_all.iter_mut().flat_map(|(_, counters)| counters) {
        counter.enable()?;
    }
    let mut sums: BTreeMap<&'static str, f64> = BTreeMap::new();
    let mut before: BTreeMap<&'static str, f64> = BTreeMap::new();
    let mut doubtful: Vec<&'static str> = Vec::new();
    session.stops(BATCHES, |number| {
        let mut now = BTreeMap::new();
        for (name, counters) in &mut open_all {
            let mut sum = 0.0;
            for counter in counters {
                let read = counter.read_full()?;
                let (Some(enabled), Some(running)) = (read.time_enabled(), read.time_running()) else { continue };
                let share = if enabled.is_zero() { 1.0 } else { running.as_secs_f64() / enabled.as_secs_f64() };
                if share < LEAST_RUNNING && read.count() > 0 {
                    doubtful.push(*name);
                }
                // More counters than the CPU has take turns.
                sum += if share > 0.0 { read.count() as f64 / share } else { 0.0 };
            }
            now.insert(*name, sum);
        }
        if number % 2 == 1 {
            for (name, count) in &now {
                *sums.entry(name).or_default() += count - before.get(name).copied().unwrap_or(0.0);
            }
        }
        before = now;
        Ok(())
    })?;
    session.quit()?;
    let events = (BATCHES * work.spec.batch_events) as f64;
    // One that opens and stays at zero does not count.
    let counted = sums.into_iter().filter(|(name, count)| *count > 0.0 && !doubtful.contains(name));
    Ok((counted.map(|(name, count)| (name, count / events)).collect(), why))
}

/// Adds what was counted to a budget; what was not stays unknown.
pub(super) fn fill(budget: &mut Budget, counted: &BTreeMap<&'static str, f64>) {
    let of = |name: &str| counted.get(name).copied();
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other.filter(|other| *other > 0.0)?);
    budget.cycles_per_event = of("cycles");
    budget.instructions_per_event = of("instructions");
    budget.instructions_per_cycle = ratio(of("instructions"), of("cycles"));
    budget.branch_misses_per_event = of("branch-misses");
    budget.branch_miss_share = ratio(of("branch-misses"), of("branches"));
    budget.cache_misses_per_event = of("cache-misses");
    budget.cache_misses_per_kilo_instruction =
        ratio(of("cache-misses"), of("instructions")).map(|misses| misses * 1000.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_does_not_count_stays_unknown() {
        let mut budget = Budget::default();
        fill(&mut budget, &BTreeMap::from([("instructions", 4000.0), ("cache-misses", 8.0)]));
        assert_eq!((budget.instructions_per_cycle, budget.branch_miss_share), (None, None));
        assert_eq!(budget.cache_misses_per_kilo_instruction, Some(2.0));
        fill(&mut budget, &BTreeMap::from([("instructions", 4000.0), ("cycles", 2000.0)]));
        assert_eq!((budget.instructions_per_cycle, budget.cache_misses_per_event), (Some(2.0), None));
    }
}
