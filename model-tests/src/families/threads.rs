//! `threads`: other threads activate, add and delete events of a loop that sleeps; each must wake it.
//!
//! In real time, since threads wait for each other; what is observed does not depend on their order.

use crate::base::{Backend, Plan};
use crate::family::{Family, Verdict};
use crate::{Rng, observe};
use libevent_sys::{PERSIST, READ, TIMEOUT, ffi};
use serde::{Deserialize, Serialize};
use std::ffi::{c_int, c_short, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A wake-up that takes longer is lost. Far more than a busy machine needs.
const LOST: Duration = Duration::from_secs(8);

/// What another thread does to the sleeping loop.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Deed {
    /// Activates an event, and waits until it was called.
    Active,
    /// Adds a timer that is due at once, or in ms.
    Timer(u8),
    /// Adds and deletes a timer that is far away: nobody calls it.
    AddDel,
    /// Adds an event on a descriptor that is ready.
    Ready,
    /// `event_base_once`.
    Once,
}

/// One step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// First or never.
    Base(Backend),
    /// That many threads, each of which does this so many times.
    Threads(u8, u8, Vec<Deed>),
    /// `event_base_loopbreak` (or `loopexit`) from another thread ends a loop that sleeps.
    Break(bool),
    /// `event_del` from another thread waits for the callback that runs.
    DelWaits,
}

/// The family.
pub(crate) struct Threads {
    base: *mut ffi::event_base,
}

/// A pointer that another thread uses: libevent locks what is behind it.
struct Shared<T>(*mut T);
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}
// SAFETY: made of a base with locks, whose functions may be called from any thread.
unsafe impl<T> Send for Shared<T> {}
impl<T> Shared<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

impl Family for Threads {
    type Op = Op;
    const NAME: &'static str = "threads";
    const ABOUT: &'static str = "other threads wake a loop that sleeps; no wake-up is lost";

    fn generate(rng: &mut Rng, number: u64) -> Vec<Op> {
        let mut ops = vec![Op::Base(Backend::of(number))];
        for _ in 0..rng.usize(1..4) {
            ops.push(match rng.u8(..5) {
                0 => Op::Break(rng.bool()),
                1 => Op::DelWaits,
                _ => Op::Threads(rng.u8(1..4), rng.u8(1..20), (0..rng.usize(1..4)).map(|_| deed(rng)).collect()),
            });
        }
        ops
    }

    fn start() -> Result<Self, String> {
        // SAFETY: nothing of libevent's is in use yet.
        if unsafe { ffi::evthread_use_pthreads() } != 0 {
            return Err("no threads in this build".to_owned());
        }
        Ok(Threads { base: null_mut() })
    }

    fn apply(&mut self, op: &Op) -> Verdict {
        if self.base.is_null() {
            let backend = if let Op::Base(backend) = op { *backend } else { Backend::Epoll };
            self.base = Plan::plain(backend).make()?;
        }
        match op {
            Op::Base(_) => Ok(()),
            Op::Threads(threads, times, deeds) => self.threads(*threads, *times, deeds),
            Op::Break(exit) => self.end_loop(*exit),
            Op::DelWaits => self.del_waits(),
        }
    }

    fn finish(self) -> Verdict {
        if !self.base.is_null() {
            // SAFETY: no thread uses it any more.
            unsafe { ffi::event_base_free(self.base) };
        }
        Ok(())
    }
}

fn deed(rng: &mut Rng) -> Deed {
    match rng.u8(..6) {
        0 | 1 => Deed::Active,
        2 => Deed::Timer(rng.u8(..3)),
        3 => Deed::AddDel,
        4 => Deed::Ready,
        _ => Deed::Once,
    }
}

unsafe extern "C" fn count(_fd: c_int, _what: c_short, arg: *mut c_void) {
    // SAFETY: a counter that outlives the event.
    unsafe { (*arg.cast::<AtomicU32>()).fetch_add(1, Ordering::SeqCst) };
}

impl Threads {
    fn threads(&self, threads: u8, times: u8, deeds: &[Deed]) -> Verdict {
        let base = Shared(self.base);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let deeds = deeds.to_vec();
                std::thread::spawn(move || work(base, times, &deeds))
            })
            .collect();
        let left = AtomicU32::new(threads.into());
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let (left, results) = (&left, &mut results);
            scope.spawn(move || {
                for worker in workers {
                    results.push(worker.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())));
                    left.fetch_sub(1, Ordering::SeqCst);
                }
                // SAFETY: the loop runs in the other thread, on a base with locks.
                unsafe { ffi::event_base_loopbreak(base.get()) };
            });
            while left.load(Ordering::SeqCst) > 0 {
                // SAFETY: alive. It sleeps until somebody wakes it.
                unsafe { ffi::event_base_loop(base.get(), ffi::EVLOOP_NO_EXIT_ON_EMPTY as c_int) };
            }
        });
        results.into_iter().collect::<Result<Vec<()>, String>>()?;
        observe!("all done");
        Ok(())
    }

    /// The loop sleeps on nothing; another thread ends it.
    fn end_loop(&self, exit: bool) -> Verdict {
        let base = Shared(self.base);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let over = &over;
            scope.spawn(move || {
                // A break before the loop has begun is forgotten: again and again, then.
                while !over.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                    // SAFETY: alive until this scope ends.
                    unsafe {
                        if exit {
                            ffi::event_base_loopexit(base.get(), std::ptr::null());
                        } else {
                            ffi::event_base_loopbreak(base.get());
                        }
                    }
                }
            });
            // SAFETY: alive.
            let returned = unsafe { ffi::event_base_loop(base.get(), ffi::EVLOOP_NO_EXIT_ON_EMPTY as c_int) };
            over.store(true, Ordering::SeqCst);
            observe!("ended: {returned}");
        });
        Ok(())
    }

    fn del_waits(&self) -> Verdict {
        static RUNNING: AtomicU32 = AtomicU32::new(0);
        unsafe extern "C" fn slow(_fd: c_int, _what: c_short, _arg: *mut c_void) {
            RUNNING.store(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            RUNNING.store(2, Ordering::SeqCst);
        }
        RUNNING.store(0, Ordering::SeqCst);
        // SAFETY: base and event are alive until both threads are done.
        unsafe {
            let event = Shared(ffi::event_new(self.base, -1, PERSIST, Some(slow), null_mut()));
            ffi::event_active(event.get(), TIMEOUT.into(), 1);
            let waited = std::thread::scope(|scope| {
                let deleter = scope.spawn(move || {
                    let start = Instant::now();
                    while RUNNING.load(Ordering::SeqCst) == 0 && start.elapsed() < LOST {
                        std::thread::yield_now();
                    }
                    ffi::event_del(event.get());
                    RUNNING.load(Ordering::SeqCst) == 2
                });
                ffi::event_base_loop(self.base, (ffi::EVLOOP_ONCE | ffi::EVLOOP_NONBLOCK) as c_int);
                deleter.join().unwrap_or(false)
            });
            ffi::event_free(event.get());
            if waited { Ok(()) } else { Err("event_del did not wait for the callback that ran".to_owned()) }
        }
    }
}

/// A thread's work.
fn work(base: Shared<ffi::event_base>, times: u8, deeds: &[Deed]) -> Result<(), String> {
    let counter = AtomicU32::new(0);
    let arg = (&raw const counter).cast_mut().cast::<c_void>();
    let [near, far] = crate::sockets::pair().map_err(|error| error.to_string())?;
    crate::sockets::write(std::os::fd::AsRawFd::as_raw_fd(&far), b"x");
    let tv = |ms: i64| libc::timeval { tv_sec: ms / 1000, tv_usec: ms % 1000 * 1000 };
    for _ in 0..times {
        for deed in deeds {
            let before = counter.load(Ordering::SeqCst);
            // SAFETY: the base is alive until all threads are done; events live until they are freed here,
            // and the counter longer.
            unsafe {
                let fd = if matches!(deed, Deed::Ready) { std::os::fd::AsRawFd::as_raw_fd(&near) } else { -1 };
                let what = if matches!(deed, Deed::Ready) { READ } else { 0 };
                let event = ffi::event_new(base.get(), fd, what, Some(count), arg);
                let expected = match deed {
                    Deed::Active => {
                        ffi::event_active(event, TIMEOUT.into(), 1);
                        1
                    }
                    Deed::Timer(ms) => {
                        ffi::event_add(event, &raw const *Box::new(tv((*ms).into())));
                        1
                    }
                    Deed::AddDel => {
                        ffi::event_add(event, &raw const *Box::new(tv(3_600_000)));
                        ffi::event_del(event);
                        0
                    }
                    Deed::Ready => {
                        ffi::event_add(event, std::ptr::null());
                        1
                    }
                    Deed::Once => {
                        ffi::event_base_once(base.get(), -1, TIMEOUT, Some(count), arg, std::ptr::null());
                        1
                    }
                };
                let start = Instant::now();
                while counter.load(Ordering::SeqCst) < before + expected && start.elapsed() < LOST {
                    std::thread::sleep(Duration::from_micros(20));
                }
                ffi::event_free(event);
            }
            let got = counter.load(Ordering::SeqCst) - before;
            let expected = u32::from(!matches!(deed, Deed::AddDel));
            if got != expected {
                return Err(format!(
                    "{deed:?} from another thread: called {got} times, not {expected}: a wake-up is lost"
                ));
            }
        }
    }
    Ok(())
}
