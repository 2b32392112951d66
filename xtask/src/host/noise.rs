//! Launch-to-launch noise: the same work in fresh processes, as every measurement here is made.

use super::{Pinning, clock, restrict};
use crate::process;
use anyhow::{Context as _, Result, bail};
use std::process::Command;
use std::time::{Duration, Instant};

/// Fresh processes.
const LAUNCHES: usize = 10;
/// Batches in each; the first ones warm caches and are dropped.
const BATCHES: usize = 12;
const WARM_UP: usize = 2;
/// Longest time of one launch, and of all of them.
const LAUNCH_LIMIT: Duration = Duration::from_secs(5);
const TOTAL_LIMIT: Duration = Duration::from_secs(8);

/// How much the time of identical work differs between launches.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Noise {
    /// Launches that were made.
    pub(crate) launches: usize,
    /// Median over launches of a batch's CPU time.
    pub(crate) median_ns: u64,
    /// Second largest minus second smallest launch, in percent of the median: one outlier on
    /// either side does not count.
    pub(crate) spread_pct: f64,
    /// Largest minus smallest launch, in percent of the median.
    pub(crate) range_pct: f64,
}

/// Launches this program as a probe on the worker's CPU, several times.
pub(crate) fn measure(pinning: &Pinning) -> Result<Noise> {
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let deadline = Instant::now() + TOTAL_LIMIT;
    let mut launches = Vec::new();
    while launches.len() < LAUNCHES && Instant::now() < deadline {
        let mut command = Command::new(&program);
        restrict(command.args(["doctor", "--noise-probe"]), &[pinning.worker]);
        let got = process::capture(&mut command, LAUNCH_LIMIT)?;
        if !got.status.success() {
            bail!("the probe ended with {}: {}", got.status, got.stderr.trim());
        }
        launches.push(got.stdout.trim().parse().context("the probe printed no number")?);
    }
    summarize(launches).context("too few launches within the time limit")
}

/// Median and spread of launches; `None` for fewer than four.
fn summarize(mut launches_ns: Vec<u64>) -> Option<Noise> {
    launches_ns.sort_unstable();
    let count = launches_ns.len();
    let median_ns = median(&launches_ns).filter(|median| count >= 4 && *median > 0)?;
    let pct = |low: u64, high: u64| (high - low) as f64 / median_ns as f64 * 100.0;
    Some(Noise {
        launches: count,
        median_ns,
        spread_pct: pct(launches_ns[1], launches_ns[count - 2]),
        range_pct: pct(launches_ns[0], launches_ns[count - 1]),
    })
}

fn median(sorted: &[u64]) -> Option<u64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { u64::midpoint(sorted[middle - 1], upper) })
}

/// The probe itself: prints the median CPU time of a batch.
pub(crate) fn probe() -> Result<()> {
    let mut batches = Vec::with_capacity(BATCHES);
    let mut memory: Vec<u32> = (0..1 << 15).collect();
    let mut checksum = 0_u64;
    for _ in 0..BATCHES {
        let start = clock::process_cpu_ns().context("the CPU clock fails")?;
        checksum = checksum.wrapping_add(batch(&mut memory));
        let end = clock::process_cpu_ns().context("the CPU clock fails")?;
        batches.push(end.saturating_sub(start));
    }
    std::hint::black_box(checksum);
    let steady = &mut batches[WARM_UP..];
    steady.sort_unstable();
    println!("{}", median(steady).context("there are batches")?);
    Ok(())
}

/// A fixed amount of arithmetic and dependent reads and writes over 128 KiB.
fn batch(memory: &mut [u32]) -> u64 {
    let mut state = 88_172_645_463_325_252_u64;
    let mask = memory.len() - 1;
    let mut sum = 0_u64;
    for _ in 0..60_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let slot = usize::try_from(state & 0xffff_ffff).unwrap_or(0) & mask;
        sum = sum.wrapping_add(u64::from(memory[slot]));
        memory[slot] = memory[slot].rotate_left(3);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_on_either_side_does_not_count_as_spread() {
        let quiet = summarize(vec![100, 101, 99, 100, 100, 500, 1]).unwrap();
        assert_eq!(quiet.median_ns, 100);
        assert!((quiet.spread_pct - 2.0).abs() < 1e-9, "{quiet:?}");
        assert!((quiet.range_pct - 499.0).abs() < 1e-9, "{quiet:?}");
        assert!(summarize(vec![100, 100, 130, 130]).unwrap().spread_pct > 20.0);
        assert_eq!(summarize(vec![1, 2, 3]), None);
    }

    #[test]
    fn a_batch_is_the_same_work_every_time() {
        let fresh = || (0..1 << 15).collect::<Vec<u32>>();
        let (mut one, mut two) = (fresh(), fresh());
        assert_eq!(batch(&mut one), batch(&mut two));
        assert_eq!(one, two);
        assert_ne!(one, fresh(), "it writes");
    }
}
