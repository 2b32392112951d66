//! Limits on the callbacks of one loop turn: what they cost, and what they do for urgent events.
//!
//! Many events of low priority re-activate themselves again and again, each with a little work; every
//! so many callbacks a descriptor becomes readable whose event has high priority. libevent looks for
//! descriptors between loop turns only, so without a limit the urgent event waits until the whole
//! burst is over. One event, for the throughput, is one callback of low priority; the latency is the
//! time from the descriptor becoming readable to the callback of high priority.

use super::eventfd::EventFd;
use super::watchdog::WatchedBase;
use crate::checksum::Fold;
use crate::latency::{Recorder, now_ns};
use crate::params::Params;
use crate::registry::Constructor;
use crate::{LatencyHistogram, Workload};
use anyhow::{Result, ensure};
use libevent_sys::{Base, Config, Event, Flag, PERSIST, READ};
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("dispatch_limits", construct)];

const HIGH_PRIORITY: c_int = 0;
const LOW_PRIORITY: c_int = 1;

fn construct(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let shape = Shape {
        low_events: params.u64("low_events")?,
        burst: params.u64("callbacks_per_burst")?,
        high_every: params.u64("high_every")?,
        work_folds: params.u64("work_folds")?,
        bursts: params.batch_events() / params.u64("callbacks_per_burst")?.max(1),
    };
    shape.check(params.batch_events())?;
    let mut config = Config::new()?;
    let callbacks = params.u64("max_callbacks")?;
    let interval_us = params.u64("max_interval_us")?;
    if callbacks > 0 || interval_us > 0 {
        let interval = (interval_us > 0).then(|| Duration::from_micros(interval_us));
        let callbacks = (callbacks > 0).then(|| c_int::try_from(callbacks)).transpose()?;
        config.max_dispatch_interval(interval, callbacks, LOW_PRIORITY)?;
    }
    if params.flag("precise_timer")? {
        config.set_flag(Flag::PreciseTimer)?;
    }
    Ok(Box::new(Limits::new(Base::with_config(&config)?, shape)?))
}

/// Numbers that fix the work of a batch.
#[derive(Clone, Copy)]
struct Shape {
    /// Events of low priority.
    low_events: u64,
    /// Callbacks of low priority in one burst, that is, without an end of their own.
    burst: u64,
    /// One urgent event for so many callbacks of low priority.
    high_every: u64,
    /// Work of one callback of low priority.
    work_folds: u64,
    /// Bursts in one batch.
    bursts: u64,
}

impl Shape {
    fn check(self, batch_events: u64) -> Result<()> {
        ensure!(self.low_events > 0 && self.high_every > 0, "low_events and high_every must be at least 1");
        ensure!(self.burst >= self.low_events, "callbacks_per_burst must be at least low_events");
        ensure!(self.burst.is_multiple_of(self.high_every), "callbacks_per_burst must be a multiple of high_every");
        ensure!(self.bursts * self.burst == batch_events, "batch_events must be a multiple of callbacks_per_burst");
        Ok(())
    }

    /// The work of one callback, which both the callback and the model do.
    #[inline]
    fn work(self, fold: &mut Fold, index: u64) {
        for step in 0..self.work_folds {
            fold.add(index ^ step);
        }
    }
}

/// What the callbacks share. They all run on the thread of the loop.
struct Shared {
    shape: Shape,
    base: Base,
    ready: EventFd,
    fold: Cell<Fold>,
    low_in_burst: Cell<u64>,
    low_done: Cell<u64>,
    high_done: Cell<u64>,
    /// When the urgent events of this burst became ready, oldest first; none is ever dropped, so
    /// waiting is charged to every one that waited.
    ready_ns: RefCell<Vec<u64>>,
    latencies: RefCell<Recorder>,
    failed: Cell<bool>,
}

struct Low {
    index: u64,
    event: Cell<*mut libevent_sys::ffi::event>,
    shared: Rc<Shared>,
}

struct Limits {
    // Dropped first: the events point to what follows.
    low: Vec<Event>,
    _high: Event,
    _slots: Vec<Rc<Low>>,
    shared: Rc<Shared>,
    /// An urgent event that never comes would leave the loop asleep.
    watched: WatchedBase,
}

impl Limits {
    fn new(base: Base, shape: Shape) -> Result<Self> {
        base.priority_init(2)?;
        let watched = WatchedBase::watch(base)?;
        let base = watched.base();
        let shared = Rc::new(Shared {
            shape,
            base: base.clone(),
            ready: EventFd::new()?,
            fold: Cell::default(),
            low_in_burst: Cell::new(0),
            low_done: Cell::new(0),
            high_done: Cell::new(0),
            ready_ns: RefCell::new(Vec::with_capacity(usize::try_from(shape.burst / shape.high_every)?)),
            latencies: RefCell::default(),
            failed: Cell::new(false),
        });
        let arg = Rc::as_ptr(&shared).cast_mut().cast();
        // SAFETY: `on_high` expects a Shared; `shared` lives as long as the event, which is dropped before it.
        let high = unsafe { Event::from_raw(base, shared.ready.fd(), READ | PERSIST, on_high, arg)? };
        high.priority_set(HIGH_PRIORITY)?;
        high.add()?;

        let (mut low, mut slots) = (Vec::new(), Vec::new());
        for index in 0..shape.low_events {
            let slot = Rc::new(Low { index, event: Cell::new(std::ptr::null_mut()), shared: Rc::clone(&shared) });
            let arg = Rc::as_ptr(&slot).cast_mut().cast();
            // SAFETY: `on_low` expects a Low, which lives as long as the event.
            let event = unsafe { Event::from_raw(base, -1, 0, on_low, arg)? };
            event.priority_set(LOW_PRIORITY)?;
            slot.event.set(event.as_ptr());
            low.push(event);
            slots.push(slot);
        }
        Ok(Limits { low, _high: high, _slots: slots, shared, watched })
    }
}

impl Workload for Limits {
    fn prepare(&mut self) -> Result<()> {
        self.shared.fold.set(Fold::default());
        self.shared.low_done.set(0);
        self.shared.high_done.set(0);
        self.watched.arm()
    }

    fn run(&mut self) -> Result<u64> {
        for _ in 0..self.shared.shape.bursts {
            self.shared.low_in_burst.set(0);
            for event in &self.low {
                event.active(libevent_sys::TIMEOUT);
            }
            self.watched.run()?;
        }
        ensure!(!self.shared.failed.get(), "the descriptor of the urgent event could not be written or read");
        Ok(self.shared.low_done.get())
    }

    fn finish(&mut self) -> Result<u64> {
        self.watched.disarm()?;
        Ok(checksum(self.shared.fold.get(), self.shared.high_done.get()))
    }

    fn expected_checksum(&self) -> u64 {
        let shape = self.shared.shape;
        let mut fold = Fold::default();
        for _ in 0..shape.bursts {
            // First in, first out: a callback that re-activates its event puts it at the end.
            for callback in 0..shape.burst {
                shape.work(&mut fold, callback % shape.low_events);
            }
        }
        checksum(fold, shape.bursts * (shape.burst / shape.high_every))
    }

    fn take_latencies(&mut self) -> Option<LatencyHistogram> {
        Some(self.shared.latencies.borrow_mut().take())
    }
}

fn checksum(mut fold: Fold, high_done: u64) -> u64 {
    fold.add(high_done);
    fold.finish()
}

unsafe extern "C" fn on_low(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Low that outlives it.
    let low = unsafe { &*arg.cast_const().cast::<Low>() };
    let shared = &*low.shared;
    let shape = shared.shape;
    let mut fold = shared.fold.get();
    shape.work(&mut fold, low.index);
    shared.fold.set(fold);
    shared.low_done.set(shared.low_done.get() + 1);

    let in_burst = shared.low_in_burst.get() + 1;
    shared.low_in_burst.set(in_burst);
    if in_burst.is_multiple_of(shape.high_every) {
        shared.ready_ns.borrow_mut().push(now_ns());
        if shared.ready.write_one().is_err() {
            shared.failed.set(true);
        }
    }
    // As many activations as the burst has callbacks: the first ones are those of `run`.
    if in_burst + shape.low_events <= shape.burst {
        // SAFETY: the event is alive, since its callback runs.
        unsafe { libevent_sys::ffi::event_active(low.event.get(), c_int::from(libevent_sys::TIMEOUT), 1) };
    }
}

unsafe extern "C" fn on_high(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Shared that outlives it.
    let shared = unsafe { &*arg.cast_const().cast::<Shared>() };
    let Ok(ready) = shared.ready.read_all() else {
        shared.failed.set(true);
        let _ = shared.base.loopbreak();
        return;
    };
    let now = now_ns();
    let mut latencies = shared.latencies.borrow_mut();
    for ready_ns in shared.ready_ns.borrow_mut().drain(..) {
        latencies.record(now.saturating_sub(ready_ns));
    }
    shared.high_done.set(shared.high_done.get() + ready);
    // The last callback of a burst makes the descriptor readable, so this one comes after it.
    if shared.low_in_burst.get() == shared.shape.burst && shared.base.loopbreak().is_err() {
        shared.failed.set(true);
    }
}
