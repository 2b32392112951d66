//! Timers that run out.

use super::active::Trace;
use super::timers::Sequence;
use crate::Workload;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Context, Result, ensure};
use libevent_sys::{Base, CommonTimeout, Event, EventRow, LOOP_NONBLOCK, LOOP_ONCE, LoopEnd, TIMEOUT, Timeval};
use std::cell::RefCell;
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[("timers_fire", |params| Ok(Box::new(Fire::new(params)?)))];

/// libevent's coarse clock advances in steps; the loop's idea of now is at most this old.
const CLOCK_STEP: Duration = Duration::from_millis(8);

/// Lets many timers run out in one loop turn. All are due before the clock starts.
struct Fire {
    /// Adds all timers from inside the loop, where they share one idea of now.
    add_all: Event,
    timers: Rc<Timers>,
    base: Base,
    /// When all are due, counted from the time of adding.
    longest: Duration,
}

struct Timers {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    /// Shared, not boxed: the callbacks' arguments point to its elements while this is moved.
    _tags: Rc<[Tag]>,
    trace: Rc<Trace>,
    timeouts: Timeouts,
    failure: RefCell<Option<libevent_sys::Error>>,
}

enum Timeouts {
    /// A different number of microseconds each.
    Single(Vec<u64>),
    Common(CommonTimeout),
}

struct Tag {
    trace: *const Trace,
    number: u64,
}

unsafe extern "C" fn on_timeout(_fd: RawFd, _what: c_short, tag: *mut c_void) {
    // SAFETY: the tag given in Fire::new.
    let tag = unsafe { &*tag.cast::<Tag>() };
    // SAFETY: lives as long as the tag, and is changed through cells only.
    unsafe { &*tag.trace }.add(tag.number);
}

impl Fire {
    fn new(params: &Params<'_>) -> Result<Self> {
        let due = params.batch_events();
        ensure!(due <= 100_000, "batch_events is the number of timers; at most 100000");
        let base = Base::new()?;
        let (timeouts, longest) = if params.flag("common")? {
            let longest = Duration::from_millis(1);
            (Timeouts::Common(base.init_common_timeout(longest)?), longest)
        } else {
            (Timeouts::Single(Sequence::new(due).permutation(due)), Duration::from_micros(due))
        };
        let trace: Rc<Trace> = Rc::default();
        let tags: Rc<[Tag]> = (0..due).map(|number| Tag { trace: Rc::as_ptr(&trace), number }).collect();
        // SAFETY: the struct drops the events before tags and trace, which stay where they are.
        let events = unsafe {
            let arg = |index: usize| (-1, (&raw const tags[index]).cast_mut().cast());
            EventRow::new(&base, tags.len(), 0, on_timeout, arg)
        }?;
        let timers = Rc::new(Timers { events, _tags: tags, trace, timeouts, failure: RefCell::default() });
        let to_add = Rc::clone(&timers);
        let add_all = Event::timer(&base, move || *to_add.failure.borrow_mut() = to_add.add_all().err())?;
        Ok(Fire { add_all, timers, base, longest })
    }
}

impl Timers {
    fn add_all(&self) -> libevent_sys::Result<()> {
        for index in 0..self.events.len() {
            match &self.timeouts {
                Timeouts::Single(timeouts_us) => {
                    let (seconds, micros) = (timeouts_us[index] / 1_000_000, timeouts_us[index] % 1_000_000);
                    self.events[index].add_timeval(&Timeval { tv_sec: seconds as i64, tv_usec: micros as i64 })?;
                }
                Timeouts::Common(timeout) => self.events[index].add_common(timeout)?,
            }
        }
        Ok(())
    }
}

impl Workload for Fire {
    fn prepare(&mut self) -> Result<()> {
        self.timers.trace.reset();
        self.add_all.active(TIMEOUT);
        self.base.run(LOOP_ONCE | LOOP_NONBLOCK)?;
        if let Some(error) = self.timers.failure.take() {
            return Err(error).context("adding the timers");
        }
        std::thread::sleep(self.longest + CLOCK_STEP);
        // Others have used the caches meanwhile; a look at each event brings it back.
        let events = &self.timers.events;
        ensure!((0..events.len()).all(|index| events[index].pending(TIMEOUT) != 0), "a timer fired too early");
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let due = self.timers.events.len() as u64;
        let trace = &*self.timers.trace;
        while trace.fired() < due {
            let end = self.base.run(LOOP_ONCE)?;
            ensure!(end == LoopEnd::Done || trace.fired() == due, "timers were lost: {} of {due} fired", trace.fired());
        }
        Ok(trace.fired())
    }

    fn finish(&mut self) -> Result<u64> {
        Ok(self.timers.trace.checksum())
    }

    /// Timers fire in the order of their times; with a common timeout, in the order of adding.
    fn expected_checksum(&self) -> u64 {
        let model = Trace::default();
        let mut order: Vec<usize> = (0..self.timers.events.len()).collect();
        if let Timeouts::Single(timeouts_us) = &self.timers.timeouts {
            order.sort_unstable_by_key(|index| timeouts_us[*index]);
        }
        order.into_iter().for_each(|number| model.add(number as u64));
        model.checksum()
    }
}
