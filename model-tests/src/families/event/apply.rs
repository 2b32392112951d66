//! What each operation of family `event` does.

use super::callbacks::{active, add, del, finalize, free, new, once, remove_timer};
use super::model::{ALL, CHANNELS, SLOTS, base, event, fd, with};
use super::{Kind, Op};
use crate::base::{Backend, Plan};
use crate::family::Verdict;
use crate::{clock, observe, process, sockets};
use libevent_sys::{READ, TIMEOUT, ffi};
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use std::ptr::{null, null_mut};

pub(crate) fn apply(op: &Op) -> Verdict {
    if let Op::Base(plan, crowd) = op
        && base().is_null()
    {
        let base = plan.make()?;
        with(|state| (state.base, state.crowd) = (base, *crowd));
    }
    if base().is_null() {
        let base = Plan { priorities: SLOTS as i32 + 2, ..Plan::plain(Backend::Epoll) }.make()?;
        with(|state| state.base = base);
    }
    with(|state| state.calls = 0);
    call(op)?;
    flush();
    pending()
}

fn call(op: &Op) -> Verdict {
    let base = base();
    // SAFETY: the base is alive until the end of the case.
    unsafe {
        match *op {
            Op::Base(..) => {}
            Op::Channel(channel, pipe) => open(channel, pipe)?,
            Op::New(slot, kind, persist, priority, ref acts) => new(slot, kind, persist, priority, acts),
            Op::Add(slot, ms) => add(slot, ms),
            Op::AddCommon(slot, ms) => add_common(slot, ms),
            Op::Del(slot) => del(slot),
            Op::Active(slot, what) => active(slot, what),
            Op::Free(slot) => free(slot),
            Op::Finalize(slot) => finalize(slot),
            Op::Priority(slot, priority) if !event(slot).is_null() => {
                observe!("priority: {}", ffi::event_priority_set(event(slot), priority));
            }
            Op::Priority(..) => {}
            Op::RemoveTimer(slot) => remove_timer(slot),
            Op::Once(None, ms) => once(-1, TIMEOUT, Some(ms.unwrap_or(0))),
            Op::Once(Some((channel, end, what)), ms) => {
                if let Some(fd) = fd(channel, end) {
                    with(|state| state.pinned[channel % CHANNELS] = true);
                    once(fd, what, ms);
                }
            }
            Op::Write(channel, end, len) => {
                if let Some(fd) = fd(channel, end) {
                    observe!("wrote {}", sockets::write(fd, &vec![42; len]));
                }
            }
            Op::Read(channel, end, len) => {
                if let Some(fd) = fd(channel, end) {
                    let (bytes, over) = sockets::read(fd, len);
                    observe!("read {}, end {over}", bytes.len());
                }
            }
            Op::Close(channel, end) => close(channel, end),
            Op::Reuse(channel, properly) => reuse(channel, properly)?,
            Op::Raise(second, times) => raise(second, times),
            Op::Loop(flags) => observe!("loop: {}", ffi::event_base_loop(base, flags)),
            Op::Exit(ms) => {
                let tv = clock::timeval(with(|state| state.alone(ms)));
                observe!("exit: {}", ffi::event_base_loopexit(base, &raw const tv));
            }
            Op::Break => observe!("break: {}", ffi::event_base_loopbreak(base)),
            Op::Pass(ms) => {
                clock::pass(base, with(|state| state.alone(ms)));
                observe!("got exit {}, break {}", ffi::event_base_got_exit(base), ffi::event_base_got_break(base));
            }
            Op::Advance(ms) => clock::advance(ms),
            Op::UpdateCache => observe!("update: {}", ffi::event_base_update_cache_time(base)),
            Op::Look => look(),
            Op::Many(count, from) => many(count, from)?,
            Op::Fork(child) => fork(child)?,
        }
    }
    Ok(())
}

/// What was called since the last operation.
fn flush() {
    let (log, mut unordered) = with(|state| (std::mem::take(&mut state.log), std::mem::take(&mut state.unordered)));
    unordered.sort();
    for line in log.iter().chain(&unordered) {
        observe!("{line}");
    }
}

/// What every event is pending for: nothing if it was deleted.
fn pending() -> Verdict {
    for slot in 0..SLOTS {
        let event = event(slot);
        if event.is_null() {
            continue;
        }
        // SAFETY: alive.
        let pending = unsafe { ffi::event_pending(event, ALL, null_mut()) } as i16;
        observe!("event {slot} pending for {pending:#x}");
        if pending != 0 && with(|state| state.slots[slot].gone) {
            return Err(format!("event {slot} was deleted and is pending for {pending:#x}"));
        }
    }
    Ok(())
}

fn add_common(slot: usize, ms: u64) {
    if event(slot).is_null() {
        return;
    }
    let tv = clock::timeval(ms);
    // SAFETY: base and event are alive; the common timeout lives as long as the base.
    let returned = unsafe { ffi::event_add(event(slot), ffi::event_base_init_common_timeout(base(), &raw const tv)) };
    with(|state| state.added(slot, Some(ms)));
    observe!("add common {slot}: {returned}");
}

/// Events on a channel's end, which closes.
fn forget(channel: usize, end: usize) {
    for slot in 0..SLOTS {
        let on_it = with(
            |state| matches!(state.slots[slot].kind, Kind::Io(c, e, _) if c % CHANNELS == channel && e % 2 == end),
        );
        if on_it {
            free(slot);
        }
    }
}

fn close(channel: usize, end: usize) {
    let (channel, end) = (channel % CHANNELS, end % 2);
    if !with(|state| state.pinned[channel]) {
        forget(channel, end);
        with(|state| state.channels[channel][end] = None);
    }
}

fn open(channel: usize, pipe: bool) -> Verdict {
    let channel = channel % CHANNELS;
    close(channel, 0);
    close(channel, 1);
    if !with(|state| state.pinned[channel]) {
        let made = if pipe { sockets::pipe() } else { sockets::pair() };
        let made = made.map_err(|error| format!("no descriptors: {error}"))?;
        with(|state| state.channels[channel] = made.map(Some));
    }
    Ok(())
}

fn reuse(channel: usize, properly: bool) -> Verdict {
    let channel = channel % CHANNELS;
    let (Some(a), Some(b)) = (fd(channel, 0), fd(channel, 1)) else { return Ok(()) };
    if with(|state| state.pinned[channel]) {
        return Ok(());
    }
    let on_it = |slot: &usize| {
        with(|state| {
            let slot = &state.slots[*slot];
            slot.added && matches!(slot.kind, Kind::Io(c, ..) if c % CHANNELS == channel)
        })
    };
    let slots: Vec<usize> = (0..SLOTS).filter(on_it).collect();
    let delete = || slots.iter().for_each(|slot| del(*slot));
    if properly {
        delete();
    }
    with(|state| state.channels[channel] = [None, None]);
    if !properly {
        delete();
    }
    let new = sockets::pair().map_err(|error| format!("no descriptors: {error}"))?;
    let moved = place(new, [a, b])?;
    with(|state| state.channels[channel] = moved.map(Some));
    slots.iter().for_each(|slot| add(*slot, None));
    Ok(())
}

/// Gives two descriptors the numbers that are wanted.
fn place(from: [std::os::fd::OwnedFd; 2], to: [RawFd; 2]) -> Result<[std::os::fd::OwnedFd; 2], String> {
    use std::os::fd::FromRawFd as _;
    let from = from.map(std::os::fd::OwnedFd::into_raw_fd);
    // SAFETY: descriptors that nobody else owns: those wanted were closed by the caller.
    unsafe {
        // Out of the way first: what was made may have one of the numbers that are wanted.
        let high = from.map(|fd| libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 900));
        for fd in from {
            libc::close(fd);
        }
        for (high, to) in high.iter().zip(to) {
            if libc::dup3(*high, to, libc::O_CLOEXEC) != to {
                return Err("dup3 failed".to_owned());
            }
            libc::close(*high);
        }
        Ok(to.map(|fd| std::os::fd::OwnedFd::from_raw_fd(fd)))
    }
}

fn raise(second: bool, times: u8) {
    let signal = if second { libc::SIGUSR2 } else { libc::SIGUSR1 };
    for _ in 0..times {
        // SAFETY: a signal to this process, which libevent catches, or which is ignored.
        unsafe { libc::raise(signal) };
    }
}

fn look() {
    let base = base();
    let count = |what: u32| {
        // SAFETY: the base is alive.
        unsafe { (ffi::event_base_get_num_events(base, what), ffi::event_base_get_max_events(base, what, 0)) }
    };
    observe!("active {:?}", count(ffi::EVENT_BASE_COUNT_ACTIVE));
    observe!("added {:?}", count(ffi::EVENT_BASE_COUNT_ADDED));
    let mut seen: Vec<usize> = Vec::new();
    // SAFETY: the base is alive; the callback gets the list.
    unsafe {
        observe!("foreach {}", ffi::event_base_foreach_event(base, Some(each), (&raw mut seen).cast()));
    }
    seen.sort_unstable();
    observe!("events {seen:?}");
    observe!("dump of {} lines", dump_lines());
    // SAFETY: the base is alive.
    unsafe {
        observe!("npriorities {}", ffi::event_base_get_npriorities(base));
    }
}

unsafe extern "C" fn each(_base: *const ffi::event_base, event: *const ffi::event, arg: *mut c_void) -> c_int {
    // SAFETY: the list of `look`; the event is alive. Those of event_base_once have other callbacks.
    unsafe {
        let callback = ffi::event_get_callback(event).map_or(0, |callback| callback as usize);
        if callback == super::callbacks::called as *const () as usize {
            (*arg.cast::<Vec<usize>>()).push(ffi::event_get_callback_arg(event).addr() - 1);
        }
    }
    0
}

fn dump_lines() -> usize {
    let (mut text, mut len) = (null_mut(), 0);
    // SAFETY: a stream into memory, closed and freed here.
    unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut len);
        ffi::event_base_dump_events(base(), stream);
        libc::fclose(stream);
        let lines = std::slice::from_raw_parts(text.cast::<u8>(), len).iter().filter(|byte| **byte == b'\n').count();
        libc::free(text.cast());
        lines
    }
}

/// Enough descriptors, with numbers high enough, for every table to grow. Each is called once.
fn many(count: u16, from: u16) -> Verdict {
    let mut called = vec![0_u32; count.into()];
    let mut fds = Vec::new();
    let mut events = Vec::new();
    // SAFETY: base alive; events are freed and descriptors closed before the counts go.
    unsafe {
        for counter in &mut called {
            let [near, far] = sockets::pair().map_err(|error| format!("no descriptors: {error}"))?;
            let fd = libc::fcntl(near.as_raw_fd(), libc::F_DUPFD_CLOEXEC, c_int::from(from));
            sockets::write(far.as_raw_fd(), b"x");
            let event = ffi::event_new(base(), fd, READ, Some(one_of_many), std::ptr::from_mut(counter).cast());
            ffi::event_priority_set(event, 0);
            if ffi::event_add(event, null()) != 0 {
                return Err(format!("descriptor {fd} is refused"));
            }
            events.push(event);
            fds.push((fd, far));
        }
        for _ in 0..30 {
            with(|state| state.calls = 0);
            ffi::event_base_loop(base(), (ffi::EVLOOP_NONBLOCK | ffi::EVLOOP_ONCE) as c_int);
        }
        events.iter().for_each(|event| ffi::event_free(*event));
        for (fd, _) in &fds {
            libc::close(*fd);
        }
    }
    match called.iter().position(|times| *times != 1) {
        Some(which) => Err(format!("descriptor {which} of {count}: called {} times, not once", called[which])),
        None => Ok(()),
    }
}

unsafe extern "C" fn one_of_many(_fd: c_int, _what: c_short, arg: *mut c_void) {
    // SAFETY: the event's own counter.
    unsafe { *arg.cast::<u32>() += 1 };
}

fn fork(child: bool) -> Verdict {
    let reinit = || {
        // SAFETY: the base is alive.
        if unsafe { ffi::event_reinit(base()) } == 0 { Ok(()) } else { Err("event_reinit failed".to_owned()) }
    };
    if child {
        process::go_on_in_child()?;
        reinit()
    } else {
        process::in_child(|| {
            reinit()?;
            (0..SLOTS).for_each(del);
            Ok(())
        })
    }
}

pub(crate) fn finish() -> Verdict {
    (0..SLOTS).for_each(free);
    if !base().is_null() {
        // SAFETY: its events are freed; those of event_base_once are its own.
        unsafe { ffi::event_base_free(base()) };
        clock::watch(null_mut());
    }
    flush();
    with(|state| state.channels = Default::default());
    match with(|state| state.finalizers) {
        0 => Ok(()),
        left => Err(format!("{left} finalisers were never called")),
    }
}
