//! Changes of what a backend watches.

use super::epoll_view::EpollView;
use super::sockets::{SocketPair, recv_byte, send_byte};
use crate::Workload;
use crate::checksum::Fold;
use crate::params::Params;
use crate::registry::Constructor;
use anyhow::{Result, ensure};
use libevent_sys::{Base, Config, Event, Flag, LOOP_ONCE, LoopEnd, READ, ffi};
use std::cell::Cell;
use std::ffi::{c_short, c_void};
use std::os::fd::RawFd;
use std::rc::Rc;

/// Kinds of this file.
pub const KINDS: &[(&str, Constructor)] = &[
    ("epoll_add_delete", |params| Ok(Box::new(AddDelete::new(params)?))),
    ("epoll_one_shot", |params| Ok(Box::new(OneShot::new(params)?))),
];

/// How often an untimed pass asks the kernel what it watches, which takes far longer than the work.
const KERNEL_LOOKS: u64 = 64;

/// A base, with epoll's changelist where the parameter `changelist` says so.
fn base(params: &Params<'_>) -> Result<Base> {
    let mut config = Config::new()?;
    if params.flag("changelist")? {
        config.set_flag(Flag::EpollUseChangelist)?;
    }
    Ok(Base::with_config(&config)?)
}

/// Adds a read event and deletes it again, without a loop turn in between.
struct AddDelete {
    event: Event,
    base: Base,
    sockets: SocketPair,
    /// Shared, not boxed: the callback's argument points to it while the workload is moved.
    fired: Rc<Cell<u64>>,
    batch_events: u64,
}

impl AddDelete {
    fn new(params: &Params<'_>) -> Result<Self> {
        let base = base(params)?;
        let sockets = SocketPair::nonblocking()?;
        let fired: Rc<Cell<u64>> = Rc::default();
        let arg = Rc::as_ptr(&fired).cast_mut().cast();
        // SAFETY: the counter stays where it is until the event is dropped.
        let event = unsafe { Event::from_raw(&base, sockets.fds()[0], READ, take_byte, arg) }?;
        Ok(AddDelete { event, base, sockets, fired, batch_events: params.batch_events() })
    }
}

unsafe extern "C" fn take_byte(fd: RawFd, _what: c_short, fired: *mut c_void) {
    // SAFETY: the counter given in AddDelete::new.
    let fired = unsafe { &*fired.cast::<Cell<u64>>() };
    fired.set(fired.get() + u64::from(recv_byte(fd).unwrap_or(0)));
}

impl AddDelete {
    /// The work of a batch, with the number of events for which both calls succeeded. `inspect` sees the
    /// number of the event after each call, and whether the event must be pending then.
    #[inline]
    fn pass(&mut self, mut inspect: impl FnMut(&Event, u64, bool) -> Result<()>) -> Result<u64> {
        let mut done = 0;
        for number in 0..self.batch_events {
            self.event.add()?;
            inspect(&self.event, number, true)?;
            self.event.del()?;
            inspect(&self.event, number, false)?;
            done += 1;
        }
        Ok(done)
    }

    /// The largest number of events that the base held since this was last asked.
    fn most_added(&self) -> i32 {
        // SAFETY: the base is alive.
        unsafe { ffi::event_base_get_max_events(self.base.as_ptr(), ffi::EVENT_BASE_COUNT_ADDED, 1) }
    }
}

impl Workload for AddDelete {
    /// Both calls take effect every time in libevent, and, as far as looked at, in the kernel.
    fn verify(&mut self) -> Result<()> {
        let epoll = self.base.method().starts_with("epoll");
        let view = if epoll { EpollView::of(self.sockets.fds()[0])? } else { None };
        let look_every = (self.batch_events / KERNEL_LOOKS).max(1);
        self.pass(|event, number, added| {
            let pending = event.pending(READ) != 0;
            ensure!(pending == added, "event {number}: libevent says pending = {pending} instead of {added}");
            if let Some(view) = view.as_ref().filter(|_| number.is_multiple_of(look_every)) {
                let watched = view.is_watched()?;
                ensure!(watched == added, "event {number}: the kernel says watched = {watched} instead of {added}");
            }
            Ok(())
        })?;
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        self.fired.set(0);
        self.most_added();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.pass(|_, _, _| Ok(()))
    }

    /// The base held the event meanwhile. Deleted means that a byte does not fire it; added means that it does.
    fn finish(&mut self) -> Result<u64> {
        let most_added = self.most_added();
        ensure!(most_added == 1, "the base held {most_added} events at once instead of 1");
        let mut fold = Fold::default();
        ensure!(send_byte(self.sockets.fds()[1]), "sending failed");
        ensure!(self.base.run(LOOP_ONCE)? == LoopEnd::NoEvents, "the deleted event is pending");
        fold.add(self.fired.get());
        self.event.add()?;
        self.base.run(LOOP_ONCE)?;
        fold.add(self.fired.get());
        Ok(fold.finish())
    }

    fn expected_checksum(&self) -> u64 {
        Fold::of([0, u64::from(b'e')])
    }
}

/// A read event that is not persistent: each time it fires it takes its byte, is added again and
/// sends itself the next byte.
struct OneShot {
    event: Rc<Event>,
    base: Base,
    /// Shared, not boxed: the callback's argument points to it while the workload is moved.
    state: Rc<State>,
    batch_events: u64,
}

struct State {
    base: Base,
    event: Cell<*const Event>,
    sockets: SocketPair,
    left: Cell<u64>,
    fired: Cell<u64>,
    bytes_sum: Cell<u64>,
    failures: Cell<u64>,
}

impl OneShot {
    fn new(params: &Params<'_>) -> Result<Self> {
        let base = base(params)?;
        let state = Rc::new(State {
            base: base.clone(),
            event: Cell::new(std::ptr::null()),
            sockets: SocketPair::nonblocking()?,
            left: Cell::default(),
            fired: Cell::default(),
            bytes_sum: Cell::default(),
            failures: Cell::default(),
        });
        let arg = Rc::as_ptr(&state).cast_mut().cast();
        // SAFETY: the state stays where it is until the event is dropped.
        let event = unsafe { Event::from_raw(&base, state.sockets.fds()[0], READ, on_byte, arg) }?;
        let event = Rc::new(event);
        state.event.set(Rc::as_ptr(&event));
        Ok(OneShot { event, base, state, batch_events: params.batch_events() })
    }
}

unsafe extern "C" fn on_byte(fd: RawFd, _what: c_short, state: *mut c_void) {
    // SAFETY: the state given in OneShot::new; changed through cells only.
    let state = unsafe { &*state.cast::<State>() };
    let byte = recv_byte(fd);
    state.fired.set(state.fired.get() + 1);
    state.bytes_sum.set(state.bytes_sum.get() + u64::from(byte.unwrap_or(0)));
    state.left.set(state.left.get() - 1);
    if state.left.get() == 0 {
        return; // nothing is pending any more: the loop ends
    }
    // SAFETY: OneShot::new set it to the event that is calling.
    let event = unsafe { &*state.event.get() };
    if event.add().is_err() || !send_byte(state.sockets.fds()[1]) {
        state.failures.set(state.failures.get() + 1);
        // The loop must not wait for what will not come; a base that cannot end it has failed already.
        let _ = state.base.loopbreak();
    }
}

impl Workload for OneShot {
    fn prepare(&mut self) -> Result<()> {
        let state = &*self.state;
        for counter in [&state.fired, &state.bytes_sum, &state.failures] {
            counter.set(0);
        }
        state.left.set(self.batch_events);
        self.event.add()?;
        ensure!(send_byte(state.sockets.fds()[1]), "sending the first byte failed");
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        self.base.dispatch()?;
        Ok(self.state.fired.get())
    }

    fn finish(&mut self) -> Result<u64> {
        let State { fired, bytes_sum, failures, .. } = &*self.state;
        Ok(Fold::of([fired, bytes_sum, failures].map(Cell::get)))
    }

    fn expected_checksum(&self) -> u64 {
        Fold::of([self.batch_events, self.batch_events * u64::from(b'e'), 0])
    }
}

#[cfg(test)]
mod tests {
    use super::super::damage::made;
    use super::*;

    #[test]
    fn an_event_that_is_never_added_or_never_deleted_is_noticed() {
        let mut idle = made("epoll.add_delete", AddDelete::new);
        idle.prepare().unwrap();
        assert!(idle.finish().unwrap_err().to_string().contains("0 events at once"));

        // A second event keeps the kernel watching when the first is deleted.
        let mut held = made("epoll.add_delete", AddDelete::new);
        held.verify().unwrap();
        let arg = Rc::as_ptr(&held.fired).cast_mut().cast();
        // SAFETY: the counter outlives the event.
        let second = unsafe { Event::from_raw(&held.base, held.sockets.fds()[0], READ, take_byte, arg) }.unwrap();
        second.add().unwrap();
        if held.base.method().starts_with("epoll") && EpollView::of(held.sockets.fds()[0]).unwrap().is_some() {
            assert!(held.verify().unwrap_err().to_string().contains("the kernel says watched = true"));
        }
        held.prepare().unwrap();
        held.run().unwrap();
        assert!(held.finish().unwrap_err().to_string().contains("2 events at once"));
    }
}
