//! Sets of CPUs: which ones a thread may use, and which ones are left for its peers.

use anyhow::{Context, Result, bail, ensure};
use std::io::{self, ErrorKind};

/// CPUs that the harness itself may use, as `0,1,2`: those of peers first, then the worker's.
const ALL_CPUS: &str = "BENCH_ALL_CPUS";
/// CPU numbers from here on are refused; kernels support 8192 CPUs at most.
const MOST_CPUS: usize = 1 << 16;
/// What the first question to the kernel has room for.
const USUAL_CPUS: usize = 1024;

/// One word of the kernel's sets, which have as many bits as the kernel supports CPUs.
type Word = libc::c_ulong;
const WORD_BITS: usize = Word::BITS as usize;

/// CPUs that the calling thread may run on, in rising order.
///
/// # Errors
/// The kernel refuses, or supports more than 65536 CPUs.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let mut set: Vec<Word> = vec![0; USUAL_CPUS / WORD_BITS];
    loop {
        // SAFETY: the kernel writes at most the size that it is told, which is that of the vector.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&*set), set.as_mut_ptr().cast()) };
        if result == 0 {
            return Ok(members(&set));
        }
        let error = io::Error::last_os_error();
        // EINVAL: the kernel's sets are larger.
        if error.kind() != ErrorKind::InvalidInput || set.len() * WORD_BITS >= MOST_CPUS {
            bail!("cannot read the CPUs that this thread may run on: {error}");
        }
        set.resize(set.len() * 2, 0);
    }
}

/// Lets the calling thread, and every thread that it starts later, run on `cpu` alone.
///
/// # Errors
/// There is no such CPU, or the kernel does not lend it to this process.
pub(crate) fn pin_to(cpu: usize) -> Result<()> {
    ensure!(cpu < MOST_CPUS, "cannot pin to CPU {cpu}: this program knows CPUs 0 to {}", MOST_CPUS - 1);
    let set = only(cpu);
    // SAFETY: the kernel reads the set, of the size that it is told.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&*set), set.as_ptr().cast()) } != 0 {
        let error = io::Error::last_os_error();
        bail!("cannot pin to CPU {cpu}: {error}; the process may run on {:?}", allowed()?);
    }
    Ok(())
}

/// CPUs of `BENCH_ALL_CPUS` that the calling thread may not use, in the order of the variable: where
/// the peers and the other threads of a workload go. None without the variable, and none on one CPU.
///
/// # Errors
/// The variable holds something other than CPU numbers.
pub(crate) fn beside_own() -> Result<Vec<usize>> {
    let Ok(all) = std::env::var(ALL_CPUS) else { return Ok(vec![]) };
    let all = parse(&all).with_context(|| format!("{ALL_CPUS}=`{all}` must be CPU numbers separated by commas"))?;
    Ok(without(&all, &allowed()?))
}

/// Pins the calling thread to the first CPU of [`beside_own`]; without one it shares what it has.
///
/// # Errors
/// As [`beside_own`] and [`pin_to`].
pub(crate) fn leave_own() -> Result<()> {
    beside_own()?.first().map_or(Ok(()), |cpu| pin_to(*cpu))
}

fn parse(text: &str) -> Result<Vec<usize>> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| Ok(part.trim().parse()?)).collect()
}

fn without(all: &[usize], used: &[usize]) -> Vec<usize> {
    all.iter().copied().filter(|cpu| !used.contains(cpu)).collect()
}

fn members(set: &[Word]) -> Vec<usize> {
    (0..set.len() * WORD_BITS).filter(|cpu| set[cpu / WORD_BITS] >> (cpu % WORD_BITS) & 1 == 1).collect()
}

fn only(cpu: usize) -> Vec<Word> {
    let mut set = vec![0; cpu / WORD_BITS + 1];
    set[cpu / WORD_BITS] = 1 << (cpu % WORD_BITS);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_any_cpu() {
        for cpu in [0, 63, 64, 1023, 1024, 8191, MOST_CPUS - 1] {
            assert_eq!(members(&only(cpu)), [cpu]);
        }
    }

    #[test]
    fn a_thread_can_be_pinned_to_a_cpu_that_it_may_use() {
        // A thread of its own: pinning must not reach the other tests.
        std::thread::spawn(|| {
            let last = *allowed().unwrap().last().expect("the test runs somewhere");
            pin_to(last).unwrap();
            assert_eq!(allowed().unwrap(), [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn cpus_that_cannot_exist_are_refused_by_name() {
        for cpu in [MOST_CPUS - 1, MOST_CPUS, usize::MAX] {
            let error = pin_to(cpu).unwrap_err().to_string();
            assert!(error.contains(&format!("cannot pin to CPU {cpu}")), "{error}");
        }
    }

    #[test]
    fn peers_get_the_cpus_that_the_worker_does_not_use() {
        let all = parse("0,1,5").unwrap();
        assert_eq!(without(&all, &[0]), [1, 5]);
        assert_eq!(without(&all, &[0, 1]), [5]);
        assert!(without(&all, &[0, 1, 5]).is_empty());
        assert!(parse("0-3").is_err());
    }
}
