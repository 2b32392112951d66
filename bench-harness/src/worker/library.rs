//! What the linked libevent says about itself, and the variant id that the link gave this worker.

use anyhow::{Result, bail};
use libevent_sys::ffi;
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    /// Defined by the variant's link, or by csrc/variant_default.c. The length is unknown here.
    #[link_name = "bench_variant_id"]
    static VARIANT_ID: [c_char; 0];
}

/// The id of the variant whose libevent was linked; `unlinked` for cargo's own binaries.
pub(super) fn variant() -> String {
    // SAFETY: every definition of the symbol is a string constant that ends in NUL.
    unsafe { string((&raw const VARIANT_ID).cast()) }
}

/// Version that the library reports, such as `2.1.12-stable`.
pub(super) fn version() -> String {
    // SAFETY: the library returns a constant.
    unsafe { string(ffi::event_get_version()) }
}

/// One line for `--version`.
pub(super) fn version_line() -> String {
    format!(
        "bench-worker, protocol {}, variant {}, libevent {}",
        model::protocol::PROTOCOL_VERSION,
        variant(),
        version()
    )
}

/// Backends that the library offers on this host, preferred ones first.
pub(super) fn backends() -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the library returns a static array of strings that ends in a null pointer.
    unsafe {
        let mut next = ffi::event_get_supported_methods();
        while !(*next).is_null() {
            names.push(string(*next));
            next = next.add(1);
        }
    }
    names
}

/// The backend that a plain base uses.
pub(super) fn default_backend() -> Result<String> {
    // SAFETY: the base is checked, used and freed here.
    unsafe {
        let base = ffi::event_base_new();
        if base.is_null() {
            bail!("event_base_new failed: libevent offers no backend on this host");
        }
        let name = string(ffi::event_base_get_method(base));
        ffi::event_base_free(base);
        Ok(name)
    }
}

/// SAFETY: `text` must be a string that ends in NUL.
unsafe fn string(text: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
