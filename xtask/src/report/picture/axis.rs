//! The range that a picture shows, and where on it a figure lies.

use model::stats::median;

/// Blocks further from the median than this many times the median distance may be left out: 5.4 standard
/// deviations of a normal distribution.
const FAR: f64 = 8.0;
/// Room beyond the outermost figure, as a share of the range.
const ROOM: f64 = 0.03;
/// Where every figure is the same.
const LEAST_RANGE: f64 = 0.01;

/// A range of changes in per cent.
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// A place that is marked on the axis.
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

impl Axis {
    /// Holds all of `shown`, and of the blocks all but those far from the others: one block that a
    /// neighbour spoilt must not make a line of all the others.
    pub(super) fn new(blocks: Vec<f64>, shown: &[f64]) -> Axis {
        let near = without_far(blocks);
        let low = near.iter().chain(shown).copied().fold(f64::MAX, f64::min);
        let high = near.iter().chain(shown).copied().fold(f64::MIN, f64::max);
        let room = ((high - low) * ROOM).max(LEAST_RANGE / 2.0);
        Axis { low: low - room, high: high + room }
    }

    /// Place of a figure from 0 (low end) to 1; `None` beyond the ends.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        (value >= self.low && value <= self.high).then(|| (value - self.low) / (self.high - self.low))
    }

    /// Round figures inside the range, at most about `most` of them, zero among them if it is inside.
    pub(super) fn ticks(&self, most: usize) -> Vec<Tick> {
        let least_step = (self.high - self.low) / most.max(1) as f64;
        let power = 10_f64.powf(least_step.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= least_step);
        let step = step.unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last)
            .map(|number| Tick {
                value: number as f64 * step,
                label: if number == 0 { "0%".to_owned() } else { format!("{:+.decimals$}%", number as f64 * step) },
            })
            .collect()
    }
}

fn without_far(mut values: Vec<f64>) -> Vec<f64> {
    let Some(middle) = median(&values) else { return values };
    let mut distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    distances.sort_by(f64::total_cmp);
    // Three quarters stay in any case: so many are no exceptions.
    let most = distances[(distances.len() - 1) * 3 / 4];
    let limit = (FAR * median(&distances).unwrap_or(0.0)).max(most);
    values.retain(|value| (value - middle).abs() <= limit);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_blocks_do_not_stretch_the_axis() {
        let mut blocks: Vec<f64> = (0..40).map(|i| f64::from(i % 7) / 10.0).collect();
        blocks.extend([300.0, -80.0]);
        let axis = Axis::new(blocks, &[0.0, -1.0, 1.0]);
        assert!(axis.low > -1.1 && axis.high < 1.1, "{} {}", axis.low, axis.high);
        let two_of_eight = Axis::new(vec![0.1, 0.2, 0.1, 0.0, 0.2, 0.1, 50.0, 51.0], &[0.0]);
        assert!(two_of_eight.high < 1.0);
        let two_groups = Axis::new([[0.1; 6], [9.0; 6]].concat(), &[0.0]);
        assert!(two_groups.high > 9.0, "half of the blocks are no exceptions");
    }

    #[test]
    fn what_must_be_seen_is_inside() {
        for shown in [vec![0.0], vec![-30.0, 0.0, 55.0], vec![0.0, 1e-6]] {
            for blocks in [vec![], vec![2.0; 10], vec![0.0, 1e6]] {
                let axis = Axis::new(blocks, &shown);
                assert!(shown.iter().all(|value| axis.place(*value).is_some_and(|place| (0.0..=1.0).contains(&place))));
            }
        }
    }

    #[test]
    fn ticks_are_round_and_zero_is_one() {
        let labels = |low, high| Axis { low, high }.ticks(6).into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(labels(-3.1, 1.2), ["-3%", "-2%", "-1%", "0%", "+1%"]);
        assert_eq!(labels(-0.11, 0.11), ["-0.10%", "-0.05%", "0%", "+0.05%", "+0.10%"]);
        assert_eq!(labels(-40.0, 820.0), ["0%", "+200%", "+400%", "+600%", "+800%"]);
        assert_eq!(labels(-0.005, 0.005), ["-0.004%", "-0.002%", "0%", "+0.002%", "+0.004%"]);
    }
}
