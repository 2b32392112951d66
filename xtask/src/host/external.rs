//! What else the host did during a measurement: a snapshot before, one after, and their difference.

use super::{Facts, parse};
use model::host::External;
use std::collections::BTreeMap;
use std::time::Instant;

/// Counters of the host at one instant.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    at: Instant,
    cpus: Option<BTreeMap<usize, parse::CpuTicks>>,
    /// CPU time of this process, of children it has waited for, and of the given live ones.
    ours_ns: Option<u64>,
    run_delay_ns: Option<u64>,
    load_average_1m: Option<f64>,
}

impl Snapshot {
    /// Reads the counters. `live` are processes of ours that run now: their CPU time is not that of
    /// others. A process may end and be waited for between two snapshots.
    pub(crate) fn take(live: &[u32]) -> Self {
        let facts = Facts::here();
        Snapshot {
            at: Instant::now(),
            cpus: facts.read("/proc/stat").and_then(|text| parse::stat(&text)),
            ours_ns: ours_ns(&facts, live),
            run_delay_ns: (!live.is_empty())
                .then(|| live.iter().map(|pid| run_delay_ns(&facts, *pid)).sum::<Option<u64>>())
                .flatten(),
            load_average_1m: facts.read("/proc/loadavg").and_then(|text| parse::load_averages(&text)).map(|l| l[0]),
        }
    }

    /// What happened from `self` to `after`; `worker_cpu` is the CPU that was measured on.
    /// `run_delay_ns` is known if the same live processes were given to both snapshots.
    pub(crate) fn until(&self, after: &Snapshot, worker_cpu: Option<usize>) -> External {
        let tick_ns = tick_ns();
        let changes = self.cpus.as_ref().zip(after.cpus.as_ref()).map(|(before, after)| changes(before, after));
        let total = |part: fn(&parse::CpuTicks) -> u64| {
            changes.as_ref().map(|cpus| cpus.values().map(part).sum::<u64>() * tick_ns)
        };
        let ours = self.ours_ns.zip(after.ours_ns).map(|(before, after)| after.saturating_sub(before));
        External {
            wall_time_ns: u64::try_from(after.at.saturating_duration_since(self.at).as_nanos()).unwrap_or(u64::MAX),
            cpus: changes.as_ref().map_or(0, |cpus| u32::try_from(cpus.len()).unwrap_or(u32::MAX)),
            steal_ns: total(|ticks| ticks.steal),
            steal_on_worker_cpu_ns: worker_cpu
                .and_then(|cpu| changes.as_ref()?.get(&cpu).map(|ticks| ticks.steal * tick_ns)),
            other_cpu_time_ns: total(|ticks| ticks.busy).zip(ours).map(|(all, ours)| all.saturating_sub(ours)),
            run_delay_ns: self
                .run_delay_ns
                .zip(after.run_delay_ns)
                .and_then(|(before, after)| after.checked_sub(before)),
            load_average_1m: after.load_average_1m,
            resolution_ns: changes.is_some().then_some(tick_ns),
        }
    }
}

/// Differences of the CPUs that are in both; steal can run backwards after a migration of the
/// virtual machine, which is no steal.
fn changes(
    before: &BTreeMap<usize, parse::CpuTicks>,
    after: &BTreeMap<usize, parse::CpuTicks>,
) -> BTreeMap<usize, parse::CpuTicks> {
    let minus = |new: &parse::CpuTicks, old: &parse::CpuTicks| parse::CpuTicks {
        busy: new.busy.saturating_sub(old.busy),
        idle: new.idle.saturating_sub(old.idle),
        steal: new.steal.saturating_sub(old.steal),
    };
    after.iter().filter_map(|(cpu, new)| before.get(cpu).map(|old| (*cpu, minus(new, old)))).collect()
}

fn ours_ns(facts: &Facts, live: &[u32]) -> Option<u64> {
    let mut total = usage_ns(libc::RUSAGE_SELF)? + usage_ns(libc::RUSAGE_CHILDREN)?;
    for pid in live {
        // One that is gone was waited for, and is part of RUSAGE_CHILDREN.
        if let Some(text) = facts.read(format!("/proc/{pid}/stat")) {
            total += parse::process_ticks(&text)? * tick_ns();
        }
    }
    Some(total)
}

fn usage_ns(who: libc::c_int) -> Option<u64> {
    // SAFETY: an all-zero rusage is a valid value of the type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid for writing.
    if unsafe { libc::getrusage(who, &raw mut usage) } != 0 {
        return None;
    }
    let ns = |t: libc::timeval| u64::try_from(i128::from(t.tv_sec) * 1_000_000_000 + i128::from(t.tv_usec) * 1_000);
    Some(ns(usage.ru_utime).ok()? + ns(usage.ru_stime).ok()?)
}

/// Time that the threads of a process were runnable without a CPU (the second figure of schedstat).
fn run_delay_ns(facts: &Facts, pid: u32) -> Option<u64> {
    let tasks = std::fs::read_dir(facts.path(format!("/proc/{pid}/task"))).ok()?;
    let delay = |text: String| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok();
    // A thread that ends while the list is read has no file any more; a kernel without these files tells nothing.
    sum_of_known(tasks.flatten().map(|task| facts.read(task.path().join("schedstat")).and_then(delay)))
}

/// The sum of what is known; unknown if nothing is.
fn sum_of_known(parts: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    parts.flatten().reduce(u64::saturating_add)
}

fn tick_ns() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(per_second).ok().filter(|n| *n > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn snapshot(at: Instant, stat: &str, ours_ns: u64, delay_ns: Option<u64>) -> Snapshot {
        let cpus = parse::stat(stat);
        Snapshot { at, cpus, ours_ns: Some(ours_ns), run_delay_ns: delay_ns, load_average_1m: Some(0.5) }
    }

    #[test]
    fn differences_are_split_into_ours_others_and_steal() {
        let start = Instant::now();
        let before = snapshot(start, "cpu0 100 0 0 500 0 0 0 7\ncpu1 100 0 0 500 0 0 0 9\n", 1_000, Some(10));
        let later = start + Duration::from_secs(1);
        let after = snapshot(later, "cpu0 140 0 10 550 0 0 0 7\ncpu1 180 0 0 515 0 0 0 14\n", 1_001_000, Some(25));
        let external = before.until(&after, Some(1));
        let tick = tick_ns();
        assert_eq!(external.wall_time_ns, 1_000_000_000);
        assert_eq!(external.cpus, 2);
        assert_eq!(external.steal_ns, Some(5 * tick));
        assert_eq!(external.steal_on_worker_cpu_ns, Some(5 * tick));
        assert_eq!(external.other_cpu_time_ns, Some(130 * tick - 1_000_000));
        assert_eq!(external.run_delay_ns, Some(15));
    }

    #[test]
    fn what_is_unknown_or_runs_backwards_is_never_invented() {
        let start = Instant::now();
        let before = snapshot(start, "cpu0 100 0 0 500 0 0 0 7\n", 0, Some(9));
        let after = snapshot(start, "cpu0 100 0 0 500 0 0 0 3\ncpu1 1 1 1 1\n", 50_000_000, Some(4));
        let external = before.until(&after, Some(1));
        assert_eq!(external.steal_ns, Some(0), "steal ran backwards");
        assert_eq!(external.steal_on_worker_cpu_ns, None, "CPU 1 came up in between");
        assert_eq!(external.other_cpu_time_ns, Some(0), "our exact time may exceed the ticks");
        assert_eq!(external.run_delay_ns, None, "other processes were looked at");
        let blind = before.until(&snapshot(start, "nothing", 0, None), None);
        assert_eq!((blind.steal_ns, blind.other_cpu_time_ns, blind.resolution_ns), (None, None, None));
    }

    #[test]
    fn a_delay_that_no_file_tells_is_unknown_and_no_zero() {
        assert_eq!(sum_of_known([Some(3), None, Some(4)].into_iter()), Some(7));
        assert_eq!(sum_of_known([Some(0)].into_iter()), Some(0));
        assert_eq!(sum_of_known([None, None].into_iter()), None);
        assert_eq!(sum_of_known(std::iter::empty()), None);
        assert_eq!(run_delay_ns(&Facts::here(), u32::MAX), None, "no such process");
    }

    #[test]
    fn a_busy_child_is_ours_alive_and_after_its_end() {
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let before = Snapshot::take(&[child.id()]);
        std::thread::sleep(Duration::from_millis(300));
        let alive = Snapshot::take(&[child.id()]);
        let ours_alive = alive.ours_ns.unwrap() - before.ours_ns.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let ours_after = Snapshot::take(&[child.id()]).ours_ns.unwrap() - before.ours_ns.unwrap();
        let slack = 4 * tick_ns();
        assert!(ours_alive > 0, "the child's time is seen while it runs");
        assert!(ours_after + slack >= ours_alive, "and is not lost when it ends: {ours_after} {ours_alive}");
        assert!(before.until(&alive, None).run_delay_ns.is_some());
    }
}
