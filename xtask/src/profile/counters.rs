//! What the CPU itself counts during the work of some batches, where this host lets it be counted.

use super::launch::{Work, threads};
use super::watched::Session;
use crate::host::counters;
use anyhow::{Context as _, Result};
use model::profile::Budget;
use perf_event::Builder;
use perf_event::events::Hardware;
use std::collections::BTreeMap;
use std::time::Duration;

/// Batches that are counted, after one that warms up.
const BATCHES: u64 = 20;
/// A counter that had one of the CPU's for less of the time than this says too little.
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
    if available.is_empty() {
        return Ok(of_event(&BTreeMap::new(), 0.0, kernel, missing));
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
    let read = |counters: &mut Vec<perf_event::Counter>| {
        counters.iter_mut().map(|counter| Ok(Reading::of(&counter.read_full()?))).collect::<Result<Vec<_>>>()
    };
    let mut before: BTreeMap<&'static str, Vec<Reading>> = BTreeMap::new();
    let mut sums: BTreeMap<&'static str, Vec<Reading>> = BTreeMap::new();
    session.stops(BATCHES, |number| {
        for (name, counters) in &mut open_all {
            let now = read(counters)?;
            if let Some(before) = before.insert(*name, now.clone()).filter(|_| number % 2 == 1) {
                let sums = sums.entry(*name).or_insert_with(|| vec![Reading::default(); now.len()]);
                for (sum, (now, before)) in sums.iter_mut().zip(now.into_iter().zip(before)) {
                    sum.add(now.since(before));
                }
            }
        }
        Ok(())
    })?;
    session.quit()?;
    let events = BATCHES.saturating_mul(work.spec.batch_events) as f64;
    Ok(of_event(&sums, events, kernel, missing))
}

/// What a counter has counted, and for how long it had one of the CPU's, of the time in which its thread ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    count: u64,
    enabled_ns: u64,
    running_ns: u64,
}

impl Reading {
    fn of(read: &perf_event::CounterData) -> Reading {
        let ns = |time: Option<Duration>| u64::try_from(time.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX);
        Reading { count: read.count(), enabled_ns: ns(read.time_enabled()), running_ns: ns(read.time_running()) }
    }

    fn since(self, before: Reading) -> Reading {
        Reading {
            count: self.count.saturating_sub(before.count),
            enabled_ns: self.enabled_ns.saturating_sub(before.enabled_ns),
            running_ns: self.running_ns.saturating_sub(before.running_ns),
        }
    }

    fn add(&mut self, other: Reading) {
        self.count = self.count.saturating_add(other.count);
        self.enabled_ns = self.enabled_ns.saturating_add(other.enabled_ns);
        self.running_ns = self.running_ns.saturating_add(other.running_ns);
    }

    /// What it would have counted all of the time: more counters than the CPU has take turns. Null if it ran for too little of it
    /// to say.
    fn scaled(self) -> Option<f64> {
        if self.enabled_ns == 0 {
            return Some(0.0);
        }
        let share = self.running_ns as f64 / self.enabled_ns as f64;
        (share >= LEAST_RUNNING).then(|| self.count as f64 / share)
    }
}

/// Counts of one event, from what each counter has counted in batches on each thread; those that say nothing are missing, with the
/// reason.
fn of_event(
    sums: &BTreeMap<&'static str, Vec<Reading>>,
    events: f64,
    kernel: bool,
    mut missing: BTreeMap<String, Vec<&str>>,
) -> Counted {
    let mut counted = BTreeMap::new();
    for (name, threads) in sums {
        let count = threads.iter().map(|sum| sum.scaled()).sum::<Option<f64>>();
        let why = match count {
            None => "there are more counters than the CPU has, and its turn was too short",
            Some(count) if count <= 0.0 => "it opens, but stays at zero",
            Some(count) => {
                counted.insert(*name, count / events.max(1.0));
                continue;
            }
        };
        missing.entry(why.to_owned()).or_default().push(name);
    }
    let mut reasons: Vec<String> =
        missing.iter().map(|(why, names)| format!("no {}: {why}", names.join(", "))).collect();
    if !kernel && !counted.is_empty() {
        reasons.push("what the CPU counted is of user space alone".to_owned());
    }
    (counted, (!reasons.is_empty()).then(|| reasons.join("; ")))
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

    fn reading(count: u64, enabled_ns: u64, running_ns: u64) -> Reading {
        Reading { count, enabled_ns, running_ns }
    }

    #[test]
    fn counters_that_take_turns_are_scaled_by_their_turns_in_the_batches() {
        // A counter that ran all of the time before the batches, and half of it in them.
        let (before, after) = (reading(1_000_000, 1000, 1000), reading(1_000_500, 1100, 1050));
        assert_eq!(after.since(before).scaled(), Some(1000.0), "not by its share since it began");
        let mut sum = Reading::default();
        sum.add(reading(500, 100, 0));
        assert_eq!(sum.scaled(), None);
        sum.add(reading(500, 100, 100));
        assert_eq!(sum.scaled(), Some(2000.0), "one batch without a turn is made up for by the others");
        assert_eq!(Reading::default().scaled(), Some(0.0), "a thread that never ran");
    }

    #[test]
    fn a_counter_that_says_nothing_is_named_with_the_reason() {
        let sums = BTreeMap::from([
            ("instructions", vec![reading(8000, 10, 10), reading(0, 0, 0)]),
            ("cycles", vec![reading(500, 100, 10)]),
            ("cache-misses", vec![reading(0, 10, 10)]),
        ]);
        let missing = BTreeMap::from([("the CPU does not offer it".to_owned(), vec!["branches"])]);
        let (counted, why) = of_event(&sums, 2.0, true, missing.clone());
        assert_eq!(counted, BTreeMap::from([("instructions", 4000.0)]));
        let why = why.unwrap();
        for reason in ["no branches: the CPU does not", "no cycles: there are more", "no cache-misses: it opens"] {
            assert!(why.contains(reason), "{reason}: {why}");
        }
        assert!(!why.contains("user space"));
        let (_, why) = of_event(&sums, 2.0, false, missing);
        assert!(why.unwrap().ends_with("what the CPU counted is of user space alone"));
        let all = BTreeMap::from([("cycles", vec![reading(500, 10, 10)])]);
        assert_eq!(of_event(&all, 1.0, true, BTreeMap::new()).1, None);
    }

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
