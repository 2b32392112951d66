//! `event_config`: how an event base is to be made.

use crate::error::{Error, Result, check, non_null};
use crate::ffi;
use crate::ffi::event_base_config_flag as raw;
use std::ffi::{CString, c_int};
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Flags of a base (`event_base_config_flag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// No locks, even where threads are enabled.
    NoLock,
    /// Environment variables such as `EVENT_NOEPOLL` have no effect.
    IgnoreEnv,
    /// The time is asked for again at every use.
    NoCacheTime,
    /// Changes of interest are collected and handed to epoll once a loop turn.
    EpollUseChangelist,
    /// The precise clock in place of the coarse one.
    PreciseTimer,
}

impl Flag {
    fn raw(self) -> c_int {
        let flag = match self {
            Flag::NoLock => raw::EVENT_BASE_FLAG_NOLOCK,
            Flag::IgnoreEnv => raw::EVENT_BASE_FLAG_IGNORE_ENV,
            Flag::NoCacheTime => raw::EVENT_BASE_FLAG_NO_CACHE_TIME,
            Flag::EpollUseChangelist => raw::EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST,
            Flag::PreciseTimer => raw::EVENT_BASE_FLAG_PRECISE_TIMER,
        };
        flag as c_int
    }
}

/// An owned `event_config`.
#[derive(Debug)]
pub struct Config(NonNull<ffi::event_config>);

impl Config {
    /// A configuration without wishes.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new() -> Result<Self> {
        // SAFETY: no precondition.
        Ok(Config(non_null("event_config_new", unsafe { ffi::event_config_new() })?))
    }

    /// Forbids a backend by name, such as `epoll`.
    ///
    /// # Errors
    /// The name holds a NUL byte, or out of memory. An unknown name is no error.
    pub fn avoid_method(&mut self, method: &str) -> Result<()> {
        let call = "event_config_avoid_method";
        let method = CString::new(method).map_err(|_| Error::invalid(call))?;
        // SAFETY: the configuration is alive; libevent copies the name.
        check(call, unsafe { ffi::event_config_avoid_method(self.as_ptr(), method.as_ptr()) })?;
        Ok(())
    }

    /// Sets one flag beside those already set.
    ///
    /// # Errors
    /// libevent refuses the flag.
    pub fn set_flag(&mut self, flag: Flag) -> Result<()> {
        // SAFETY: the configuration is alive.
        check("event_config_set_flag", unsafe { ffi::event_config_set_flag(self.as_ptr(), flag.raw()) })?;
        Ok(())
    }

    /// After `interval` or `callbacks` callbacks of priority `min_priority` or less urgent, the
    /// loop looks for more urgent events again. `None` means no limit of that kind.
    ///
    /// # Errors
    /// libevent refuses the limits.
    pub fn max_dispatch_interval(
        &mut self,
        interval: Option<Duration>,
        callbacks: Option<c_int>,
        min_priority: c_int,
    ) -> Result<()> {
        let interval = interval.map(crate::timeval);
        let interval = interval.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the configuration is alive; `interval` is null or points to a timeval that
        // lives until the end of this function, and libevent copies it.
        let returned = unsafe {
            ffi::event_config_set_max_dispatch_interval(self.as_ptr(), interval, callbacks.unwrap_or(-1), min_priority)
        };
        check("event_config_set_max_dispatch_interval", returned)?;
        Ok(())
    }

    /// The raw handle, owned by `self`.
    pub fn as_ptr(&self) -> *mut ffi::event_config {
        self.0.as_ptr()
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: made by event_config_new and freed once; bases copy what they need of it.
        unsafe { ffi::event_config_free(self.as_ptr()) }
    }
}
