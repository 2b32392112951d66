//! What there is, and what is called back. Callbacks come from within calls, so that everything is in cells that are
//! borrowed for moments only.

use super::op::THINGS;
use crate::family::Verdict;
use crate::{observe, violate};
use libevent_sys::ffi;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_short, c_void};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::ptr;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bufferevent on a socket, or waiting for one.
    Socket,
    Pair,
    Filter,
    Buffer,
    Listener,
    Event,
}

/// A thing that lives.
pub(crate) struct Thing {
    pub(crate) kind: Kind,
    pub(crate) raw: *mut c_void,
    /// The other end of its socket.
    pub(crate) peer: Option<UnixStream>,
    /// Our end, where the library does not close it.
    pub(crate) own: Option<OwnedFd>,
    /// A filter's bufferevent goes with it.
    pub(crate) takes: Option<usize>,
    /// What its next callback frees.
    pub(crate) victim: Option<usize>,
    /// Needs the base; a buffer whose callbacks are deferred does.
    pub(crate) bound: bool,
    /// Bytes written to it, read from it, sent by the peer, received by the peer.
    pub(crate) sent: usize,
    pub(crate) got: usize,
    pub(crate) peer_sent: usize,
    pub(crate) peer_got: usize,
    /// Its bytes are its own: no filter over it, no other socket in between.
    pub(crate) checked: bool,
    /// References that the case holds on top.
    pub(crate) references: u32,
    pub(crate) buried: *const Tag,
}

/// The argument of a callback: it lives for ever, so that a late call is seen and not a crash of ours.
pub(crate) struct Tag {
    pub(crate) index: usize,
    pub(crate) world: &'static World,
    /// The thing was freed.
    pub(crate) dead: Cell<bool>,
}

/// Everything of a case.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) base: Cell<*mut ffi::event_base>,
    pub(crate) things: RefCell<Vec<Option<Thing>>>,
    pub(crate) threads: Cell<bool>,
    tags: RefCell<Vec<*mut Tag>>,
    /// What was called back during an operation; how often and in which order is nobody's promise.
    log: RefCell<Vec<String>>,
    lent: Cell<usize>,
    returned: Cell<usize>,
}

impl World {
    pub(crate) fn leak() -> &'static World {
        let world = World::default();
        world.things.borrow_mut().resize_with(THINGS, || None);
        Box::leak(Box::new(world))
    }

    /// The base; a new one where it was freed.
    pub(crate) fn base(&self) -> *mut ffi::event_base {
        if self.base.get().is_null() {
            // SAFETY: no precondition.
            self.base.set(unsafe { ffi::event_base_new() });
        }
        self.base.get()
    }

    pub(crate) fn tag(&'static self, index: usize) -> *mut Tag {
        let tag = Box::into_raw(Box::new(Tag { index, world: self, dead: Cell::new(false) }));
        self.tags.borrow_mut().push(tag);
        tag
    }

    /// Puts a thing where there is none.
    pub(crate) fn put(&self, index: usize, kind: Kind, raw: *mut c_void, tag: *const Tag) {
        let thing = Thing {
            kind,
            raw,
            peer: None,
            own: None,
            takes: None,
            victim: None,
            bound: kind != Kind::Buffer,
            sent: 0,
            got: 0,
            peer_sent: 0,
            peer_got: 0,
            checked: true,
            references: 0,
            buried: tag,
        };
        self.things.borrow_mut()[index] = Some(thing);
    }

    /// Looks at or changes a thing, if there is one of such a kind.
    pub(crate) fn with<T>(&self, index: usize, use_it: impl FnOnce(&mut Thing) -> T) -> Option<T> {
        self.things.borrow_mut()[index].as_mut().map(use_it)
    }

    pub(crate) fn kind(&self, index: usize) -> Option<Kind> {
        self.with(index, |thing| thing.kind)
    }

    /// The handle of a bufferevent of any kind.
    pub(crate) fn bufferevent(&self, index: usize) -> Option<*mut ffi::bufferevent> {
        let is = |kind| matches!(kind, Kind::Socket | Kind::Pair | Kind::Filter);
        self.with(index, |thing| is(thing.kind).then_some(thing.raw.cast()))?
    }

    pub(crate) fn buffer(&self, index: usize) -> Option<*mut ffi::evbuffer> {
        self.with(index, |thing| (thing.kind == Kind::Buffer).then_some(thing.raw.cast()))?
    }

    /// Frees a thing. What the library still does for it must not come back as a callback.
    pub(crate) fn free(&self, index: usize) {
        // What a filter takes with it must not be freed before.
        let owner = self
            .things
            .borrow()
            .iter()
            .position(|thing| thing.as_ref().is_some_and(|thing| thing.takes == Some(index)));
        if let Some(owner) = owner {
            return self.free(owner);
        }
        let Some(thing) = self.things.borrow_mut()[index].take() else { return };
        // SAFETY: tags live for ever.
        unsafe { (*thing.buried).dead.set(true) };
        let mut below = Vec::new();
        let mut takes = thing.takes;
        while let Some(under) = takes.and_then(|under| self.things.borrow_mut()[under].take()) {
            takes = under.takes;
            // SAFETY: tags live for ever; the references are the case's.
            unsafe {
                (*under.buried).dead.set(true);
                (0..under.references).for_each(|_| {
                    ffi::bufferevent_decref(under.raw.cast());
                });
            }
            // Our descriptors close after the filter is gone.
            below.push(under);
        }
        // SAFETY: the thing is alive, with as many references as counted; its base is, too.
        unsafe {
            match thing.kind {
                Kind::Buffer => ffi::evbuffer_free(thing.raw.cast()),
                Kind::Listener => ffi::evconnlistener_free(thing.raw.cast()),
                Kind::Event => ffi::event_free(thing.raw.cast()),
                Kind::Socket | Kind::Pair | Kind::Filter => {
                    (0..thing.references).for_each(|_| {
                        ffi::bufferevent_decref(thing.raw.cast());
                    });
                    ffi::bufferevent_free(thing.raw.cast());
                }
            }
        }
    }

    /// Frees the base after everything that needs it.
    pub(crate) fn free_base(&self, first: usize, backwards: bool, turn: bool) {
        for step in 0..THINGS {
            let index = if backwards { first + THINGS - step } else { first + step } % THINGS;
            if self.with(index, |thing| thing.bound) == Some(true) {
                self.free(index);
            }
        }
        let base = self.base.replace(ptr::null_mut());
        if !base.is_null() {
            // SAFETY: alive; nothing that needs it is left.
            unsafe {
                if turn {
                    ffi::event_base_loop(base, ffi::EVLOOP_NONBLOCK as c_int);
                }
                ffi::event_base_free(base);
            }
        }
    }

    /// Observes what was called back: each kind of call once.
    pub(crate) fn say(&self) {
        let mut log = self.log.take();
        log.sort();
        log.dedup();
        for line in log {
            observe!("{line}");
        }
        observe!("returned {}", self.returned.get());
    }

    pub(crate) fn log(&self, line: String) {
        self.log.borrow_mut().push(line);
    }

    /// Lends bytes that come back through [`returned`].
    pub(crate) fn lend(&'static self, bytes: Vec<u8>) -> (*const u8, usize, *mut c_void) {
        let lent = Box::new(Lent { world: self, sum: sum(&bytes), bytes });
        self.lent.set(self.lent.get() + 1);
        let (data, len) = (lent.bytes.as_ptr(), lent.bytes.len());
        (data, len, Box::into_raw(lent).cast())
    }

    /// Frees all, and looks whether everything came back.
    pub(crate) fn finish(&'static self) -> Verdict {
        // What was deferred ends in the loop.
        self.free_base(0, false, true);
        (0..THINGS).for_each(|index| self.free(index));
        self.say();
        for tag in self.tags.take() {
            // SAFETY: nothing is left that could call back.
            drop(unsafe { Box::from_raw(tag) });
        }
        let (lent, returned) = (self.lent.get(), self.returned.get());
        // SAFETY: `leak` made it, and nobody uses it any more.
        drop(unsafe { Box::from_raw(ptr::from_ref(self).cast_mut()) });
        if lent == returned { Ok(()) } else { Err(format!("{returned} of {lent} references came back")) }
    }
}

struct Lent {
    world: &'static World,
    sum: u64,
    bytes: Vec<u8>,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum * 31 % 1_000_000_007 + u64::from(*byte))
}

/// The byte at a place of every stream.
pub(crate) fn stream(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Cleanup of a reference.
pub(crate) unsafe extern "C" fn returned(_data: *const c_void, _len: usize, arg: *mut c_void) {
    // SAFETY: made by `lend`; it comes back once.
    let lent = unsafe { Box::from_raw(arg.cast::<Lent>()) };
    if sum(&lent.bytes) != lent.sum {
        violate!("bytes that were lent have changed");
    }
    lent.world.returned.set(lent.world.returned.get() + 1);
}

/// A callback begins: nothing freed may call back. Frees what was asked for.
fn called(arg: *mut c_void, what: &str) -> Option<(&'static World, usize)> {
    // SAFETY: tags live until the end of the case.
    let tag = unsafe { &*arg.cast::<Tag>() };
    tag.world.log(format!("{what} of {}", tag.index));
    if tag.dead.get() {
        violate!("{what} of {} after it was freed", tag.index);
        return None;
    }
    Some((tag.world, tag.index))
}

fn free_victim(world: &World, index: usize) {
    if let Some(victim) = world.with(index, |thing| thing.victim.take()).flatten() {
        world.free(victim);
    }
}

/// Data callback of bufferevents: everything is read and compared.
pub(crate) unsafe extern "C" fn on_read(raw: *mut ffi::bufferevent, arg: *mut c_void) {
    let Some((world, index)) = called(arg, "read") else { return };
    let mut bytes = vec![0; 1 << 16];
    // SAFETY: the bufferevent is alive during its callback.
    let len = unsafe { ffi::bufferevent_read(raw, bytes.as_mut_ptr().cast(), bytes.len()) };
    let fine = world.with(index, |thing| {
        let fine = !thing.checked || bytes[..len] == stream(thing.got, len);
        thing.got += len;
        fine
    });
    if fine == Some(false) {
        violate!("{index} reads other bytes than were sent");
    }
    free_victim(world, index);
}

pub(crate) unsafe extern "C" fn on_write(_raw: *mut ffi::bufferevent, arg: *mut c_void) {
    if let Some((world, index)) = called(arg, "write") {
        free_victim(world, index);
    }
}

pub(crate) unsafe extern "C" fn on_event(_raw: *mut ffi::bufferevent, what: c_short, arg: *mut c_void) {
    if let Some((world, index)) = called(arg, &format!("event {what:#x}")) {
        free_victim(world, index);
    }
}

pub(crate) unsafe extern "C" fn on_buffer(
    _raw: *mut ffi::evbuffer,
    _info: *const ffi::evbuffer_cb_info,
    arg: *mut c_void,
) {
    // A buffer that is freed while its callbacks are deferred still has them called.
    // SAFETY: tags live until the end of the case.
    let tag = unsafe { &*arg.cast::<Tag>() };
    tag.world.log(format!("change of {}", tag.index));
}

pub(crate) unsafe extern "C" fn on_fire(fd: c_int, what: c_short, arg: *mut c_void) {
    let mut bytes = [0_u8; 4096];
    // What is there would keep the loop busy for ever, and so would the end of the stream.
    let last = loop {
        // SAFETY: the event's descriptor outlives it; reads what fits.
        let len = unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
        if len <= 0 {
            break len;
        }
    };
    // SAFETY: tags live until the end of the case.
    let tag = unsafe { &*arg.cast::<Tag>() };
    if last == 0 && !tag.dead.get() {
        // SAFETY: the event is alive.
        tag.world.with(tag.index, |thing| unsafe { ffi::event_del(thing.raw.cast()) });
    }
    if let Some((world, index)) = called(arg, &format!("fire {what}")) {
        free_victim(world, index);
    }
}

pub(crate) unsafe extern "C" fn on_accept(
    _listener: *mut ffi::evconnlistener,
    fd: c_int,
    _address: *mut libc::sockaddr,
    _len: c_int,
    arg: *mut c_void,
) {
    // SAFETY: accepted for us.
    unsafe { libc::close(fd) };
    if let Some((world, index)) = called(arg, "accept") {
        free_victim(world, index);
    }
}
