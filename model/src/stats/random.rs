//! Numbers that look random and are the same on every machine.

/// Step of the counter: 2^64 divided by the golden ratio, made odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
///
/// It mixes a counter, so that any place of the sequence can be had without those before it
/// ([`SplitMix64::at`]). Not for secrets.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        SplitMix64 { state: seed }
    }

    /// Number at a place of the sequence of `seed`; the first is at 0.
    #[inline]
    pub fn at(seed: u64, place: u64) -> u64 {
        mix(seed.wrapping_add(place.wrapping_add(1).wrapping_mul(STEP)))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// Uniform on the open interval from 0 to 1, in steps of 2^-53: never 0 and never 1.
    pub fn next_open_unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs of java.util.SplittableRandom's generator and of Vigna's splitmix64.c for
        // the seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert_eq!((0..3).map(|place| SplitMix64::at(1_234_567, place)).collect::<Vec<_>>(), first);
    }

    #[test]
    fn units_stay_inside_and_fill_the_interval() {
        let mut random = SplitMix64::new(5);
        let units: Vec<f64> = (0..10_000).map(|_| random.next_open_unit()).collect();
        assert!(units.iter().all(|u| *u > 0.0 && *u < 1.0));
        let below_a_tenth = units.iter().filter(|u| **u < 0.1).count();
        // 1000 expected, standard deviation 30.
        assert!((880..1120).contains(&below_a_tenth), "{below_a_tenth}");
    }
}
