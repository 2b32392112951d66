//! How fast the CPU is just now.
//!
//! Virtual CPUs share a core's execution units with somebody else, and for a part of every millisecond
//! the same instructions take twice as long; no clock and no counter of the guest shows it. A probe is
//! a few microseconds of fixed work that keeps many execution units busy, done right before and right
//! after a batch: a slow probe tells of a neighbour, whatever the batch itself took. The harness leaves
//! out batches by their probes, never by their own times, so that the rule cannot favour a side.

use super::clock::Instant;

/// Eight bytes each; fits in the first-level cache beside anything else.
const WORDS: usize = 512;
const PASSES: usize = 16;

/// The probe's data.
#[derive(Debug)]
pub(super) struct Probe(Box<[u64; WORDS]>);

impl Probe {
    /// Ready to be used.
    pub(super) fn new() -> Self {
        Probe(Box::new([1; WORDS]))
    }

    /// Elapsed time of the fixed work.
    #[inline(never)]
    pub(super) fn time_ns(&mut self) -> u64 {
        // The first pass brings the data back into the cache, untimed.
        self.pass();
        let before = Instant::elapsed_only();
        for _ in 0..PASSES {
            self.pass();
        }
        Instant::elapsed_only().wall_since(before)
    }

    #[inline(always)]
    fn pass(&mut self) {
        // Four independent chains of load, add and store: limited by throughput, which neighbours share.
        for four in std::hint::black_box(&mut self.0).chunks_exact_mut(4) {
            for word in four {
                // SAFETY: a valid reference, read and written like any other; volatile, so that the
                // compiler neither leaves the work out nor joins it to wider operations.
                unsafe { std::ptr::write_volatile(word, std::ptr::read_volatile(word).wrapping_add(3)) };
            }
        }
    }
}
