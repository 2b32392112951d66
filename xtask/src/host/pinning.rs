//! Which CPUs measure: never a fixed list, always chosen among those that this process may use.

use super::{Facts, parse};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Where the worker and its peers (clients, servers, producers) run.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Pinning {
    /// The CPU of the process that is timed.
    pub(crate) worker: usize,
    /// CPUs of other processes, never empty; the worker's own if there is no other.
    pub(crate) peers: Vec<usize>,
    /// All CPUs that this process may use.
    pub(crate) all_allowed: Vec<usize>,
    /// Worker and peers share one CPU.
    pub(crate) shared: bool,
    /// Worker and peers run on two threads of one core.
    pub(crate) same_core: bool,
}

/// Chooses CPUs on this host.
pub(crate) fn pinning() -> Result<Pinning> {
    let facts = Facts::here();
    let allowed = allowed(&facts);
    let details = allowed.iter().map(|&cpu| (cpu, Details::read(&facts, cpu))).collect();
    let Some(pinning) = choose(&details) else {
        bail!("the kernel does not tell which CPUs this process may use");
    };
    Ok(pinning)
}

/// Confines `command` and what it starts to `cpus`.
pub(crate) fn restrict<'a>(command: &'a mut Command, cpus: &[usize]) -> &'a mut Command {
    let cpus = cpus.to_vec();
    // SAFETY: between fork and exec only sched_setaffinity is called, on a mask of this stack frame;
    // it is async-signal-safe, and reading the captured list does not allocate.
    unsafe {
        command.pre_exec(move || {
            let mut mask: libc::cpu_set_t = std::mem::zeroed();
            for &cpu in cpus.iter().filter(|cpu| **cpu < 8 * size_of::<libc::cpu_set_t>()) {
                libc::CPU_SET(cpu, &mut mask);
            }
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const mask) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    }
}

/// While it lives, this thread stays off the worker's CPU, as far as there is another one.
pub(crate) struct Aside(libc::cpu_set_t);

impl Aside {
    /// Steps aside; `None` where the host has one CPU, or the kernel refuses.
    pub(crate) fn step(pinning: &Pinning) -> Option<Aside> {
        if pinning.shared {
            return None;
        }
        // SAFETY: an all-zero mask is a valid value of the type.
        let mut before: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the mask is valid for writing and its size is given.
        let known = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut before) } == 0;
        // SAFETY: an all-zero mask is a valid value of the type.
        let mut others: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for &cpu in pinning.peers.iter().filter(|cpu| **cpu < 8 * size_of::<libc::cpu_set_t>()) {
            // SAFETY: the CPU is below the size of the mask.
            unsafe { libc::CPU_SET(cpu, &mut others) };
        }
        (known && set(&others)).then_some(Aside(before))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        set(&self.0);
    }
}

fn set(mask: &libc::cpu_set_t) -> bool {
    // SAFETY: the mask is valid for reading and its size is given; zero is this thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), mask) == 0 }
}

/// CPUs that this process may use: by its affinity, which its control group has cut already.
pub(super) fn allowed(facts: &Facts) -> Vec<usize> {
    // SAFETY: an all-zero mask is a valid value of the type.
    let mut mask: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the mask is valid for writing and its size is given.
    let known = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut mask) } == 0;
    if known {
        // SAFETY: CPU_ISSET only reads the mask, below its size.
        return (0..8 * size_of::<libc::cpu_set_t>()).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &mask) }).collect();
    }
    // More CPUs than the mask holds: the kernel's text has no such limit, but lists CPUs that are off.
    let status = facts.read("/proc/self/status").unwrap_or_default();
    let listed = parse::line_value(&status, "Cpus_allowed_list").and_then(parse::cpu_list).unwrap_or_default();
    match facts.cpus("/sys/devices/system/cpu/online") {
        Some(online) => listed.into_iter().filter(|cpu| online.contains(cpu)).collect(),
        None => listed,
    }
}

/// What distinguishes one CPU from another.
#[derive(Clone, Debug, Default)]
struct Details {
    /// CPUs that share its core, itself included.
    siblings: Vec<usize>,
    /// Kept free of other work by the administrator (isolcpus).
    isolated: bool,
    /// Relative speed of its kind, where kinds differ (performance and efficiency cores).
    speed: u64,
}

impl Details {
    fn read(facts: &Facts, cpu: usize) -> Self {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
        let isolated = facts.cpus("/sys/devices/system/cpu/isolated").unwrap_or_default();
        Details {
            siblings: facts.cpus(format!("{folder}/topology/thread_siblings_list")).unwrap_or_else(|| vec![cpu]),
            isolated: isolated.contains(&cpu),
            speed: facts
                .number(format!("{folder}/cpu_capacity"))
                .or_else(|| facts.number(format!("{folder}/cpufreq/cpuinfo_max_freq")))
                .unwrap_or(0),
        }
    }
}

/// The worker gets an isolated CPU if there is one, of the fastest kind, not CPU 0 (where kernels
/// put interrupts and housekeeping), the highest number among equals. Peers get the other cores,
/// CPU 0 last; the other thread of the worker's core only if nothing else is left.
fn choose(cpus: &BTreeMap<usize, Details>) -> Option<Pinning> {
    let (&worker, details) = cpus.iter().max_by_key(|(cpu, d)| (d.isolated, d.speed, **cpu != 0, **cpu))?;
    let others = || cpus.keys().copied().filter(|cpu| *cpu != worker);
    let mut peers: Vec<usize> = others().filter(|cpu| !details.siblings.contains(cpu)).collect();
    let same_core = peers.is_empty() && others().next().is_some();
    if same_core {
        peers = others().collect();
    }
    peers.sort_by_key(|cpu| (*cpu == 0, *cpu));
    let shared = peers.is_empty();
    if shared {
        peers.push(worker);
    }
    Some(Pinning { worker, peers, all_allowed: cpus.keys().copied().collect(), shared, same_core })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(list: &[(usize, &[usize], bool, u64)]) -> BTreeMap<usize, Details> {
        let details = |siblings: &[usize], isolated, speed| Details { siblings: siblings.to_vec(), isolated, speed };
        list.iter().map(|&(cpu, siblings, isolated, speed)| (cpu, details(siblings, isolated, speed))).collect()
    }

    #[test]
    fn two_plain_cpus() {
        let chosen = choose(&cpus(&[(0, &[0], false, 0), (1, &[1], false, 0)])).unwrap();
        assert_eq!((chosen.worker, chosen.peers.as_slice()), (1, [0].as_slice()));
        assert!(!chosen.shared && !chosen.same_core);
    }

    #[test]
    fn one_cpu_is_shared_and_any_number_will_do() {
        let chosen = choose(&cpus(&[(5, &[5], false, 0)])).unwrap();
        assert_eq!((chosen.worker, chosen.peers.as_slice(), chosen.shared), (5, [5].as_slice(), true));
        assert_eq!(choose(&BTreeMap::new()), None);
    }

    #[test]
    fn peers_avoid_the_other_thread_of_the_core() {
        let threads: &[(usize, &[usize], bool, u64)] =
            &[(0, &[0, 2], false, 0), (1, &[1, 3], false, 0), (2, &[0, 2], false, 0), (3, &[1, 3], false, 0)];
        let chosen = choose(&cpus(threads)).unwrap();
        assert_eq!((chosen.worker, chosen.peers.as_slice()), (3, [2, 0].as_slice()), "CPU 0 comes last");
        let one_core = choose(&cpus(&[(4, &[4, 5], false, 0), (5, &[4, 5], false, 0)])).unwrap();
        assert!(one_core.same_core && !one_core.shared);
        assert_eq!(one_core.peers, [4]);
    }

    #[test]
    fn isolation_comes_before_speed_and_speed_before_number() {
        let mixed: &[(usize, &[usize], bool, u64)] = &[(0, &[0], false, 9), (1, &[1], false, 9), (2, &[2], false, 4)];
        assert_eq!(choose(&cpus(mixed)).unwrap().worker, 1);
        let isolated: &[(usize, &[usize], bool, u64)] = &[(0, &[0], false, 9), (1, &[1], true, 9), (2, &[2], false, 9)];
        assert_eq!(choose(&cpus(isolated)).unwrap().worker, 1);
    }

    #[test]
    fn this_process_may_use_what_is_chosen() {
        let chosen = pinning().unwrap();
        assert!(chosen.all_allowed.contains(&chosen.worker));
        assert!(chosen.peers.iter().all(|cpu| chosen.all_allowed.contains(cpu)));
        assert_eq!(chosen.shared, chosen.all_allowed.len() == 1);
        let mut command = Command::new("cat");
        let output = restrict(command.arg("/proc/self/status"), &[chosen.worker]).output().unwrap();
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(parse::line_value(&status, "Cpus_allowed_list"), Some(chosen.worker.to_string().as_str()));
    }
}
