//! `event`: a descriptor, signal or timer and its callback.

use crate::base::{Base, CommonTimeout};
use crate::error::{Result, check, non_null};
use crate::{ffi, timeval};
use libc::timeval;
use std::cell::{RefCell, UnsafeCell};
use std::ffi::{c_int, c_short, c_void};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::Duration;

/// A timeout ran out.
pub const TIMEOUT: c_short = ffi::EV_TIMEOUT as c_short;
/// The descriptor is readable.
pub const READ: c_short = ffi::EV_READ as c_short;
/// The descriptor is writable.
pub const WRITE: c_short = ffi::EV_WRITE as c_short;
/// A signal arrived.
pub const SIGNAL: c_short = ffi::EV_SIGNAL as c_short;
/// The event stays pending after it fired.
pub const PERSIST: c_short = ffi::EV_PERSIST as c_short;
/// Edge-triggered, where the backend can.
pub const ET: c_short = ffi::EV_ET as c_short;

/// A callback as libevent calls it: descriptor (or signal), what happened, the argument.
pub type RawCallback = unsafe extern "C" fn(RawFd, c_short, *mut c_void);

/// `evtimer_new`, a macro in C.
///
/// # Safety
/// As `event_new`: `base` is alive, `arg` is what `callback` expects.
#[inline]
pub unsafe fn evtimer_new(base: *mut ffi::event_base, callback: RawCallback, arg: *mut c_void) -> *mut ffi::event {
    // SAFETY: passed on to the caller.
    unsafe { ffi::event_new(base, -1, 0, Some(callback), arg) }
}

/// `evsignal_new`, a macro in C.
///
/// # Safety
/// As `event_new`: `base` is alive, `arg` is what `callback` expects.
#[inline]
pub unsafe fn evsignal_new(
    base: *mut ffi::event_base,
    signal: c_int,
    callback: RawCallback,
    arg: *mut c_void,
) -> *mut ffi::event {
    // SAFETY: passed on to the caller.
    unsafe { ffi::event_new(base, signal, SIGNAL | PERSIST, Some(callback), arg) }
}

type Closure = RefCell<Box<dyn FnMut(RawFd, c_short)>>;

/// An event that somebody owns: an [`Event`] or an [`EventRow`](crate::EventRow). Only seen behind a reference.
#[repr(C)]
#[derive(Debug)]
pub struct EventRef {
    /// No bytes that Rust knows of; libevent changes the event behind shared references.
    _opaque: UnsafeCell<[u8; 0]>,
    /// Neither `Send` nor `Sync`.
    _thread: PhantomData<*mut ()>,
}

impl EventRef {
    /// An event that others own.
    ///
    /// # Safety
    /// The event is initialised, it and its base live for `'a`.
    #[inline]
    pub unsafe fn from_ptr<'a>(event: *mut ffi::event) -> &'a Self {
        // SAFETY: not null, as the caller says; the type has no bytes.
        unsafe { &*event.cast() }
    }

    /// Makes the event pending, without a timeout.
    ///
    /// # Errors
    /// The backend refuses the descriptor.
    #[inline]
    pub fn add(&self) -> Result<()> {
        // SAFETY: the event and its base are alive; null means no timeout.
        unsafe { self.add_raw(ptr::null()) }
    }

    /// Makes the event pending, with a timeout from now.
    ///
    /// # Errors
    /// The backend refuses the descriptor.
    #[inline]
    pub fn add_timeout(&self, timeout: Duration) -> Result<()> {
        self.add_timeval(&timeval(timeout))
    }

    /// The same as [`EventRef::add_timeout`], without the conversion.
    ///
    /// # Errors
    /// The backend refuses the descriptor.
    #[inline]
    pub fn add_timeval(&self, timeout: &timeval) -> Result<()> {
        // SAFETY: the event and its base are alive; libevent copies the time.
        unsafe { self.add_raw(timeout) }
    }

    /// Makes the event pending, with a common timeout of its base.
    ///
    /// # Errors
    /// The backend refuses the descriptor.
    #[inline]
    pub fn add_common(&self, timeout: &CommonTimeout) -> Result<()> {
        // SAFETY: the event and its base are alive, and so is the common timeout.
        unsafe { self.add_raw(timeout.as_ptr()) }
    }

    #[inline]
    unsafe fn add_raw(&self, timeout: *const timeval) -> Result<()> {
        // SAFETY: the event is alive; the caller vouches for the timeout.
        check("event_add", unsafe { ffi::event_add(self.as_ptr(), timeout) })?;
        Ok(())
    }

    /// Makes the event neither pending nor active.
    ///
    /// # Errors
    /// The backend failed.
    #[inline]
    pub fn del(&self) -> Result<()> {
        // SAFETY: the event is alive.
        check("event_del", unsafe { ffi::event_del(self.as_ptr()) })?;
        Ok(())
    }

    /// Makes the event active: its callback runs with `what` in the next loop turn.
    #[inline]
    pub fn active(&self, what: c_short) {
        // SAFETY: the event is alive; the number of calls only matters to signals.
        unsafe { ffi::event_active(self.as_ptr(), c_int::from(what), 1) }
    }

    /// Which of the kinds in `what` the event is pending or active for.
    #[inline]
    pub fn pending(&self, what: c_short) -> c_short {
        // SAFETY: the event is alive; null means that the time left is not wanted.
        unsafe { ffi::event_pending(self.as_ptr(), what, ptr::null_mut()) as c_short }
    }

    /// Sets the priority; 0 is the most urgent.
    ///
    /// # Errors
    /// The event is active, or the base has no such priority.
    pub fn priority_set(&self, priority: c_int) -> Result<()> {
        // SAFETY: the event is alive.
        check("event_priority_set", unsafe { ffi::event_priority_set(self.as_ptr(), priority) })?;
        Ok(())
    }

    /// The raw handle.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::event {
        ptr::from_ref(self).cast_mut().cast()
    }
}

/// An owned event. Dropping it deletes it from its base, then drops its closure (after the current
/// call, when it is dropped from inside it), then releases the base.
#[derive(Debug)]
pub struct Event {
    event: NonNull<ffi::event>,
    /// The reference that the raw event's argument stands for; freed after the event.
    closure: Option<NonNull<Closure>>,
    base: Base,
}

impl Event {
    /// An event that calls a closure; `what` is made of [`READ`], [`WRITE`], [`PERSIST`], [`ET`].
    ///
    /// A panic in the closure aborts the process: it cannot unwind through C.
    ///
    /// # Errors
    /// libevent refuses the combination, or out of memory.
    pub fn new(base: &Base, fd: RawFd, what: c_short, callback: impl FnMut(RawFd, c_short) + 'static) -> Result<Self> {
        let closure: Rc<Closure> = Rc::new(RefCell::new(Box::new(callback)));
        let arg = Rc::into_raw(closure).cast_mut();
        // SAFETY: the base is alive; `arg` is a reference count of a Closure, as call_closure expects.
        let event = unsafe { ffi::event_new(base.as_ptr(), fd, what, Some(call_closure), arg.cast()) };
        match non_null("event_new", event) {
            Ok(event) => Ok(Event { event, closure: NonNull::new(arg), base: base.clone() }),
            Err(error) => {
                // SAFETY: libevent did not take the reference.
                drop(unsafe { Rc::from_raw(arg) });
                Err(error)
            }
        }
    }

    /// A timer that fires once after [`EventRef::add_timeout`] (`evtimer_new`).
    ///
    /// # Errors
    /// As [`Event::new`].
    pub fn timer(base: &Base, mut callback: impl FnMut() + 'static) -> Result<Self> {
        Self::new(base, -1, 0, move |_, _| callback())
    }

    /// An event that fires at every arrival of a signal (`evsignal_new`).
    ///
    /// # Errors
    /// As [`Event::new`].
    pub fn signal(base: &Base, signal: c_int, mut callback: impl FnMut() + 'static) -> Result<Self> {
        Self::new(base, signal, SIGNAL | PERSIST, move |_, _| callback())
    }

    /// An event with a callback as in C, for hot paths.
    ///
    /// # Safety
    /// `callback` may be called with `arg` for as long as the event lives.
    ///
    /// # Errors
    /// As [`Event::new`].
    pub unsafe fn from_raw(
        base: &Base,
        fd: RawFd,
        what: c_short,
        callback: RawCallback,
        arg: *mut c_void,
    ) -> Result<Self> {
        // SAFETY: the base is alive; the caller vouches for the callback.
        let event = unsafe { ffi::event_new(base.as_ptr(), fd, what, Some(callback), arg) };
        Ok(Event { event: non_null("event_new", event)?, closure: None, base: base.clone() })
    }

    /// The base of the event.
    pub fn base(&self) -> &Base {
        &self.base
    }
}

impl Deref for Event {
    type Target = EventRef;
    #[inline]
    fn deref(&self) -> &EventRef {
        // SAFETY: alive and owned by `self`.
        unsafe { EventRef::from_ptr(self.event.as_ptr()) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by event_new and freed once, which deletes it first; its base is alive.
        unsafe { ffi::event_free(self.event.as_ptr()) }
        if let Some(closure) = self.closure {
            // SAFETY: the reference that new() gave to the event, which cannot use it any more.
            drop(unsafe { Rc::from_raw(closure.as_ptr()) });
        }
    }
}

unsafe extern "C" fn call_closure(fd: RawFd, what: c_short, arg: *mut c_void) {
    let closure = arg.cast::<Closure>().cast_const();
    // SAFETY: `arg` is a live reference of the event. The second one taken here keeps the closure
    // alive if it drops its own event.
    let closure = unsafe {
        Rc::increment_strong_count(closure);
        Rc::from_raw(closure)
    };
    (closure.borrow_mut())(fd, what);
}
