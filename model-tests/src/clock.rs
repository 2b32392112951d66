//! The case's own time (csrc/clock.c): it stands still but for waits of the loop and for [`advance`].

use crate::observe;
use libevent_sys::ffi;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The base whose loop ends when nothing can wake it any more.
static BASE: AtomicPtr<ffi::event_base> = AtomicPtr::new(null_mut());
/// Turns without news after which nothing more is on its way.
const IDLE_TURNS: u32 = 2;
/// More than any case needs to come to rest.
const MOST_TURNS: u32 = 3_000;
const MS_NS: i64 = 1_000_000;

unsafe extern "C" {
    fn model_tests_clock_start(network: i32, stalled: extern "C" fn(i32)) -> i32;
    fn model_tests_clock_end();
    fn model_tests_clock_advance(ns: i64);
    fn model_tests_clock_move_wall(ns: i64);
    fn model_tests_clock_now() -> i64;
    fn model_tests_clock_waited() -> i64;
    fn model_tests_clock_ready() -> u64;
}

/// What a case waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Pipes and Unix sockets: what is written is there at once.
    Local,
    /// Loopback too: a wait that finds nothing makes sure that the kernel has delivered what was sent.
    Network,
}

/// From here on time is the case's.
///
/// # Errors
/// libevent asks another clock: then no case would be the same twice. Or there is no loopback.
pub(crate) fn start(waits: Waits) -> Result<(), String> {
    // SAFETY: this process has one thread.
    if unsafe { model_tests_clock_start(i32::from(waits == Waits::Network), stalled) } != 0 {
        return Err("no loopback: these cases need 127.0.0.1".to_owned());
    }
    advance(10);
    let seen = |name: &str, read: &dyn Fn() -> (i64, i64), expected: i64| {
        let (seconds, us) = read();
        let ns = seconds * 1_000_000_000 + us * 1000;
        if ns == expected { Ok(()) } else { Err(format!("libevent's {name} clock is not the one of the case")) }
    };
    let mut tv = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the timer is made, used and freed here.
    unsafe {
        let timer = ffi::evutil_monotonic_timer_new();
        ffi::evutil_configure_monotonic_time(timer, 0);
        ffi::evutil_gettime_monotonic(timer, &raw mut tv);
        ffi::evutil_monotonic_timer_free(timer);
    }
    seen("monotonic", &|| (tv.tv_sec, tv.tv_usec), now_ns())
}

/// The case is over: its descriptors are closed, and time is everybody's again.
pub(crate) fn end() {
    // SAFETY: one thread.
    unsafe { model_tests_clock_end() };
}

/// The loop of this base is broken off when it waits and nothing can wake it.
pub(crate) fn watch(base: *mut ffi::event_base) {
    BASE.store(base, Ordering::Relaxed);
}

/// Time passes.
pub(crate) fn advance(ms: u64) {
    // SAFETY: one thread.
    unsafe { model_tests_clock_advance(ms.cast_signed() * MS_NS) }
}

/// Somebody sets the wall clock, forward or back.
pub(crate) fn move_wall(ms: i64) {
    // SAFETY: one thread.
    unsafe { model_tests_clock_move_wall(ms * MS_NS) }
}

fn now_ns() -> i64 {
    // SAFETY: one thread.
    unsafe { model_tests_clock_now() }
}

/// Milliseconds since some instant before the case.
pub(crate) fn now_ms() -> u64 {
    (now_ns() / MS_NS).cast_unsigned()
}

/// When the last wait ended: the time that a loop keeps in mind is never older.
pub(crate) fn waited_ms() -> u64 {
    // SAFETY: one thread.
    (unsafe { model_tests_clock_waited() } / MS_NS).cast_unsigned()
}

/// How many waits have found something ready.
pub(crate) fn ready() -> u64 {
    // SAFETY: one thread.
    unsafe { model_tests_clock_ready() }
}

/// Turns the loop, without letting time pass, until nothing is ready any more.
pub(crate) fn settle(base: *mut ffi::event_base) {
    let mut idle = 0;
    for _ in 0..MOST_TURNS {
        let before = ready();
        // SAFETY: the base is alive.
        unsafe { ffi::event_base_loop(base, (ffi::EVLOOP_NONBLOCK | ffi::EVLOOP_ONCE) as i32) };
        idle = if ready() == before { idle + 1 } else { 0 };
        if idle == IDLE_TURNS {
            return;
        }
    }
    observe::add(format_args!("the loop finds no rest"));
}

/// Lets `ms` pass in the loop, with everything that is due on the way.
pub(crate) fn pass(base: *mut ffi::event_base, ms: u64) {
    let tv = timeval(ms);
    // SAFETY: the base is alive; libevent copies the time.
    unsafe {
        ffi::event_base_loopexit(base, &raw const tv);
        ffi::event_base_loop(base, ffi::EVLOOP_NO_EXIT_ON_EMPTY as i32);
    }
}

/// Milliseconds as C has them.
pub(crate) fn timeval(ms: u64) -> libc::timeval {
    libc::timeval { tv_sec: (ms / 1000).cast_signed(), tv_usec: (ms % 1000 * 1000).cast_signed() }
}

extern "C" fn stalled(why: i32) {
    let what = if why == 0 { "waits for something that will never come" } else { "turns without end" };
    observe::add(format_args!("the loop {what}"));
    let base = BASE.load(Ordering::Relaxed);
    if base.is_null() {
        observe::violated("a wait without end".to_owned());
        std::process::abort();
    }
    // SAFETY: a base is watched only while it is alive.
    unsafe { ffi::event_base_loopbreak(base) };
}
