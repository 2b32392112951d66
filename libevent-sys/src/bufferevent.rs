//! `bufferevent`: a stream with an input and an output buffer, driven by the loop.

use crate::base::Base;
use crate::buffer::EvBufferRef;
use crate::error::{Error, Result, check, non_null};
use crate::{ffi, timeval};
use std::cell::{RefCell, UnsafeCell};
use std::ffi::{c_int, c_short, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::time::Duration;

/// Option: callbacks run from the loop, never from inside the call that caused them.
pub const DEFER_CALLBACKS: c_int = ffi::bufferevent_options::BEV_OPT_DEFER_CALLBACKS as c_int;
/// Option: descriptor or underlying bufferevent is freed with the bufferevent. Always set here.
const CLOSE_ON_FREE: c_int = ffi::bufferevent_options::BEV_OPT_CLOSE_ON_FREE as c_int;

/// The data callback as libevent calls it.
pub type RawDataCallback = unsafe extern "C" fn(*mut ffi::bufferevent, *mut c_void);
/// The event callback as libevent calls it; `what` is made of `BEV_EVENT_*`.
pub type RawEventCallback = unsafe extern "C" fn(*mut ffi::bufferevent, c_short, *mut c_void);
/// A filter as libevent calls it: source, destination, limit (negative: none), mode, context.
pub type RawFilter = unsafe extern "C" fn(
    *mut ffi::evbuffer,
    *mut ffi::evbuffer,
    isize,
    ffi::bufferevent_flush_mode::Type,
    *mut c_void,
) -> ffi::bufferevent_filter_result::Type;

type ReadClosure = Box<dyn FnMut(&mut BufferEventRef)>;
type EventClosure = Box<dyn FnMut(&mut BufferEventRef, c_short)>;

struct Closures {
    read: ReadClosure,
    event: EventClosure,
}

/// An owned bufferevent; everything it can do is in [`BufferEventRef`].
///
/// Dropping it closes its descriptor or frees what it lies upon, then drops its closures, then
/// releases the base.
#[derive(Debug)]
pub struct BufferEvent {
    raw: NonNull<ffi::bufferevent>,
    /// The reference that the raw callbacks' argument stands for.
    closures: Option<NonNull<RefCell<Closures>>>,
    base: Base,
}

/// A bufferevent that somebody owns. Only seen behind a reference.
#[repr(C)]
pub struct BufferEventRef {
    /// No bytes that Rust knows of.
    _opaque: UnsafeCell<[u8; 0]>,
    /// Neither `Send` nor `Sync`.
    _thread: PhantomData<*mut ()>,
}

impl BufferEvent {
    /// Over a connected, non-blocking socket, which it closes in the end.
    ///
    /// # Errors
    /// Out of memory.
    pub fn socket(base: &Base, socket: OwnedFd, options: c_int) -> Result<Self> {
        // SAFETY: base and descriptor are alive.
        let raw = unsafe { ffi::bufferevent_socket_new(base.as_ptr(), socket.as_raw_fd(), options | CLOSE_ON_FREE) };
        let raw = non_null("bufferevent_socket_new", raw)?;
        // The bufferevent owns the descriptor from here on.
        let _: RawFd = socket.into_raw_fd();
        Ok(BufferEvent { raw, closures: None, base: base.clone() })
    }

    /// Two bufferevents, each reading what the other one writes; no descriptor is involved.
    ///
    /// # Errors
    /// Out of memory.
    pub fn pair(base: &Base, options: c_int) -> Result<(Self, Self)> {
        let mut pair = [ptr::null_mut(); 2];
        // SAFETY: the base is alive; libevent fills both places or fails.
        let returned = unsafe { ffi::bufferevent_pair_new(base.as_ptr(), options | CLOSE_ON_FREE, pair.as_mut_ptr()) };
        check("bufferevent_pair_new", returned)?;
        let own = |raw| -> Result<Self> {
            Ok(BufferEvent { raw: non_null("bufferevent_pair_new", raw)?, closures: None, base: base.clone() })
        };
        Ok((own(pair[0])?, own(pair[1])?))
    }

    /// Puts a filter on top, which owns `self` from then on. `context` stays alive until libevent
    /// calls `free_context`, at the latest when the base is freed.
    ///
    /// # Safety
    /// The filters and `free_context` may be called with `context`.
    ///
    /// # Errors
    /// Out of memory; `free_context` will not be called.
    pub unsafe fn filter(
        self,
        input: RawFilter,
        output: RawFilter,
        options: c_int,
        free_context: Option<unsafe extern "C" fn(*mut c_void)>,
        context: *mut c_void,
    ) -> Result<Self> {
        let options = options | CLOSE_ON_FREE;
        // SAFETY: `self` is alive; the caller vouches for the rest.
        let raw = unsafe {
            ffi::bufferevent_filter_new(self.as_ptr(), Some(input), Some(output), options, free_context, context)
        };
        let raw = non_null("bufferevent_filter_new", raw)?;
        let filter = BufferEvent { raw, closures: None, base: self.base.clone() };
        // The filter replaced the callbacks of the one below and frees it in the end.
        self.disown();
        Ok(filter)
    }

    /// Takes over a bufferevent that C code made on `base`.
    ///
    /// # Safety
    /// Nobody else frees it, and it closes on free what it lies upon.
    ///
    /// # Errors
    /// It is null: `call`, which made it, failed.
    pub unsafe fn from_raw(base: &Base, call: &'static str, raw: *mut ffi::bufferevent) -> Result<Self> {
        Ok(BufferEvent { raw: non_null(call, raw)?, closures: None, base: base.clone() })
    }

    /// Calls `read` when bytes have arrived and `event` at the end of the stream, on errors and on
    /// timeouts (`BEV_EVENT_*`). Replaces earlier callbacks.
    ///
    /// A panic in a closure aborts the process: it cannot unwind through C.
    pub fn set_callbacks(
        &mut self,
        read: impl FnMut(&mut BufferEventRef) + 'static,
        event: impl FnMut(&mut BufferEventRef, c_short) + 'static,
    ) {
        let closures = RefCell::new(Closures { read: Box::new(read), event: Box::new(event) });
        let arg = Rc::into_raw(Rc::new(closures)).cast_mut();
        // SAFETY: alive; the reference stays until the callbacks are replaced or the handle is freed.
        unsafe { ffi::bufferevent_setcb(self.as_ptr(), Some(call_read), None, Some(call_event), arg.cast()) };
        let old = std::mem::replace(&mut self.closures, NonNull::new(arg));
        release(old);
    }

    /// Callbacks as in C, for hot paths. Replaces earlier callbacks.
    ///
    /// # Safety
    /// They may be called with `arg` for as long as the bufferevent lives.
    pub unsafe fn set_raw_callbacks(
        &mut self,
        read: Option<RawDataCallback>,
        write: Option<RawDataCallback>,
        event: Option<RawEventCallback>,
        arg: *mut c_void,
    ) {
        // SAFETY: alive; the caller vouches for the callbacks.
        unsafe { ffi::bufferevent_setcb(self.as_ptr(), read, write, event, arg) };
        release(self.closures.take());
    }

    /// The base that drives it.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Lets go of the raw handle without freeing it.
    fn disown(self) {
        let mut this = ManuallyDrop::new(self);
        release(this.closures.take());
        // SAFETY: `this` is neither used nor dropped after this.
        unsafe { ptr::drop_in_place(&raw mut this.base) };
    }
}

impl Drop for BufferEvent {
    fn drop(&mut self) {
        // SAFETY: owned and freed once; libevent clears the callbacks first, and its base is alive.
        unsafe { ffi::bufferevent_free(self.as_ptr()) };
        release(self.closures.take());
    }
}

/// Gives back the reference that stood for the callbacks' argument, which libevent has forgotten.
fn release(closures: Option<NonNull<RefCell<Closures>>>) {
    if let Some(closures) = closures {
        // SAFETY: made by Rc::into_raw in set_callbacks, given back once.
        drop(unsafe { Rc::from_raw(closures.as_ptr()) });
    }
}

unsafe extern "C" fn call_read(raw: *mut ffi::bufferevent, arg: *mut c_void) {
    // SAFETY: `arg` is the live reference of the bufferevent; `raw` lives during its callback.
    let (closures, io) = unsafe { (hold(arg), BufferEventRef::from_ptr_mut(raw)) };
    (closures.borrow_mut().read)(io);
}

unsafe extern "C" fn call_event(raw: *mut ffi::bufferevent, what: c_short, arg: *mut c_void) {
    // SAFETY: as in call_read.
    let (closures, io) = unsafe { (hold(arg), BufferEventRef::from_ptr_mut(raw)) };
    (closures.borrow_mut().event)(io, what);
}

/// A second reference, which keeps the closures alive if one of them drops its own bufferevent.
///
/// # Safety
/// `arg` is a live reference made by set_callbacks.
unsafe fn hold(arg: *mut c_void) -> Rc<RefCell<Closures>> {
    let closures = arg.cast::<RefCell<Closures>>().cast_const();
    // SAFETY: as the caller says.
    unsafe {
        Rc::increment_strong_count(closures);
        Rc::from_raw(closures)
    }
}

impl Deref for BufferEvent {
    type Target = BufferEventRef;
    #[inline]
    fn deref(&self) -> &BufferEventRef {
        // SAFETY: alive and owned by `self`.
        unsafe { BufferEventRef::from_ptr_mut(self.raw.as_ptr()) }
    }
}

impl DerefMut for BufferEvent {
    #[inline]
    fn deref_mut(&mut self) -> &mut BufferEventRef {
        // SAFETY: alive, owned by `self`, and borrowed from it exclusively.
        unsafe { BufferEventRef::from_ptr_mut(self.raw.as_ptr()) }
    }
}

impl std::fmt::Debug for BufferEventRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferEventRef").field("fd", &self.fd()).finish()
    }
}

impl BufferEventRef {
    /// A bufferevent that others own.
    ///
    /// # Safety
    /// It lives for `'a`, and nobody else uses it while the reference is in use.
    #[inline]
    pub unsafe fn from_ptr_mut<'a>(raw: *mut ffi::bufferevent) -> &'a mut Self {
        // SAFETY: not null, as the caller says; the type has no bytes.
        unsafe { &mut *raw.cast() }
    }

    /// The raw handle.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::bufferevent {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// The descriptor, where there is one.
    pub fn fd(&self) -> Option<RawFd> {
        // SAFETY: alive.
        let fd = unsafe { ffi::bufferevent_getfd(self.as_ptr()) };
        (fd >= 0).then_some(fd)
    }

    /// Queues a copy of `data` for writing.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        // SAFETY: alive; libevent copies the data.
        let returned = unsafe { ffi::bufferevent_write(self.as_ptr(), data.as_ptr().cast(), data.len()) };
        check("bufferevent_write", returned)?;
        Ok(())
    }

    /// Queues everything in `buffer` for writing, without a copy.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub fn write_buffer(&mut self, buffer: &mut EvBufferRef) -> Result<()> {
        // SAFETY: both are alive.
        let returned = unsafe { ffi::bufferevent_write_buffer(self.as_ptr(), buffer.as_ptr()) };
        check("bufferevent_write_buffer", returned)?;
        Ok(())
    }

    /// Moves bytes that have arrived to `out`; returns their number.
    #[inline]
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        // SAFETY: alive; libevent writes at most `out.len()` bytes.
        unsafe { ffi::bufferevent_read(self.as_ptr(), out.as_mut_ptr().cast(), out.len()) }
    }

    /// Sends back everything that has arrived, without a copy.
    ///
    /// # Errors
    /// Out of memory.
    #[inline]
    pub fn echo(&mut self) -> Result<()> {
        // SAFETY: alive, and so is its input buffer, which is not its output buffer.
        let returned =
            unsafe { ffi::bufferevent_write_buffer(self.as_ptr(), ffi::bufferevent_get_input(self.as_ptr())) };
        check("bufferevent_write_buffer", returned)?;
        Ok(())
    }

    /// What has arrived and was not taken yet.
    #[inline]
    pub fn input(&mut self) -> &mut EvBufferRef {
        // SAFETY: the buffer lives as long as the bufferevent, which is borrowed exclusively.
        unsafe { EvBufferRef::from_ptr_mut(ffi::bufferevent_get_input(self.as_ptr())) }
    }

    /// What was queued and is not written yet.
    #[inline]
    pub fn output(&mut self) -> &mut EvBufferRef {
        // SAFETY: as in input().
        unsafe { EvBufferRef::from_ptr_mut(ffi::bufferevent_get_output(self.as_ptr())) }
    }

    /// Starts reading ([`READ`](crate::READ)), writing ([`WRITE`](crate::WRITE)) or both.
    ///
    /// # Errors
    /// The backend refuses the descriptor.
    pub fn enable(&mut self, what: c_short) -> Result<()> {
        // SAFETY: alive.
        check("bufferevent_enable", unsafe { ffi::bufferevent_enable(self.as_ptr(), what) })?;
        Ok(())
    }

    /// Stops reading, writing or both.
    ///
    /// # Errors
    /// The backend failed.
    pub fn disable(&mut self, what: c_short) -> Result<()> {
        // SAFETY: alive.
        check("bufferevent_disable", unsafe { ffi::bufferevent_disable(self.as_ptr(), what) })?;
        Ok(())
    }

    /// Reports `BEV_EVENT_TIMEOUT` when nothing could be read or written for so long.
    ///
    /// # Errors
    /// Out of memory.
    pub fn set_timeouts(&mut self, read: Option<Duration>, write: Option<Duration>) -> Result<()> {
        let (read, write) = (read.map(timeval), write.map(timeval));
        let pointer = |time: &Option<libc::timeval>| time.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: alive; libevent copies the times.
        let returned = unsafe { ffi::bufferevent_set_timeouts(self.as_ptr(), pointer(&read), pointer(&write)) };
        check("bufferevent_set_timeouts", returned)?;
        Ok(())
    }

    /// The read callback waits until so many bytes have arrived; reading pauses at `high` (0: never).
    pub fn set_read_watermark(&mut self, low: usize, high: usize) {
        // SAFETY: alive.
        unsafe { ffi::bufferevent_setwatermark(self.as_ptr(), crate::READ, low, high) };
    }
}

/// Makes a socket non-blocking, as bufferevents and listeners need it.
///
/// # Errors
/// The descriptor refuses.
pub fn make_nonblocking(socket: &impl AsRawFd) -> Result<()> {
    // SAFETY: the descriptor is alive.
    match unsafe { ffi::evutil_make_socket_nonblocking(socket.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Error::last("evutil_make_socket_nonblocking")),
    }
}
