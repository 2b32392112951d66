//! Signals: from raise(3) to the callback of a signal event.
//!
//! libevent's handler writes a byte into a socket pair, the loop reads it and calls the callback as
//! often as the signal was caught. One event is one signal delivered.

use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{Base, Event, LOOP_NONBLOCK, PERSIST, SIGNAL};
use std::cell::Cell;
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("signal_delivery", construct)];

/// libevent reads the signals of one turn into a buffer of this size and again if it was full.
const MOST_IN_A_BURST: u64 = 1024;

fn construct(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let shape = Shape {
        signals: params.u64("signals")?,
        raised_per_turn: params.u64("raised_per_turn")?,
        turns: params.batch_events() / params.u64("raised_per_turn")?.max(1),
    };
    let available = u64::try_from(libc::SIGRTMAX() - libc::SIGRTMIN() + 1)?;
    ensure!((1..=available).contains(&shape.signals), "signals must be from 1 to {available}");
    ensure!(
        (1..=MOST_IN_A_BURST).contains(&shape.raised_per_turn),
        "raised_per_turn must be from 1 to {MOST_IN_A_BURST}"
    );
    ensure!(
        shape.turns * shape.raised_per_turn == params.batch_events(),
        "batch_events must be a multiple of raised_per_turn"
    );
    Ok(Box::new(Signals::new(shape)?))
}

/// Numbers that fix the work of a batch.
#[derive(Clone, Copy)]
struct Shape {
    /// Different signals, each with an event of its own.
    signals: u64,
    /// Signals raised before the loop looks, the different ones in turn.
    raised_per_turn: u64,
    /// Turns of one batch.
    turns: u64,
}

/// Callbacks that a signal's event had.
struct Caught {
    /// Which of the workload's signals it is; the checksum must not depend on the system's numbers.
    index: u64,
    delivered: Cell<u64>,
    fold: Cell<Fold>,
}

struct Signals {
    // Dropped first: the events point to what follows, and restore the old actions of the signals.
    _events: Vec<Event>,
    caught: Vec<Rc<Caught>>,
    numbers: Vec<c_int>,
    shape: Shape,
    base: Base,
}

impl Signals {
    fn new(shape: Shape) -> Result<Self> {
        let base = Base::new()?;
        let first = libc::SIGRTMIN();
        let numbers: Vec<c_int> = (first..).take(usize::try_from(shape.signals)?).collect();
        let (mut events, mut caught) = (Vec::new(), Vec::new());
        for (index, number) in (0..).zip(&numbers) {
            let counts = Rc::new(Caught { index, delivered: Cell::new(0), fold: Cell::default() });
            let arg = Rc::as_ptr(&counts).cast_mut().cast();
            // SAFETY: `on_signal` expects a Caught, which lives as long as the event.
            let event = unsafe { Event::from_raw(&base, *number, SIGNAL | PERSIST, on_signal, arg)? };
            event.add()?;
            events.push(event);
            caught.push(counts);
        }
        Ok(Signals { _events: events, caught, numbers, shape, base })
    }

    fn delivered(&self) -> u64 {
        self.caught.iter().map(|caught| caught.delivered.get()).sum()
    }
}

impl Workload for Signals {
    fn prepare(&mut self) -> Result<()> {
        for caught in &self.caught {
            caught.delivered.set(0);
            caught.fold.set(Fold::default());
        }
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut next = self.numbers.iter().cycle();
        for _ in 0..self.shape.turns {
            for number in next.by_ref().take(self.shape.raised_per_turn as usize) {
                // SAFETY: the signal has a handler, libevent's. raise() returns after it ran.
                unsafe { libc::raise(*number) };
            }
            self.base.run(LOOP_NONBLOCK)?;
        }
        Ok(self.delivered())
    }

    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        for caught in &self.caught {
            fold.add(caught.fold.get().finish());
        }
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        let raised = self.shape.turns * self.shape.raised_per_turn;
        let mut fold = Fold::default();
        for index in 0..self.shape.signals {
            // The signals are raised in turn, so the first ones may have one delivery more.
            let deliveries = raised / self.shape.signals + u64::from(index < raised % self.shape.signals);
            let mut of_signal = Fold::default();
            for delivery in 1..=deliveries {
                of_signal.add(item(index, delivery));
            }
            fold.add(of_signal.finish());
        }
        fold.finish()
    }
}

/// What one callback adds to the checksum of its signal.
#[inline]
fn item(index: u64, delivery: u64) -> u64 {
    index << 32 | delivery
}

unsafe extern "C" fn on_signal(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Caught that outlives it.
    let caught = unsafe { &*arg.cast_const().cast::<Caught>() };
    let delivered = caught.delivered.get() + 1;
    caught.delivered.set(delivered);
    let mut fold = caught.fold.get();
    fold.add(item(caught.index, delivered));
    caught.fold.set(fold);
}
