//! Events made active by hand, and loop turns in which nothing happens.

use super::sockets::{SocketPair, recv_byte, send_byte};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{Base, Event, EventRow, LOOP_NONBLOCK, LOOP_ONCE, LoopEnd, PERSIST, READ};
use std::cell::Cell;
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("active_dispatch", |params| Ok(Box::new(Dispatch::new(params)?))),
    ("active_empty_turn", |params| Ok(Box::new(EmptyTurn::new(params)?))),
];

/// Makes `group` events active and dispatches them, again and again. Event i has priority
/// i modulo the number of priorities; the most urgent run first, each group in the order in which
/// its events were made active.
struct Dispatch {
    /// Before what its callbacks refer to: dropped first.
    events: EventRow,
    base: Base,
    /// Shared, not boxed: the callbacks' arguments point to its elements while the workload is moved.
    tags: Rc<[Tag]>,
    trace: Rc<Trace>,
    priorities: u64,
    batch_events: u64,
}

struct Tag {
    trace: *const Trace,
    number: u64,
}

/// What fired, in which order: the sum of position times event.
#[derive(Default)]
pub(super) struct Trace {
    fired: Cell<u64>,
    sum: Cell<u64>,
}

impl Trace {
    pub(super) fn reset(&self) {
        self.fired.set(0);
        self.sum.set(0);
    }

    /// Event `number` fired.
    #[inline]
    pub(super) fn add(&self, number: u64) {
        self.fired.set(self.fired.get() + 1);
        self.sum.set(self.sum.get().wrapping_add(self.fired.get().wrapping_mul(number + 1)));
    }

    /// Events that fired.
    #[inline]
    pub(super) fn fired(&self) -> u64 {
        self.fired.get()
    }

    pub(super) fn checksum(&self) -> u64 {
        Fold::of([self.fired.get(), self.sum.get()])
    }
}

impl Dispatch {
    fn new(params: &Params<'_>) -> Result<Self> {
        let (group, priorities) = (params.usize("group")?, params.u64("priorities")?);
        let batch_events = params.batch_events();
        ensure!(group > 0 && batch_events.is_multiple_of(group as u64), "batch_events must be a multiple of group");
        ensure!((1..=255).contains(&priorities), "priorities must be in 1..=255");
        let base = Base::new()?;
        base.priority_init(priorities as c_int)?;
        let trace: Rc<Trace> = Rc::default();
        let tags: Rc<[Tag]> = (0..group as u64).map(|number| Tag { trace: Rc::as_ptr(&trace), number }).collect();
        // SAFETY: tags and trace stay where they are until the events are dropped.
        let events = unsafe {
            EventRow::new(&base, group, 0, on_active, |index| (-1, (&raw const tags[index]).cast_mut().cast()))
        }?;
        for index in 0..group {
            events[index].priority_set((index as u64 % priorities) as c_int)?;
        }
        Ok(Dispatch { events, base, tags, trace, priorities, batch_events })
    }
}

unsafe extern "C" fn on_active(_fd: RawFd, _what: c_short, tag: *mut c_void) {
    // SAFETY: the tag given in Dispatch::new.
    let tag = unsafe { &*tag.cast::<Tag>() };
    // SAFETY: lives as long as the tag, and is changed through cells only.
    unsafe { &*tag.trace }.add(tag.number);
}

impl Workload for Dispatch {
    fn prepare(&mut self) -> Result<()> {
        self.trace.reset();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let group = self.tags.len();
        for _ in 0..self.batch_events / group as u64 {
            for index in 0..group {
                self.events[index].active(READ);
            }
            // Turns, one a priority, until nothing is active.
            self.base.run(LOOP_ONCE | LOOP_NONBLOCK)?;
        }
        Ok(self.trace.fired())
    }

    fn finish(&mut self) -> Result<u64> {
        Ok(self.trace.checksum())
    }

    fn expected_checksum(&self) -> u64 {
        let model = Trace::default();
        let group = self.tags.len() as u64;
        for _ in 0..self.batch_events / group {
            for priority in 0..self.priorities {
                (priority..group).step_by(self.priorities as usize).for_each(|number| model.add(number));
            }
        }
        model.checksum()
    }
}

/// Turns the loop of a base that watches one silent socket.
struct EmptyTurn {
    /// Before what its callback refers to: dropped first.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is there to be watched"))]
    event: Event,
    base: Base,
    sockets: SocketPair,
    fired: Rc<Cell<u64>>,
    batch_events: u64,
}

impl EmptyTurn {
    fn new(params: &Params<'_>) -> Result<Self> {
        let base = Base::new()?;
        let sockets = SocketPair::nonblocking()?;
        let fired: Rc<Cell<u64>> = Rc::default();
        let arg = Rc::as_ptr(&fired).cast_mut().cast();
        // SAFETY: the counter stays where it is until the event is dropped.
        let event = unsafe { Event::from_raw(&base, sockets.fds()[0], READ | PERSIST, on_byte, arg) }?;
        event.add()?;
        Ok(EmptyTurn { event, base, sockets, fired, batch_events: params.batch_events() })
    }
}

unsafe extern "C" fn on_byte(fd: RawFd, _what: c_short, fired: *mut c_void) {
    // SAFETY: the counter given in EmptyTurn::new.
    let fired = unsafe { &*fired.cast::<Cell<u64>>() };
    fired.set(fired.get() + recv_byte(fd).map_or(u64::from(u32::MAX), u64::from));
}

impl Workload for EmptyTurn {
    /// Every turn looks at the socket: it finds a byte where there is one, and nothing where there is none.
    fn verify(&mut self) -> Result<()> {
        self.fired.set(0);
        for turn in 0..self.batch_events {
            let sent = turn % 2;
            ensure!(sent == 0 || send_byte(self.sockets.fds()[1]), "sending failed");
            let end = self.base.run(LOOP_NONBLOCK)?;
            ensure!(end == LoopEnd::Done, "turn {turn}: the loop says that nothing is pending");
            let found = self.fired.replace(0);
            ensure!(found == sent * u64::from(b'e'), "turn {turn} found {found} where {sent} bytes were sent");
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        self.fired.set(0);
        Ok(())
    }

    /// A turn counts if libevent says that it was one with the event still pending.
    fn run(&mut self) -> Result<u64> {
        let mut turns = 0;
        for _ in 0..self.batch_events {
            turns += u64::from(self.base.run(LOOP_NONBLOCK)? == LoopEnd::Done);
        }
        Ok(turns)
    }

    /// The turns did look: the next one finds a byte.
    fn finish(&mut self) -> Result<u64> {
        let mut fold = Fold::default();
        fold.add(self.fired.get());
        ensure!(send_byte(self.sockets.fds()[1]), "sending failed");
        self.base.run(LOOP_NONBLOCK)?;
        fold.add(self.fired.get());
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        Fold::of([0, u64::from(b'e')])
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::made;
    use super::*;

    #[test]
    fn turns_without_the_event_do_not_count() {
        let mut turns = made("active.empty_turn", EmptyTurn::new);
        assert_eq!(turns.run().unwrap(), turns.batch_events);
        turns.event.del().unwrap();
        assert_eq!(turns.run().unwrap(), 0);
        assert!(turns.verify().unwrap_err().to_string().contains("nothing is pending"));
    }
}
