//! The worker as a cargo binary, for tests and debugging: linked against the libevent that
//! libevent-sys built, so its variant id is `unlinked` and no record accepts its figures.

use std::ffi::{CString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

fn main() {
    let arguments: Vec<CString> = std::env::args_os()
        .map(|argument| CString::new(argument.into_vec()).expect("arguments of a process hold no NUL"))
        .collect();
    let pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    let count = c_int::try_from(pointers.len()).expect("the kernel limits the number of arguments");
    // SAFETY: `pointers` holds `count` strings that live until the call returns.
    let code = unsafe { bench_harness::worker::bench_worker_main(count, pointers.as_ptr()) };
    std::process::exit(code);
}
