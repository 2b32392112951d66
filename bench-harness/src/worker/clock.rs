//! What the kernel says about time and resources.

use model::protocol::Usage;
use std::mem;

/// Elapsed time and CPU time of the process, read as close together as two system clocks allow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instant {
    wall_ns: u64,
    cpu_ns: u64,
}

impl Instant {
    /// Before a batch: the elapsed clock is read last, next to the work.
    #[inline]
    pub(super) fn before() -> Self {
        let cpu_ns = read(libc::CLOCK_PROCESS_CPUTIME_ID);
        let wall_ns = read(libc::CLOCK_MONOTONIC);
        Instant { wall_ns, cpu_ns }
    }

    /// After a batch: the elapsed clock is read first.
    #[inline]
    pub(super) fn after() -> Self {
        let wall_ns = read(libc::CLOCK_MONOTONIC);
        let cpu_ns = read(libc::CLOCK_PROCESS_CPUTIME_ID);
        Instant { wall_ns, cpu_ns }
    }

    /// The elapsed clock alone, which costs no system call.
    #[inline]
    pub(super) fn elapsed_only() -> Self {
        Instant { wall_ns: read(libc::CLOCK_MONOTONIC), cpu_ns: 0 }
    }

    /// Elapsed ns from `earlier` to `self`.
    pub(super) fn wall_since(self, earlier: Instant) -> u64 {
        self.wall_ns.saturating_sub(earlier.wall_ns)
    }

    /// (wall, CPU) in ns from `earlier` to `self`.
    pub(super) fn since(self, earlier: Instant) -> (u64, u64) {
        (self.wall_ns.saturating_sub(earlier.wall_ns), self.cpu_ns.saturating_sub(earlier.cpu_ns))
    }
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours; both clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What the kernel charged this process so far; children are not included.
pub(super) fn usage() -> Usage {
    let usage = rusage();
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    Usage {
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        voluntary_context_switches: count(usage.ru_nvcsw),
        involuntary_context_switches: count(usage.ru_nivcsw),
    }
}

/// What was charged from `earlier` to `later`.
pub(super) fn usage_between(earlier: &Usage, later: &Usage) -> Usage {
    Usage {
        minor_faults: later.minor_faults - earlier.minor_faults,
        major_faults: later.major_faults - earlier.major_faults,
        voluntary_context_switches: later.voluntary_context_switches - earlier.voluntary_context_switches,
        involuntary_context_switches: later.involuntary_context_switches - earlier.involuntary_context_switches,
    }
}

/// Largest resident set of this program so far. Not getrusage(2)'s: that one remembers the program that
/// forked this one, whatever was executed since.
pub(super) fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn rusage() -> libc::rusage {
    // SAFETY: all-zero bytes are a valid rusage, and the call fills it; it cannot fail for RUSAGE_SELF.
    unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_and_cpu_time_needs_work() {
        let start = Instant::before();
        let mut state = 1u64;
        loop {
            state = std::hint::black_box(state.wrapping_mul(3));
            let (wall_ns, cpu_ns) = Instant::after().since(start);
            if cpu_ns > 1_000_000 {
                assert!(wall_ns > 0);
                break;
            }
            assert!(wall_ns < 60_000_000_000, "a minute of computing was not charged as CPU time");
        }
    }

    #[test]
    fn touching_fresh_memory_is_a_minor_fault() {
        let before = usage();
        let pages = vec![1u8; 4 << 20];
        std::hint::black_box(&pages);
        let charged = usage_between(&before, &usage());
        assert!(charged.minor_faults > 0);
        assert!(peak_rss_kib() > 4096);
    }
}
