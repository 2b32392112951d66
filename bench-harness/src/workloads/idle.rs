//! Many descriptors that wait and a few that are active: what a server with idle connections pays.
//!
//! Every turn makes some of the descriptors readable and runs the loop. One event is one descriptor
//! made readable, its callback and its read.

use super::eventfd::EventFd;
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Context, Result, bail, ensure};
use libevent_sys::{Base, Event, LOOP_NONBLOCK, PERSIST, READ};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this family.
pub const KINDS: &[(&str, Constructor)] = &[("idle_descriptors", construct)];

/// Descriptors of the process beside those of the workload: standard streams, libevent's own, a log.
const OTHER_DESCRIPTORS: u64 = 64;
/// The active descriptors of successive turns lie this far apart; a prime, so that all get a turn.
const STRIDE: u64 = 7919;

fn construct(params: &Params<'_>) -> Result<Box<dyn Workload>> {
    let shape = Shape {
        descriptors: params.u64("descriptors")?,
        active_per_turn: params.u64("active_per_turn")?,
        turns: params.batch_events() / params.u64("active_per_turn")?.max(1),
    };
    ensure!(
        (1..=shape.descriptors).contains(&shape.active_per_turn) && !shape.descriptors.is_multiple_of(STRIDE),
        "active_per_turn must be from 1 to descriptors, and descriptors no multiple of {STRIDE}"
    );
    ensure!(
        shape.turns * shape.active_per_turn == params.batch_events(),
        "batch_events must be a multiple of active_per_turn"
    );
    raise_descriptor_limit(shape.descriptors + OTHER_DESCRIPTORS)?;
    Ok(Box::new(Idle::new(shape)?))
}

/// Numbers that fix the work of a batch.
#[derive(Clone, Copy)]
struct Shape {
    descriptors: u64,
    active_per_turn: u64,
    turns: u64,
}

impl Shape {
    /// Which descriptor is the n-th active one of a batch. Any `descriptors` in a row are different.
    #[inline]
    fn active(self, n: u64) -> u64 {
        n * STRIDE % self.descriptors
    }
}

/// What the callbacks write. The sum does not depend on the order within a turn, which is the
/// backend's affair; `turn` ties each descriptor to the turn in which it must be called.
#[derive(Default)]
struct Seen {
    turn: Cell<u64>,
    callbacks: Cell<u64>,
    sum: Cell<u64>,
    failed: Cell<bool>,
}

struct Descriptor {
    index: u64,
    counter: EventFd,
    seen: Rc<Seen>,
}

struct Idle {
    // Dropped first: the events point to the descriptors.
    _events: Vec<Event>,
    descriptors: Vec<Rc<Descriptor>>,
    seen: Rc<Seen>,
    shape: Shape,
    base: Base,
}

impl Idle {
    fn new(shape: Shape) -> Result<Self> {
        let base = Base::new()?;
        let seen = Rc::new(Seen::default());
        let (mut events, mut descriptors) = (Vec::new(), Vec::new());
        for index in 0..shape.descriptors {
            let counter = EventFd::new().with_context(|| format!("opening descriptor {index}"))?;
            let descriptor = Rc::new(Descriptor { index, counter, seen: Rc::clone(&seen) });
            let (fd, arg) = (descriptor.counter.fd(), Rc::as_ptr(&descriptor).cast_mut().cast());
            // SAFETY: `on_readable` expects a Descriptor, which lives as long as the event.
            let event = unsafe { Event::from_raw(&base, fd, READ | PERSIST, on_readable, arg)? };
            event.add().with_context(|| format!("adding the event of descriptor {index}"))?;
            events.push(event);
            descriptors.push(descriptor);
        }
        Ok(Idle { _events: events, descriptors, seen, shape, base })
    }
}

impl Workload for Idle {
    fn prepare(&mut self) -> Result<()> {
        self.seen.callbacks.set(0);
        self.seen.sum.set(0);
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        for turn in 0..self.shape.turns {
            self.seen.turn.set(turn);
            let first = turn * self.shape.active_per_turn;
            for n in first..first + self.shape.active_per_turn {
                self.descriptors[self.shape.active(n) as usize].counter.write_one()?;
            }
            self.run_turn(first + self.shape.active_per_turn)?;
        }
        Ok(self.seen.callbacks.get())
    }

    fn finish(&mut self) -> Result<u64> {
        ensure!(!self.seen.failed.get(), "a callback came for a descriptor that was not readable");
        Ok(self.seen.sum.get())
    }

    fn expected_checksum(&self) -> u64 {
        (0..self.shape.turns * self.shape.active_per_turn)
            .map(|n| contribution(self.shape.active(n), n / self.shape.active_per_turn, 1))
            .fold(0, u64::wrapping_add)
    }
}

impl Idle {
    /// Runs the loop until `callbacks` are done. A backend may report the active descriptors in
    /// several portions (epoll starts with 32 at a time), but every call must report some.
    #[inline]
    fn run_turn(&self, callbacks: u64) -> Result<()> {
        let mut before = self.seen.callbacks.get();
        while before < callbacks {
            self.base.run(LOOP_NONBLOCK)?;
            let now = self.seen.callbacks.get();
            if now == before {
                bail!("the loop found nothing to do with {} readable descriptors", callbacks - now);
            }
            before = now;
        }
        Ok(())
    }
}

unsafe extern "C" fn on_readable(_: RawFd, _: c_short, arg: *mut c_void) {
    // SAFETY: the event was made with a pointer to a Descriptor that outlives it.
    let descriptor = unsafe { &*arg.cast_const().cast::<Descriptor>() };
    let seen = &*descriptor.seen;
    match descriptor.counter.read_all() {
        Ok(count) => {
            let sum = seen.sum.get().wrapping_add(contribution(descriptor.index, seen.turn.get(), count));
            seen.sum.set(sum);
        }
        Err(_) => seen.failed.set(true),
    }
    seen.callbacks.set(seen.callbacks.get() + 1);
}

/// What one callback adds to the checksum.
#[inline]
fn contribution(descriptor: u64, turn: u64, count: u64) -> u64 {
    let mut fold = Fold::default();
    fold.add(descriptor);
    fold.add(turn);
    fold.add(count);
    fold.finish()
}

/// Makes sure that the process may open `needed` descriptors; raises the hard limit only if the soft
/// one cannot be raised far enough, which takes privilege.
fn raise_descriptor_limit(needed: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours to be filled.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        bail!("cannot read the limit on open descriptors: {}", io::Error::last_os_error());
    }
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    let wanted = libc::rlimit { rlim_cur: needed, rlim_max: limit.rlim_max.max(needed) };
    // SAFETY: `wanted` is ours to be read.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) } != 0 {
        bail!(
            "{needed} open descriptors are needed, but the hard limit is {} and cannot be raised ({}); \
             raise it, for example with `ulimit -Hn {needed}` as root",
            limit.rlim_max,
            io::Error::last_os_error()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_no_system_grants_is_named() {
        let error = raise_descriptor_limit(u64::from(u32::MAX)).unwrap_err().to_string();
        assert!(error.contains("4294967295") && error.contains("hard limit"), "{error}");
    }

    #[test]
    fn every_descriptor_gets_its_turn() {
        let shape = Shape { descriptors: 100, active_per_turn: 10, turns: 10 };
        let mut active: Vec<u64> = (0..100).map(|n| shape.active(n)).collect();
        active.sort_unstable();
        active.dedup();
        assert_eq!(active.len(), 100);
    }
}
