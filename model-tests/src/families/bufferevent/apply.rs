//! What each operation of family `bufferevent` does.

use super::callbacks::{argument, event, filter, free, read, take, write, wrote};
use super::link::{End, Link, bev, with, with_link};
use super::{Kind, Op, Reader};
use crate::base::{Backend, Plan};
use crate::family::Verdict;
use crate::{clock, observe, sockets, violate};
use libevent_sys::{READ, WRITE, ffi};
use std::ffi::c_int;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::ptr::null_mut;

// The bindings leave these two out: their names begin like nobody else's.
unsafe extern "C" {
    fn ev_token_bucket_cfg_new(
        read_rate: usize,
        read_burst: usize,
        write_rate: usize,
        write_burst: usize,
        tick: *const libc::timeval,
    ) -> *mut ffi::ev_token_bucket_cfg;
    fn ev_token_bucket_cfg_free(config: *mut ffi::ev_token_bucket_cfg);
}

pub(crate) fn apply(op: &Op) -> Verdict {
    if with(|state| state.base.is_null()) {
        let backend = if let Op::Base(backend) = op { *backend } else { Backend::Epoll };
        let base = Plan::plain(backend).make()?;
        with(|state| state.base = base);
    }
    let base = with(|state| state.base);
    match *op {
        Op::Base(_) => {}
        Op::Open(link, kind, defer, unlock, near, far) => open(link, kind, defer, unlock, [near, far])?,
        Op::Write(link, end, len) => write(link, end, len),
        Op::Read(link, end, len) => drop(take(link, end, len)),
        Op::Reader(link, end, reader) => drop(with_link(link, |link| link.ends[end % 2].reader = reader)),
        Op::Stall(link, stalled) => drop(with_link(link, |link| link.stalled = stalled)),
        Op::PeerWrite(link, len) => peer_write(link, len),
        Op::PeerShutdown(link) => {
            with_link(link, |link| {
                if let Some(peer) = &link.peer {
                    // SAFETY: an open socket.
                    unsafe { libc::shutdown(peer.as_raw_fd(), libc::SHUT_WR) };
                }
            });
        }
        Op::PeerClose(link) => drop(with_link(link, |link| (link.peer, link.torn) = (None, true))),
        Op::SetFd(link) => set_fd(link)?,
        Op::Free(link, end) => free(link, end),
        Op::Settle => settle(),
        Op::Pass(ms) => {
            clock::pass(base, ms);
            settle();
        }
        _ => on_bufferevent(op),
    }
    Ok(())
}

/// Operations on one bufferevent, if it is there.
fn on_bufferevent(op: &Op) {
    let (Op::Enable(link, end, _)
    | Op::Disable(link, end, _)
    | Op::Watermark(link, end, ..)
    | Op::Timeouts(link, end, ..)
    | Op::Rate(link, end, _)
    | Op::Group(link, end, ..)
    | Op::MaxSingle(link, end, ..)
    | Op::Decrement(link, end, _)
    | Op::Flush(link, end, ..)
    | Op::Trigger(link, end, ..)) = *op
    else {
        return;
    };
    let bev = bev(link, end);
    if bev.is_null() {
        return;
    }
    let kind = with_link(link, |link| link.kind);
    // SAFETY: alive; configurations and groups live until the end of the case.
    let returned = unsafe {
        match *op {
            Op::Enable(_, _, what) => ffi::bufferevent_enable(bev, what),
            Op::Disable(_, _, what) => ffi::bufferevent_disable(bev, what),
            Op::Watermark(_, _, what, low, high) => {
                ffi::bufferevent_setwatermark(bev, what, low, high);
                0
            }
            Op::Timeouts(_, _, reading, writing) => {
                let [reading, writing] = [reading, writing].map(|ms| ms.map(clock::timeval));
                let pointer = |tv: &Option<_>| tv.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
                ffi::bufferevent_set_timeouts(bev, pointer(&reading), pointer(&writing))
            }
            // Limits are for sockets.
            Op::Rate(..) | Op::Group(..) | Op::MaxSingle(..) | Op::Decrement(..)
                if matches!(kind, Some(Kind::Pair | Kind::FilterPair)) =>
            {
                0
            }
            Op::Rate(_, _, limit) => {
                let config = limit.map_or(null_mut(), |(rate, burst, ms)| config(rate, burst, ms));
                ffi::bufferevent_set_rate_limit(bev, config)
            }
            Op::Group(_, _, rate, burst) => {
                let old = with_link(link, |link| link.ends[end % 2].group);
                if old.is_some_and(|old| !old.is_null()) {
                    return;
                }
                let group = ffi::bufferevent_rate_limit_group_new(with(|state| state.base), config(rate, burst, 100));
                with(|state| state.groups.push(group));
                with_link(link, |link| link.ends[end % 2].group = group);
                ffi::bufferevent_add_to_rate_limit_group(bev, group)
            }
            Op::MaxSingle(_, _, reading, writing) => {
                ffi::bufferevent_set_max_single_read(bev, reading) + ffi::bufferevent_set_max_single_write(bev, writing)
            }
            Op::Decrement(_, _, bytes) => {
                if ffi::bufferevent_get_token_bucket_cfg(bev).is_null() {
                    return;
                }
                ffi::bufferevent_decrement_read_limit(bev, bytes)
            }
            Op::Flush(_, _, what, mode) => ffi::bufferevent_flush(bev, what, mode),
            Op::Trigger(_, _, what, ignore) => {
                let options = ffi::bufferevent_trigger_options::BEV_TRIG_DEFER_CALLBACKS
                    | if ignore { ffi::bufferevent_trigger_options::BEV_TRIG_IGNORE_WATERMARKS } else { 0 };
                ffi::bufferevent_trigger(bev, what, options as c_int);
                0
            }
            _ => 0,
        }
    };
    observe!("returned {returned}");
}

fn config(rate: usize, burst: usize, tick_ms: u64) -> *mut ffi::ev_token_bucket_cfg {
    let tick = clock::timeval(tick_ms);
    // SAFETY: libevent copies the tick.
    let config = unsafe { ev_token_bucket_cfg_new(rate, burst, rate, burst, &raw const tick) };
    with(|state| state.configs.push(config));
    config
}

fn open(link: usize, kind: Kind, defer: bool, unlock: bool, readers: [Reader; 2]) -> Verdict {
    close(link);
    use ffi::bufferevent_options as options;
    let base = with(|state| state.base);
    let mut flags = options::BEV_OPT_CLOSE_ON_FREE;
    if defer {
        flags |= options::BEV_OPT_DEFER_CALLBACKS | if unlock { options::BEV_OPT_UNLOCK_CALLBACKS } else { 0 };
    }
    let flags = flags as c_int;
    let (mut ends, mut peer, mut listener) = (readers.map(End::new), None, None);
    // SAFETY: the base is alive; bufferevents own their sockets and what is below them.
    unsafe {
        let socket = |peer: &mut Option<OwnedFd>| {
            let [near, far] = sockets::pair().map_err(|error| format!("no sockets: {error}"))?;
            *peer = Some(far);
            Ok::<_, String>(ffi::bufferevent_socket_new(base, near.into_raw_fd(), flags))
        };
        let over = |below| ffi::bufferevent_filter_new(below, Some(filter), Some(filter), flags, None, null_mut());
        match kind {
            Kind::Socket => ends[0].bev = socket(&mut peer)?,
            Kind::FilterSocket => ends[0].bev = over(socket(&mut peer)?),
            Kind::Pair | Kind::FilterPair => {
                let mut pair = [null_mut(); 2];
                ffi::bufferevent_pair_new(base, flags, pair.as_mut_ptr());
                let near = if kind == Kind::FilterPair { over(pair[0]) } else { pair[0] };
                (ends[0].bev, ends[1].bev) = (near, pair[1]);
            }
            Kind::Connect | Kind::Refused => {
                let made = TcpListener::bind("127.0.0.1:0").and_then(|it| {
                    it.set_nonblocking(true)?;
                    let address = it.local_addr()?;
                    Ok((it, address))
                });
                let (made, address) = made.map_err(|error| format!("no loopback: {error}"))?;
                // Nobody listens there once it is closed.
                listener = (kind == Kind::Connect).then_some(made);
                ends[0].bev = ffi::bufferevent_socket_new(base, -1, flags);
                connect(ends[0].bev, address);
            }
        }
        for (number, end) in ends.iter().enumerate().filter(|(_, end)| !end.bev.is_null()) {
            ffi::bufferevent_setcb(end.bev, Some(read), Some(wrote), Some(event), argument(link, number));
            ffi::bufferevent_enable(end.bev, READ | WRITE);
        }
    }
    with(|state| state.links[link % 2] = Some(Link { kind, ends, peer, stalled: false, torn: false, listener }));
    Ok(())
}

unsafe fn connect(bev: *mut ffi::bufferevent, address: SocketAddr) {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: alive; libevent copies the address.
    let returned =
        unsafe { ffi::bufferevent_socket_connect(bev, (&raw const address).cast(), size_of_val(&address) as c_int) };
    observe!("connect {returned}");
}

fn peer_write(link: usize, len: usize) {
    with_link(link, |link| {
        let Some(fd) = link.peer.as_ref().map(OwnedFd::as_raw_fd) else { return };
        let bytes = link.send(1, len);
        let taken = sockets::write(fd, &bytes);
        link.unsend(1, len - taken);
    });
}

fn set_fd(link: usize) -> Verdict {
    let bev = bev(link, 0);
    if bev.is_null() || with_link(link, |link| link.kind) != Some(Kind::Socket) {
        return Ok(());
    }
    let [near, far] = sockets::pair().map_err(|error| format!("no sockets: {error}"))?;
    // SAFETY: alive; the old socket is closed here, since bufferevent_setfd leaves it to us; what has
    // been read or waits to be written stays with the bufferevent, and is emptied here: a new stream begins.
    unsafe {
        let old = ffi::bufferevent_getfd(bev);
        ffi::bufferevent_setfd(bev, near.into_raw_fd());
        if old >= 0 {
            libc::close(old);
        }
        let input = ffi::bufferevent_get_input(bev);
        ffi::evbuffer_drain(input, ffi::evbuffer_get_length(input));
        let left = ffi::evbuffer_get_length(ffi::bufferevent_get_output(bev));
        with_link(link, |link| {
            // What waits is sent to the new peer.
            let sent = link.ends[0].sent;
            link.ends[1].received = sent - left;
            (link.ends[0].received, link.ends[1].sent) = (0, 0);
            link.peer = Some(far);
        });
    }
    Ok(())
}

/// Turns the loop and lets peers read until nothing moves; then looks at everything.
fn settle() {
    let base = with(|state| state.base);
    for _ in 0..200 {
        let before = clock::ready();
        clock::settle(base);
        let moved = with(|state| state.links.iter_mut().flatten().any(peer_read));
        if !moved && clock::ready() == before {
            break;
        }
    }
    for number in 0..2 {
        with_link(number, |link| look(number, link));
    }
}

/// The plain socket at the far end takes what is there.
fn peer_read(link: &mut Link) -> bool {
    if link.peer.is_none()
        && let Some(Ok((socket, _))) = link.listener.as_ref().map(TcpListener::accept)
    {
        let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        link.peer = ready.ok().map(|()| socket.into());
    }
    let Some(fd) = link.peer.as_ref().map(OwnedFd::as_raw_fd).filter(|_| !link.stalled) else { return false };
    let (bytes, _) = sockets::read(fd, usize::MAX);
    if link.kind == Kind::Connect {
        sockets::acknowledge(fd);
    }
    if let Err(error) = link.receive(1, &bytes) {
        violate!("{error}");
    }
    !bytes.is_empty()
}

fn look(number: usize, link: &mut Link) {
    for (place, end) in link.ends.iter_mut().enumerate() {
        let events = std::mem::take(&mut end.events).join(", ");
        let called = (std::mem::take(&mut end.read_called), std::mem::take(&mut end.write_called));
        if end.bev.is_null() {
            observe!("{number}.{place}: events {events}");
            continue;
        }
        // SAFETY: alive.
        unsafe {
            let input = ffi::evbuffer_get_length(ffi::bufferevent_get_input(end.bev));
            let output = ffi::evbuffer_get_length(ffi::bufferevent_get_output(end.bev));
            let enabled = ffi::bufferevent_get_enabled(end.bev);
            observe!("{number}.{place}: input {input}, enabled {enabled:#x}, called {called:?}, events {events}");
            // How much a full socket takes is the kernel's affair and that of the sizes written.
            if !link.stalled {
                observe!("{number}.{place}: output {output}");
            }
        }
    }
    if !link.torn && !link.stalled {
        let received = [link.ends[0].received, link.ends[1].received];
        observe!("{number}: received {received:?}");
    }
}

fn close(link: usize) {
    free(link, 0);
    free(link, 1);
    with(|state| state.links[link % 2] = None);
}

pub(crate) fn finish() -> Verdict {
    let base = with(|state| state.base);
    if base.is_null() {
        return Ok(());
    }
    settle();
    close(0);
    close(1);
    let (groups, configs) = with(|state| (std::mem::take(&mut state.groups), std::mem::take(&mut state.configs)));
    // SAFETY: nothing uses them any more but callbacks that wait, which the loop runs first.
    unsafe {
        clock::settle(base);
        groups.iter().for_each(|group| ffi::bufferevent_rate_limit_group_free(*group));
        ffi::event_base_free(base);
        configs.iter().for_each(|config| ev_token_bucket_cfg_free(*config));
    }
    Ok(())
}
