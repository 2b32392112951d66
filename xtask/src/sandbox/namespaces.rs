//! Namespaces, and rights that are given up.

use anyhow::{Context as _, Result, bail};
use std::io::Error;
use std::os::fd::AsRawFd as _;

fn check(result: libc::c_int, what: &str) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()).with_context(|| what.to_owned()) }
}

/// A user namespace in which this process is who it was, with no rights over anything outside.
pub(super) fn users(user: u32, group: u32) -> Result<()> {
    // Another user's files in /proc/self cannot be written; a process that changed its user is taken for that.
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, "prctl(PR_SET_DUMPABLE)")?;
    // SAFETY: no pointers; this process has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, "unshare(CLONE_NEWUSER)")?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), text)
            .with_context(|| format!("cannot write /proc/self/{file}"))?;
    }
    Ok(())
}

/// Enters a namespace of another confined process.
pub(super) fn join(peer: u32, name: &str, kind: libc::c_int) -> Result<()> {
    let path = format!("/proc/{peer}/ns/{name}");
    let namespace = std::fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
    // SAFETY: the descriptor is open; this process has one thread.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }, "setns")
}

/// A network with a loopback device and nothing else; shared memory and a host name of its own.
pub(super) fn network() -> Result<()> {
    let flags = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    // SAFETY: no pointers; this process has one thread.
    check(unsafe { libc::unshare(flags) }, "unshare(CLONE_NEWNET)")?;
    // SAFETY: no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        bail!("cannot make a socket: {}", Error::last_os_error());
    }
    // SAFETY: all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING)?;
    // SAFETY: the request is valid for reading, as SIOCSIFFLAGS wants it.
    let up = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) };
    let up = check(up, "cannot start the loopback device");
    // SAFETY: the descriptor is ours and not used again.
    unsafe { libc::close(socket) };
    up
}

/// Another user and group, no supplementary groups, no capabilities.
pub(super) fn leave_root(id: u32) -> Result<()> {
    // SAFETY: an empty list needs no memory.
    check(unsafe { libc::setgroups(0, std::ptr::null()) }, "setgroups")?;
    // SAFETY: no pointers.
    check(unsafe { libc::setresgid(id, id, id) }, "setresgid")?;
    // SAFETY: no pointers.
    check(unsafe { libc::setresuid(id, id, id) }, "setresuid")
}

/// No program that is started from here gains rights by being started.
pub(super) fn no_new_privileges() -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, "prctl(PR_SET_NO_NEW_PRIVS)")
}

/// The kernel kills this process when its parent ends; fails if it has ended.
pub(super) fn die_with(parent: i32) -> Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }, "prctl(PR_SET_PDEATHSIG)")?;
    // SAFETY: getppid cannot fail.
    if unsafe { libc::getppid() } != parent {
        bail!("the harness died");
    }
    Ok(())
}
