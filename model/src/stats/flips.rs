//! Trimmed means of many sign-flipped copies of the same values, fast: the work of the test in
//! [`sign_flip`](super::sign_flip).
//!
//! A flip is a set of values whose signs are turned. A set and its complement give means of opposite
//! sign, so that a two-sided test needs one of the two only: a *class*. Class 0 turns nothing.

use super::random::SplitMix64;
use super::trimmed::Trim;

/// Classes that are looked at where there are more than that: all of them up to 15 values.
pub(super) const MOST_CLASSES: usize = 1 << 14;

/// Seed of the drawn classes. A constant: the same values give the same answer everywhere.
const SEED: u64 = 0x6c69_6265_7665_6e74;

/// How many classes are looked at for `count` values.
pub(super) fn classes(count: usize) -> usize {
    if is_exact(count) { 1 << count.saturating_sub(1) } else { MOST_CLASSES }
}

/// All classes are looked at rather than drawn ones.
pub(super) fn is_exact(count: usize) -> bool {
    count.saturating_sub(1) <= MOST_CLASSES.ilog2() as usize
}

/// A value, with what is asked of it for each class.
struct Ranked {
    /// Its magnitude.
    size: f64,
    /// Word and bit that say whether it is flipped.
    word: usize,
    bit: u32,
    /// 1 if it is positive when it is not flipped, otherwise 0.
    above: u64,
}

/// The values less a supposed centre, prepared for flips.
pub(super) struct Flips {
    trim: Trim,
    exact: bool,
    words: usize,
    /// The values in descending order of magnitude.
    by_size: Vec<Ranked>,
    /// For eight neighbouring values, the sums under all of their 256 flips.
    sums: Vec<[f64; 256]>,
    /// What is cut of the n-th largest value on one side.
    cut: Vec<f64>,
    flipped: Vec<u64>,
    scratch: Vec<f64>,
}

impl Flips {
    /// For these values less `centre`.
    pub(super) fn new(values: &[f64], centre: f64) -> Self {
        Self::trimmed(values, centre, Trim::of(values.len()))
    }

    /// The same with another trim.
    fn trimmed(values: &[f64], centre: f64, trim: Trim) -> Self {
        let count = values.len();
        let shifted: Vec<f64> = values.iter().map(|value| value - centre).collect();
        let mut by_size: Vec<Ranked> = shifted
            .iter()
            .enumerate()
            .map(|(place, value)| Ranked {
                size: value.abs(),
                word: place / 64,
                bit: (place % 64) as u32,
                above: u64::from(*value > 0.0),
            })
            .collect();
        by_size.sort_by(|a, b| b.size.total_cmp(&a.size));
        let cut = (0..=count)
            .map(|rank| match rank.cmp(&trim.whole) {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => trim.part,
                std::cmp::Ordering::Greater => 0.0,
            })
            .collect();
        Flips {
            trim,
            exact: is_exact(count),
            words: count.div_ceil(64),
            sums: shifted.chunks(8).map(sums_of_flips).collect(),
            cut,
            flipped: vec![0; count.div_ceil(64)],
            scratch: vec![0.0; count],
            by_size,
        }
    }

    /// Trimmed mean of the values with the signs of this class; its complement has the opposite one.
    pub(super) fn mean(&mut self, class: usize) -> f64 {
        self.draw(class);
        match self.sum_cut_off() {
            Some(cut) => (self.sum() - cut) / self.trim.kept,
            None => self.mean_by_sorting(),
        }
    }

    /// Fills in which values class `class` turns.
    fn draw(&mut self, class: usize) {
        if self.exact {
            // The last value keeps its sign, which takes one of every set and its complement.
            self.flipped[0] = class as u64;
        } else if class == 0 {
            self.flipped.fill(0);
        } else {
            for (word, bits) in self.flipped.iter_mut().enumerate() {
                *bits = SplitMix64::at(SEED, (class * self.words + word) as u64);
            }
        }
    }

    /// Sum of all flipped values.
    fn sum(&self) -> f64 {
        let bytes = self.flipped.iter().flat_map(|word| word.to_le_bytes());
        self.sums.iter().zip(bytes).map(|(sums, byte)| sums[usize::from(byte)]).sum()
    }

    /// Sum of what is cut at both ends; `None` where one side of zero has too few values for its cut.
    fn sum_cut_off(&self) -> Option<f64> {
        // The largest positive values are the first positive ones in order of magnitude, and so for
        // the negative ones: no sorting is needed, and a quarter of the values is seen at most times.
        let (mut high, mut seen, mut sum) = (0, 0, 0.0);
        for value in &self.by_size {
            let positive = value.is_positive(&self.flipped);
            let rank = if positive == 1 { high } else { seen - high };
            // The sign is set without a branch: half of all guesses at it would be wrong.
            sum += self.cut[rank] * f64::from_bits(value.size.to_bits() | ((1 - positive) << 63));
            high += positive as usize;
            seen += 1;
            if high.min(seen - high) > self.trim.whole {
                return Some(sum);
            }
        }
        None
    }

    fn mean_by_sorting(&mut self) -> f64 {
        // Ascending order: the negative values from the largest magnitude down come first, the
        // positive ones from the largest down come last.
        let (mut bottom, mut top) = (0, self.scratch.len());
        for value in &self.by_size {
            if value.is_positive(&self.flipped) == 1 {
                top -= 1;
                self.scratch[top] = value.size;
            } else {
                self.scratch[bottom] = -value.size;
                bottom += 1;
            }
        }
        self.trim.mean_of_sorted(&self.scratch)
    }
}

impl Ranked {
    /// 1 if it is positive under these flips, otherwise 0.
    #[inline]
    fn is_positive(&self, flipped: &[u64]) -> u64 {
        ((flipped[self.word] >> self.bit) & 1) ^ self.above
    }
}

fn sums_of_flips(values: &[f64]) -> [f64; 256] {
    let mut sums = [0.0; 256];
    sums[0] = values.iter().sum();
    for flips in 1..256_usize {
        // Turning one more value takes it away twice.
        let lowest = flips.trailing_zeros() as usize;
        let value = values.get(lowest).copied().unwrap_or(0.0);
        sums[flips] = sums[flips & (flips - 1)] - 2.0 * value;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::trimmed::trimmed_mean;

    #[test]
    fn means_are_those_of_the_flipped_values() {
        let mut random = SplitMix64::new(3);
        for count in [1, 2, 3, 9, 10, 15, 16, 63, 64, 65, 130] {
            let values: Vec<f64> = (0..count).map(|_| random.next_open_unit() - 0.4).collect();
            for centre in [0.0, 0.3, -2.0] {
                let mut flips = Flips::new(&values, centre);
                for class in (0..classes(count)).step_by(1 + classes(count) / 100) {
                    let fast = flips.mean(class);
                    let turned: Vec<f64> = (0..count)
                        .map(|place| {
                            let is_flipped = flips.flipped[place / 64] >> (place % 64) & 1 == 1;
                            (values[place] - centre) * if is_flipped { -1.0 } else { 1.0 }
                        })
                        .collect();
                    let slow = trimmed_mean(&turned).unwrap();
                    assert!((fast - slow).abs() < 1e-12, "{count} values, class {class}: {fast}, not {slow}");
                }
            }
        }
    }

    #[test]
    fn untrimmed_it_is_fishers_test_of_darwins_plants() {
        // Fisher, "The Design of Experiments", section 21: of the 32768 sums of Darwin's differences of
        // crossed and self-fertilised maize, 863 are as large as the observed one on its side.
        let darwin = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48].map(f64::from);
        let mut flips = Flips::trimmed(&darwin, 0.0, Trim { whole: 0, part: 0.0, kept: 15.0 });
        let observed = flips.mean(0);
        assert!((observed - 314.0 / 15.0).abs() < 1e-12);
        let as_far = (0..classes(15)).filter(|class| flips.mean(*class).abs() >= observed - 1e-9).count();
        assert_eq!(as_far, 863);
    }

    #[test]
    fn classes_are_all_up_to_fifteen_values_and_class_0_turns_nothing() {
        assert_eq!([1, 2, 12, 15, 16, 400].map(classes), [1, 2, 2048, 16_384, 16_384, 16_384]);
        assert_eq!([15, 16].map(is_exact), [true, false]);
        for count in [15_usize, 16, 400] {
            let values = vec![1.0; count];
            assert!((Flips::new(&values, 0.0).mean(0) - 1.0).abs() < 1e-12);
        }
    }
}
