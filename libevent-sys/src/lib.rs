//! libevent, built by this workspace: raw bindings in [`ffi`], a thin safe layer beside them.

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
