//! Compiles the worker's C parts and whatever workloads a user adds.
//!
//! BENCH_USER_WORKLOADS names C and Rust files, absolute, separated by `:` (docs/WORKLOADS.md). A C
//! file defines an array `bench_workloads`, renamed per file here, so that files do not clash; a
//! Rust file becomes a module of this crate.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

const USER_WORKLOADS: &str = "BENCH_USER_WORKLOADS";

fn main() {
    println!("cargo:rerun-if-env-changed={USER_WORKLOADS}");
    for path in ["build.rs", "csrc/variant_default.c", "include/bench_workload.h"] {
        println!("cargo:rerun-if-changed={path}");
    }
    // Whether the libevent that is bound was configured with OpenSSL.
    println!("cargo:rustc-check-cfg=cfg(libevent_tls)");
    if env::var("DEP_EVENT_TLS").is_ok_and(|tls| tls == "1") {
        println!("cargo:rustc-cfg=libevent_tls");
    }

    // A library of its own: its one member is linked only if nobody else defines the variant id.
    c_compiler().file("csrc/variant_default.c").compile("bench_variant_default");

    let files = user_files();
    let generated = compile_user_files(&files);
    let path = out_dir().join("user_workloads.rs");
    fs::write(&path, generated).unwrap_or_else(|e| fail(&format!("cannot write {}: {e}", path.display())));
}

fn user_files() -> Vec<PathBuf> {
    let value = env::var_os(USER_WORKLOADS).unwrap_or_default();
    let files: Vec<PathBuf> = env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
        if !file.is_absolute() || file.to_str().is_none() {
            fail(&format!("`{}` must be an absolute path in UTF-8", file.display()));
        }
        if !file.is_file() {
            fail(&format!("{} does not exist or is no file", file.display()));
        }
    }
    files
}

/// Compiles the C files and returns the Rust module that lists everything.
fn compile_user_files(files: &[PathBuf]) -> String {
    let (mut modules, mut rust_lists, mut c_arrays) = (String::new(), String::new(), String::new());
    for (index, file) in files.iter().enumerate() {
        let text = file.to_str().expect("checked to be UTF-8");
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                writeln!(modules, "#[allow(missing_docs, unreachable_pub)]\n#[path = {text:?}]\nmod file_{index};")
                    .expect("strings grow");
                writeln!(rust_lists, "        ({text:?}, file_{index}::workloads as super::RustFile),")
                    .expect("strings grow");
            }
            Some("c") => {
                let symbol = compile_c(file, index);
                writeln!(
                    modules,
                    "unsafe extern \"C\" {{ #[link_name = {symbol:?}] static C_{index}: [super::c::Descriptor; 0]; }}"
                )
                .expect("strings grow");
                writeln!(c_arrays, "        ({text:?}, (&raw const C_{index}).cast()),").expect("strings grow");
            }
            _ => fail(&format!("{text}: a workload is a .c or a .rs file")),
        }
    }
    format!(
        "// Made by bench-harness/build.rs of {USER_WORKLOADS}.\n{modules}\n\
         pub(super) fn rust_files() -> Vec<(&'static str, super::RustFile)> {{\n    vec![\n{rust_lists}    ]\n}}\n\
         pub(super) fn c_files() -> Vec<(&'static str, *const super::c::Descriptor)> {{\n    vec![\n{c_arrays}    ]\n}}\n"
    )
}

fn compile_c(file: &Path, index: usize) -> String {
    let symbol = format!("bench_user_workloads_{index}");
    let mut build = c_compiler();
    build.file(file).define("bench_workloads", symbol.as_str()).include("include");
    let includes = env::var_os("DEP_EVENT_INCLUDES").unwrap_or_default();
    build.includes(env::split_paths(&includes));
    if let Err(error) = build.try_compile(&symbol) {
        fail(&format!("{} does not compile: {error}", file.display()));
    }
    symbol
}

/// The same code in every cargo profile: what a user measures in C must not depend on Rust's.
fn c_compiler() -> cc::Build {
    let mut build = cc::Build::new();
    build.opt_level(2).debug(true).flag("-fno-omit-frame-pointer").warnings(true).extra_warnings(true);
    build
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"))
}

/// Ends the build with a message that cargo shows.
fn fail(message: &str) -> ! {
    println!("cargo:warning=bench-harness: {USER_WORKLOADS}: {message}");
    eprintln!("bench-harness: {USER_WORKLOADS}: {message}");
    std::process::exit(1)
}
