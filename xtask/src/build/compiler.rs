//! Compilers: which one, which version, and what of the environment they must not see.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::setup::{self, Verb};
use crate::{host, process};
use anyhow::{Context as _, Result};
use model::build_config::{Compiler, Profile};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Variables that compilers, linkers, CMake and the cc crate obey. What they say is in no record.
const COMPILER_SETTINGS: &[&str] = &[
    "CFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "CPATH",
    "C_INCLUDE_PATH",
    "LIBRARY_PATH",
    "LD_RUN_PATH",
    "LDEMULATION",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "CCC_OVERRIDE_OPTIONS",
    "CRATE_CC_NO_DEFAULTS",
    "CMAKE_PREFIX_PATH",
    "CMAKE_INCLUDE_PATH",
    "CMAKE_LIBRARY_PATH",
    "CMAKE_GENERATOR",
    "CMAKE_TOOLCHAIN_FILE",
    "CMAKE_C_COMPILER_LAUNCHER",
    "CMAKE_C_LINKER_LAUNCHER",
    "OPENSSL_ROOT_DIR",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_SYSROOT_DIR",
    "SOURCE_DATE_EPOCH",
];
/// The cc crate's variables for one target (`CFLAGS_x86_64_unknown_linux_gnu`, `HOST_CC`).
const COMPILER_SETTINGS_BEGIN: &[&str] = &["CFLAGS_", "CC_", "AR_", "HOST_C", "TARGET_C"];

/// The compiler that builds libevent and links workers: `CC`, or `cc`.
pub(crate) fn compiler() -> String {
    std::env::var("CC").ok().filter(|cc| !cc.is_empty()).unwrap_or_else(|| "cc".to_owned())
}

/// The compiler of a profile and its version; one that is named and missing is installed, as set-up does.
pub(crate) fn named(context: &Context, profile: &Profile) -> Result<(String, String)> {
    let Some(named) = profile.compiler else {
        let cc = compiler();
        let version = compiler_version(&cc)?;
        return Ok((cc, version));
    };
    setup::ensure(
        match named {
            Compiler::Gcc => Verb::Gcc,
            Compiler::Clang => Verb::Clang,
        },
        context,
    )?;
    let cc = named.name().to_owned();
    let version = compiler_version(&cc)?;
    // There are systems where `gcc` is another name of clang.
    if is_clang(&version) != (named == Compiler::Clang) {
        let message = format!("`{cc}` is not what its name says: {version}");
        return Err(failure(Exit::Infrastructure, message));
    }
    Ok((cc, version))
}

/// Whether a compiler's first line is that of clang.
pub(super) fn is_clang(version: &str) -> bool {
    version.to_lowercase().contains("clang")
}

/// The first line of the compiler's `--version`.
pub(crate) fn compiler_version(cc: &str) -> Result<String> {
    if cc.contains(char::is_whitespace) && !Path::new(cc).is_file() {
        let message = format!("CC={cc}: give one program; a cache in front of a compiler is of no use here");
        return Err(failure(Exit::Usage, message));
    }
    let got = process::capture(Command::new(cc).arg("--version"), Duration::from_secs(20))?;
    let first = got.stdout.lines().next().filter(|_| got.status.success());
    first.map(str::to_owned).with_context(|| format!("`{cc} --version` failed: {}", got.stderr.trim()))
}

/// Whether the compiler makes position-independent programs without being asked to.
pub(super) fn default_pie(cc: &str) -> bool {
    let mut probe = Command::new(cc);
    probe.args(["-dM", "-E", "-x", "c", "/dev/null"]);
    without_compiler_settings(&mut probe);
    process::capture(&mut probe, Duration::from_secs(20)).is_ok_and(|got| got.stdout.contains("#define __PIE__"))
}

/// Whether the compiler finds OpenSSL's headers. `LIBEVENT_TLS=off` builds without in any case.
pub(crate) fn has_openssl(cc: &str) -> bool {
    if std::env::var("LIBEVENT_TLS").as_deref() == Ok("off") {
        return false;
    }
    let mut probe = Command::new(cc);
    probe.args(["-E", "-include", "openssl/ssl.h", "-x", "c", "/dev/null", "-o", "/dev/null"]);
    // As in the build: what only CPATH leads to is not there.
    without_compiler_settings(&mut probe);
    process::capture(&mut probe, Duration::from_secs(20)).is_ok_and(|got| got.status.success())
}

/// What -march=native sees of this CPU: a build made for another one is another build.
pub(super) fn instruction_set() -> impl std::fmt::Debug {
    let host = host::fingerprint();
    (host.arch, host.cpu_vendor, host.cpu_family, host.cpu_model_number, host.cpu_flags_sha256)
}

/// Removes what would change a compilation without being recorded.
pub(crate) fn without_compiler_settings(command: &mut Command) {
    for name in COMPILER_SETTINGS {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        if COMPILER_SETTINGS_BEGIN.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_of_several_words_is_a_usage_error() {
        let error = compiler_version("ccache gcc").unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Usage, "{error:#}");
    }
}
