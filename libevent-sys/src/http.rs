//! `evhttp`: an HTTP server in the loop.

use crate::base::Base;
use crate::buffer::EvBufferRef;
use crate::error::{Error, Result, check, non_null};
use crate::ffi;
use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;

/// The request callback as libevent calls it.
pub type RawRequestCallback = unsafe extern "C" fn(*mut ffi::evhttp_request, *mut c_void);

type Closure = RefCell<Box<dyn FnMut(Request<'_>)>>;

/// An owned server. Dropping it closes its sockets and connections, then drops its closure, then
/// releases the base.
#[derive(Debug)]
pub struct HttpServer {
    raw: NonNull<ffi::evhttp>,
    /// The reference that the raw callback's argument stands for.
    closure: Option<NonNull<Closure>>,
    base: Base,
}

impl HttpServer {
    /// A server that listens nowhere yet and answers 404 to everything.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(base: &Base) -> Result<Self> {
        // SAFETY: the base is alive.
        let raw = non_null("evhttp_new", unsafe { ffi::evhttp_new(base.as_ptr()) })?;
        Ok(HttpServer { raw, closure: None, base: base.clone() })
    }

    /// Accepts connections on a listening socket, which the server closes in the end.
    ///
    /// # Errors
    /// Out of memory, or the socket refuses.
    pub fn accept(&self, socket: TcpListener) -> Result<()> {
        socket.set_nonblocking(true).map_err(|_| Error::last("fcntl"))?;
        // SAFETY: server and socket are alive.
        let returned = unsafe { ffi::evhttp_accept_socket(self.raw.as_ptr(), socket.as_raw_fd()) };
        check("evhttp_accept_socket", returned)?;
        // The server owns the descriptor from here on.
        let _: RawFd = socket.into_raw_fd();
        Ok(())
    }

    /// Calls `handler` for every request; one that is dropped without a reply is answered with 500.
    /// A panic in the closure aborts the process: it cannot unwind through C.
    pub fn set_handler(&mut self, handler: impl FnMut(Request<'_>) + 'static) {
        let closure: Rc<Closure> = Rc::new(RefCell::new(Box::new(handler)));
        let arg = Rc::into_raw(closure).cast_mut();
        // SAFETY: alive; the reference stays until the callback is replaced or the server freed.
        unsafe { ffi::evhttp_set_gencb(self.raw.as_ptr(), Some(call_closure), arg.cast()) };
        let old = std::mem::replace(&mut self.closure, NonNull::new(arg));
        release(old);
    }

    /// A callback as in C, for hot paths; it must reply.
    ///
    /// # Safety
    /// `callback` may be called with `arg` for as long as the server lives.
    pub unsafe fn set_raw_handler(&mut self, callback: RawRequestCallback, arg: *mut c_void) {
        // SAFETY: alive; the caller vouches for the callback.
        unsafe { ffi::evhttp_set_gencb(self.raw.as_ptr(), Some(callback), arg) };
        release(self.closure.take());
    }

    /// The base that drives it.
    pub fn base(&self) -> &Base {
        &self.base
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // SAFETY: owned and freed once; its base is alive.
        unsafe { ffi::evhttp_free(self.raw.as_ptr()) };
        release(self.closure.take());
    }
}

/// Gives back the reference that stood for the callback's argument, which libevent has forgotten.
fn release(closure: Option<NonNull<Closure>>) {
    if let Some(closure) = closure {
        // SAFETY: made by Rc::into_raw in set_handler, given back once.
        drop(unsafe { Rc::from_raw(closure.as_ptr()) });
    }
}

unsafe extern "C" fn call_closure(request: *mut ffi::evhttp_request, arg: *mut c_void) {
    let closure = arg.cast::<Closure>().cast_const();
    // SAFETY: `arg` is a live reference of the server. The second one taken here keeps the closure
    // alive if it drops its own server.
    let closure = unsafe {
        Rc::increment_strong_count(closure);
        Rc::from_raw(closure)
    };
    // SAFETY: the request waits for its reply.
    let request = unsafe { Request::from_raw(request) };
    if let Some(request) = request {
        (closure.borrow_mut())(request);
    }
}

/// A request that waits for its reply.
#[derive(Debug)]
pub struct Request<'a> {
    raw: NonNull<ffi::evhttp_request>,
    _callback: PhantomData<&'a ()>,
}

impl Request<'_> {
    /// A request as the raw callback gets it; `None` if it is null.
    ///
    /// # Safety
    /// It waits for its reply, and nobody else replies.
    #[inline]
    pub unsafe fn from_raw(raw: *mut ffi::evhttp_request) -> Option<Self> {
        NonNull::new(raw).map(|raw| Request { raw, _callback: PhantomData })
    }

    /// Path and query as the client sent them.
    #[inline]
    pub fn uri(&self) -> &CStr {
        // SAFETY: the request is alive and has a URI, since a server parsed it.
        unsafe { CStr::from_ptr(ffi::evhttp_request_get_uri(self.raw.as_ptr())) }
    }

    /// Adds a header to the reply.
    ///
    /// # Errors
    /// A line break in name or value, or out of memory.
    #[inline]
    pub fn add_header(&mut self, name: &CStr, value: &CStr) -> Result<()> {
        // SAFETY: the request is alive; libevent copies both.
        let returned = unsafe {
            let headers = ffi::evhttp_request_get_output_headers(self.raw.as_ptr());
            ffi::evhttp_add_header(headers, name.as_ptr(), value.as_ptr())
        };
        check("evhttp_add_header", returned)?;
        Ok(())
    }

    /// The body of the reply, to be filled before [`Request::reply`].
    #[inline]
    pub fn body(&mut self) -> &mut EvBufferRef {
        // SAFETY: the request is alive and owns the buffer.
        unsafe { EvBufferRef::from_ptr_mut(ffi::evhttp_request_get_output_buffer(self.raw.as_ptr())) }
    }

    /// Calls `done` with `arg` when the reply has been written (`evhttp_request_set_on_complete_cb`).
    ///
    /// # Safety
    /// `done` may be called with `arg` for as long as the server lives.
    #[inline]
    pub unsafe fn on_complete(&mut self, done: RawRequestCallback, arg: *mut c_void) {
        // SAFETY: the request is alive; the caller vouches for the callback.
        unsafe { ffi::evhttp_request_set_on_complete_cb(self.raw.as_ptr(), Some(done), arg) };
    }

    /// Sends status, headers and body.
    #[inline]
    pub fn reply(self, status: c_int, reason: &CStr) {
        let raw = self.raw.as_ptr();
        std::mem::forget(self);
        // SAFETY: the request is alive and belongs to libevent again; null: the body is in place.
        unsafe { ffi::evhttp_send_reply(raw, status, reason.as_ptr(), std::ptr::null_mut()) };
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        // A request without a reply would keep its connection for ever.
        // SAFETY: the request is alive and was not replied to; null: the standard reason.
        unsafe { ffi::evhttp_send_error(self.raw.as_ptr(), ffi::HTTP_INTERNAL as c_int, std::ptr::null()) };
    }
}
