//! Builds libevent with its own CMake and binds its public headers.
//!
//! | variables set                              | what happens                                          |
//! |--------------------------------------------|-------------------------------------------------------|
//! | none                                       | builds `../libevent` (filled by `cargo xtask setup`)  |
//! | LIBEVENT_SOURCE_DIR                        | builds that source                                    |
//! | LIBEVENT_SOURCE_DIR, LIBEVENT_BUILD_DIR    | links a ready CMake build of that source              |
//! | LIBEVENT_INCLUDE_DIR                       | binds those headers and links nothing: the worker     |
//! | LIBEVENT_TLS=on, off or auto (the default) | OpenSSL: needed, unused, or used where it is present  |
//!
//! Sources are copied before they are built: no build ever writes into a source folder.

use model::build_config::{BuildConfig, LIBRARIES};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    for name in ["LIBEVENT_SOURCE_DIR", "LIBEVENT_BUILD_DIR", "LIBEVENT_INCLUDE_DIR", "LIBEVENT_TLS"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=wrapper.h");
    println!("cargo:rustc-check-cfg=cfg(libevent_tls)");

    let includes = match (folder("LIBEVENT_INCLUDE_DIR"), folder("LIBEVENT_BUILD_DIR")) {
        (Some(include), None) => vec![include],
        (None, Some(build)) => link_ready_build(&source_folder(), &build),
        (None, None) => build_and_link(&source_folder()),
        (Some(_), Some(_)) => {
            fail("LIBEVENT_INCLUDE_DIR (bind only) and LIBEVENT_BUILD_DIR (link a build) exclude each other")
        }
    };
    let tls = has_openssl(&includes);
    if tls {
        println!("cargo:rustc-cfg=libevent_tls");
    }
    println!("cargo:tls={}", u8::from(tls));
    println!("cargo:includes={}", env::join_paths(&includes).expect("folders without `:`").to_string_lossy());
    bind(&includes, tls);
}

/// Builds a copy of `source` with the options of config/build.toml and tells cargo what to link.
fn build_and_link(source: &Path) -> Vec<PathBuf> {
    let config = build_config();
    let out = out_dir();
    let copy = out.join("source");
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap_or_else(|e| fail(&format!("cannot clear {}: {e}", copy.display())));
    }
    copy_tree(source, &copy);

    let mut cmake = cmake::Config::new(&copy);
    cmake.generator("Ninja").profile(&config.build_type).no_build_target(true).very_verbose(false);
    // The crate would otherwise add flags of Rust's profile; ours are the same in every profile.
    cmake.no_default_flags(true);
    cmake.cflag(&config.cpu.measure);
    for flag in &config.c_flags {
        cmake.cflag(flag);
    }
    for (name, value) in &config.options {
        cmake.define(name, value);
    }
    cmake.define("EVENT__DISABLE_BENCHMARK", "ON");
    cmake.define("EVENT__DISABLE_OPENSSL", if wants_openssl() { "OFF" } else { "ON" });
    let build = cmake.build().join("build");
    link_ready_build(&copy, &build)
}

/// Tells cargo to link the static libraries of a CMake build folder; returns the include folders.
fn link_ready_build(source: &Path, build: &Path) -> Vec<PathBuf> {
    let lib = build.join("lib");
    if !lib.join("libevent_core.a").is_file() {
        fail(&format!(
            "{} holds no libevent_core.a; it must be a CMake build of libevent with EVENT__LIBRARY_TYPE=STATIC",
            lib.display()
        ));
    }
    println!("cargo:rustc-link-search=native={}", lib.display());
    for name in LIBRARIES.iter().filter(|name| lib.join(format!("lib{name}.a")).is_file()) {
        let library = lib.join(format!("lib{name}.a"));
        if !is_generated(&library) {
            println!("cargo:rerun-if-changed={}", library.display());
        }
        // Not bundled, so that a static library made of this crate (the worker) is free of libevent.
        println!("cargo:rustc-link-lib=static:-bundle={name}");
    }
    if lib.join("libevent_openssl.a").is_file() {
        println!("cargo:rustc-link-lib=ssl");
        println!("cargo:rustc-link-lib=crypto");
    }
    vec![build.join("include"), source.join("include")]
}

/// Writes the raw bindings of the public headers.
fn bind(includes: &[PathBuf], tls: bool) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .allowlist_function("(event|evbuffer|bufferevent|evutil|evhttp|evdns|evconnlistener|evthread|evtag|evkeyval|libevent)_.*")
        .allowlist_type("(event|evbuffer|bufferevent|evutil|evhttp|evdns|evconnlistener|evkeyval)_?.*")
        .allowlist_var("(EV|EVLOOP|BEV|EVBUFFER|LEV|EVENT|EVTHREAD|HTTP|EVHTTP|DNS|EVDNS|LIBEVENT)_.*")
        .opaque_type("event|event_base|event_config|evbuffer|bufferevent|evhttp|evhttp_request|evdns_base")
        // The kernel's and libc's types have a definition already.
        .blocklist_type("timeval|__time_t|__suseconds_t|sockaddr|sockaddr_.*|addrinfo|socklen_t|__socklen_t|iovec|in_addr|in6_addr|sa_family_t|_?IO_FILE|FILE|SSL|ssl_st")
        .raw_line("#[allow(unused_imports)] use libc::{FILE, addrinfo, iovec, sockaddr, socklen_t, timeval};")
        .raw_line("#[allow(unused_imports)] use libc::{in_addr, in6_addr, sockaddr_in};")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .layout_tests(true)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .sort_semantically(true);
    if !includes.iter().any(|include| is_generated(include)) {
        builder = builder.parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    }
    for include in includes {
        builder = builder.clang_arg(format!("-I{}", include.display()));
    }
    if tls {
        builder = builder.clang_arg("-DBIND_TLS").raw_line("/// OpenSSL's connection.\n#[repr(C)] pub struct ssl_st { _opaque: [u8; 0] }\n#[allow(clippy::upper_case_acronyms)] pub type SSL = ssl_st;");
    }
    let bindings = builder.generate().unwrap_or_else(|e| fail(&format!("bindgen: {e}")));
    bindings
        .write_to_file(out_dir().join("bindings.rs"))
        .unwrap_or_else(|e| fail(&format!("cannot write bindings.rs: {e}")));
}

/// The generated configuration header tells whether this libevent was configured with OpenSSL.
fn has_openssl(includes: &[PathBuf]) -> bool {
    includes
        .iter()
        .filter_map(|include| fs::read_to_string(include.join("event2/event-config.h")).ok())
        .any(|text| text.lines().any(|line| line.starts_with("#define EVENT__HAVE_OPENSSL 1")))
}

fn wants_openssl() -> bool {
    let present = || {
        let probe = out_dir().join("openssl-probe.c");
        fs::write(&probe, "#include <openssl/ssl.h>\n").expect("OUT_DIR is writable");
        cc::Build::new().file(&probe).cargo_metadata(false).cargo_warnings(false).warnings(false).try_expand().is_ok()
    };
    match env::var("LIBEVENT_TLS").as_deref() {
        Err(_) | Ok("" | "auto") => present(),
        Ok("off") => false,
        Ok("on") if present() => true,
        Ok("on") => fail("LIBEVENT_TLS=on, but the compiler does not find openssl/ssl.h; install libssl-dev"),
        Ok(other) => fail(&format!("LIBEVENT_TLS={other}: use on, off or auto")),
    }
}

fn source_folder() -> PathBuf {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let source = folder("LIBEVENT_SOURCE_DIR").unwrap_or_else(|| manifest.join("../libevent"));
    if !source.join("CMakeLists.txt").is_file() {
        fail(&format!(
            "{} holds no libevent (no CMakeLists.txt); run `cargo xtask setup`, or set LIBEVENT_SOURCE_DIR",
            source.display()
        ));
    }
    source
}

fn build_config() -> BuildConfig {
    let path = "../config/build.toml";
    println!("cargo:rerun-if-changed={path}");
    let text = fs::read_to_string(path).unwrap_or_else(|e| fail(&format!("{path}: {e}")));
    BuildConfig::parse(&text).unwrap_or_else(|e| fail(&format!("{path}: {e}")))
}

/// Copies regular files and folders; repositories' own folders and links are left out. Every file
/// copied is watched by cargo.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|e| fail(&format!("cannot create {}: {e}", to.display())));
    let entries = fs::read_dir(from).unwrap_or_else(|e| fail(&format!("cannot read {}: {e}", from.display())));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| fail(&format!("cannot read {}: {e}", from.display())));
        let kind = entry.file_type().unwrap_or_else(|e| fail(&format!("{}: {e}", entry.path().display())));
        let target = to.join(entry.file_name());
        if entry.file_name() == ".git" {
            continue;
        } else if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_file() {
            println!("cargo:rerun-if-changed={}", entry.path().display());
            fs::copy(entry.path(), &target)
                .unwrap_or_else(|e| fail(&format!("cannot copy {}: {e}", entry.path().display())));
        }
    }
}

/// What this run makes is newer than the run's start, which is what cargo compares with: watching it
/// would rebuild libevent at every turn. The originals in the source folder are watched in its place.
fn is_generated(path: &Path) -> bool {
    path.starts_with(out_dir())
}

fn folder(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"))
}

/// Ends the build with a message that cargo shows.
fn fail(message: &str) -> ! {
    println!("cargo:warning=libevent-sys: {message}");
    eprintln!("libevent-sys: {message}");
    std::process::exit(1)
}
