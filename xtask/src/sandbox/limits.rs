//! Limits of each process.

use super::Policy;
use anyhow::{Context as _, Result};

/// Sets them; a limit that is lower already stays.
pub(super) fn set(policy: &Policy) -> Result<()> {
    let mut limits = vec![
        (libc::RLIMIT_CORE, 0, "core"),
        (libc::RLIMIT_NPROC, policy.processes, "processes"),
        (libc::RLIMIT_FSIZE, policy.file_bytes, "file size"),
    ];
    limits.extend(policy.cpu_seconds.map(|seconds| (libc::RLIMIT_CPU, seconds, "CPU time")));
    if let (Some(memory_bytes), false) = (policy.memory_bytes, policy.sanitizer) {
        limits.push((libc::RLIMIT_AS, memory_bytes, "address space"));
    }
    for (resource, value, what) in limits {
        // SAFETY: all zero is a valid value.
        let mut limit: libc::rlimit = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is valid for writing.
        if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot read the limit on {what}"));
        }
        let value = value.min(limit.rlim_max);
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: the structure is valid for reading.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot limit {what} to {value}"));
        }
    }
    Ok(())
}
