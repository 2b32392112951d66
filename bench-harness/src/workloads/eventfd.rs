//! A kernel counter that can be polled: the cheapest descriptor that becomes readable on demand.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An owned eventfd(2), non-blocking.
#[derive(Debug)]
pub(super) struct EventFd(OwnedFd);

impl EventFd {
    /// A counter at zero: not readable.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a descriptor that is not negative is new and ours.
        unsafe {
            match libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(EventFd(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// The descriptor, owned by `self`.
    #[inline]
    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Adds one to the counter, which makes it readable.
    #[inline]
    pub(super) fn write_one(&self) -> io::Result<()> {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`.
        match unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) } {
            8 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the counter back to zero and returns what it was; an error if it was zero.
    #[inline]
    pub(super) fn read_all(&self) -> io::Result<u64> {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`.
        match unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) } {
            8 => Ok(count),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_until_it_is_read() {
        let counter = EventFd::new().unwrap();
        assert_eq!(counter.read_all().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        counter.write_one().unwrap();
        counter.write_one().unwrap();
        assert_eq!(counter.read_all().unwrap(), 2);
        assert!(counter.read_all().is_err());
    }
}
