//! What the kernel lets us count: tried, not guessed.

use super::{Facts, parse};
use crate::process;
use perf_event::events::{Event, Hardware, Tracepoint};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Hardware counters that figures are made of.
const HARDWARE: &[(&str, Hardware)] = &[
    ("instructions", Hardware::INSTRUCTIONS),
    ("cycles", Hardware::CPU_CYCLES),
    ("cache-misses", Hardware::CACHE_MISSES),
    ("branch-misses", Hardware::BRANCH_MISSES),
];

/// Where tracefs is mounted, newest convention first.
const TRACEFS: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Each hardware counter by name: counting, or the reason why not.
pub(crate) fn hardware() -> Vec<(&'static str, Result<(), String>)> {
    HARDWARE.iter().map(|(name, event)| (*name, count(*event, true).map(drop))).collect()
}

/// Counts system calls of this process for a moment with the tracepoint that bench uses.
pub(crate) fn system_calls() -> Result<(), String> {
    let facts = Facts::here();
    let folder = tracefs(&facts).ok_or_else(|| match tracefs_is_mounted(&facts) {
        Some(true) => "tracefs is not readable by this user",
        Some(false) => "tracefs is not mounted",
        None => "tracefs is not mounted, or not readable by this user",
    })?;
    let id: u64 = facts
        .number(folder.join("events/raw_syscalls/sys_enter/id"))
        .ok_or("the kernel has no readable tracepoint raw_syscalls/sys_enter")?;
    count(Tracepoint::with_id(id), false).map(drop)
}

/// The folder of tracefs, if it is mounted and readable.
pub(crate) fn tracefs(facts: &Facts) -> Option<PathBuf> {
    TRACEFS.iter().map(PathBuf::from).find(|folder| facts.path(folder.join("events")).is_dir())
}

/// Whether tracefs is mounted anywhere, readable or not.
pub(crate) fn tracefs_is_mounted(facts: &Facts) -> Option<bool> {
    let mounts = parse::mounts(&facts.read("/proc/self/mountinfo")?);
    Some(mounts.iter().any(|mount| mount.kind == "tracefs"))
}

/// Mounts tracefs where it is missing and this process may; `true` if it is there afterwards.
pub(crate) fn mount_tracefs() -> bool {
    let facts = Facts::here();
    if tracefs(&facts).is_none() && super::is_root() && facts.path(TRACEFS[0]).is_dir() {
        let mut mount = Command::new("mount");
        // Whether it worked is seen below.
        drop(process::capture(mount.args(["-t", "tracefs", "nodev", TRACEFS[0]]), Duration::from_secs(10)));
    }
    tracefs(&facts).is_some()
}

/// Whether this process may trace a child, as strace does.
pub(crate) fn may_trace() -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("/proc/self/exe");
    // The child asks to be traced and reports the answer instead of starting a program: ECANCELED
    // stands for permission, everything else is the kernel's refusal.
    // SAFETY: between fork and exec only ptrace(PTRACE_TRACEME) is called, which takes no pointers
    // and is a plain system call.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Err(std::io::Error::from_raw_os_error(libc::ECANCELED)),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(mut child) => {
            // Unreachable by construction; if it ever is not, nothing must be left running.
            drop(child.kill());
            drop(child.wait());
            Err("the probe started a program".to_owned())
        }
    }
}

/// Opens a counter on this thread, does some work, and reads it; a counter that does not move does not count.
fn count(event: impl Event, user_only: bool) -> Result<u64, String> {
    let mut builder = perf_event::Builder::new(event);
    builder.exclude_kernel(user_only).exclude_hv(true);
    let mut counter = builder.build().map_err(|error| explain(&error))?;
    counter.enable().map_err(|error| explain(&error))?;
    work();
    counter.disable().map_err(|error| explain(&error))?;
    match counter.read().map_err(|error| explain(&error))? {
        0 => Err("it opens, but stays at zero".to_owned()),
        counted => Ok(counted),
    }
}

/// Some system calls, branches and memory traffic: enough for every counter to move.
fn work() {
    let mut table = vec![0_u64; 1 << 16];
    let mut state = 1_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let slot = usize::try_from(state >> 48).unwrap_or(0);
        table[slot] = if state & 1 == 0 { table[slot] + 1 } else { state };
    }
    std::hint::black_box(&table);
    for _ in 0..10 {
        // SAFETY: getppid has no preconditions and cannot fail.
        std::hint::black_box(unsafe { libc::getppid() });
    }
}

pub(crate) fn explain(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => "the CPU does not offer it".to_owned(),
        Some(libc::EACCES | libc::EPERM) => "the kernel does not permit it to this user".to_owned(),
        Some(libc::ENOSYS) => "the kernel has no perf events".to_owned(),
        _ => error.to_string(),
    }
}

/// kernel.perf_event_paranoid.
pub(crate) fn paranoid(facts: &Facts) -> Option<i32> {
    facts.number("/proc/sys/kernel/perf_event_paranoid")
}

/// Whether a debugger or tracer is attached to this process, which slows every system call.
pub(crate) fn traced_by(facts: &Facts) -> Option<u32> {
    let status = facts.read("/proc/self/status")?;
    parse::line_value(&status, "TracerPid")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason() {
        let all = hardware();
        assert_eq!(all.len(), HARDWARE.len());
        for (name, result) in all {
            assert!(result.map_or_else(|reason| !reason.is_empty(), |()| true), "{name}");
        }
        for result in [system_calls(), may_trace()] {
            assert!(result.map_or_else(|reason| !reason.is_empty(), |()| true));
        }
    }

    #[test]
    fn tracefs_is_found_in_both_places() {
        let folder = tempfile::tempdir().unwrap();
        let facts = Facts::below(folder.path());
        assert_eq!((tracefs(&facts), tracefs_is_mounted(&facts)), (None, None));
        std::fs::create_dir_all(folder.path().join("proc/self")).unwrap();
        let mounts = "42 23 0:13 / /sys/kernel/tracing rw,relatime - tracefs none rw\n";
        std::fs::write(folder.path().join("proc/self/mountinfo"), mounts).unwrap();
        assert_eq!((tracefs(&facts), tracefs_is_mounted(&facts)), (None, Some(true)), "mounted, but not readable");
        std::fs::create_dir_all(folder.path().join("sys/kernel/debug/tracing/events")).unwrap();
        assert_eq!(tracefs(&facts), Some(PathBuf::from("/sys/kernel/debug/tracing")));
    }
}
