//! Timers that are deleted and added again while others are pending.

use super::active::Trace;
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{Base, CommonTimeout, EventRow, Timeval, ffi};
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("timers_readd", |params| Ok(Box::new(Readd::new(params)?))),
    ("timers_readd_common", |params| Ok(Box::new(ReaddCommon::new(params)?))),
];

/// Distance between the timeouts of different events: far larger than the time that a batch
/// takes, so that the order of expiry, and with it the work, does not depend on the clock.
const SPACING_S: i64 = 10;
/// The shortest timeout: none runs out while a worker lives.
const SHORTEST_S: i64 = 100_000;
/// How far libevent's idea of the time of day may be off (it refreshes it every few seconds).
const CLOCK_SLACK_S: f64 = 1.0;

/// A fixed sequence of numbers that look random (xorshift64*), for plans.
pub(super) struct Sequence(u64);

impl Sequence {
    pub(super) fn new(seed: u64) -> Self {
        Sequence(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }

    /// The numbers below `len`, shuffled.
    pub(super) fn permutation(&mut self, len: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..len).collect();
        for i in (1..numbers.len()).rev() {
            numbers.swap(i, self.below(i as u64 + 1) as usize);
        }
        numbers
    }
}

pub(super) unsafe extern "C" fn count_fired(_fd: RawFd, _what: c_short, trace: *mut c_void) {
    // SAFETY: the trace that the event was made with; changed through cells only.
    unsafe { &*trace.cast::<Trace>() }.add(0);
}

/// A row of timers that all report to one trace.
///
/// # Safety
/// The row is dropped before the trace.
unsafe fn timers(base: &Base, len: usize, trace: &Rc<Trace>) -> Result<EventRow> {
    let arg = Rc::as_ptr(trace).cast_mut().cast();
    // SAFETY: as the caller says.
    Ok(unsafe { EventRow::new(base, len, 0, count_fired, |_| (-1, arg)) }?)
}

/// Deletes a timer chosen at random, out of many pending ones, and adds it with another timeout.
struct Readd {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    /// Shared, not boxed: the timers point to it while the workload is moved.
    fired: Rc<Trace>,
    /// Event and new timeout of each step.
    plan: Vec<(u32, Timeval)>,
    /// Timeout of each event after the plan, in seconds.
    timeouts_s: Vec<i64>,
    /// Since when each batch's timeouts count, in seconds of the day's clock.
    earliest_add_s: f64,
}

impl Readd {
    fn new(params: &Params<'_>) -> Result<Self> {
        let pending = params.usize("pending")?;
        ensure!((1..=1 << 20).contains(&pending), "pending must be in 1..=1048576");
        let base = Base::new()?;
        let fired: Rc<Trace> = Rc::default();
        // SAFETY: the struct drops the events before the trace.
        let events = unsafe { timers(&base, pending, &fired) }?;

        // Every timeout, initial or of a step, occurs once: no two are ever compared as equal.
        let mut sequence = Sequence::new(pending as u64);
        let steps = params.batch_events();
        let mut timeouts = sequence.permutation(pending as u64 + steps).into_iter();
        let mut timeout = || SHORTEST_S + SPACING_S * timeouts.next().unwrap_or(0) as i64;
        let mut timeouts_s: Vec<i64> = (0..pending).map(|_| timeout()).collect();
        let mut plan = Vec::new();
        for _ in 0..steps {
            let (event, timeout) = (sequence.below(pending as u64) as usize, timeout());
            plan.push((event as u32, Timeval { tv_sec: timeout, tv_usec: 0 }));
            timeouts_s[event] = timeout;
        }
        // The state after a batch is the state before it, so that each one finds the same.
        let earliest_add_s = day_clock_s();
        for (index, timeout) in timeouts_s.iter().enumerate() {
            events[index].add_timeval(&Timeval { tv_sec: *timeout, tv_usec: 0 })?;
        }
        Ok(Readd { events, fired, plan, timeouts_s, earliest_add_s })
    }
}

impl Workload for Readd {
    fn run(&mut self) -> Result<u64> {
        for (index, timeout) in &self.plan {
            let event = &self.events[*index as usize];
            event.del()?;
            event.add_timeval(timeout)?;
        }
        Ok(self.plan.len() as u64)
    }

    fn finish(&mut self) -> Result<u64> {
        let added_s = self.earliest_add_s..=day_clock_s();
        let mut fold = Fold::default();
        for (index, timeout) in self.timeouts_s.iter().enumerate() {
            fold.add(confirm_timeout(&self.events, index, *timeout as f64, &added_s)?);
        }
        fold.add(self.fired.fired());
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        self.timeouts_s.iter().for_each(|timeout| fold.add(*timeout as u64));
        fold.add(0);
        fold.finish()
    }
}

/// Deletes timers and adds them again with the timeout that all of them share.
struct ReaddCommon {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    /// Shared, not boxed: the timers point to it while the workload is moved.
    fired: Rc<Trace>,
    timeout: CommonTimeout,
    plan: Vec<u32>,
    earliest_add_s: f64,
}

impl ReaddCommon {
    fn new(params: &Params<'_>) -> Result<Self> {
        let pending = params.usize("pending")?;
        ensure!((1..=1 << 20).contains(&pending), "pending must be in 1..=1048576");
        let base = Base::new()?;
        let timeout = base.init_common_timeout(Duration::from_secs(SHORTEST_S as u64))?;
        let fired: Rc<Trace> = Rc::default();
        // SAFETY: the struct drops the events before the trace.
        let events = unsafe { timers(&base, pending, &fired) }?;
        let mut sequence = Sequence::new(pending as u64);
        let plan = (0..params.batch_events()).map(|_| sequence.below(pending as u64) as u32).collect();
        let earliest_add_s = day_clock_s();
        for index in 0..pending {
            events[index].add_common(&timeout)?;
        }
        Ok(ReaddCommon { events, fired, timeout, plan, earliest_add_s })
    }
}

impl Workload for ReaddCommon {
    fn run(&mut self) -> Result<u64> {
        for index in &self.plan {
            let event = &self.events[*index as usize];
            event.del()?;
            event.add_common(&self.timeout)?;
        }
        Ok(self.plan.len() as u64)
    }

    fn finish(&mut self) -> Result<u64> {
        let added_s = self.earliest_add_s..=day_clock_s();
        let mut fold = Fold::default();
        for index in 0..self.events.len() {
            fold.add(confirm_timeout(&self.events, index, SHORTEST_S as f64, &added_s)?);
        }
        fold.add(self.fired.fired());
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        (0..self.events.len()).for_each(|_| fold.add(SHORTEST_S as u64));
        fold.add(0);
        fold.finish()
    }
}

/// Returns the timeout in seconds, if the event is pending and runs out that long after a time in
/// `added_s`.
fn confirm_timeout(
    events: &EventRow,
    index: usize,
    timeout_s: f64,
    added_s: &std::ops::RangeInclusive<f64>,
) -> Result<u64> {
    let mut expiry = Timeval { tv_sec: 0, tv_usec: 0 };
    let what = libevent_sys::TIMEOUT;
    // SAFETY: the event is alive; room for a time.
    let pending = unsafe { ffi::event_pending(events[index].as_ptr(), what, &raw mut expiry) };
    ensure!(pending == i32::from(what), "timer {index} is not pending");
    let added = seconds(expiry) - timeout_s;
    ensure!(
        (added_s.start() - CLOCK_SLACK_S..=added_s.end() + CLOCK_SLACK_S).contains(&added),
        "timer {index} runs out at another time than {timeout_s} s after it was added"
    );
    Ok(timeout_s as u64)
}

fn seconds(time: Timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

fn day_clock_s() -> f64 {
    let mut now = Timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: room for a time; without a time zone the call cannot fail.
    unsafe { libc::gettimeofday(&raw mut now, std::ptr::null_mut()) };
    seconds(now)
}
