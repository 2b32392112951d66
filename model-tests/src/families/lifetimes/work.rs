//! Using things, and freeing them.

use super::make::{keep, pair};
use super::op::{Op, THINGS};
use super::things::{Kind, World, returned, stream};
use crate::family::Verdict;
use crate::{note, observe};
use libevent_sys::ffi;
use std::ffi::{c_int, c_short};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;

pub(crate) fn apply(world: &'static World, op: &Op) -> Verdict {
    let at = |i: &u8| usize::from(*i) % THINGS;
    match op {
        Op::Write { i, len } | Op::WriteReference { i, len } => {
            write(world, at(i), usize::from(*len), matches!(op, Op::WriteReference { .. }));
        }
        Op::Move { from, to } => {
            let target = output(world, at(to));
            if let (Some(from), Some(target)) = (world.buffer(at(from)), target) {
                world.with(at(to), |thing| thing.checked = false);
                // SAFETY: both buffers are alive.
                observe!("move {}", unsafe { ffi::evbuffer_add_buffer(target, from) });
            }
        }
        Op::Take { from, to } => {
            if let (Some(from_raw), Some(to)) = (world.bufferevent(at(from)), world.buffer(at(to))) {
                // SAFETY: both are alive.
                let taken = unsafe {
                    let input = ffi::bufferevent_get_input(from_raw);
                    let taken = ffi::evbuffer_get_length(input);
                    ffi::bufferevent_read_buffer(from_raw, to);
                    taken
                };
                world.with(at(from), |thing| thing.got += taken);
            }
        }
        Op::Multicast { from, to } => {
            if at(from) != at(to)
                && let (Some(from), Some(to)) = (world.buffer(at(from)), world.buffer(at(to)))
            {
                // SAFETY: both buffers are alive. An empty one with chains is more than pristine can take.
                let result = unsafe {
                    ffi::evbuffer_add(to, c"x".as_ptr().cast(), 1);
                    ffi::evbuffer_add_buffer_reference(to, from)
                };
                observe!("multicast {result}");
            }
        }
        Op::PeerWrite { .. } | Op::PeerRead { .. } | Op::PeerClose { .. } => peer(world, op)?,
        Op::Activate { i } => {
            if world.kind(at(i)) == Some(Kind::Event) {
                world.with(at(i), |thing| {
                    // SAFETY: the event is alive.
                    unsafe { ffi::event_active(thing.raw.cast(), 0x02, 1) };
                });
            }
        }
        Op::Enable { i, read, write } | Op::Disable { i, read, write } => {
            let Some(raw) = world.bufferevent(at(i)) else { return Ok(()) };
            let what = if *read { 0x02 } else { 0 } | if *write { 0x04 } else { 0 };
            // SAFETY: the bufferevent is alive.
            let result = unsafe {
                match op {
                    Op::Enable { .. } => ffi::bufferevent_enable(raw, what as c_short),
                    _ => ffi::bufferevent_disable(raw, what as c_short),
                }
            };
            observe!("enable {result}");
        }
        Op::SetFd { i, none } => {
            if world.kind(at(i)) == Some(Kind::Socket) {
                set_fd(world, at(i), *none)?;
            }
        }
        Op::Incref { i } => {
            if let Some(raw) = world.bufferevent(at(i)) {
                // SAFETY: the bufferevent is alive; `free` gives the reference back.
                unsafe { ffi::bufferevent_incref(raw) };
                world.with(at(i), |thing| thing.references += 1);
            }
        }
        Op::FreeInCallback { i, victim } => {
            world.with(at(i), |thing| thing.victim = Some(at(victim)));
        }
        Op::Loop { turns } => {
            for _ in 0..turns % 8 {
                if !world.base.get().is_null() {
                    // SAFETY: the base is alive.
                    unsafe { ffi::event_base_loop(world.base.get(), ffi::EVLOOP_NONBLOCK as c_int) };
                }
            }
        }
        Op::Free { i } => world.free(at(i)),
        Op::FreeBase { first, backwards, turn } => world.free_base(at(first), *backwards, *turn),
        other => note!("{other:?} is done elsewhere"),
    }
    Ok(())
}

/// What bytes for a thing are put into.
fn output(world: &World, index: usize) -> Option<*mut ffi::evbuffer> {
    match world.bufferevent(index) {
        // SAFETY: the bufferevent is alive.
        Some(raw) => Some(unsafe { ffi::bufferevent_get_output(raw) }),
        None => world.buffer(index),
    }
}

fn write(world: &'static World, index: usize, len: usize, lend: bool) {
    let Some(target) = output(world, index) else { return };
    // Below a filter nobody else writes.
    let Some((true, from)) = world.with(index, |thing| (thing.checked, thing.sent)) else { return };
    let bytes = stream(from, len);
    world.with(index, |thing| thing.sent += len);
    // SAFETY: the buffer is alive. What is lent comes back through the cleanup.
    let result = unsafe {
        if lend {
            let (data, len, arg) = world.lend(bytes);
            ffi::evbuffer_add_reference(target, data.cast(), len, Some(returned), arg)
        } else {
            ffi::evbuffer_add(target, bytes.as_ptr().cast(), len)
        }
    };
    observe!("write {result}");
}

fn peer(world: &World, op: &Op) -> Verdict {
    let (Op::PeerWrite { i, .. } | Op::PeerRead { i } | Op::PeerClose { i }) = op else { return Ok(()) };
    let done = world.with(usize::from(*i) % THINGS, |thing| -> Verdict {
        let Some(mut peer) = thing.peer.as_ref() else { return Ok(()) };
        match op {
            Op::PeerWrite { len, .. } => {
                if let Ok(written) = peer.write(&stream(thing.peer_sent, usize::from(*len))) {
                    thing.peer_sent += written;
                }
            }
            Op::PeerRead { .. } => {
                let mut bytes = vec![0; 1 << 17];
                while let Ok(len @ 1..) = peer.read(&mut bytes) {
                    if thing.checked && bytes[..len] != stream(thing.peer_got, len) {
                        return Err(format!("the peer of {i} receives other bytes than were written"));
                    }
                    thing.peer_got += len;
                }
                if thing.checked && thing.peer_got > thing.sent {
                    return Err(format!("the peer of {i} receives more bytes than were written"));
                }
                observe!("peer of {i}: {}", thing.peer_got);
            }
            _ => thing.peer = None,
        }
        Ok(())
    });
    done.unwrap_or(Ok(()))
}

/// Closes what the bufferevent had and gives it another, or none.
fn set_fd(world: &World, index: usize, none: bool) -> Verdict {
    let Some(raw) = world.bufferevent(index) else { return Ok(()) };
    let owned = world.with(index, |thing| thing.own.is_some()).unwrap_or(false);
    let (near, far) = pair()?;
    // SAFETY: the bufferevent is alive; its old descriptor is ours to close.
    let result = unsafe {
        let old = ffi::bufferevent_getfd(raw);
        let result = ffi::bufferevent_setfd(raw, if none { -1 } else { near.as_raw_fd() });
        if !owned && old >= 0 {
            libc::close(old);
        }
        result
    };
    observe!("setfd {result}");
    let own = if none { None } else { keep(near, !owned) };
    world.with(index, |thing| {
        thing.own = own;
        thing.peer = (!none).then_some(far);
        thing.checked = false;
    });
    Ok(())
}
