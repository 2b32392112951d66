//! Statistics: pure functions, each with its source.

pub mod binomial;
pub mod detection;
pub mod multiple;
pub mod random;
pub mod sign_flip;
pub mod trimmed;
pub mod welch;

mod flips;

use crate::protocol::Latency;
use std::collections::BTreeMap;

/// A confidence interval of a median, without an assumption about the distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MedianInterval {
    /// Lower end, one of the values.
    pub low: f64,
    /// Upper end, one of the values.
    pub high: f64,
    /// Probability that such an interval covers the median, for independent values of any
    /// continuous distribution; at least what was asked for.
    pub coverage: f64,
}

/// The quantile `q` (0 to 1) by linear interpolation between order statistics: type 7 of Hyndman and
/// Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996). `None`
/// without values.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = place.ceil() as usize;
    Some(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// The median; `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// Mean of the values between the quartiles: a quarter of the values, rounded down, is cut from each
/// end. `None` without values.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let cut = sorted.len() / 4;
    let middle = &sorted[cut..sorted.len() - cut];
    (!middle.is_empty()).then(|| middle.iter().sum::<f64>() / middle.len() as f64)
}

/// Distance of the quartiles as a share of the median, in per cent; `None` with fewer than two values.
pub fn spread_pct(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (low, mid, high) = (quantile(values, 0.25)?, median(values)?, quantile(values, 0.75)?);
    (mid > 0.0).then(|| 100.0 * (high - low) / mid)
}

/// The shortest symmetric interval of order statistics that covers the median with at least
/// `confidence`: the interval of the sign test. Conover, "Practical Nonparametric Statistics", 3rd
/// edition, section 3.2. `None` where even the whole range covers less, as with five values at 95%.
pub fn median_interval(values: &[f64], confidence: f64) -> Option<MedianInterval> {
    let sorted = sorted(values);
    let n = sorted.len();
    // Outside of [k-th, (n+1-k)-th] lies the median when at most k-1 values fall on one side of it.
    let mut below = 0.0;
    let mut best = None;
    for k in 1..=n / 2 {
        below += binomial_half(n, k - 1);
        let coverage = 1.0 - 2.0 * below;
        if coverage < confidence {
            break;
        }
        best = Some(MedianInterval { low: sorted[k - 1], high: sorted[n - k], coverage });
    }
    best
}

/// Relative change in per cent that a difference of natural logarithms stands for.
pub fn log_ratio_to_pct(log_ratio: f64) -> f64 {
    100.0 * log_ratio.exp_m1()
}

/// Merges latency distributions of several launches exactly, bucket by bucket; `None` without any.
pub fn merge_latencies(parts: &[&Latency]) -> Option<Latency> {
    let mut buckets: BTreeMap<u64, u64> = BTreeMap::new();
    for (bound, count) in parts.iter().flat_map(|part| &part.buckets) {
        *buckets.entry(*bound).or_default() += count;
    }
    let count: u64 = buckets.values().sum();
    let max_ns = parts.iter().map(|part| part.max_ns).max().filter(|_| count > 0)?;
    let percentile = |share: f64| {
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        buckets.iter().find_map(|(bound, n)| {
            seen += n;
            // A bucket's bound may lie above the largest value that is in it.
            (seen >= rank).then_some((*bound).min(max_ns))
        })
    };
    Some(Latency {
        p50_ns: percentile(0.50)?,
        p95_ns: percentile(0.95)?,
        p99_ns: percentile(0.99)?,
        max_ns,
        count,
        buckets: buckets.into_iter().collect(),
    })
}

/// Probability of exactly `k` heads in `n` tosses.
fn binomial_half(n: usize, k: usize) -> f64 {
    let log_choose: f64 = (1..=k).map(|i| ((n - k + i) as f64 / i as f64).ln()).sum();
    (log_choose - n as f64 * std::f64::consts::LN_2).exp()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_published_values() {
        // R 4: quantile(c(1, 3, 6, 10), c(.25, .5, .75), type = 7)
        let values = [10.0, 1.0, 6.0, 3.0];
        assert_eq!(quantile(&values, 0.25), Some(2.5));
        assert_eq!(median(&values), Some(4.5));
        assert_eq!(quantile(&values, 0.75), Some(7.0));
        assert_eq!(median(&[]), None);
        assert_eq!(interquartile_mean(&[100.0, 2.0, 4.0, -50.0]), Some(3.0));
        assert_eq!(interquartile_mean(&[5.0]), Some(5.0));
        assert_eq!(interquartile_mean(&[]), None);
        assert_eq!(spread_pct(&[1.0]), None);
    }

    #[test]
    fn the_interval_of_the_sign_test_has_its_tabulated_coverage() {
        // Ten values: the second and ninth cover 97.85%, the first and last 99.80%.
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        let at_95 = median_interval(&values, 0.95).unwrap();
        assert_eq!((at_95.low, at_95.high), (2.0, 9.0));
        assert!((at_95.coverage - 0.978_515_625).abs() < 1e-12);
        let at_99 = median_interval(&values, 0.99).unwrap();
        assert_eq!((at_99.low, at_99.high), (1.0, 10.0));
        assert_eq!(median_interval(&values[..5], 0.95), None, "five values cover 93.75% at most");
        assert_eq!(median_interval(&values[..1], 0.5), None);
    }

    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        // Skewed values with median ln 2, from a plain generator.
        let mut state = 1_u64;
        let mut exponential = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            -(((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64).ln()
        };
        let trials = 4000;
        let covered = (0..trials)
            .filter(|_| {
                let values: Vec<f64> = (0..12).map(|_| exponential()).collect();
                let interval = median_interval(&values, 0.95).unwrap();
                (interval.low..=interval.high).contains(&std::f64::consts::LN_2)
            })
            .count();
        // Nominal 96.14%; four standard errors are 1.2 points.
        let share = covered as f64 / f64::from(trials);
        assert!((0.949..0.974).contains(&share), "covered {share}");
    }

    #[test]
    fn merged_latencies_are_those_of_all_launches_together() {
        let part = |buckets: &[(u64, u64)], max_ns| Latency {
            count: buckets.iter().map(|b| b.1).sum(),
            p50_ns: 0,
            p95_ns: 0,
            p99_ns: 0,
            max_ns,
            buckets: buckets.to_vec(),
        };
        let merged = merge_latencies(&[&part(&[(10, 50), (20, 40)], 19), &part(&[(10, 9), (500, 1)], 499)]).unwrap();
        assert_eq!((merged.count, merged.p50_ns, merged.p95_ns, merged.p99_ns), (100, 10, 20, 20));
        assert_eq!(merged.max_ns, 499);
        assert_eq!(merge_latencies(&[]), None);
        assert_eq!(merge_latencies(&[&part(&[], 0)]), None);
    }
}
