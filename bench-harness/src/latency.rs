//! Latencies of single events.

use crate::LatencyHistogram;
use std::mem;

/// Largest latency that is told apart: 100 s. Longer ones count as this.
const MOST_NS: u64 = 100_000_000_000;

/// Nanoseconds of the monotonic clock, without the cost of Rust's conversions.
#[inline]
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours; the clock exists on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Collects latencies without allocating, for use inside the timed region.
#[derive(Debug)]
pub struct Recorder(LatencyHistogram);

impl Default for Recorder {
    fn default() -> Self {
        Recorder(empty())
    }
}

impl Recorder {
    /// Records one latency.
    #[inline]
    pub fn record(&mut self, latency_ns: u64) {
        self.0.saturating_record(latency_ns);
    }

    /// Everything recorded since the last call.
    pub fn take(&mut self) -> LatencyHistogram {
        mem::replace(&mut self.0, empty())
    }
}

fn empty() -> LatencyHistogram {
    LatencyHistogram::new_with_bounds(1, MOST_NS, 3).expect("1 ns to 100 s with three digits are valid bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_handed_out_once_and_the_longest_is_capped() {
        let mut recorder = Recorder::default();
        recorder.record(0);
        recorder.record(u64::MAX);
        let taken = recorder.take();
        assert_eq!(taken.len(), 2);
        assert!(taken.max().abs_diff(MOST_NS) * 100 < MOST_NS);
        assert!(recorder.take().is_empty());
    }
}
