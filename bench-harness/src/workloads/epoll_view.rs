//! What the kernel's epoll instances of this process watch, as /proc tells: the view from outside of
//! libevent's bookkeeping.

use anyhow::{Context, Result};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// Looks whether one descriptor is watched.
#[derive(Debug)]
pub(super) struct EpollView {
    fd: RawFd,
}

impl EpollView {
    /// A view of `fd`; `None` where /proc does not tell what an epoll instance watches.
    ///
    /// # Errors
    /// No epoll instance can be made, or /proc cannot be read.
    pub(super) fn of(fd: RawFd) -> Result<Option<Self>> {
        let view = EpollView { fd };
        // SAFETY: no precondition.
        let probe = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if probe < 0 {
            return Err(std::io::Error::last_os_error()).context("epoll_create1");
        }
        // SAFETY: just made, owned by nobody else.
        let probe = unsafe { OwnedFd::from_raw_fd(probe) };
        let mut interest = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: both descriptors are open; the kernel copies the interest.
        if unsafe { libc::epoll_ctl(probe.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut interest) } < 0 {
            return Err(std::io::Error::last_os_error()).context("epoll_ctl");
        }
        Ok(view.is_watched()?.then_some(view))
    }

    /// Whether any epoll instance of this process watches the descriptor.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub(super) fn is_watched(&self) -> Result<bool> {
        let entries = fs::read_dir("/proc/self/fd").context("reading /proc/self/fd")?;
        Ok(entries.flatten().any(|entry| {
            // Descriptors of other threads may be closed meanwhile: those are none of ours.
            let is_epoll = fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]");
            let info = PathBuf::from("/proc/self/fdinfo").join(entry.file_name());
            is_epoll && fs::read_to_string(info).is_ok_and(|info| info.lines().any(|line| self.is_named_by(line)))
        }))
    }

    /// `tfd:        5 events:       19 data:                5  pos:0 ino:57cbf4 sdev:f`
    fn is_named_by(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        words.next() == Some("tfd:") && words.next().is_some_and(|fd| fd.parse() == Ok(self.fd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_fdinfo_name_their_descriptor() {
        let view = EpollView { fd: 5 };
        assert!(view.is_named_by("tfd:        5 events:       19 data:                7  pos:0 ino:57 sdev:f"));
        assert!(!view.is_named_by("tfd:       15 events:       19 data:                5  pos:0 ino:57 sdev:f"));
        assert!(!view.is_named_by("pos:\t5"));
    }
}
