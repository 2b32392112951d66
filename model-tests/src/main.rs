//! Cargo's own program, linked against the libevent that libevent-sys built: for writing families.

use std::ffi::CString;

fn main() {
    let arguments: Vec<CString> =
        std::env::args().map(|argument| CString::new(argument).expect("arguments have no NUL")).collect();
    let pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    let count = i32::try_from(pointers.len()).expect("few arguments");
    // SAFETY: as many strings as said, alive until the end.
    std::process::exit(unsafe { model_tests::model_tests_main(count, pointers.as_ptr()) })
}
