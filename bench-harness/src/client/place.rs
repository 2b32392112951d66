//! Where the client runs: on another CPU than the process that started it, where there is one.

use anyhow::{Context, Result};
use std::io;

/// CPUs that the harness itself may use, as `0,1,2`; the worker is pinned to one of them.
const ALL_CPUS: &str = "BENCH_ALL_CPUS";

/// Pins this thread to a CPU of [`ALL_CPUS`] that the parent, whose CPUs are inherited, does not use.
/// Without such a CPU, or without the variable, client and server share what they have.
///
/// # Errors
/// The variable holds something other than CPU numbers, or the kernel refuses.
pub(super) fn avoid_cpus_of_parent() -> Result<()> {
    cpus_beside_own()?.first().map_or(Ok(()), |cpu| pin(*cpu))
}

/// CPUs of [`ALL_CPUS`] that the calling thread may not use, in the order of the variable: where peers
/// and other threads of a workload go. None without the variable, and none on one CPU.
///
/// # Errors
/// The variable holds something other than CPU numbers.
pub(crate) fn cpus_beside_own() -> Result<Vec<usize>> {
    let Ok(all) = std::env::var(ALL_CPUS) else { return Ok(vec![]) };
    let all =
        parse_cpus(&all).with_context(|| format!("{ALL_CPUS}=`{all}` must be CPU numbers separated by commas"))?;
    Ok(free_cpus(&all, &own_cpus()?))
}

fn parse_cpus(text: &str) -> Result<Vec<usize>> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| Ok(part.trim().parse()?)).collect()
}

fn free_cpus(all: &[usize], used: &[usize]) -> Vec<usize> {
    all.iter().copied().filter(|cpu| !used.contains(cpu)).collect()
}

fn own_cpus() -> Result<Vec<usize>> {
    // SAFETY: a set of bits; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size of the set.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error()).context("sched_getaffinity");
    }
    // SAFETY: the index is below the size of the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    // SAFETY: as in own_cpus(); CPU_SET checks its bounds.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index was read from a list of CPUs and is checked by CPU_SET.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the set.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("pinning a peer to CPU {cpu}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_that_the_server_does_not_use_is_chosen_if_there_is_one() {
        let all = parse_cpus("0,1,5").unwrap();
        assert_eq!(free_cpus(&all, &[0]), [1, 5]);
        assert_eq!(free_cpus(&all, &[0, 1]), [5]);
        assert!(free_cpus(&all, &[0, 1, 5]).is_empty());
        assert!(parse_cpus("0-3").is_err());
    }
}
