//! As tango does: batches in turns, one launch of each side, a z-test of all their differences pooled.
//!
//! The rule is that of tango-bench 0.6 and later: differences outside of Tukey's fences are dropped, the
//! same number at each end; a change is called at |z| >= 2.6, if it is also larger than half a per cent.
//! Tango loads both sides into one process; here they are two, because libevent linked twice into one
//! process would be measured against itself.

use super::method::{Call, Called, Task};
use crate::host::Aside;
use crate::interrupt;
use crate::session::Session;
use anyhow::{Context as _, Result};
use std::time::Instant;

const Z: f64 = 2.6;
const RELEVANT_PCT: f64 = 0.5;
/// Distance of the fences from the quartiles, in distances of the quartiles.
const FENCE: f64 = 1.5;
/// A sample takes about so long.
const SAMPLE_NS: f64 = 1e6;

pub(super) const RULES: &[&str] = &["z beyond 2.6", "z beyond 2.6, change beyond 0.5%"];

pub(super) fn compare(task: &Task<'_>) -> Result<Vec<Called>> {
    let deadline = Instant::now() + task.budget;
    let _aside = Aside::step(task.surroundings.pinning);
    let start = |side: usize| Session::start(task.workers[side], &task.spec.name, &task.surroundings);
    let mut sessions = [start(0).context("baseline")?, start(1).context("candidate")?];
    if let Some(iterations) = task.slow_down {
        sessions[1].slow_down(iterations).context("candidate")?;
    }
    for session in &mut sessions {
        session.batches_of(task.spec, task.trial.shape.warm_up)?;
    }
    let batches = ((SAMPLE_NS / task.trial.batch_ns).round() as u64).max(1);
    let mut pairs: Vec<[f64; 2]> = Vec::new();
    while pairs.is_empty() || Instant::now() < deadline {
        interrupt::check()?;
        let first = pairs.len() % 2;
        let mut times = [0.0; 2];
        for side in [first, 1 - first] {
            let done = sessions[side].batches_of(task.spec, batches)?;
            times[side] = done.samples.iter().map(|sample| sample.wall_time_ns as f64).sum();
        }
        pairs.push(times);
    }
    for session in sessions {
        session.quit()?;
    }
    judge(&pairs)
}

fn judge(pairs: &[[f64; 2]]) -> Result<Vec<Called>> {
    let kept = without_outliers(pairs);
    let count = kept.len() as f64;
    let mean = |of: &dyn Fn(&[f64; 2]) -> f64| kept.iter().map(of).sum::<f64>() / count;
    let (before, difference) = (mean(&|pair| pair[0]), mean(&|pair| pair[1] - pair[0]));
    let squares: f64 = kept.iter().map(|pair| (pair[1] - pair[0] - difference).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    // One pair, or pairs that are all the same, leave nothing to test.
    let is_significant = error > 0.0 && (difference / error).abs() >= Z;
    let difference_pct = 100.0 * difference / before;
    let is_relevant = difference_pct.abs() > RELEVANT_PCT;
    Ok(vec![
        Called::new(RULES[0], Call::of(is_significant, difference), Some(difference_pct)),
        Called::new(RULES[1], Call::of(is_significant && is_relevant, difference), Some(difference_pct)),
    ])
}

/// Pairs without those whose differences lie outside of Tukey's fences, or as many at the other end.
fn without_outliers(pairs: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let mut sorted = pairs.to_vec();
    let difference = |pair: &[f64; 2]| pair[1] - pair[0];
    sorted.sort_by(|one, other| difference(one).total_cmp(&difference(other)));
    let count = sorted.len();
    if count < 4 {
        return sorted;
    }
    let (low, high) = (difference(&sorted[count / 4]), difference(&sorted[count * 3 / 4 - 1]));
    let reach = FENCE * (high - low);
    let below = sorted.iter().filter(|pair| difference(pair) < low - reach).count();
    let above = sorted.iter().filter(|pair| difference(pair) > high + reach).count();
    let cut = below.min(above);
    sorted[cut..count - cut].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs with these differences, in per mille of the baseline.
    fn calls(differences: &[f64]) -> Vec<Call> {
        let pairs: Vec<[f64; 2]> = differences.iter().map(|x| [1e6, 1e6 + 1e3 * x]).collect();
        judge(&pairs).unwrap().into_iter().map(|called| called.call).collect()
    }

    #[test]
    fn a_mean_far_from_zero_is_a_change_and_a_small_one_only_by_z() {
        let alternating = |mean: f64, swing: f64| -> Vec<f64> {
            (0..100).map(|i| mean + if i % 2 == 0 { swing } else { -swing }).collect()
        };
        assert_eq!(calls(&alternating(0.0, 5.0)), [Call::Nothing, Call::Nothing]);
        // The standard error of 100 values that swing by 5 is about 0.5.
        assert_eq!(calls(&alternating(1.4, 5.0)), [Call::Slower, Call::Nothing]);
        assert_eq!(calls(&alternating(1.2, 5.0)), [Call::Nothing, Call::Nothing]);
        assert_eq!(calls(&alternating(-9.0, 5.0)), [Call::Faster, Call::Faster]);
    }

    #[test]
    fn as_many_are_dropped_at_each_end() {
        let pairs = |differences: &[f64]| -> Vec<[f64; 2]> { differences.iter().map(|x| [100.0, 100.0 + x]).collect() };
        let kept = without_outliers(&pairs(&[-900.0, -800.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 900.0]));
        assert_eq!(kept.len(), 8);
        assert_eq!(without_outliers(&pairs(&[1.0, 2.0, 3.0, 4.0, 5.0, 900.0])).len(), 6, "none at the other end");
        assert_eq!(without_outliers(&pairs(&[1.0, 900.0])).len(), 2);
    }

    #[test]
    fn nothing_is_called_without_noise() {
        assert_eq!(calls(&[20.0]), [Call::Nothing, Call::Nothing]);
        assert_eq!(calls(&[20.0, 20.0, 20.0]), [Call::Nothing, Call::Nothing]);
    }
}
