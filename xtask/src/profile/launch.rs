//! One launch of a worker with a profiler in its middle: batches without it, with it, and without it again, so that what it
//! costs is seen in the same process.

use super::watched::Session;
use crate::bench::plan::Cost;
use crate::interrupt;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::profile::{Config, Perturbation};
use model::protocol::{Batches, Sample};
use model::workload::WorkloadSpec;
use std::time::{Duration, Instant};

/// Time between two looks into the rings: short enough that they do not run over.
pub(super) const BURST: Duration = Duration::from_millis(60);
/// Most batches that are asked for at once.
const MOST_BATCHES: u64 = 5000;

/// What is profiled in this phase.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) config: &'a Config,
    /// What a batch takes, as its check found.
    pub(crate) cost: Cost,
}

/// A kernel that refuses to attach: nothing is wrong with the workload.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

impl Refused {
    pub(super) fn new(why: &str) -> Refused {
        Refused(format!("cannot attach to the worker: {why}"))
    }
}

/// Times of single batches, with and without the profiler.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    pub(super) without: Vec<Sample>,
    pub(super) with: Vec<Sample>,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
}

impl Times {
    pub(super) fn add(&mut self, other: Times) {
        self.without.extend(other.without);
        self.with.extend(other.with);
        self.add_switches(other.voluntary_switches, other.involuntary_switches);
    }

    /// The worker says how many: any number.
    fn add_switches(&mut self, voluntary: u64, involuntary: u64) {
        self.voluntary_switches = self.voluntary_switches.saturating_add(voluntary);
        self.involuntary_switches = self.involuntary_switches.saturating_add(involuntary);
    }

    /// Events that were done under the profiler.
    pub(super) fn events(&self) -> u64 {
        self.sum(|sample| sample.events)
    }

    /// Elapsed time of the batches under the profiler.
    pub(super) fn wall_ns(&self) -> u64 {
        self.sum(|sample| sample.wall_time_ns)
    }

    /// CPU time of the batches under the profiler.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.sum(|sample| sample.cpu_time_ns)
    }

    fn sum(&self, figure: impl Fn(&Sample) -> u64) -> u64 {
        self.with.iter().map(figure).fold(0, u64::saturating_add)
    }

    pub(super) fn perturbation(&self) -> Option<Perturbation> {
        Perturbation::new(median_ns(&self.without, |s| s.wall_time_ns)?, median_ns(&self.with, |s| s.wall_time_ns)?)
    }
}

/// Median time of an event over batches; null without any.
pub(super) fn median_ns(samples: &[Sample], time: impl Fn(&Sample) -> u64) -> Option<f64> {
    let mut times: Vec<f64> = samples.iter().map(|sample| time(sample) as f64 / sample.events.max(1) as f64).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// A profiler that is attached to a running worker.
pub(super) trait Profiler: Sized {
    /// Attaches it; nothing is recorded yet.
    fn attach(&mut self, pid: u32) -> Result<()>;
    /// Does one burst under the profiler and takes in what it recorded. `batches` is what fits [`BURST`].
    fn burst(&mut self, session: &mut Session, work: &Work<'_>, batches: u64) -> Result<Burst>;
    /// Detaches it; the worker runs as if it had never been there.
    fn detach(&mut self);
}

/// What a burst under the profiler was.
pub(super) struct Burst {
    /// Times of its batches; none where they were not timed.
    pub(super) done: Option<Batches>,
    /// The profiler has enough of this launch.
    pub(super) enough: bool,
}

/// Launches a worker and profiles it for `time`.
pub(super) fn launch(work: &Work<'_>, time: Duration, profiler: &mut impl Profiler) -> Result<Times> {
    let mut session = Session::start(work.worker, &work.spec.name, work.surroundings)?;
    let batches = in_a_burst(work.cost);
    // Warm-up.
    session.batches_of(work.spec, batches)?;
    let mut times = Times::default();
    let beside = time.mul_f64(work.config.unprofiled_share / 2.0);
    unprofiled(&mut session, work, batches, beside, &mut times)?;
    profiler.attach(session.pid()).map_err(|error| Refused::new(&format!("{error:#}")))?;
    let profiled = profile(&mut session, work, batches, time, profiler, &mut times);
    profiler.detach();
    profiled?;
    unprofiled(&mut session, work, batches, beside, &mut times)?;
    session.quit()?;
    Ok(times)
}

/// Batches that fill a burst.
pub(super) fn in_a_burst(cost: Cost) -> u64 {
    ((BURST.as_secs_f64() / cost.batch.as_secs_f64().max(1e-6)) as u64).clamp(1, MOST_BATCHES)
}

fn unprofiled(session: &mut Session, work: &Work<'_>, batches: u64, time: Duration, times: &mut Times) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        times.without.extend(session.batches_of(work.spec, batches)?.samples);
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

fn profile(
    session: &mut Session,
    work: &Work<'_>,
    batches: u64,
    time: Duration,
    profiler: &mut impl Profiler,
    times: &mut Times,
) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        interrupt::check()?;
        let burst = profiler.burst(session, work, batches)?;
        if let Some(done) = burst.done {
            times.add_switches(done.usage.voluntary_context_switches, done.usage.involuntary_context_switches);
            times.with.extend(done.samples);
        }
        if burst.enough || Instant::now() >= end {
            return Ok(());
        }
    }
}

/// How many batches of a burst rings have held. What is seen of a burst that they did not hold is thrown away, and the next ones
/// are half as long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    most: u64,
}

impl Held {
    pub(super) fn new() -> Held {
        Held { most: u64::MAX }
    }

    /// Batches of the next burst, if so many fit otherwise.
    pub(super) fn batches(self, fit: u64) -> u64 {
        fit.clamp(1, self.most)
    }

    /// They did not hold a burst of so many.
    pub(super) fn lost(&mut self, batches: u64) {
        self.most = (batches / 2).max(1);
    }
}

/// Of the batches that fill a burst, those that last no longer than `longest`.
pub(super) fn in_time(batches: u64, longest: Duration) -> u64 {
    let share = (longest.as_secs_f64() / BURST.as_secs_f64()).min(1.0);
    ((batches as f64 * share) as u64).max(1)
}

/// Number of a process in its own namespace: what getpid(2) says to it.
pub(super) fn own_number(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_within(&status).unwrap_or(u64::from(pid))
}

fn number_within(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().next_back()?.parse().ok()
}

/// Threads of a process, the first one first.
pub(super) fn threads(pid: u32) -> Result<Vec<i32>> {
    let folder = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}; the worker ended"))?;
    let mut threads: Vec<i32> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse()?)).collect::<Result<_>>()?;
    threads.sort_unstable();
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::workload::Checksum;

    fn cost(batch_us: u64) -> Cost {
        Cost { batch: Duration::from_micros(batch_us), overhead: Duration::ZERO }
    }

    #[test]
    fn bursts_that_are_not_held_are_halved_down_to_one_batch() {
        let mut held = Held::new();
        assert_eq!((held.batches(200), held.batches(0)), (200, 1));
        held.lost(200);
        assert_eq!((held.batches(200), held.batches(7)), (100, 7));
        held.lost(1);
        assert_eq!(held.batches(200), 1);
        assert_eq!((in_time(200, BURST * 2), in_time(200, BURST / 4), in_time(2, BURST / 4)), (200, 50, 1));
    }

    #[test]
    fn a_process_has_a_number_of_its_own_in_its_namespace() {
        assert_eq!(number_within("Name:\tx\nNSpid:\t4711\t12\t2\n"), Some(2));
        assert_eq!(number_within("Name:\tx\n"), None);
        assert_eq!(own_number(std::process::id()), u64::from(std::process::id()));
    }

    #[test]
    fn bursts_are_bounded() {
        assert_eq!(in_a_burst(cost(300)), 200);
        assert_eq!(in_a_burst(cost(10_000_000)), 1);
        assert_eq!(in_a_burst(cost(0)), MOST_BATCHES);
    }

    #[test]
    fn times_of_an_event_are_medians_and_their_events_are_added_up() {
        let sample =
            |wall_time_ns| Sample { wall_time_ns, cpu_time_ns: 1, events: 10, checksum: Checksum(1), probe_ns: 1 };
        let mut times = Times { without: [100, 110, 9000].map(sample).to_vec(), ..Times::default() };
        times.add(Times { with: vec![sample(220), sample(220)], ..Times::default() });
        assert_eq!((times.events(), times.wall_ns()), (20, 440));
        let perturbation = times.perturbation().unwrap();
        assert!((perturbation.slowdown_pct - 100.0).abs() < 1e-9, "{perturbation:?}");
        assert!(Times::default().perturbation().is_none());
    }

    #[test]
    fn what_a_worker_says_of_its_batches_may_be_any_number() {
        let most = Sample {
            wall_time_ns: u64::MAX,
            cpu_time_ns: u64::MAX,
            events: u64::MAX,
            checksum: Checksum(1),
            probe_ns: 1,
        };
        let all = Times {
            with: vec![most; 2],
            voluntary_switches: u64::MAX,
            involuntary_switches: u64::MAX,
            ..Times::default()
        };
        let mut times = all.clone();
        times.add(all);
        assert_eq!((times.events(), times.wall_ns(), times.cpu_ns()), (u64::MAX, u64::MAX, u64::MAX));
        assert_eq!((times.voluntary_switches, times.involuntary_switches), (u64::MAX, u64::MAX));
    }
}
