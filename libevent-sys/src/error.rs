//! What a failed call of libevent looks like in Rust.

use std::ffi::c_int;
use std::fmt;
use std::io;
use std::ptr::NonNull;

/// A call of libevent failed.
#[derive(Debug)]
pub struct Error {
    call: &'static str,
    cause: io::Error,
}

/// Result of a call of libevent.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The failed call, with errno as it is now: call this before anything else can change it.
    #[cold]
    pub fn last(call: &'static str) -> Self {
        Error { call, cause: io::Error::last_os_error() }
    }

    /// An argument that the call cannot take, such as a name with a NUL byte.
    #[cold]
    pub fn invalid(call: &'static str) -> Self {
        Error { call, cause: io::Error::from_raw_os_error(libc::EINVAL) }
    }

    /// Name of the C function that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// errno after the call. libevent does not set it on every failure: 0 means unknown.
    pub fn errno(&self) -> i32 {
        self.cause.raw_os_error().unwrap_or(0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno() {
            0 => write!(f, "{} failed", self.call),
            _ => write!(f, "{} failed: {}", self.call, self.cause),
        }
    }
}

impl std::error::Error for Error {}

/// `Ok` unless the call returned a negative number; the number itself is passed on.
#[inline]
pub fn check(call: &'static str, returned: c_int) -> Result<c_int> {
    if returned < 0 { Err(Error::last(call)) } else { Ok(returned) }
}

/// `Ok` unless the call returned a null pointer.
#[inline]
pub fn non_null<T>(call: &'static str, returned: *mut T) -> Result<NonNull<T>> {
    NonNull::new(returned).ok_or_else(|| Error::last(call))
}
