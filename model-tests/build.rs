//! Compiles the C parts: what only weak symbols can tell, and functions of libc that the program replaces.

fn main() {
    for path in ["build.rs", "csrc/weak.c", "csrc/clock.c"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let mut build = cc::Build::new();
    build
        .opt_level(1)
        .warnings(true)
        .extra_warnings(true)
        .file("csrc/weak.c")
        .file("csrc/clock.c")
        .compile("model_tests_weak");
}
