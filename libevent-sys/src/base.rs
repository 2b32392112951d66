//! `event_base`: the event loop.

use crate::config::Config;
use crate::error::{Error, Result, check, non_null};
use crate::{ffi, static_str, timeval};
use libc::timeval;
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::Duration;

/// Loop flag: wait for events once, run their callbacks, return.
pub const LOOP_ONCE: c_int = ffi::EVLOOP_ONCE as c_int;
/// Loop flag: do not wait; run what is ready, return.
pub const LOOP_NONBLOCK: c_int = ffi::EVLOOP_NONBLOCK as c_int;
/// Loop flag: keep waiting when no event is pending.
pub const LOOP_NO_EXIT_ON_EMPTY: c_int = ffi::EVLOOP_NO_EXIT_ON_EMPTY as c_int;

/// Why a loop returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopEnd {
    /// The flags, `loopbreak` or `loopexit` ended it.
    Done,
    /// No event is pending or active any more.
    NoEvents,
}

/// An event base. Cloning is cheap and gives the same base; it is freed with its last clone, and
/// events hold one, so that it outlives them.
#[derive(Clone, Debug)]
pub struct Base(Rc<Handle>);

#[derive(Debug)]
struct Handle(NonNull<ffi::event_base>);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by event_base_new* and freed once, after every event that holds a clone.
        unsafe { ffi::event_base_free(self.0.as_ptr()) }
    }
}

impl Base {
    /// A base with the best backend of the host.
    ///
    /// # Errors
    /// No backend works, or out of memory or descriptors.
    pub fn new() -> Result<Self> {
        // SAFETY: no precondition.
        Self::own("event_base_new", unsafe { ffi::event_base_new() })
    }

    /// A base as `config` wants it.
    ///
    /// # Errors
    /// No backend is left that works, or out of memory or descriptors.
    pub fn with_config(config: &Config) -> Result<Self> {
        // SAFETY: the configuration is alive; libevent keeps no pointer to it.
        Self::own("event_base_new_with_config", unsafe { ffi::event_base_new_with_config(config.as_ptr()) })
    }

    fn own(call: &'static str, base: *mut ffi::event_base) -> Result<Self> {
        Ok(Base(Rc::new(Handle(non_null(call, base)?))))
    }

    /// Runs the loop until no event is left or it is told to end.
    ///
    /// # Errors
    /// As [`Base::run`].
    #[inline]
    pub fn dispatch(&self) -> Result<LoopEnd> {
        self.run(0)
    }

    /// Runs the loop with `LOOP_*` flags (`event_base_loop`).
    ///
    /// # Errors
    /// The backend failed, or the loop of this base is running already.
    #[inline]
    pub fn run(&self, flags: c_int) -> Result<LoopEnd> {
        // SAFETY: the base is alive for as long as `self` is borrowed.
        match unsafe { ffi::event_base_loop(self.as_ptr(), flags) } {
            0 => Ok(LoopEnd::Done),
            1 => Ok(LoopEnd::NoEvents),
            _ => Err(Error::last("event_base_loop")),
        }
    }

    /// Ends the loop after the callback that is running.
    ///
    /// # Errors
    /// libevent could not wake the loop.
    #[inline]
    pub fn loopbreak(&self) -> Result<()> {
        // SAFETY: the base is alive.
        check("event_base_loopbreak", unsafe { ffi::event_base_loopbreak(self.as_ptr()) })?;
        Ok(())
    }

    /// Ends the loop after the callbacks of all events that are active, at once or after a time.
    ///
    /// # Errors
    /// Out of memory.
    pub fn loopexit(&self, after: Option<Duration>) -> Result<()> {
        let after = after.map(timeval);
        let after = after.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the base is alive; libevent copies the time.
        check("event_base_loopexit", unsafe { ffi::event_base_loopexit(self.as_ptr(), after) })?;
        Ok(())
    }

    /// Name of the backend, such as `epoll`.
    pub fn method(&self) -> &'static str {
        // SAFETY: the base is alive; names of backends are string constants of the library.
        unsafe { static_str(ffi::event_base_get_method(self.as_ptr())) }
    }

    /// What the backend can do: bits of `ffi::event_method_feature`.
    pub fn features(&self) -> c_int {
        // SAFETY: the base is alive.
        unsafe { ffi::event_base_get_features(self.as_ptr()) }
    }

    /// Sets the number of priorities; 0 is the most urgent, new events get the middle one.
    ///
    /// # Errors
    /// Events are active, or the number is not in 1..=255.
    pub fn priority_init(&self, priorities: c_int) -> Result<()> {
        // SAFETY: the base is alive.
        check("event_base_priority_init", unsafe { ffi::event_base_priority_init(self.as_ptr(), priorities) })?;
        Ok(())
    }

    /// Number of priorities.
    pub fn priorities(&self) -> c_int {
        // SAFETY: the base is alive.
        unsafe { ffi::event_base_get_npriorities(self.as_ptr()) }
    }

    /// Number of events that were added to the base and not deleted or fired since, plus the
    /// active ones, plus what libevent itself holds in it.
    pub fn event_count(&self) -> c_int {
        let what = ffi::EVENT_BASE_COUNT_ADDED | ffi::EVENT_BASE_COUNT_ACTIVE | ffi::EVENT_BASE_COUNT_VIRTUAL;
        // SAFETY: the base is alive.
        unsafe { ffi::event_base_get_num_events(self.as_ptr(), what) }
    }

    /// A timeout that many events share: they queue in order of insertion, which costs less than
    /// the heap. The base keeps at most 256 of them, for as long as it lives.
    ///
    /// # Errors
    /// Too many common timeouts, or out of memory.
    pub fn init_common_timeout(&self, duration: Duration) -> Result<CommonTimeout> {
        let duration = timeval(duration);
        // SAFETY: the base is alive; libevent copies the duration.
        let shared = unsafe { ffi::event_base_init_common_timeout(self.as_ptr(), &raw const duration) };
        let shared = non_null("event_base_init_common_timeout", shared.cast_mut())?;
        Ok(CommonTimeout { shared, _base: self.clone() })
    }

    /// The raw handle, owned by `self`.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::event_base {
        self.0.0.as_ptr()
    }
}

/// A common timeout of a base, for [`EventRef::add_common`](crate::EventRef::add_common).
#[derive(Clone, Debug)]
pub struct CommonTimeout {
    shared: NonNull<timeval>,
    /// Owns what `shared` points to.
    _base: Base,
}

impl CommonTimeout {
    /// The marked timeval that event_add() recognises; alive as long as the base.
    #[inline]
    pub fn as_ptr(&self) -> *const timeval {
        self.shared.as_ptr()
    }
}
