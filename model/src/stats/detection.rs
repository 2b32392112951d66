//! What a host can see: figures of a calibration.

/// Share of the comparisons of equal things whose |estimate| stays at or below the noise floor.
pub const NOISE_FLOOR_SHARE: f64 = 0.95;

/// Detections at one size of an injected change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detections {
    /// Size of the injected change.
    pub injected_pct: f64,
    /// Runs that found it.
    pub detected: u32,
    /// Runs.
    pub runs: u32,
}

/// The smallest change that is found often enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SmallestFound {
    /// About this size, between two that were injected.
    About {
        /// The size.
        injected_pct: f64,
    },
    /// The smallest size that was injected is found as often already.
    AtMost {
        /// That size.
        injected_pct: f64,
    },
    /// Not even the largest size that was injected is found as often.
    MoreThan {
        /// That size.
        injected_pct: f64,
    },
}

/// The size of change that is found in `share` of the runs: isotonic regression of the detection rate
/// on the size, since a larger change cannot be harder to find, then a straight line between
/// neighbouring sizes. Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order
/// Restrictions" (1972), section 1.2. No curve is assumed. `None` without runs.
pub fn smallest_found(detections: &[Detections], share: f64) -> Option<SmallestFound> {
    let mut points: Vec<Detections> = detections.iter().filter(|point| point.runs > 0).copied().collect();
    points.sort_by(|a, b| a.injected_pct.total_cmp(&b.injected_pct));
    let rates = isotonic_rates(&points);
    let last = points.last()?.injected_pct;
    let Some(place) = rates.iter().position(|rate| *rate >= share) else {
        return Some(SmallestFound::MoreThan { injected_pct: last });
    };
    let injected_pct = points[place].injected_pct;
    let Some(before) = place.checked_sub(1) else {
        return Some(SmallestFound::AtMost { injected_pct });
    };
    let way = (share - rates[before]) / (rates[place] - rates[before]);
    let from = points[before].injected_pct;
    Some(SmallestFound::About { injected_pct: from + way * (injected_pct - from) })
}

/// Detection rates that do not fall, nearest to those that were seen: neighbours that are out of order
/// are pooled.
fn isotonic_rates(points: &[Detections]) -> Vec<f64> {
    struct Pool {
        detected: u64,
        runs: u64,
        points: usize,
    }
    let mut pools: Vec<Pool> = vec![];
    for point in points {
        let mut pool = Pool { detected: u64::from(point.detected), runs: u64::from(point.runs), points: 1 };
        // The rate before is larger: compared as fractions, without rounding.
        while let Some(before) = pools.pop_if(|before| before.detected * pool.runs > pool.detected * before.runs) {
            pool.detected += before.detected;
            pool.runs += before.runs;
            pool.points += before.points;
        }
        pools.push(pool);
    }
    pools.iter().flat_map(|pool| std::iter::repeat_n(pool.detected as f64 / pool.runs as f64, pool.points)).collect()
}

/// Noise floor: the 95th percentile of the size of the estimates of comparisons between equal things,
/// in the estimates' unit.
///
/// One of the estimates, the smallest that at least 95% do not exceed (type 1 of Hyndman and Fan,
/// 1996): with fewer than 20 that is the largest, never something smaller. `None` without estimates
/// or with one that is not a number.
pub fn noise_floor(estimates: &[f64]) -> Option<f64> {
    let sizes: Vec<f64> = estimates.iter().map(|estimate| estimate.abs()).collect();
    if sizes.iter().any(|size| size.is_nan()) {
        return None;
    }
    let sorted = super::sorted(&sizes);
    // The smallest rank of which 100 make 95 or more for each of the estimates, in whole numbers.
    let rank = (95 * sorted.len()).div_ceil(100);
    rank.checked_sub(1).map(|place| sorted[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rates: &[(f64, u32)]) -> Vec<Detections> {
        rates
            .iter()
            .map(|(injected_pct, detected)| Detections { injected_pct: *injected_pct, detected: *detected, runs: 20 })
            .collect()
    }

    #[test]
    fn the_smallest_found_lies_between_sizes() {
        let detections = points(&[(2.0, 20), (0.5, 4), (1.0, 14), (4.0, 20)]);
        let Some(SmallestFound::About { injected_pct }) = smallest_found(&detections, 0.8) else {
            panic!("{:?}", smallest_found(&detections, 0.8));
        };
        // From 70% at 1 to 100% at 2.
        assert!((injected_pct - (1.0 + 0.1 / 0.3)).abs() < 1e-12, "{injected_pct}");
    }

    #[test]
    fn rates_out_of_order_are_pooled() {
        // R: isoreg(c(4, 17, 15, 20) / 20)$yf
        assert_eq!(isotonic_rates(&points(&[(0.5, 4), (1.0, 17), (2.0, 15), (4.0, 20)])), [0.2, 0.8, 0.8, 1.0]);
        // A long fall pools all of it.
        assert_eq!(isotonic_rates(&points(&[(0.5, 20), (1.0, 10), (2.0, 0)])), [0.5, 0.5, 0.5]);
        let uneven = [
            Detections { injected_pct: 1.0, detected: 9, runs: 10 },
            Detections { injected_pct: 2.0, detected: 15, runs: 30 },
        ];
        assert_eq!(isotonic_rates(&uneven), [0.6, 0.6]);
    }

    #[test]
    fn beyond_the_sizes_nothing_is_made_up() {
        let never = points(&[(0.5, 0), (1.0, 15)]);
        assert_eq!(smallest_found(&never, 0.8), Some(SmallestFound::MoreThan { injected_pct: 1.0 }));
        let always = points(&[(0.5, 16), (1.0, 20)]);
        assert_eq!(smallest_found(&always, 0.8), Some(SmallestFound::AtMost { injected_pct: 0.5 }));
        assert_eq!(smallest_found(&[Detections { injected_pct: 1.0, detected: 0, runs: 0 }], 0.8), None);
    }

    #[test]
    fn the_floor_is_an_estimate_that_few_exceed() {
        let estimates: Vec<f64> = (1..=100).map(|i| f64::from(i) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        assert_eq!(noise_floor(&estimates), Some(95.0));
        assert_eq!(noise_floor(&estimates[..20]), Some(19.0));
        assert_eq!(noise_floor(&estimates[..19]), Some(19.0));
        assert_eq!(noise_floor(&[-0.3]), Some(0.3));
        assert_eq!(noise_floor(&[]), None);
        assert_eq!(noise_floor(&[0.1, f64::NAN]), None);
    }
}
