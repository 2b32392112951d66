//! Descriptors of cases: pipes, pairs and loopback sockets, never blocking, closed when dropped.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Two connected Unix stream sockets.
pub(crate) fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: room for two descriptors.
    owned(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) }, fds)
}

/// The reading and the writing end of a pipe.
pub(crate) fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    owned(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) }, fds)
}

fn owned(returned: i32, fds: [RawFd; 2]) -> io::Result<[OwnedFd; 2]> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new and owned by nobody else.
    Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Writes what fits; how much that was.
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        // SAFETY: the rest of the slice.
        let got = unsafe { libc::write(fd, bytes[done..].as_ptr().cast(), bytes.len() - done) };
        match usize::try_from(got) {
            Ok(got) if got > 0 => done += got,
            _ => break,
        }
    }
    done
}

/// Reads what is there, at most `most` bytes, and whether the end was seen.
pub(crate) fn read(fd: RawFd, most: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut part = [0_u8; 16384];
    while bytes.len() < most {
        let room = part.len().min(most - bytes.len());
        // SAFETY: that much room.
        let got = unsafe { libc::read(fd, part.as_mut_ptr().cast(), room) };
        match usize::try_from(got) {
            Ok(0) => return (bytes, true),
            Ok(got) => bytes.extend_from_slice(&part[..got]),
            // A reset is an end, too; nothing to read is none.
            Err(_) => return (bytes, io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock),
        }
    }
    (bytes, false)
}

/// Acknowledges at once what arrived over TCP: otherwise the other side may hold its next segment back,
/// for a real time that no case can foresee.
pub(crate) fn acknowledge(fd: RawFd) {
    let on: i32 = 1;
    let (level, name, len) = (libc::IPPROTO_TCP, libc::TCP_QUICKACK, size_of::<i32>() as libc::socklen_t);
    // SAFETY: an option with a number.
    unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), len) };
}
