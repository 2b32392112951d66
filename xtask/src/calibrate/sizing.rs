//! How many multiplications make a batch slower by a given share: measured over several orders of functions, beside the
//! load that the comparisons will have.
//!
//! It only aims. What a slowdown came to is measured again, in every pair of launches of the comparison itself.

use crate::bench::plan::draw;
use crate::compare::block;
use crate::compare::contest::{Contest, Trial};
use crate::compare::pair::Request;
use crate::compare::patience::Patience;
use crate::exit::{Exit, failure};
use crate::session::Surroundings;
use anyhow::{Context as _, Result};
use model::stats::median;
use model::workload::WorkloadSpec;
use std::collections::BTreeMap;
use std::time::Duration;

/// Orders of functions over which a batch is measured: one alone moves it by up to 15%.
const LAYOUTS: u64 = 5;
/// A slowdown with which the unit is measured; which one makes no difference.
const SOME_ITERATIONS: u64 = 1000;
/// How long a pair is waited for: a busy minute is not a busy day.
const WAIT: Duration = Duration::from_secs(60);

/// What a slowdown of one workload is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    /// The baseline's metric, of a whole batch.
    pub(crate) batch_ns: f64,
    /// CPU time of one multiplication.
    pub(crate) iteration_ns: f64,
}

impl Size {
    /// Multiplications that make a batch slower by so much; none for no slowdown, and one at least for any.
    pub(crate) fn iterations(&self, injected_pct: f64) -> Option<u64> {
        let wanted = injected_pct / 100.0 * self.batch_ns / self.iteration_ns;
        (injected_pct > 0.0).then(|| (wanted.round() as u64).max(1))
    }

    /// By how much so many multiplications make a batch slower, in per cent.
    pub(crate) fn pct(&self, iterations: u64) -> f64 {
        100.0 * iterations as f64 * self.iteration_ns / self.batch_ns
    }
}

/// Measures every workload. A disturbed pair is made again; if none is undisturbed for a minute, that is an error.
pub(crate) fn sizes(
    contest: &Contest<'_>,
    specs: &[WorkloadSpec],
    trials: &BTreeMap<String, Trial>,
    seed: u64,
) -> Result<BTreeMap<String, Size>> {
    let mut seen: BTreeMap<String, Vec<Size>> = BTreeMap::new();
    for number in 0..LAYOUTS {
        let linked = block::link(contest, draw(seed, "sizing", number))?;
        for spec in specs {
            let trial = trials.get(&spec.name).context("every workload was on trial")?;
            let seed = draw(seed, &spec.name, number);
            let size = one(contest, spec, trial, &linked, seed).with_context(|| spec.name.clone())?;
            seen.entry(spec.name.clone()).or_default().push(size);
        }
    }
    seen.into_iter().map(|(name, all)| Ok((name, typical(&all).context("every workload was measured")?))).collect()
}

/// The medians.
fn typical(all: &[Size]) -> Option<Size> {
    let of = |figure: fn(&Size) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
    Some(Size { batch_ns: of(|size| size.batch_ns)?, iteration_ns: of(|size| size.iteration_ns)? })
}

fn one(contest: &Contest<'_>, spec: &WorkloadSpec, trial: &Trial, linked: &block::Linked, seed: u64) -> Result<Size> {
    let [baseline, candidate] = &linked.workers;
    let request = Request {
        workers: [baseline, candidate],
        spec,
        shape: trial.shape,
        seed,
        slow_down: Some(SOME_ITERATIONS),
        thresholds: contest.thresholds,
        surroundings: Surroundings { pinning: contest.pinning, environment_bytes: 0, limit: trial.limit },
    };
    let patience = Patience { at_once: contest.thresholds.external.repeats_at_once, budget: WAIT };
    let record = block::attempts(&request, patience, |_, _| Ok(()))?.map_err(|cause| {
        let message =
            format!("the size of a slowdown cannot be measured: {}; go on when the host is quieter", cause.why);
        failure(Exit::Infrastructure, message)
    })?;
    let injected_ns = record.injected_ns.context("a slowdown was asked for")?;
    Ok(Size {
        batch_ns: record.figures.baseline_ns * spec.batch_events as f64,
        iteration_ns: injected_ns / SOME_ITERATIONS as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slowdowns_are_as_large_as_they_should_be() {
        let size = Size { batch_ns: 330_000.0, iteration_ns: 1.3 };
        for injected_pct in [0.5, 1.0, 2.0, 4.0, 100.0] {
            let pct = size.pct(size.iterations(injected_pct).unwrap());
            assert!((pct / injected_pct - 1.0).abs() < 0.001, "{pct} instead of {injected_pct}");
        }
        assert_eq!(size.iterations(0.0), None);
        assert_eq!(Size { batch_ns: 10.0, ..size }.iterations(0.5), Some(1), "a slowdown is never none");
    }

    #[test]
    fn one_odd_order_of_functions_does_not_decide() {
        let all = [100.0, 101.0, 99.0, 140.0, 100.0].map(|batch_ns| Size { batch_ns, iteration_ns: batch_ns / 100.0 });
        assert_eq!(typical(&all), Some(Size { batch_ns: 100.0, iteration_ns: 1.0 }));
        assert_eq!(typical(&[]), None);
    }
}
