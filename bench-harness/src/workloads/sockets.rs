//! Descriptors that workloads use.

use anyhow::{Context, Result, bail};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A connected pair of blocking Unix stream sockets, made as libevent's own benchmarks make them.
#[derive(Debug)]
pub struct SocketPair {
    ends: [OwnedFd; 2],
}

impl SocketPair {
    /// A fresh pair.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> Result<Self> {
        let mut fds = [-1; 2];
        // SAFETY: room for two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, fds.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error()).context("socketpair");
        }
        // SAFETY: both are open and belong to nobody else.
        Ok(SocketPair { ends: fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// A fresh pair that does not block.
    ///
    /// # Errors
    /// As [`SocketPair::new`].
    pub fn nonblocking() -> Result<Self> {
        let pair = Self::new()?;
        for fd in pair.fds() {
            // SAFETY: the descriptor is open; F_SETFL takes an int.
            if unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
                return Err(io::Error::last_os_error()).context("fcntl(O_NONBLOCK)");
            }
        }
        Ok(pair)
    }

    /// The descriptors of both ends, owned by `self`.
    pub fn fds(&self) -> [RawFd; 2] {
        [self.ends[0].as_raw_fd(), self.ends[1].as_raw_fd()]
    }
}

/// Makes closing the socket reset its connection, so that no port waits for a minute or two: thousands
/// of launches would use up the local ports.
///
/// # Errors
/// It is no socket.
#[inline]
pub fn reset_on_close(socket: &impl AsRawFd) -> Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let (value, len) = ((&raw const linger).cast(), size_of_val(&linger) as libc::socklen_t);
    // SAFETY: the descriptor is alive; the kernel copies the option.
    let returned = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len) };
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("SO_LINGER") }
}

/// Makes sure that the process may open `wanted` descriptors beside those that a worker has.
///
/// # Errors
/// The hard limit is lower.
pub fn raise_fd_limit(wanted: usize) -> Result<()> {
    let wanted = wanted as libc::rlim_t + 64;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: room for the limits.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error()).context("getrlimit(RLIMIT_NOFILE)");
    }
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    if limit.rlim_max < wanted {
        bail!("needs {wanted} descriptors, but the hard limit is {} (ulimit -Hn)", limit.rlim_max);
    }
    limit.rlim_cur = wanted;
    // SAFETY: reads the limits.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } < 0 {
        return Err(io::Error::last_os_error()).context("setrlimit(RLIMIT_NOFILE)");
    }
    Ok(())
}

/// Receives one byte as libevent's benchmarks do; returns it.
#[inline]
pub fn recv_byte(fd: RawFd) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: room for one byte.
    let received = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, 0) };
    (received == 1).then_some(byte)
}

/// Sends the byte `e` as libevent's benchmarks do; says whether it went out.
#[inline]
pub fn send_byte(fd: RawFd) -> bool {
    // SAFETY: reads one byte of a constant.
    unsafe { libc::send(fd, c"e".as_ptr().cast(), 1, 0) == 1 }
}
