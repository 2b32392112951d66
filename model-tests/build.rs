//! Compiles the C parts: they ask what only weak symbols can tell.

fn main() {
    for path in ["build.rs", "csrc/weak.c"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let mut build = cc::Build::new();
    build.opt_level(1).warnings(true).extra_warnings(true).file("csrc/weak.c").compile("model_tests_weak");
}
