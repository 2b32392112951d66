//! Links of family `bufferevent`, and the model of a stream: every byte has its value from its place,
//! so that what arrives is known to be what was sent, in order, without a gap.

use super::{Kind, Reader};
use libevent_sys::ffi;
use std::cell::RefCell;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::ptr::null_mut;

/// What a filter does to every byte, in both directions.
pub(crate) const CHANGE: u8 = 0x5a;

/// One end: a bufferevent, or null where there is a plain socket or nothing any more.
pub(crate) struct End {
    pub(crate) bev: *mut ffi::bufferevent,
    pub(crate) reader: Reader,
    /// It answers once: how many calls a stream takes is open.
    pub(crate) answered: bool,
    /// Bytes sent from here, and received here, since the link has its present sockets.
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// Whether callbacks came since the last rest; events in order.
    pub(crate) read_called: bool,
    pub(crate) write_called: bool,
    pub(crate) events: Vec<String>,
    pub(crate) group: *mut ffi::bufferevent_rate_limit_group,
}

/// Two ends.
pub(crate) struct Link {
    pub(crate) kind: Kind,
    pub(crate) ends: [End; 2],
    /// The plain socket at end 1.
    pub(crate) peer: Option<OwnedFd>,
    pub(crate) stalled: bool,
    /// End 0 was freed or its socket replaced with bytes under way: how many arrive is open.
    pub(crate) torn: bool,
    pub(crate) listener: Option<TcpListener>,
}

/// The state of a case.
pub(crate) struct State {
    pub(crate) base: *mut ffi::event_base,
    pub(crate) links: [Option<Link>; 2],
    pub(crate) configs: Vec<*mut ffi::ev_token_bucket_cfg>,
    pub(crate) groups: Vec<*mut ffi::bufferevent_rate_limit_group>,
}

thread_local! {
    static STATE: RefCell<State> = const {
        RefCell::new(State { base: null_mut(), links: [None, None], configs: Vec::new(), groups: Vec::new() })
    };
}

/// Uses the state; never across a call into libevent that calls back.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(use_it)
}

/// Uses a link, if there is one.
pub(crate) fn with_link<T>(link: usize, use_it: impl FnOnce(&mut Link) -> T) -> Option<T> {
    with(|state| state.links[link % 2].as_mut().map(use_it))
}

/// The bufferevent at an end; null if there is none.
pub(crate) fn bev(link: usize, end: usize) -> *mut ffi::bufferevent {
    with_link(link, |link| link.ends[end % 2].bev).unwrap_or(null_mut())
}

impl End {
    pub(crate) fn new(reader: Reader) -> End {
        End {
            bev: null_mut(),
            reader,
            answered: false,
            sent: 0,
            received: 0,
            read_called: false,
            write_called: false,
            events: Vec::new(),
            group: null_mut(),
        }
    }
}

impl Link {
    /// The next `len` bytes that end `end` sends.
    pub(crate) fn send(&mut self, end: usize, len: usize) -> Vec<u8> {
        let from = self.ends[end].sent;
        self.ends[end].sent += len;
        (from..from + len).map(|at| byte(end, at)).collect()
    }

    /// Bytes that were not taken after all.
    pub(crate) fn unsend(&mut self, end: usize, len: usize) {
        self.ends[end].sent -= len;
    }

    /// What arrives at `end` continues what the other one sent.
    pub(crate) fn receive(&mut self, end: usize, bytes: &[u8]) -> Result<(), String> {
        let from = self.ends[end].received;
        let change = if matches!(self.kind, Kind::FilterSocket | Kind::FilterPair) { CHANGE } else { 0 };
        self.ends[end].received += bytes.len();
        if let Some(at) = (0..bytes.len()).find(|at| bytes[*at] != byte(1 - end, from + at) ^ change) {
            return Err(format!("byte {} that arrives at end {end} is not the one that was sent", from + at));
        }
        if self.ends[end].received > self.ends[1 - end].sent {
            return Err(format!("end {end} gets more than was sent"));
        }
        Ok(())
    }
}

fn byte(end: usize, at: usize) -> u8 {
    let at = (at + 1) as u64 * (0x9e37_79b9 + end as u64 * 2);
    (at >> 13) as u8
}
