//! A slowdown of known size, with which the harness is calibrated: is +1% found?
//!
//! A chain of multiplications, each waiting for the last: its time depends on neither caches nor the
//! alignment of code, and it runs on the same CPU, in the same process, inside the same clocks as the
//! work that it makes slower.

use super::clock::Instant;

/// Odd, so that no factor is ever lost.
const FACTOR: u64 = 0x5851_f42d_4c95_7f2d;
/// The shortest of so many is what they take undisturbed.
const TRIALS: u32 = 50;

/// So many multiplications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iterations(pub u64);

impl Iterations {
    /// Does them.
    #[inline(never)]
    pub fn run(self) {
        let mut state = 1_u64;
        for _ in 0..self.0 {
            state = std::hint::black_box(state.wrapping_mul(FACTOR));
        }
    }

    /// CPU time that they take here and now, undisturbed.
    pub fn time_ns(self) -> u64 {
        let one = || {
            let before = Instant::before();
            self.run();
            Instant::after().since(before).1
        };
        (0..TRIALS).map(|_| one()).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_work_takes_twice_the_time() {
        let ratio = || {
            let (one, two) = (Iterations(200_000).time_ns() as f64, Iterations(400_000).time_ns() as f64);
            two / one
        };
        // A busy host can spoil one attempt; shortest times of several do not lie.
        assert!((0..5).map(|_| ratio()).any(|ratio| (1.8..2.2).contains(&ratio)));
    }
}
