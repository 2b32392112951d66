//! event_active() from other threads: the way work is handed to a loop.
//!
//! Each producer thread owns some events and re-activates one only after its callback ran, so that
//! every activation has one callback. One event is one activation and its callback; the latency is
//! the time between the two.
//!
//! - `running`: the loop never sleeps, because one descriptor is readable all the time; its callback
//!   counts the loop's turns. Producers activate whichever of their events is free.
//! - `asleep`: rounds. All producers activate one event at a time, at once; the callback that
//!   completes a round starts the next. Between rounds the loop has nothing to do and sleeps.
//!
//! How many of the calls wake the loop, and how many are merged into one turn, depends on the
//! scheduler: see the extra figures. The work itself, and so the checksum, does not.

mod producers;

use super::eventfd::EventFd;
use crate::checksum::Fold;
use crate::latency::{Recorder, now_ns};
use crate::params::Params;
use crate::registry::Constructor;
use crate::{LatencyHistogram, Workload};
use anyhow::{Result, bail, ensure};
use libevent_sys::{Base, Event, LOOP_ONCE, PERSIST, READ, ffi};
use producers::{Gate, Pace, Producers, Slot};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{mem, thread};

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("active_from_threads", construct)];

/// A batch takes milliseconds; one that takes this long lost an event.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// The awake loop gives the CPU away after so many turns in a row without work, or producers would
/// wait for the end of its time slice where there is one CPU only.
const IDLE_TURNS_BEFORE_YIELD: u64 = 4;

fn construct(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let producers = params.usize("producers")?;
    ensure!((1..=64).contains(&producers), "producers must be from 1 to 64");
    let pace = match params.str("loop")? {
        "running" => Pace::Free { slots: params.usize("events_per_producer")? },
        "asleep" => Pace::Rounds,
        other => bail!("`loop` is `running` or `asleep`, not `{other}`"),
    };
    if let Pace::Free { slots } = pace {
        ensure!((1..=1024).contains(&slots), "events_per_producer must be from 1 to 1024");
    }
    let each = params.batch_events() / producers as u64;
    ensure!(each * producers as u64 == params.batch_events(), "batch_events must be a multiple of producers");
    // Before the base is made: only bases made afterwards have locks.
    libevent_sys::enable_pthreads()?;
    Ok(Box::new(ActiveFromThreads::new(producers, pace, each)?))
}

/// What callbacks on the loop's thread share.
struct Shared {
    base: Base,
    /// Activations that a batch does.
    total: u64,
    delivered: Cell<u64>,
    latencies: RefCell<Recorder>,
    /// Where producers wait; in rounds, the callback that ends one opens it for the next.
    gate: Arc<Gate>,
    /// Callbacks of one round; 0 where there are no rounds.
    round: u64,
    turns: Cell<u64>,
    turns_with_work: Cell<u64>,
    delivered_before_turn: Cell<u64>,
    idle_turns: Cell<u64>,
    stalled: Cell<bool>,
}

/// The loop's side of one event.
struct Target {
    slot: Arc<Slot>,
    fold: Cell<Fold>,
    shared: Rc<Shared>,
}

struct ActiveFromThreads {
    // Dropped first, which joins the threads: nobody activates events any more.
    producers: Producers,
    // Dropped before what they point to.
    _events: Vec<Event>,
    _awake: Option<(Event, EventFd)>,
    watchdog: Event,
    targets: Vec<Rc<Target>>,
    shared: Rc<Shared>,
    pace: Pace,
    each: u64,
    figures: Figures,
}

/// Sums since the extra figures were last asked for.
#[derive(Default)]
struct Figures {
    events: u64,
    turns: u64,
    turns_with_work: u64,
    sleeps: u64,
}

impl ActiveFromThreads {
    fn new(producer_count: usize, pace: Pace, each: u64) -> Result<Self> {
        let base = Base::new()?;
        let shared = Rc::new(Shared {
            base: base.clone(),
            total: each * producer_count as u64,
            delivered: Cell::new(0),
            latencies: RefCell::default(),
            gate: Arc::default(),
            round: if matches!(pace, Pace::Rounds) { producer_count as u64 } else { 0 },
            turns: Cell::new(0),
            turns_with_work: Cell::new(0),
            delivered_before_turn: Cell::new(0),
            idle_turns: Cell::new(0),
            stalled: Cell::new(false),
        });

        let slots_each = match pace {
            Pace::Free { slots } => slots,
            Pace::Rounds => 1,
        };
        let (mut events, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..producer_count * slots_each {
            let slot = Arc::new(Slot::default());
            let target = Rc::new(Target { slot, fold: Cell::default(), shared: Rc::clone(&shared) });
            // SAFETY: `on_active` expects a Target, which lives as long as the event.
            let event = unsafe { Event::from_raw(&base, -1, 0, on_active, Rc::as_ptr(&target).cast_mut().cast())? };
            target.slot.set_event(event.as_ptr());
            events.push(event);
            targets.push(target);
        }

        let awake = matches!(pace, Pace::Free { .. }).then(|| keep_awake(&base, &shared)).transpose()?;
        let watched = Rc::downgrade(&shared);
        let watchdog = Event::timer(&base, move || {
            if let Some(shared) = watched.upgrade() {
                shared.stalled.set(true);
                let _ = shared.base.loopbreak();
            }
        })?;
        let slots = targets.chunks(slots_each).map(|own| own.iter().map(|target| Arc::clone(&target.slot)).collect());
        let producers = Producers::start(Arc::clone(&shared.gate), slots.collect(), pace, each)?;
        let figures = Figures::default();
        Ok(ActiveFromThreads {
            producers,
            _events: events,
            _awake: awake,
            watchdog,
            targets,
            shared,
            pace,
            each,
            figures,
        })
    }

    /// Activations of slot `index` in one batch.
    fn activations(&self, index: usize) -> u64 {
        match self.pace {
            Pace::Rounds => self.each,
            // A producer takes its events in turn.
            Pace::Free { slots } => {
                let (own, slots) = ((index % slots) as u64, slots as u64);
                self.each / slots + u64::from(own < self.each % slots)
            }
        }
    }
}

impl Workload for ActiveFromThreads {
    fn prepare(&mut self) -> Result<()> {
        self.shared.delivered.set(0);
        self.shared.delivered_before_turn.set(0);
        self.shared.turns.set(0);
        self.shared.turns_with_work.set(0);
        for target in &self.targets {
            target.fold.set(Fold::default());
            target.slot.restart();
        }
        self.watchdog.add_timeout(LOST_AFTER)?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let sleeps_before = producers::sleeps_of_this_thread();
        self.producers.start_batch();
        match self.pace {
            Pace::Free { .. } => {
                self.shared.base.dispatch()?;
            }
            Pace::Rounds => {
                // One call a turn, so that turns can be counted; the loop sleeps inside it.
                while self.shared.delivered.get() < self.shared.total && !self.shared.stalled.get() {
                    self.shared.base.run(LOOP_ONCE)?;
                    self.shared.turns.set(self.shared.turns.get() + 1);
                }
                self.shared.turns_with_work.set(self.shared.turns.get());
            }
        }
        self.figures.sleeps += producers::sleeps_of_this_thread() - sleeps_before;
        Ok(self.shared.delivered.get())
    }

    fn finish(&mut self) -> Result<u64> {
        if self.shared.stalled.get() {
            let (delivered, total) = (self.shared.delivered.get(), self.shared.total);
            bail!("an activation was lost: {delivered} of {total} callbacks ran within {LOST_AFTER:?}");
        }
        self.watchdog.del()?;
        self.producers.wait_until_idle()?;
        self.figures.events += self.shared.delivered.get();
        self.figures.turns += self.shared.turns.get();
        self.figures.turns_with_work += self.shared.turns_with_work.get();
        let mut fold = Fold::default();
        self.targets.iter().for_each(|target| fold.add(target.fold.get().finish()));
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let mut fold = Fold::default();
        for index in 0..self.targets.len() {
            let mut of_slot = Fold::default();
            (1..=self.activations(index)).for_each(|sequence| of_slot.add(sequence));
            fold.add(of_slot.finish());
        }
        fold.finish()
    }

    fn take_latencies(&mut self) -> Option<LatencyHistogram> {
        Some(self.shared.latencies.borrow_mut().take())
    }

    /// Merging as the loop's thread sees it; the system calls behind it are counted from outside.
    fn take_extra(&mut self) -> BTreeMap<String, f64> {
        let figures = mem::take(&mut self.figures);
        if figures.events == 0 {
            return BTreeMap::new();
        }
        let events = figures.events as f64;
        BTreeMap::from([
            ("loop_turns_per_event".to_owned(), figures.turns as f64 / events),
            ("events_per_turn_with_work".to_owned(), events / figures.turns_with_work.max(1) as f64),
            ("loop_sleeps_per_event".to_owned(), figures.sleeps as f64 / events),
        ])
    }
}

/// A descriptor that is readable for ever: the loop polls without waiting.
fn keep_awake(base: &Base, shared: &Rc<Shared>) -> Result<(Event, EventFd)> {
    let readable = EventFd::new()?;
    readable.write_one()?;
    let arg = Rc::as_ptr(shared).cast_mut().cast();
    // SAFETY: `on_turn` expects a Shared, which lives longer than the event.
    let event = unsafe { Event::from_raw(base, readable.fd(), READ | PERSIST, on_turn, arg)? };
    event.add()?;
    Ok((event, readable))
}

unsafe extern "C" fn on_turn(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Shared that outlives it.
    let shared = unsafe { &*arg.cast_const().cast::<Shared>() };
    shared.turns.set(shared.turns.get() + 1);
    let delivered = shared.delivered.get();
    if delivered > shared.delivered_before_turn.replace(delivered) {
        shared.turns_with_work.set(shared.turns_with_work.get() + 1);
        shared.idle_turns.set(0);
    } else if shared.idle_turns.replace(shared.idle_turns.get() + 1) >= IDLE_TURNS_BEFORE_YIELD {
        shared.idle_turns.set(0);
        thread::yield_now();
    }
}

unsafe extern "C" fn on_active(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Target that outlives it.
    let target = unsafe { &*arg.cast_const().cast::<Target>() };
    let shared = &*target.shared;
    let (sequence, activated_ns) = target.slot.activation();
    shared.latencies.borrow_mut().record(now_ns().saturating_sub(activated_ns));
    let mut fold = target.fold.get();
    fold.add(sequence);
    target.fold.set(fold);
    let delivered = shared.delivered.get() + 1;
    shared.delivered.set(delivered);
    target.slot.free.store(true, Ordering::Release);

    if delivered == shared.total {
        // Only the awake loop runs longer than one turn.
        // SAFETY: the base is alive, since its loop runs.
        unsafe { ffi::event_base_loopbreak(shared.base.as_ptr()) };
    } else if shared.round > 0 && delivered.is_multiple_of(shared.round) {
        shared.gate.next_round();
    }
}
