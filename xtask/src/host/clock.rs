//! What the clocks that measure can tell apart, and what a look at them costs.

/// Looks at a clock per measurement: some milliseconds even where each is a system call.
const LOOKS: usize = 20_000;

/// One clock as measured here.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Clock {
    /// What the kernel declares.
    pub(crate) declared_resolution_ns: u64,
    /// Smallest difference between two looks that was not zero.
    pub(crate) smallest_difference_ns: Option<u64>,
    /// One look, on average.
    pub(crate) cost_ns: f64,
}

/// The clock that wall time is taken from.
pub(crate) fn monotonic() -> Option<Clock> {
    measure(libc::CLOCK_MONOTONIC)
}

/// The clock that CPU time of a process is taken from.
pub(crate) fn process_cpu() -> Option<Clock> {
    measure(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this process.
pub(crate) fn process_cpu_ns() -> Option<u64> {
    now_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn measure(clock: libc::clockid_t) -> Option<Clock> {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid for writing.
    if unsafe { libc::clock_getres(clock, &raw mut resolution) } != 0 {
        return None;
    }
    let mut looks = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        looks.push(now_ns(clock)?);
    }
    let elapsed_ns = looks.last()?.checked_sub(*looks.first()?)?;
    Some(Clock {
        declared_resolution_ns: to_ns(resolution)?,
        smallest_difference_ns: looks.windows(2).filter_map(|w| w[1].checked_sub(w[0])).filter(|d| *d > 0).min(),
        cost_ns: elapsed_ns as f64 / (LOOKS - 1) as f64,
    })
}

fn now_ns(clock: libc::clockid_t) -> Option<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is valid for writing.
    match unsafe { libc::clock_gettime(clock, &raw mut now) } {
        0 => to_ns(now),
        _ => None,
    }
}

fn to_ns(time: libc::timespec) -> Option<u64> {
    u64::try_from(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_move_and_looking_costs_something() {
        for clock in [monotonic().unwrap(), process_cpu().unwrap()] {
            assert!(clock.cost_ns > 0.0, "{clock:?}");
            assert!(clock.smallest_difference_ns.is_some_and(|ns| ns > 0), "{clock:?}");
        }
    }

    #[test]
    fn work_takes_cpu_time_and_sleep_does_not() {
        let start = process_cpu_ns().unwrap();
        let mut sum = 0_u64;
        while process_cpu_ns().unwrap() == start {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(process_cpu_ns().unwrap() > start);
    }
}
