//! `http-server`, `http-client`, `http-uri`: evhttp between valid, odd and hostile peers.

mod client;
mod draw;
mod server;
mod uri;

pub(crate) use client::Client;
pub(crate) use server::Server;
pub(crate) use uri::Uris;

use crate::observe;
use crate::text::{from_c, shown};
use libevent_sys::ffi;

/// Headers in their order.
///
/// # Safety
/// The list is alive.
unsafe fn headers(list: *mut ffi::evkeyvalq) {
    // SAFETY: a tail queue of libevent's, as the caller says.
    unsafe {
        let mut entry = (*list).tqh_first;
        while !entry.is_null() {
            observe!("  header {}: {}", from_c((*entry).key), from_c((*entry).value));
            entry = (*entry).next.tqe_next;
        }
    }
}

/// The contents of a buffer, which keeps them.
///
/// # Safety
/// The buffer is alive.
unsafe fn contents(buffer: *mut ffi::evbuffer) -> String {
    // SAFETY: as the caller says; room for all bytes.
    unsafe {
        let mut bytes = vec![0_u8; ffi::evbuffer_get_length(buffer)];
        ffi::evbuffer_copyout(buffer, bytes.as_mut_ptr().cast(), bytes.len());
        shown(&bytes)
    }
}
