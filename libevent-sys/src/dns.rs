//! `evdns`: a stub resolver in the loop.

use crate::base::Base;
use crate::error::{Error, Result, non_null};
use crate::ffi;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ptr::{self, NonNull};

/// The answer callback as libevent calls it: result, type, number of addresses, time to live in s,
/// addresses in network order, argument.
pub type RawAnswerCallback = unsafe extern "C" fn(c_int, c_char, c_int, c_int, *mut c_void, *mut c_void);

/// Flag: the name is complete; no search domains.
pub const NO_SEARCH: c_int = ffi::DNS_QUERY_NO_SEARCH as c_int;

/// Why a query has no addresses: one of libevent's `DNS_ERR_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsError(pub c_int);

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: libevent returns a string constant for every number.
        let text = unsafe { CStr::from_ptr(ffi::evdns_err_to_string(self.0)) };
        write!(f, "DNS query failed: {}", text.to_string_lossy())
    }
}

impl std::error::Error for DnsError {}

type Closure = Box<dyn FnOnce(std::result::Result<Vec<Ipv4Addr>, DnsError>)>;

/// Closures that wait for an answer, by the number that libevent carries as their argument.
///
/// libevent may hold a number for longer than the resolver lives (an answer whose callback is still
/// queued in the base), or forget it without a call. So it never gets a pointer: a number that is
/// not in the table any more is ignored, and a resolver takes its own numbers out when it goes.
#[derive(Default)]
struct Waiting {
    last: usize,
    closures: HashMap<usize, (u64, Closure)>,
}

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
    static RESOLVERS: Cell<u64> = const { Cell::new(0) };
}

/// An owned resolver without name servers of the system. Dropping it forgets its queries without
/// calling their closures, then releases the base.
#[derive(Debug)]
pub struct Resolver {
    raw: NonNull<ffi::evdns_base>,
    /// Tells the queries of this resolver from others'.
    id: u64,
    base: Base,
}

impl Resolver {
    /// A resolver that knows no name server yet and reads no file.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(base: &Base) -> Result<Self> {
        // SAFETY: the base is alive.
        let raw = non_null("evdns_base_new", unsafe { ffi::evdns_base_new(base.as_ptr(), 0) })?;
        Ok(Resolver { raw, id: RESOLVERS.replace(RESOLVERS.get() + 1), base: base.clone() })
    }

    /// Adds a name server.
    ///
    /// # Errors
    /// It is there already, or no socket could be opened.
    pub fn add_nameserver(&self, address: SocketAddrV4) -> Result<()> {
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: address.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
            sin_zero: [0; 8],
        };
        let len = size_of_val(&address) as libc::socklen_t;
        let pointer = ptr::from_ref(&address).cast();
        // SAFETY: alive; libevent copies the address.
        let returned = unsafe { ffi::evdns_base_nameserver_sockaddr_add(self.as_ptr(), pointer, len, 0) };
        if returned == 0 { Ok(()) } else { Err(Error::last("evdns_base_nameserver_sockaddr_add")) }
    }

    /// Sets an option by its name in resolv.conf, such as `max-inflight`.
    ///
    /// # Errors
    /// libevent refuses the value.
    pub fn set_option(&self, name: &CStr, value: &CStr) -> Result<()> {
        // SAFETY: alive; libevent copies what it needs.
        match unsafe { ffi::evdns_base_set_option(self.as_ptr(), name.as_ptr(), value.as_ptr()) } {
            0 => Ok(()),
            _ => Err(Error::last("evdns_base_set_option")),
        }
    }

    /// Asks for the IPv4 addresses of a complete name and calls `answer` from the loop, once. A panic
    /// in the closure aborts the process: it cannot unwind through C.
    ///
    /// # Errors
    /// The name cannot be asked for; `answer` will not be called.
    pub fn resolve_ipv4(
        &self,
        name: &CStr,
        answer: impl FnOnce(std::result::Result<Vec<Ipv4Addr>, DnsError>) + 'static,
    ) -> Result<()> {
        let number = WAITING.with_borrow_mut(|waiting| {
            waiting.last += 1;
            waiting.closures.insert(waiting.last, (self.id, Box::new(answer)));
            waiting.last
        });
        let arg = ptr::without_provenance_mut(number);
        // SAFETY: call_closure takes any number.
        let asked = unsafe { self.resolve_ipv4_raw(name, NO_SEARCH, call_closure, arg) };
        if asked.is_err() {
            WAITING.with_borrow_mut(|waiting| waiting.closures.remove(&number));
        }
        asked
    }

    /// A query with a callback as in C, for hot paths.
    ///
    /// # Safety
    /// `callback` may be called with `arg` until the base is freed: it may come after the resolver
    /// is gone.
    ///
    /// # Errors
    /// The name cannot be asked for; `callback` will not be called.
    #[inline]
    pub unsafe fn resolve_ipv4_raw(
        &self,
        name: &CStr,
        flags: c_int,
        callback: RawAnswerCallback,
        arg: *mut c_void,
    ) -> Result<()> {
        // SAFETY: alive; libevent copies the name; the caller vouches for the callback.
        let request = unsafe { ffi::evdns_base_resolve_ipv4(self.as_ptr(), name.as_ptr(), flags, Some(callback), arg) };
        non_null("evdns_base_resolve_ipv4", request)?;
        Ok(())
    }

    /// The base that drives it.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The raw handle, owned by `self`.
    #[inline]
    pub fn as_ptr(&self) -> *mut ffi::evdns_base {
        self.raw.as_ptr()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // SAFETY: owned and freed once; its base is alive. 0: pending queries end without a call.
        unsafe { ffi::evdns_base_free(self.as_ptr(), 0) };
        let mine = WAITING.with_borrow_mut(|waiting| {
            waiting.closures.extract_if(|_, (resolver, _)| *resolver == self.id).collect::<Vec<_>>()
        });
        // Dropped outside the table's borrow: a closure may own a resolver.
        drop(mine);
    }
}

unsafe extern "C" fn call_closure(
    result: c_int,
    kind: c_char,
    count: c_int,
    _ttl_s: c_int,
    addresses: *mut c_void,
    arg: *mut c_void,
) {
    let Some((_, closure)) = WAITING.with_borrow_mut(|waiting| waiting.closures.remove(&arg.addr())) else { return };
    let answer = if result != 0 {
        Err(DnsError(result))
    } else if c_int::from(kind) != ffi::DNS_IPv4_A as c_int || addresses.is_null() {
        Ok(Vec::new())
    } else {
        let first = addresses.cast::<u32>();
        // SAFETY: libevent passes `count` addresses of four bytes.
        let address = |index| Ipv4Addr::from(u32::from_be(unsafe { first.add(index).read_unaligned() }));
        Ok((0..usize::try_from(count).unwrap_or(0)).map(address).collect())
    };
    closure(answer);
}
