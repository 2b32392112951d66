//! libevent, built by this workspace: raw bindings in [`ffi`], a thin safe layer beside them.
//!
//! Handles own what they stand for and free it in `Drop`, in the order that libevent needs. They
//! stay on the thread that made them. Calls on hot paths are inlined and cost what they cost in C.

mod base;
mod buffer;
mod bufferevent;
mod config;
mod dns;
mod error;
mod event;
mod event_row;
mod http;
mod line;
mod listener;
#[cfg(libevent_tls)]
mod tls;

pub use base::{Base, CommonTimeout, LOOP_NO_EXIT_ON_EMPTY, LOOP_NONBLOCK, LOOP_ONCE, LoopEnd};
pub use buffer::{EvBuffer, EvBufferRef, Reserved};
pub use bufferevent::{
    BufferEvent, BufferEventRef, DEFER_CALLBACKS, RawDataCallback, RawEventCallback, RawFilter, make_nonblocking,
};
pub use config::{Config, Flag};
pub use dns::{DnsError, NO_SEARCH, RawAnswerCallback, Resolver};
pub use error::{Error, Result, check, non_null};
pub use event::{ET, Event, EventRef, PERSIST, READ, RawCallback, SIGNAL, TIMEOUT, WRITE, evsignal_new, evtimer_new};
pub use event_row::EventRow;
pub use http::{HttpServer, RawRequestCallback, Request};
pub use libc::timeval as Timeval;
pub use line::{Eol, Line};
pub use listener::{Listener, RawListenerCallback, ipv4_address};
#[cfg(libevent_tls)]
pub use tls::{TlsContext, TlsSide};

/// Raw bindings of libevent's public headers, made by bindgen at build time.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
pub mod ffi {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

use std::ffi::{CStr, c_char};
use std::time::Duration;

/// Version of the linked library, such as `2.1.12-stable`.
pub fn version() -> &'static str {
    // SAFETY: a string constant of the library.
    unsafe { static_str(ffi::event_get_version()) }
}

/// Backends that the linked library was built with, best first. Whether one works here is known
/// when a base uses it.
pub fn supported_methods() -> Vec<&'static str> {
    // SAFETY: the library returns an array of string constants that ends with null, or null; the
    // array is replaced by the next call only, the strings live for ever.
    unsafe {
        let methods = ffi::event_get_supported_methods();
        if methods.is_null() {
            return Vec::new();
        }
        (0..).map(|i| *methods.add(i)).take_while(|method| !method.is_null()).map(|method| static_str(method)).collect()
    }
}

/// Makes libevent use locks, for bases that are made from now on. There is no way back.
///
/// # Errors
/// The library was built without threads.
pub fn enable_pthreads() -> Result<()> {
    // SAFETY: no precondition.
    check("evthread_use_pthreads", unsafe { ffi::evthread_use_pthreads() })?;
    Ok(())
}

/// A duration as C has it, rounded down to microseconds.
#[inline]
pub fn timeval(duration: Duration) -> Timeval {
    Timeval {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(duration.subsec_micros()),
    }
}

/// # Safety
/// `text` points to a string constant of the library.
unsafe fn static_str(text: *const c_char) -> &'static str {
    // SAFETY: as the caller says; the library's names are ASCII, else the name is empty.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}
