//! One pair of launches: a baseline and a candidate process that work in turns on one CPU.
//!
//! Both are started, warmed up, and then asked for batches in turns; the one whose turn it is not waits
//! for its next command in read(2), which is the baton. The order of turns is ABBA or BAAB, drawn anew
//! for every four, so that neither a drift of the host nor a habit of the kernel favours a side.

use super::patience::Disturbance;
use super::shape::Shape;
use crate::bench::plan::draw;
use crate::host::external::Snapshot;
use crate::host::{Aside, Facts};
use crate::session::{Session, Surroundings};
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::compare::PairRecord;
use model::host::External;
use model::protocol::{Latency, Sample, Usage};
use model::stats::merge_latencies;
use model::thresholds::{ExternalRule, Thresholds};
use model::verdict::block::pair_figures;
use model::workload::{Metric, WorkloadSpec};
use std::time::{Duration, Instant};

/// Largest number of bytes that a launch adds to the environment: some pages of stack.
const MOST_ENVIRONMENT_BYTES: u64 = 8192;
/// Multiplications with which the slowdown's unit is measured: so many that reading the clocks is nothing beside them.
const UNIT_ITERATIONS: u64 = 50_000;
/// What a turn may take less by the harness's clock than by the worker's, besides the tolerance.
const CLOCK_SLACK: Duration = Duration::from_micros(50);

/// What both launches of a pair share.
pub(crate) struct Request<'a> {
    /// Baseline and candidate, in one order of functions.
    pub(crate) workers: [&'a Worker; 2],
    pub(crate) spec: &'a WorkloadSpec,
    pub(crate) shape: Shape,
    /// Draws the environment's size and all orders.
    pub(crate) seed: u64,
    /// Slows the candidate down by so many multiplications a batch; calibrations alone do that.
    pub(crate) slow_down: Option<u64>,
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) surroundings: Surroundings<'a>,
}

/// What came of an attempt.
pub(crate) enum Attempt {
    /// Figures, and the batches that they are of.
    Done(Box<PairRecord>, [Vec<Sample>; 2]),
    /// Something outside of both sides was in the way: what it was, and the batches that were done.
    Disturbed(Disturbance, [Vec<Sample>; 2]),
}

/// What one side did.
#[derive(Default)]
struct Half {
    samples: Vec<Sample>,
    usage: Usage,
    latencies: Vec<Latency>,
    /// What the harness waited for its turns.
    elapsed: Duration,
}

/// Launches both sides once. An error is the workload's: a crash, a hang, wrong work.
pub(crate) fn pair(request: &Request<'_>) -> Result<Attempt> {
    let environment_bytes = (draw(request.seed, "environment", 0) % MOST_ENVIRONMENT_BYTES) as usize;
    let candidate_started_first = draw(request.seed, "start", 0) & 1 == 1;
    let surroundings = Surroundings { environment_bytes, ..request.surroundings };
    // What the harness does between turns is not to take the worker's CPU.
    let _aside = Aside::step(surroundings.pinning);
    let (mut sessions, injected_ns) = start(request, candidate_started_first, &surroundings)?;
    let live = [sessions[0].pid(), sessions[1].pid()];
    let moved_before = live.map(migrations);
    let before = Snapshot::take(&live);
    let mut halves = [Half::default(), Half::default()];
    for round in 0..request.shape.rounds {
        let first = (draw(request.seed, "turns", round) & 1) as usize;
        for side in [first, 1 - first, 1 - first, first] {
            if let Some(why) = turn(request, &mut sessions[side], &mut halves[side]).context(ROLES[side])? {
                let cause = Disturbance { why, passes: false };
                return Ok(Attempt::Disturbed(cause, halves.map(|half| half.samples)));
            }
        }
    }
    let external = before.until(&Snapshot::take(&live), Some(surroundings.pinning.worker));
    let moved_after = live.map(migrations);
    let [baseline, candidate] = sessions;
    let peak_rss_kib =
        [baseline.quit().context(ROLES[0])?.peak_rss_kib, candidate.quit().context(ROLES[1])?.peak_rss_kib];
    if let Some(why) = disturbed(&external, request.spec, &request.thresholds.external) {
        let cause = Disturbance { why, passes: true };
        return Ok(Attempt::Disturbed(cause, halves.map(|half| half.samples)));
    }
    let moved = |side: usize| moved_after[side]?.checked_sub(moved_before[side]?);
    let p99 = |half: &Half| merge_latencies(&half.latencies.iter().collect::<Vec<_>>()).map(|all| all.p99_ns);
    let sides = [halves[0].samples.as_slice(), halves[1].samples.as_slice()];
    let figures = pair_figures(sides, request.spec.metric, request.thresholds.probe)
        .context("the clocks of the worker stand still: batches took no time")?;
    let record = PairRecord {
        environment_bytes,
        candidate_started_first,
        figures,
        usage: [halves[0].usage, halves[1].usage],
        migrations: moved(0).zip(moved(1)).map(|(a, b)| [a, b]),
        peak_rss_kib,
        untimed_log_ratio: untimed_log_ratio(&halves),
        injected_ns,
        latency_p99_ns: p99(&halves[0]).zip(p99(&halves[1])).map(|(a, b)| [a, b]),
        external,
    };
    Ok(Attempt::Done(Box::new(record), halves.map(|half| half.samples)))
}

/// Whose error it is.
const ROLES: [&str; 2] = ["baseline", "candidate"];

/// Both sides, warmed up, and what was injected into a batch of the candidate, if anything was.
fn start(
    request: &Request<'_>,
    candidate_first: bool,
    surroundings: &Surroundings<'_>,
) -> Result<([Session; 2], Option<f64>)> {
    let one =
        |side: usize| Session::start(request.workers[side], &request.spec.name, surroundings).context(ROLES[side]);
    let mut sessions = if candidate_first {
        let candidate = one(1)?;
        [one(0)?, candidate]
    } else {
        [one(0)?, one(1)?]
    };
    let injected_ns = request.slow_down.map(|iterations| slow_down(&mut sessions[1], iterations)).transpose()?;
    // In the order of their starts, which is drawn: whoever is last finds the caches warmer.
    for side in if candidate_first { [1, 0] } else { [0, 1] } {
        sessions[side].batches_of(request.spec, request.shape.warm_up).context(ROLES[side])?;
    }
    Ok((sessions, injected_ns))
}

/// Makes each batch slower by so many multiplications. Returns what they take in this very process, in nanoseconds: a
/// neighbour stretches them, and a batch, each in its own way.
fn slow_down(session: &mut Session, iterations: u64) -> Result<f64> {
    let unit = session.slow_down(UNIT_ITERATIONS)?;
    session.slow_down(iterations)?;
    Ok(unit.cpu_time_ns as f64 / unit.iterations as f64 * iterations as f64)
}

/// One turn; says why if the clocks do not agree about it.
fn turn(request: &Request<'_>, session: &mut Session, half: &mut Half) -> Result<Option<String>> {
    let asked = Instant::now();
    let done = session.batches_of(request.spec, request.shape.turn)?;
    let elapsed = asked.elapsed();
    half.elapsed += elapsed;
    let tolerance = request.thresholds.external.clock_tolerance;
    let why = clocks_disagree(&done.samples, elapsed, tolerance, request.spec.threads);
    // What is thrown away for that is written down, too.
    half.samples.extend(done.samples);
    half.usage = sum(&half.usage, &done.usage);
    half.latencies.extend(done.latency);
    Ok(why)
}

/// A clock that jumps shows as batches that took longer than the harness waited for them, or as more CPU
/// time than there was time.
fn clocks_disagree(samples: &[Sample], elapsed: Duration, tolerance: f64, threads: bool) -> Option<String> {
    let sum = |of: fn(&Sample) -> u64| Duration::from_nanos(samples.iter().map(of).fold(0, u64::saturating_add));
    let (wall, cpu) = (sum(|sample| sample.wall_time_ns), sum(|sample| sample.cpu_time_ns));
    let most = |time: Duration| time.mul_f64(1.0 + tolerance) + CLOCK_SLACK;
    if wall > most(elapsed) {
        return Some(format!("the worker's clock jumped: it counted {wall:.1?} within {elapsed:.1?}"));
    }
    if !threads && cpu > most(elapsed) {
        return Some(format!("the worker's CPU clock jumped: it counted {cpu:.1?} within {elapsed:.1?}"));
    }
    None
}

/// The cause outside of both sides for which a pair is launched again. Faults and context switches are
/// results, never causes; waiting for a CPU is one only where the worker has no threads and peers of its own.
fn disturbed(external: &External, spec: &WorkloadSpec, rule: &ExternalRule) -> Option<String> {
    let share = |part_ns: Option<u64>| Some(part_ns? as f64 / external.wall_time_ns.max(1) as f64);
    let percent = |share: f64| 100.0 * share;
    if let Some(stolen) = share(external.steal_on_worker_cpu_ns).filter(|share| *share > rule.steal_share) {
        return Some(format!("the hypervisor withheld the CPU for {:.0}% of the time", percent(stolen)));
    }
    let alone = !spec.threads && !spec.peer_process;
    let most = match spec.metric {
        Metric::CpuTime => rule.run_delay_share,
        Metric::WallTime => rule.run_delay_share_wall,
    };
    if let Some(waited) = share(external.run_delay_ns).filter(|share| alone && *share > most) {
        return Some(format!("other processes took the CPU for {:.0}% of the time", percent(waited)));
    }
    None
}

/// What each side's turns took beyond its batches, added to the baseline's batches: work that moves out of what
/// is timed shows here, and so does a worker whose clock goes slow. `None` without any time.
fn untimed_log_ratio(halves: &[Half; 2]) -> Option<f64> {
    let timed = halves.each_ref().map(|half| half.samples.iter().map(|sample| sample.wall_time_ns as f64).sum::<f64>());
    let untimed = [0, 1].map(|side| (halves[side].elapsed.as_nanos() as f64 - timed[side]).max(0.0));
    let ratio = (timed[0] + untimed[1]) / (timed[0] + untimed[0]);
    (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
}

/// Times that a process was moved to another CPU.
fn migrations(pid: u32) -> Option<u64> {
    let text = Facts::here().read(format!("/proc/{pid}/sched"))?;
    let line = text.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn sum(a: &Usage, b: &Usage) -> Usage {
    Usage {
        minor_faults: a.minor_faults + b.minor_faults,
        major_faults: a.major_faults + b.major_faults,
        voluntary_context_switches: a.voluntary_context_switches + b.voluntary_context_switches,
        involuntary_context_switches: a.involuntary_context_switches + b.involuntary_context_switches,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::workload::{Checksum, Manifest};

    fn sample(wall_us: u64, cpu_us: u64) -> Sample {
        Sample {
            wall_time_ns: 1000 * wall_us,
            cpu_time_ns: 1000 * cpu_us,
            events: 1,
            checksum: Checksum(0),
            probe_ns: 1,
        }
    }

    #[test]
    fn more_time_than_there_was_is_a_clock_that_jumped() {
        let elapsed = Duration::from_millis(2);
        let told = |wall_us, cpu_us, threads| {
            clocks_disagree(&[sample(wall_us, cpu_us), sample(900, 900)], elapsed, 0.02, threads)
        };
        assert_eq!(told(1000, 1000, false), None);
        assert!(told(1300, 1000, false).unwrap().contains("clock jumped"));
        assert!(told(1000, 1300, false).unwrap().contains("CPU clock jumped"));
        assert_eq!(told(1000, 1300, true), None, "two threads have two CPUs");
        assert!(told(u64::MAX / 1000, 0, true).is_some(), "no overflow");
    }

    #[test]
    fn work_outside_of_the_timed_part_counts_against_the_timed_work() {
        let half = |timed_us, elapsed_us| Half {
            samples: vec![sample(timed_us, timed_us)],
            elapsed: Duration::from_micros(elapsed_us),
            ..Half::default()
        };
        let change = |candidate| untimed_log_ratio(&[half(1000, 1100), candidate]).unwrap().exp() - 1.0;
        assert!(change(half(1000, 1100)).abs() < 1e-9);
        // Truly faster: what is outside stays as it is.
        assert!(change(half(700, 800)).abs() < 1e-9);
        // A third of the work is done outside, or the clock goes slow.
        assert!((change(half(700, 1100)) - 0.3 / 1.1).abs() < 1e-9);
        assert_eq!(untimed_log_ratio(&[half(0, 0), half(0, 0)]), None);
    }

    #[test]
    fn only_causes_outside_of_both_sides_count() {
        let manifest = Manifest::parse(include_str!("../../../config/workloads.toml")).unwrap().workloads;
        let spec = |name: &str| manifest.iter().find(|spec| spec.name == name).unwrap();
        let rule = Thresholds::parse(include_str!("../../../config/thresholds.toml")).unwrap().external;
        let external = |steal_ns, delay_ns| External {
            wall_time_ns: 100,
            steal_on_worker_cpu_ns: steal_ns,
            run_delay_ns: delay_ns,
            ..External::default()
        };
        let plain = spec("evbuffer.add_drain.64");
        assert_eq!(disturbed(&external(Some(10), Some(10)), plain, &rule), None);
        assert!(disturbed(&external(Some(30), None), plain, &rule).unwrap().contains("30%"));
        assert!(disturbed(&external(None, Some(60)), plain, &rule).unwrap().contains("60%"));
        let elapsed = WorkloadSpec { metric: Metric::WallTime, ..plain.clone() };
        assert!(disturbed(&external(None, Some(20)), &elapsed, &rule).unwrap().contains("20%"));
        assert_eq!(disturbed(&external(None, Some(60)), spec("threads.active.running.p4"), &rule), None);
        assert_eq!(disturbed(&external(None, None), plain, &rule), None, "unknown is no cause");
    }
}
