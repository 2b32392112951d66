//! Making things.

use super::op::{Op, Options, THINGS};
use super::things::{Kind, World, on_accept, on_buffer, on_event, on_fire, on_read, on_write};
use crate::family::Verdict;
use crate::{locks, observe};
use libevent_sys::ffi;
use std::ffi::{c_int, c_short, c_uint};
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;

const READ_WRITE: c_short = 0x02 | 0x04;

pub(crate) fn apply(world: &'static World, op: &Op) -> Verdict {
    let at = |i: u8| usize::from(i) % THINGS;
    // A place that is taken keeps what it has.
    let free = |i: u8| world.kind(at(i)).is_none();
    match op {
        // What was made without locks knows none.
        Op::Threads if world.base.get().is_null() => {
            locks::install();
            world.threads.set(true);
        }
        Op::NewSocket { i, options } if free(*i) => {
            let (near, far) = pair()?;
            // SAFETY: base and descriptor are alive.
            let raw = unsafe { ffi::bufferevent_socket_new(world.base(), near.as_raw_fd(), bits(world, *options)) };
            watch(world, at(*i), Kind::Socket, raw);
            let own = keep(near, options.close);
            world.with(at(*i), |thing| (thing.peer, thing.own) = (Some(far), own));
        }
        Op::NewPair { i, j, options } if free(*i) && free(*j) && at(*i) != at(*j) => {
            let mut ends = [ptr::null_mut(); 2];
            // SAFETY: the base is alive; two ends are filled in.
            let made = unsafe { ffi::bufferevent_pair_new(world.base(), bits(world, *options), ends.as_mut_ptr()) };
            observe!("pair {made}");
            watch(world, at(*i), Kind::Pair, ends[0]);
            watch(world, at(*j), Kind::Pair, ends[1]);
        }
        Op::NewFilter { i, over, options } if free(*i) => filter(world, at(*i), at(*over), *options),
        Op::NewBuffer { i, deferred } if free(*i) => {
            let tag = world.tag(at(*i));
            // SAFETY: the buffer is new, the base alive.
            let raw = unsafe {
                let raw = ffi::evbuffer_new();
                if world.threads.get() {
                    ffi::evbuffer_enable_locking(raw, ptr::null_mut());
                }
                ffi::evbuffer_add_cb(raw, Some(on_buffer), tag.cast());
                if *deferred {
                    ffi::evbuffer_defer_callbacks(raw, world.base());
                }
                raw
            };
            world.put(at(*i), Kind::Buffer, raw.cast(), tag);
            world.with(at(*i), |thing| thing.bound = *deferred);
        }
        Op::NewListener { i, close, threadsafe } if free(*i) => listener(world, at(*i), *close, *threadsafe),
        Op::Connect { i, listener, options } if free(*i) => {
            let (address, len) = address(at(*listener));
            // It makes a socket of its own, and closes it only if asked.
            let options = Options { close: true, ..*options };
            // SAFETY: the base is alive.
            let raw = unsafe { ffi::bufferevent_socket_new(world.base(), -1, bits(world, options)) };
            watch(world, at(*i), Kind::Socket, raw);
            // SAFETY: the address is copied.
            let result = unsafe { ffi::bufferevent_socket_connect(raw, (&raw const address).cast(), len as c_int) };
            observe!("connect {result}");
        }
        Op::NewEvent { i, persist } if free(*i) => {
            let (near, far) = pair()?;
            let tag = world.tag(at(*i));
            let what = 0x02 | if *persist { 0x10 } else { 0 };
            // SAFETY: base and descriptor are alive, the descriptor until after the event.
            let raw = unsafe {
                let raw = ffi::event_new(world.base(), near.as_raw_fd(), what, Some(on_fire), tag.cast());
                ffi::event_add(raw, ptr::null());
                raw
            };
            world.put(at(*i), Kind::Event, raw.cast(), tag);
            world.with(at(*i), |thing| (thing.peer, thing.own) = (Some(far), Some(near.into())));
        }
        _ => {}
    }
    Ok(())
}

/// A connected pair of sockets that do not block.
pub(super) fn pair() -> Result<(UnixStream, UnixStream), String> {
    let (near, far) = UnixStream::pair().map_err(|error| error.to_string())?;
    for end in [&near, &far] {
        end.set_nonblocking(true).map_err(|error| error.to_string())?;
    }
    Ok((near, far))
}

/// Our end stays ours where the library does not close it.
pub(super) fn keep(near: UnixStream, library_closes: bool) -> Option<OwnedFd> {
    if !library_closes {
        return Some(near.into());
    }
    let _ = near.into_raw_fd();
    None
}

fn bits(world: &World, options: Options) -> c_int {
    use ffi::bufferevent_options as bit;
    let threadsafe = options.threadsafe && world.threads.get();
    let bits = [
        (options.close, bit::BEV_OPT_CLOSE_ON_FREE),
        (options.defer, bit::BEV_OPT_DEFER_CALLBACKS),
        (threadsafe, bit::BEV_OPT_THREADSAFE),
        // Only with deferred callbacks.
        (options.unlock && options.defer && threadsafe, bit::BEV_OPT_UNLOCK_CALLBACKS),
    ];
    bits.iter().filter(|(on, _)| *on).map(|(_, bit)| *bit as c_int).sum()
}

fn watch(world: &'static World, index: usize, kind: Kind, raw: *mut ffi::bufferevent) {
    observe!("made {}", !raw.is_null());
    if raw.is_null() {
        return;
    }
    let tag = world.tag(index);
    world.put(index, kind, raw.cast(), tag);
    // SAFETY: the bufferevent is new; the tag lives until the end of the case.
    unsafe {
        ffi::bufferevent_setcb(raw, Some(on_read), Some(on_write), Some(on_event), tag.cast());
        ffi::bufferevent_enable(raw, READ_WRITE);
    }
}

fn filter(world: &'static World, index: usize, over: usize, options: Options) {
    let Some(under) = world.bufferevent(over) else { return };
    if index == over || world.with(over, |thing| !thing.checked) == Some(true) {
        return;
    }
    let bits = bits(world, options);
    // SAFETY: the bufferevent below is alive, and no other filter is over it.
    let raw = unsafe { ffi::bufferevent_filter_new(under, None, None, bits, None, ptr::null_mut()) };
    watch(world, index, Kind::Filter, raw);
    world.with(over, |thing| thing.checked = false);
    world.with(index, |thing| thing.takes = options.close.then_some(over));
}

fn listener(world: &'static World, index: usize, close: bool, threadsafe: bool) {
    let (address, len) = address(index);
    let mut flags = 0x02; // LEV_OPT_CLOSE_ON_FREE: there is nobody else to close it
    flags |= if close { 0x04 } else { 0 }; // LEV_OPT_CLOSE_ON_EXEC
    flags |= if threadsafe && world.threads.get() { 0x10 } else { 0 }; // LEV_OPT_THREADSAFE
    let tag = world.tag(index);
    // SAFETY: the base is alive; the address is copied.
    let raw = unsafe {
        ffi::evconnlistener_new_bind(
            world.base(),
            Some(on_accept),
            tag.cast(),
            flags as c_uint,
            16,
            (&raw const address).cast(),
            len as c_int,
        )
    };
    observe!("listener {}", !raw.is_null());
    if !raw.is_null() {
        world.put(index, Kind::Listener, raw.cast(), tag);
    }
}

/// An abstract name, of this process and thing alone.
fn address(index: usize) -> (libc::sockaddr_un, usize) {
    // SAFETY: numbers and bytes.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let name = format!("model-tests-{}-{index}", std::process::id());
    for (to, from) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    (address, size_of::<libc::sa_family_t>() + 1 + name.len())
}
