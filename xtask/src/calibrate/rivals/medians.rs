//! The usual way: five runs of the baseline, then five of the candidate, and their medians.

use super::method::{Call, Called, Task};
use crate::host::Aside;
use crate::session::Session;
use crate::worker::Worker;
use anyhow::{Context as _, Result};
use model::protocol::Sample;
use model::stats::median;
use model::stats::welch::welch;
use model::workload::Metric;
use std::time::{Duration, Instant};

/// Runs of each side.
const RUNS: u32 = 5;
const ALPHA: f64 = 0.05;
/// Difference of the medians that counts without a test.
const THRESHOLD_PCT: f64 = 1.0;

pub(super) const RULES: &[&str] = &["Welch's t, 5%", "more than 1%"];

pub(super) fn compare(task: &Task<'_>) -> Result<Vec<Called>> {
    let _aside = Aside::step(task.surroundings.pinning);
    let each = task.budget / (2 * RUNS);
    let runs = |worker: &Worker, slow_down: Option<u64>| -> Result<Vec<f64>> {
        (0..RUNS).map(|_| figure(task, worker, slow_down, each)).collect()
    };
    let baseline = runs(task.workers[0], None).context("baseline")?;
    let candidate = runs(task.workers[1], task.slow_down).context("candidate")?;
    judge(&baseline, &candidate)
}

/// Median batch of one launch that takes so long.
fn figure(task: &Task<'_>, worker: &Worker, slow_down: Option<u64>, time: Duration) -> Result<f64> {
    let deadline = Instant::now() + time;
    let mut session = Session::start(worker, &task.spec.name, &task.surroundings)?;
    if let Some(iterations) = slow_down {
        session.slow_down(iterations)?;
    }
    session.batches_of(task.spec, task.trial.shape.warm_up)?;
    let mut times = Vec::new();
    while times.is_empty() || Instant::now() < deadline {
        let done = session.batches_of(task.spec, task.trial.shape.turn)?;
        times.extend(done.samples.iter().map(|sample| metric(sample, task.spec.metric)));
    }
    session.quit()?;
    median(&times).context("a run has batches")
}

fn metric(sample: &Sample, metric: Metric) -> f64 {
    match metric {
        Metric::CpuTime => sample.cpu_time_ns as f64,
        Metric::WallTime => sample.wall_time_ns as f64,
    }
}

fn judge(baseline: &[f64], candidate: &[f64]) -> Result<Vec<Called>> {
    let before = median(baseline).context("there are runs")?;
    let difference_pct = 100.0 * (median(candidate).context("there are runs")? / before - 1.0);
    // Runs that are all the same leave nothing to test.
    let tested = welch(baseline, candidate).map_or(Call::Nothing, |test| Call::of(test.p_value < ALPHA, test.t));
    let beyond = Call::of(difference_pct.abs() > THRESHOLD_PCT, difference_pct);
    Ok(vec![Called::new(RULES[0], tested, Some(difference_pct)), Called::new(RULES[1], beyond, Some(difference_pct))])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(baseline: &[f64], candidate: &[f64]) -> Vec<Call> {
        judge(baseline, candidate).unwrap().into_iter().map(|called| called.call).collect()
    }

    #[test]
    fn a_small_sure_difference_is_one_for_the_test_alone() {
        let baseline = [100.0, 100.1, 99.9, 100.0, 100.1];
        assert_eq!(calls(&baseline, &[100.6, 100.5, 100.6, 100.7, 100.5]), [Call::Slower, Call::Nothing]);
        assert_eq!(calls(&baseline, &[98.0, 98.1, 97.9, 98.0, 98.1]), [Call::Faster, Call::Faster]);
        assert_eq!(calls(&baseline, &baseline), [Call::Nothing, Call::Nothing]);
    }

    #[test]
    fn a_large_unsure_difference_is_one_for_the_threshold_alone() {
        let (baseline, candidate) = ([90.0, 95.0, 100.0, 120.0, 130.0], [88.0, 97.0, 103.0, 118.0, 133.0]);
        assert_eq!(calls(&baseline, &candidate), [Call::Nothing, Call::Slower]);
        assert_eq!(calls(&[5.0; 5], &[5.0; 5]), [Call::Nothing, Call::Nothing], "nothing varies, nothing is tested");
    }
}
