//! `evconnlistener`: accepts connections.

use crate::base::Base;
use crate::error::{Error, Result, check, non_null};
use crate::ffi;
use std::cell::RefCell;
use std::ffi::{c_int, c_uint, c_void};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::rc::Rc;

/// The callback as libevent calls it: listener, new descriptor, peer's address and its size, argument.
pub type RawListenerCallback =
    unsafe extern "C" fn(*mut ffi::evconnlistener, RawFd, *mut libc::sockaddr, c_int, *mut c_void);

type Closure = RefCell<Box<dyn FnMut(OwnedFd, Option<SocketAddrV4>)>>;

/// Descriptors are closed on exec; the listening one with the listener.
const OPTIONS: c_uint = ffi::LEV_OPT_CLOSE_ON_FREE | ffi::LEV_OPT_CLOSE_ON_EXEC;

/// An owned listener. Dropping it closes its socket, then drops its closure, then releases the base.
#[derive(Debug)]
pub struct Listener {
    raw: NonNull<ffi::evconnlistener>,
    /// The reference that the raw callback's argument stands for.
    closure: Option<NonNull<Closure>>,
    base: Base,
}

impl Listener {
    /// Calls `accepted` with every new connection (non-blocking) and its peer's address, where that
    /// is IPv4. A panic in the closure aborts the process: it cannot unwind through C.
    ///
    /// # Errors
    /// Out of memory, or the socket refuses.
    pub fn new(
        base: &Base,
        socket: TcpListener,
        accepted: impl FnMut(OwnedFd, Option<SocketAddrV4>) + 'static,
    ) -> Result<Self> {
        let closure: Rc<Closure> = Rc::new(RefCell::new(Box::new(accepted)));
        let arg = Rc::into_raw(closure).cast_mut();
        // SAFETY: `arg` is a reference count of a Closure, as call_closure expects.
        match unsafe { Self::from_raw(base, socket, call_closure, arg.cast()) } {
            Ok(mut listener) => {
                listener.closure = NonNull::new(arg);
                Ok(listener)
            }
            Err(error) => {
                // SAFETY: libevent did not take the reference.
                drop(unsafe { Rc::from_raw(arg) });
                Err(error)
            }
        }
    }

    /// A listener with a callback as in C, for hot paths. The callback owns the descriptor it gets.
    ///
    /// # Safety
    /// `callback` may be called with `arg` for as long as the listener lives.
    ///
    /// # Errors
    /// Out of memory, or the socket refuses.
    pub unsafe fn from_raw(
        base: &Base,
        socket: TcpListener,
        callback: RawListenerCallback,
        arg: *mut c_void,
    ) -> Result<Self> {
        socket.set_nonblocking(true).map_err(|_| Error::last("fcntl"))?;
        // The standard library's sockets listen already: a backlog of 0 means "leave it".
        // SAFETY: base and socket are alive; the caller vouches for the callback.
        let raw =
            unsafe { ffi::evconnlistener_new(base.as_ptr(), Some(callback), arg, OPTIONS, 0, socket.as_raw_fd()) };
        let raw = non_null("evconnlistener_new", raw)?;
        // The listener owns the descriptor from here on.
        let _: RawFd = socket.into_raw_fd();
        Ok(Listener { raw, closure: None, base: base.clone() })
    }

    /// Stops accepting; connections queue in the kernel.
    ///
    /// # Errors
    /// The backend failed.
    pub fn disable(&self) -> Result<()> {
        // SAFETY: alive.
        check("evconnlistener_disable", unsafe { ffi::evconnlistener_disable(self.raw.as_ptr()) })?;
        Ok(())
    }

    /// Accepts again.
    ///
    /// # Errors
    /// The backend failed.
    pub fn enable(&self) -> Result<()> {
        // SAFETY: alive.
        check("evconnlistener_enable", unsafe { ffi::evconnlistener_enable(self.raw.as_ptr()) })?;
        Ok(())
    }

    /// The base that drives it.
    pub fn base(&self) -> &Base {
        &self.base
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // SAFETY: owned and freed once; its base is alive.
        unsafe { ffi::evconnlistener_free(self.raw.as_ptr()) };
        if let Some(closure) = self.closure {
            // SAFETY: the reference that new() gave away; libevent has forgotten it.
            drop(unsafe { Rc::from_raw(closure.as_ptr()) });
        }
    }
}

unsafe extern "C" fn call_closure(
    _listener: *mut ffi::evconnlistener,
    fd: RawFd,
    address: *mut libc::sockaddr,
    len: c_int,
    arg: *mut c_void,
) {
    let closure = arg.cast::<Closure>().cast_const();
    // SAFETY: `arg` is a live reference of the listener. The second one taken here keeps the closure
    // alive if it drops its own listener.
    let closure = unsafe {
        Rc::increment_strong_count(closure);
        Rc::from_raw(closure)
    };
    // SAFETY: libevent hands over the descriptor and an address of `len` bytes.
    let (socket, peer) = unsafe { (OwnedFd::from_raw_fd(fd), ipv4_address(address, len)) };
    (closure.borrow_mut())(socket, peer);
}

/// The IPv4 address in a `sockaddr`, if it is one.
///
/// # Safety
/// `address` is null or points to `len` bytes.
#[inline]
pub unsafe fn ipv4_address(address: *const libc::sockaddr, len: c_int) -> Option<SocketAddrV4> {
    if address.is_null() || (len as usize) < size_of::<libc::sockaddr_in>() {
        return None;
    }
    // SAFETY: large enough; read unaligned, because a sockaddr promises less than a sockaddr_in.
    let address: libc::sockaddr_in = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    (c_int::from(address.sin_family) == libc::AF_INET).then(|| {
        SocketAddrV4::new(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)), u16::from_be(address.sin_port))
    })
}
