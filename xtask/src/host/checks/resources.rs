//! Memory, disk space and descriptors.

use super::{Check, Scene, Status};
use crate::host::{parse, room};
use serde_json::json;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const GIB: u64 = 1 << 30;
/// A full set of builds and records takes some hundred MiB, cargo's own folder as much again.
const DISK_WANTED_BYTES: u64 = 4 * GIB;
/// Below this not even one build fits.
const DISK_NEEDED_BYTES: u64 = GIB / 2;
const MEMORY_WANTED_BYTES: u64 = 2 * GIB;
/// The workload with most descriptors opens 10,000 to watch, and some more.
const FILES_WANTED: u64 = 10_500;
/// Bit of CAP_SYS_RESOURCE in `/proc/self/status`: the hard limit can be raised.
const MAY_RAISE_LIMITS: u32 = 24;

pub(super) fn checks(scene: &Scene<'_>) -> Vec<Check> {
    vec![memory(scene), disk(scene), open_files(scene)]
}

fn memory(scene: &Scene<'_>) -> Check {
    let why = "a host that swaps measures its disk";
    let text = scene.facts.read("/proc/meminfo").unwrap_or_default();
    let Some(available) = parse::kib_line(&text, "MemAvailable") else {
        return Check::unknown("memory", why, "mount /proc");
    };
    let total = parse::kib_line(&text, "MemTotal");
    let value = json!({ "total_bytes": total, "available_bytes": available });
    let shown = match total {
        Some(total) => format!("{} available of {}", gib(available), gib(total)),
        None => format!("{} available", gib(available)),
    };
    let check = Check::ok("memory", why, value, shown);
    if available >= MEMORY_WANTED_BYTES {
        return check;
    }
    check.but(Status::Degraded, format!("end other programs until {} are available", gib(MEMORY_WANTED_BYTES)))
}

fn disk(scene: &Scene<'_>) -> Check {
    let why = "sources, builds and records are kept below the workspace";
    let folder = scene.context.work.ancestors().find(|folder| folder.is_dir()).unwrap_or(&scene.context.root);
    let Some((free_bytes, writable)) = free_space(folder) else {
        return Check::unknown("disk", why, format!("look whether {} can be read", folder.display()));
    };
    let value = json!({ "folder": folder, "free_bytes": free_bytes, "writable": writable });
    let refused = if writable { "" } else { ", not writable" };
    let check = Check::ok("disk", why, value, format!("{} free for {}{refused}", gib(free_bytes), folder.display()));
    if !writable {
        let fix = "this user may not write there; set LIBEVENT_PERF_WORK and LIBEVENT_PERF_RUNS to folders that it may";
        check.but(Status::Missing, fix).blocking()
    } else if free_bytes < DISK_NEEDED_BYTES {
        check.but(Status::Missing, format!("free at least {}", gib(DISK_WANTED_BYTES))).blocking()
    } else if free_bytes < DISK_WANTED_BYTES {
        check.but(Status::Degraded, format!("free at least {}", gib(DISK_WANTED_BYTES)))
    } else {
        check
    }
}

fn open_files(scene: &Scene<'_>) -> Check {
    let why = "workloads with thousands of connections raise the soft limit up to the hard one";
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for writing.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Check::unknown("open_files", why, "look at `ulimit -n -H`");
    }
    let raises = has_capability(&scene.facts.read("/proc/self/status").unwrap_or_default(), MAY_RAISE_LIMITS);
    let value = json!({ "soft": limit.rlim_cur, "hard": limit.rlim_max, "hard_can_be_raised": raises });
    let check = Check::ok("open_files", why, value, format!("{} (hard limit {})", limit.rlim_cur, limit.rlim_max));
    if limit.rlim_max >= FILES_WANTED || raises == Some(true) {
        return check;
    }
    check.but(
        Status::Degraded,
        format!(
            "raise the hard limit to {FILES_WANTED}: `ulimit -n {FILES_WANTED}` as root, or docker --ulimit nofile"
        ),
    )
}

/// Whether this process has a capability, by the `CapEff` line of its status.
fn has_capability(status: &str, bit: u32) -> Option<bool> {
    let effective = u64::from_str_radix(parse::line_value(status, "CapEff")?, 16).ok()?;
    Some(effective >> bit & 1 == 1)
}

/// Bytes that are left to this user, and whether it may write there at all.
fn free_space(folder: &Path) -> Option<(u64, bool)> {
    let room = room::of(folder)?;
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path ends with a zero byte. Read-only file systems are refused here, too.
    let writable = unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0;
    Some((room.bytes, writable))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_bits() {
        assert_eq!(has_capability("CapPrm:\t0\nCapEff:\t0000000001000000\n", MAY_RAISE_LIMITS), Some(true));
        assert_eq!(has_capability("CapEff:\t0000000000ffffff\n", MAY_RAISE_LIMITS), Some(false));
        assert_eq!(has_capability("", MAY_RAISE_LIMITS), None);
    }

    #[test]
    fn free_space_of_what_is_there_and_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (_, writable) = free_space(folder.path()).unwrap();
        assert!(writable, "the folder was just created there");
        assert!(!free_space(Path::new("/proc/self")).unwrap().1, "nobody may write there");
        assert_eq!(free_space(&folder.path().join("absent")), None);
        assert_eq!(gib(3 * GIB / 2), "1.5 GiB");
    }
}
