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
        let resident = resident_bytes();
        for (group, Watched { limit_bytes, killed_at_bytes }) in watched.iter() {
            let bytes = resident.get(group).copied().unwrap_or(0);
            if bytes > *limit_bytes {
                killed_at_bytes.store(bytes, Ordering::Relaxed);
                // SAFETY: a signal to a group that this process leads and has not forgotten.
                unsafe { libc::kill(-group.cast_signed(), libc::SIGKILL) };
            }
        }
    }
}

/// Memory that is really there, by process group. Pages that processes share count for each.
fn resident_bytes() -> BTreeMap<u32, u64> {
    // SAFETY: sysconf has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let mut groups = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return groups };
    let is_process = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
    for entry in entries.flatten().filter(is_process) {
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some((group, pages)) = group_and_pages(&text) {
            *groups.entry(group).or_insert(0) += pages * page;
        }
    }
    groups
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
        assert!(resident_bytes()[&group] > 400_000);
        assert_eq!(group_and_pages("1 (a) b) S 1 7 7 0"), None, "too short");
    }
}
