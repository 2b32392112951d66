//! Ends a loop that does not come to its end by itself.

use anyhow::{Context, Result, bail};
use libevent_sys::{Base, Event, LoopEnd, READ, ffi};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// The longest that a batch may take. Batches last milliseconds; under callgrind, up to a second.
pub(crate) const BATCH_LIMIT: Duration = Duration::from_secs(8);

/// A base and a limit on the time that its loop may run.
///
/// The limit is a timerfd that the base watches: unlike a timer of libevent it is not part of the
/// timer heap and costs nothing while the loop runs. It also keeps the base from running out of
/// events, so that a lost event ends in an error and not in an early return.
pub(crate) struct WatchedBase {
    // Fields are dropped in this order: the event before what it points to.
    event: Event,
    /// Not in a box, whose content nobody else may point to while the box is moved.
    state: Rc<State>,
    timer: OwnedFd,
    base: Base,
}

struct State {
    base: *mut ffi::event_base,
    expired: Cell<bool>,
}

impl WatchedBase {
    /// A base with the best backend of the host.
    pub(crate) fn new() -> Result<Self> {
        Self::watch(Base::new()?)
    }

    /// A base made by the caller.
    pub(crate) fn watch(base: Base) -> Result<Self> {
        // SAFETY: no precondition.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("timerfd_create");
        }
        // SAFETY: just made, owned by nobody else.
        let timer = unsafe { OwnedFd::from_raw_fd(fd) };
        let state = Rc::new(State { base: base.as_ptr(), expired: Cell::new(false) });
        let arg = Rc::as_ptr(&state).cast_mut().cast();
        // SAFETY: the state outlives the event, which is dropped first.
        let event = unsafe { Event::from_raw(&base, fd, READ, on_expiry, arg)? };
        event.add()?;
        Ok(WatchedBase { event, state, timer, base })
    }

    /// Starts the time of a batch; to be called where it is not timed.
    pub(crate) fn arm(&self) -> Result<()> {
        self.state.expired.set(false);
        self.event.add()?;
        self.set_timer(BATCH_LIMIT)
    }

    /// Stops it; to be called where it is not timed.
    pub(crate) fn disarm(&self) -> Result<()> {
        self.set_timer(Duration::ZERO)
    }

    /// Runs the loop until a callback breaks it.
    #[inline]
    pub(crate) fn run(&self) -> Result<()> {
        match self.base.run(0)? {
            LoopEnd::Done if !self.state.expired.get() => Ok(()),
            LoopEnd::Done => bail!("no end of the batch within {} s", BATCH_LIMIT.as_secs()),
            LoopEnd::NoEvents => bail!("the loop ended without events before the batch was done"),
        }
    }

    /// The base.
    #[inline]
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    fn set_timer(&self, limit: Duration) -> Result<()> {
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: never, it_value: value };
        // SAFETY: the descriptor is a timer; the old setting is not wanted.
        let returned = unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &setting, std::ptr::null_mut()) };
        if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("timerfd_settime") }
    }
}

unsafe extern "C" fn on_expiry(_fd: RawFd, _what: c_short, arg: *mut c_void) {
    // SAFETY: the state outlives its event.
    let state = unsafe { &*arg.cast::<State>() };
    state.expired.set(true);
    // SAFETY: called from the loop of this base.
    unsafe { ffi::event_base_loopbreak(state.base) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_is_the_end_and_a_disarmed_watchdog_stays_silent() {
        let watched = WatchedBase::new().unwrap();
        watched.arm().unwrap();
        let base = watched.base().clone();
        let breaks = Event::timer(watched.base(), move || base.loopbreak().unwrap()).unwrap();
        breaks.add_timeout(Duration::from_millis(1)).unwrap();
        watched.run().unwrap();
        watched.disarm().unwrap();
        breaks.add_timeout(Duration::from_millis(1)).unwrap();
        watched.run().unwrap();
    }

    #[test]
    fn expiry_is_an_error() {
        let watched = WatchedBase::new().unwrap();
        watched.arm().unwrap();
        // The same path as after eight seconds.
        watched.set_timer(Duration::from_secs(1)).unwrap();
        let error = watched.run().unwrap_err();
        assert!(error.to_string().contains("no end of the batch"), "{error}");
    }
}
