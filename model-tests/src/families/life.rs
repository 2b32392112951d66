//! `life`: what long-lived programs notice: memory that is kept when idle, growth, clocks that move, and
//! defaults that they rely on.

use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::{Rng, clock, memory, observe};
use libevent_sys::{READ, WRITE, ffi};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::ffi::{c_int, c_short, c_void};
use std::ptr::{null, null_mut};

/// Most that may stay allocated when everything is idle again.
const MOST_IDLE_BYTES: usize = 64 << 10;

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Plan),
    /// So many bytes in pieces through an evbuffer, which is idle then.
    Buffer(usize, usize),
    /// So many bytes through a pair of bufferevents, which are idle then.
    Pair(usize),
    /// The same through a socket.
    Socket(usize),
    /// Many times: events are made, added with timeouts, called or deleted, freed.
    Cycles(u8),
    /// In a callback that takes so many ms: which time libevent says it is, cached and not.
    Clock(u64, bool),
    /// The wall clock is set by so many s; then so many ms pass.
    Wall(i64, u64),
    /// A persistent timer over a stretch in which nobody turns the loop, in ms.
    Sleep(u64, u64),
    /// What a bufferevent does by default.
    Defaults,
}

/// The family.
pub(crate) struct Life {
    base: *mut ffi::event_base,
}

thread_local! {
    static BASE: Cell<*mut ffi::event_base> = const { Cell::new(null_mut()) };
    static SLOW_MS: Cell<u64> = const { Cell::new(0) };
    static UPDATE: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

impl Family for Life {
    type Op = Op;
    const NAME: &'static str = "life";
    const ABOUT: &'static str = "idle memory, growth, clocks that move, defaults that users see";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let plan = Plan { most_callbacks: None, most_ms: None, ..Plan::draw(rng, Backend::of(number), 2) };
        let mut ops = vec![Op::Base(plan)];
        for _ in 0..rng.usize(2..9) {
            ops.push(match rng.u8(..12) {
                0 => Op::Buffer(rng.usize(..3_000_000), [1000, 4096, 100_000][rng.usize(..3)]),
                1 => Op::Pair(rng.usize(..1_000_000)),
                2 => Op::Socket(rng.usize(..1_000_000)),
                3 => Op::Cycles(rng.u8(1..60)),
                4..=6 => Op::Clock(rng.u64(..9000), rng.bool()),
                7 | 8 => Op::Wall(rng.i64(-100_000..100_000), rng.u64(1..20_000)),
                9 | 10 => Op::Sleep(rng.u64(1..500), rng.u64(1..100_000)),
                _ => Op::Defaults,
            });
        }
        ops
    }

    fn start() -> Result<Self, String> {
        clock::start(clock::Waits::Local)?;
        Ok(Life { base: null_mut() })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            self.base = if let Op::Base(plan) = op { plan.make()? } else { Plan::plain(Backend::Epoll).make()? };
            BASE.set(self.base);
        }
        let before = memory::live_bytes();
        match *op {
            Op::Base(_) => {}
            Op::Buffer(len, piece) => buffer(len, piece, before)?,
            Op::Pair(len) => self.stream(len, before, true)?,
            Op::Socket(len) => self.stream(len, before, false)?,
            Op::Cycles(times) => self.cycles(times)?,
            Op::Clock(ms, update) => self.clock(ms, update),
            Op::Wall(seconds, ms) => {
                clock::move_wall(seconds * 1000);
                observe!("outside {:?}", time(self.base));
                // libevent looks at the wall clock every few seconds.
                clock::pass(self.base, 10_000 + ms);
                self.clock(10, false);
            }
            Op::Sleep(interval, ms) => self.sleep(interval, ms),
            Op::Defaults => self.defaults(),
        }
        Ok(())
    }

    fn finish(self) -> Verdict {
        if !self.base.is_null() {
            // SAFETY: its events are freed.
            unsafe { ffi::event_base_free(self.base) };
        }
        Ok(())
    }
}

fn idle(what: &str, before: usize) -> Verdict {
    let kept = memory::live_bytes().saturating_sub(before);
    if kept > MOST_IDLE_BYTES {
        Err(format!("{what} is idle and keeps more than {MOST_IDLE_BYTES} bytes"))
    } else {
        Ok(())
    }
}

fn buffer(len: usize, piece: usize, before: usize) -> Verdict {
    let bytes = vec![1_u8; piece];
    // SAFETY: made, used and freed here.
    unsafe {
        let buffer = ffi::evbuffer_new();
        for _ in 0..len / piece {
            ffi::evbuffer_add(buffer, bytes.as_ptr().cast(), piece);
        }
        ffi::evbuffer_drain(buffer, usize::MAX >> 1);
        let verdict = idle("an evbuffer", before);
        ffi::evbuffer_free(buffer);
        verdict
    }
}

/// What cached time a base has, in us, and what it is without a cache.
fn time(base: *mut ffi::event_base) -> (i64, i64) {
    let mut cached = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: alive; room for a time.
    unsafe { ffi::event_base_gettimeofday_cached(base, &raw mut cached) };
    (cached.tv_sec, cached.tv_usec)
}

unsafe extern "C" fn slow(_fd: c_int, _what: c_short, _arg: *mut c_void) {
    let base = BASE.get();
    observe!("in a callback {:?}", time(base));
    clock::advance(SLOW_MS.get());
    observe!("later {:?}", time(base));
    if UPDATE.get() {
        // SAFETY: it runs, so it is alive.
        let returned = unsafe { ffi::event_base_update_cache_time(base) };
        observe!("updated {returned} {:?}", time(base));
    }
    CALLS.set(CALLS.get() + 1);
}

unsafe extern "C" fn tick(_fd: c_int, _what: c_short, _arg: *mut c_void) {
    CALLS.set(CALLS.get() + 1);
    observe!("tick at {}", clock::now_ms());
}

unsafe extern "C" fn drain(bev: *mut ffi::bufferevent, _arg: *mut c_void) {
    // SAFETY: alive while it calls back.
    unsafe {
        let input = ffi::bufferevent_get_input(bev);
        CALLS.set(CALLS.get() + ffi::evbuffer_get_length(input) as u32);
        ffi::evbuffer_drain(input, ffi::evbuffer_get_length(input));
    }
}

impl Life {
    fn stream(&self, len: usize, before: usize, pair: bool) -> Verdict {
        use ffi::bufferevent_options::BEV_OPT_CLOSE_ON_FREE;
        let bytes = vec![1_u8; len];
        CALLS.set(0);
        // SAFETY: made, used and freed here.
        unsafe {
            let mut ends = [null_mut(); 2];
            if pair {
                ffi::bufferevent_pair_new(self.base, 0, ends.as_mut_ptr());
            } else {
                let fds = crate::sockets::pair().map_err(|error| error.to_string())?;
                ends = fds.map(|fd| {
                    let fd = std::os::fd::IntoRawFd::into_raw_fd(fd);
                    ffi::bufferevent_socket_new(self.base, fd, BEV_OPT_CLOSE_ON_FREE as c_int)
                });
            }
            for end in ends {
                ffi::bufferevent_setcb(end, Some(drain), None, None, null_mut());
                ffi::bufferevent_enable(end, READ | WRITE);
            }
            ffi::bufferevent_write(ends[0], bytes.as_ptr().cast(), len);
            clock::settle(self.base);
            let verdict = idle("a bufferevent", before);
            ends.iter().for_each(|end| ffi::bufferevent_free(*end));
            clock::settle(self.base);
            if CALLS.get() as usize != len {
                return Err(format!("{} bytes of {len} have arrived", CALLS.get()));
            }
            verdict
        }
    }

    fn cycles(&self, times: u8) -> Verdict {
        let mut first = None;
        for cycle in 0..times {
            // SAFETY: made, used and freed here.
            unsafe {
                let events: Vec<_> =
                    (0..60).map(|_| ffi::event_new(self.base, -1, 0, Some(nothing), null_mut())).collect();
                for (number, event) in events.iter().enumerate() {
                    let tv = clock::timeval(number as u64 % 7 * 10);
                    ffi::event_add(*event, &raw const tv);
                }
                clock::pass(self.base, 35);
                events.iter().for_each(|event| ffi::event_free(*event));
                ffi::event_base_once(self.base, -1, ffi::EV_TIMEOUT as i16, Some(nothing), null_mut(), null());
                clock::settle(self.base);
            }
            let live = memory::live_bytes();
            if cycle >= 3 && *first.get_or_insert(live) < live {
                return Err(format!("after {cycle} rounds of the same more memory is held than after 3"));
            }
        }
        Ok(())
    }

    fn clock(&self, ms: u64, update: bool) {
        SLOW_MS.set(ms);
        UPDATE.set(update);
        observe!("outside {:?}", time(self.base));
        // SAFETY: made, used and freed here.
        unsafe {
            let events = [10, 20].map(|due| {
                let event = ffi::event_new(self.base, -1, 0, Some(slow), null_mut());
                let tv = clock::timeval(due);
                ffi::event_add(event, &raw const tv);
                event
            });
            clock::pass(self.base, 45);
            events.iter().for_each(|event| ffi::event_free(*event));
        }
        observe!("outside {:?}", time(self.base));
    }

    fn sleep(&self, interval: u64, ms: u64) {
        CALLS.set(0);
        let tv = clock::timeval(interval);
        // SAFETY: made, used and freed here.
        unsafe {
            let event = ffi::event_new(self.base, -1, ffi::EV_PERSIST as i16, Some(tick), null_mut());
            ffi::event_add(event, &raw const tv);
            clock::advance(ms);
            clock::pass(self.base, interval * 3 + 1);
            ffi::event_free(event);
        }
        observe!("{} ticks", CALLS.get());
    }

    fn defaults(&self) {
        // SAFETY: made, used and freed here.
        unsafe {
            let bev = ffi::bufferevent_socket_new(self.base, -1, 0);
            observe!(
                "single {} {}",
                ffi::bufferevent_get_max_single_read(bev),
                ffi::bufferevent_get_max_single_write(bev)
            );
            observe!("most {} {}", ffi::bufferevent_get_max_to_read(bev), ffi::bufferevent_get_max_to_write(bev));
            observe!("enabled {}", ffi::bufferevent_get_enabled(bev));
            ffi::bufferevent_free(bev);
            clock::settle(self.base);
        }
    }
}

unsafe extern "C" fn nothing(_fd: c_int, _what: c_short, _arg: *mut c_void) {}
