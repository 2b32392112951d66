//! Memory of confined groups, watched: an address sanitizer reserves terabytes that it never touches, so a
//! limit on address space would stop it, and a cgroup of one's own is rarely to be had.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two looks. A process that touches 4 GB a second gets 0.4 GB beyond its limit.
const LOOK: Duration = Duration::from_millis(100);

/// One group that is watched, until it is dropped.
pub(super) struct Watch {
    group: u32,
    /// What it had when it was killed; zero before.
    killed_at_bytes: Arc<AtomicU64>,
}

struct Watched {
    limit_bytes: u64,
    killed_at_bytes: Arc<AtomicU64>,
}

static GROUPS: Mutex<BTreeMap<u32, Watched>> = Mutex::new(BTreeMap::new());

fn groups() -> MutexGuard<'static, BTreeMap<u32, Watched>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Kills the group when its processes together have more than the limit.
    pub(super) fn begin(group: u32, limit_bytes: u64) -> Watch {
        let killed_at_bytes = Arc::new(AtomicU64::new(0));
        let mut watched = groups();
        let first = watched.is_empty();
        watched.insert(group, Watched { limit_bytes, killed_at_bytes: killed_at_bytes.clone() });
        if first {
            // Ends with the last group; without one nothing is read.
            std::thread::spawn(run);
        }
        Watch { group, killed_at_bytes }
    }

    /// What the group had when it was killed for it.
    pub(super) fn killed_at_bytes(&self) -> Option<u64> {
        Some(self.killed_at_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        groups().remove(&self.group);
    }
}

fn run() {
    loop {
        std::thread::sleep(LOOK);
        // The lock is held while it kills: a group that is reaped meanwhile waits to be forgotten, so that its
        // number is not yet another's.
        let watched = groups();
        if watched.is_empty() {
            return;
        }
        let resident = resident();
        for (group, Watched { limit_bytes, killed_at_bytes }) in watched.iter() {
            let processes = resident.get(group).map_or(&[][..], Vec::as_slice);
            let bytes = held_bytes(processes, *limit_bytes, proportional_bytes);
            if bytes > *limit_bytes {
                killed_at_bytes.store(bytes, Ordering::Relaxed);
                // SAFETY: a signal to a group that this process leads and has not forgotten.
                unsafe { libc::kill(-group.cast_signed(), libc::SIGKILL) };
            }
        }
    }
}

/// One process: its id, and memory that is really there, pages that it shares with others included.
struct Resident {
    pid: u32,
    bytes: u64,
}

/// Processes by group.
fn resident() -> BTreeMap<u32, Vec<Resident>> {
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let mut groups = BTreeMap::<u32, Vec<Resident>>::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return groups };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((group, pages)) = group_and_pages(&text) {
            groups.entry(group).or_default().push(Resident { pid, bytes: pages.saturating_mul(page) });
        }
    }
    groups
}

/// What a group's processes hold together. A program that forks for each of its cases shares nearly all of its pages with its
/// children, and each of them counts them as its own: where that sum is beyond the limit, each page is divided by those
/// who share it, which takes the kernel longer to say. A process of which it does not say so counts whole.
fn held_bytes(processes: &[Resident], limit_bytes: u64, proportional: impl Fn(u32) -> Option<u64>) -> u64 {
    let sum = |of: &dyn Fn(&Resident) -> u64| processes.iter().map(of).fold(0, u64::saturating_add);
    let whole = sum(&|process| process.bytes);
    if whole <= limit_bytes {
        return whole;
    }
    sum(&|process| proportional(process.pid).map_or(process.bytes, |bytes| bytes.min(process.bytes)))
}

/// Memory of a process in which a page that it shares with others counts in part. None if the kernel does not say.
fn proportional_bytes(pid: u32) -> Option<u64> {
    pss_bytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// `Pss:` of /proc/PID/smaps_rollup, which is in KiB.
fn pss_bytes(rollup: &str) -> Option<u64> {
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix("kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 5 and 24 of /proc/PID/stat; a program's name may hold anything, its last parenthesis ends it.
fn group_and_pages(stat: &str) -> Option<(u32, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(21)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_in_its_group() {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (group, pages) = group_and_pages(&text).unwrap();
        // SAFETY: getpgrp cannot fail.
        assert_eq!(group, unsafe { libc::getpgrp() }.cast_unsigned());
        assert!(pages > 100, "{pages}");
        let of_group = &resident()[&group];
        let own = of_group.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(own.bytes > 400_000);
        let proportional = proportional_bytes(own.pid).unwrap();
        assert!(proportional > 100_000, "{proportional}");
        assert_eq!(group_and_pages("1 (a) b) S 1 7 7 0"), None, "too short");
    }

    #[test]
    fn pages_that_a_group_shares_count_once_where_they_would_be_too_many() {
        let group = [(1, 500), (2, 510), (3, 520)].map(|(pid, bytes)| Resident { pid, bytes });
        assert_eq!(held_bytes(&group, 2000, |_| unreachable!("the sum is within the limit")), 1530);
        assert_eq!(held_bytes(&group, 1000, |pid| Some(200 + u64::from(pid))), 606, "shared");
        assert_eq!(held_bytes(&group, 1000, |pid| (pid != 2).then_some(200)), 910, "what is not said counts whole");
        assert_eq!(held_bytes(&group, 1000, |_| Some(u64::MAX)), 1530, "never more than is there");
        assert_eq!(held_bytes(&[], 0, |_| None), 0);
    }

    #[test]
    fn the_kernels_summary_is_read_in_kib() {
        assert_eq!(
            pss_bytes("55d0-7ffe [rollup]\nRss:    900 kB\nPss:        12 kB\nPss_Dirty:  3 kB\n"),
            Some(12_288)
        );
        for wrong in ["", "Pss: 12", "Pss: x kB", "Pss: 18446744073709551615 kB", "Pss_Anon: 12 kB"] {
            assert_eq!(pss_bytes(wrong), None, "{wrong}");
        }
    }
}
