//! Programs that are Rust code beside libevent: compiled once as a static library, joined with their `main` into one
//! object file, then linked against each build by the C compiler.

use crate::build;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{process, worker};
use anyhow::{Context as _, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Compiling the worker with all its dependencies takes about a minute on two cores.
const COMPILE_LIMIT: Duration = Duration::from_secs(900);
/// Joining takes well under a second.
const LINK_LIMIT: Duration = Duration::from_secs(120);

/// Variables with which cargo is told how to compile; by how they begin.
const CARGO_SETTINGS_BEGIN: &[&str] =
    &["CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_INCREMENTAL", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC", "RUSTFLAGS"];
/// What the worker's profile leaves at its default, where a user's configuration could put something else.
const PROFILE_DEFAULTS: &[&str] =
    &["debug-assertions=false", "incremental=false", "overflow-checks=false", "rpath=false", "strip=\"none\""];

/// The first rustc that writes unwind tables on Linux although a panic aborts. A profile's stacks need them.
const TABLES_SINCE: [u32; 2] = [1, 92];
/// Asks an older one for them.
const TABLES: &str = "-Cforce-unwind-tables=yes";

/// What Rust's standard library needs from the system (`--print native-static-libs`).
pub(crate) const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// LLVM's bitcode, which Rust's standard library brings along and no linker here reads: without it a link takes
/// half of the time.
const LEFT_OUT: &str = "SECTIONS\n{\n  /DISCARD/ : { *(.llvmbc) *(.llvmcmd) }\n}\nINSERT AFTER .comment;\n";

/// What is compiled.
pub(crate) struct Program<'a> {
    /// A package of this workspace with a static library, and a `csrc/main.c` that calls it.
    pub(crate) package: &'a str,
    /// Variables that its build script reads.
    pub(crate) environment: &'a [(&'a str, &'a OsStr)],
}

/// The program's object file for the public headers in a folder; what the compiler said, if it does not compile.
pub(crate) fn compile(
    context: &Context,
    program: &Program<'_>,
    headers: &Path,
    log: &Path,
) -> Result<Result<Vec<u8>, String>> {
    let target = context.work.join("target");
    let mut command = cargo(context, program.package)?;
    // The C compiler makes the program's C parts.
    command
        .env("CC", build::compiler())
        .env("CARGO_TARGET_DIR", &target)
        .env("LIBEVENT_INCLUDE_DIR", headers)
        .envs(program.environment.iter().copied());
    // An older one must not be taken for what is compiled now.
    for old in places(&target, program.package) {
        std::fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    let status = process::logged(&mut command, COMPILE_LIMIT, log)?;
    if !status.success() {
        return Ok(Err(format!("does not compile; the end of {}:\n{}", log.display(), process::tail(log, 30))));
    }
    let [made] = <[PathBuf; 1]>::try_from(places(&target, program.package))
        .map_err(|places| anyhow::anyhow!("cargo left {} static libraries below {}", places.len(), target.display()))?;
    join(context, program.package, &made, log).map(Ok)
}

/// Makes one object file of the static library and its `main`, so that each of many links has
/// little to do. What only other parts of the library use is left out; the names of libevent's functions
/// stay open, and so does what each link defines, such as the variant's id.
fn join(context: &Context, package: &str, library: &Path, log: &Path) -> Result<Vec<u8>> {
    let scratch = context.scratch("join-")?;
    let [script, joined] = ["left-out.ld", "joined.o"].map(|name| scratch.path().join(name));
    std::fs::write(&script, LEFT_OUT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut link = Command::new(build::compiler());
    link.args(["-O2", "-r", "-nostdlib", "-Xlinker", "--gc-sections", "-Xlinker", "-u", "-Xlinker", "main"]);
    link.args(["-Xlinker", "--strip-debug", "-Xlinker", "-T", "-Xlinker"]).arg(&script);
    link.arg("-o").arg(&joined).arg(context.root.join(package).join("csrc/main.c")).arg(library);
    build::without_compiler_settings(&mut link);
    let status = process::logged(&mut link, LINK_LIMIT, log)?;
    if !status.success() {
        let message = format!("{package} cannot be joined; the end of {}:\n{}", log.display(), process::tail(log, 30));
        return Err(failure(Exit::Infrastructure, message));
    }
    std::fs::read(&joined).with_context(|| format!("cannot read {}", joined.display()))
}

/// The cargo that compiles a package, and compiles it the same whatever the caller's environment and
/// configuration files say. They still decide where crates come from.
fn cargo(context: &Context, package: &str) -> Result<Command> {
    let mut command = plain_cargo(context);
    command.args(["build", "--locked", "--profile", "worker", "--package", package, "--lib"]);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags_of(&worker::rustc_version(context)?));
    for setting in profile_settings(&context.root.join("Cargo.toml"))? {
        command.arg("--config").arg(setting);
    }
    Ok(command)
}

/// Cargo in the workspace, without what the caller's environment says of compilers and of libevent.
pub(crate) fn plain_cargo(context: &Context) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&context.root).env_remove("LIBEVENT_SOURCE_DIR").env_remove("LIBEVENT_BUILD_DIR");
    // What this very cargo set for its child is not for the other one, either.
    for (name, _) in std::env::vars_os() {
        if CARGO_SETTINGS_BEGIN.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
            command.env_remove(&name);
        }
    }
    build::without_compiler_settings(&mut command);
    // Empty, they overrule configuration files.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env(name, "");
    }
    // The one whose version is recorded, not that of a configuration file.
    command.env("RUSTC", "rustc");
    command
}

/// Flags for the rustc that calls itself so. None for one that does it anyway: the worker stays the same to the byte.
fn flags_of(version: &str) -> &'static str {
    let number = version.split_ascii_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if [major, minor] < TABLES_SINCE => TABLES,
        _ => "",
    }
}

/// The worker's profile as arguments of `--config`, which nothing overrules.
fn profile_settings(manifest: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| manifest.display().to_string())?;
    let profile = table.get("profile").and_then(|profiles| profiles.get("worker")?.as_table());
    let profile = profile.with_context(|| format!("{} has no [profile.worker]", manifest.display()))?;
    let own = profile.iter().map(|(name, value)| format!("{name}={value}"));
    let defaults = PROFILE_DEFAULTS.iter().map(|setting| (*setting).to_owned());
    let defaults = defaults.filter(|setting| !profile.contains_key(setting.split('=').next().unwrap_or_default()));
    Ok(own.chain(defaults).map(|setting| format!("profile.worker.{setting}")).collect())
}

/// Where cargo has put the static library: below the profile, or, if the user's cargo builds for
/// a named target, below that.
fn places(target: &Path, package: &str) -> Vec<PathBuf> {
    let name = format!("lib{}.a", package.replace('-', "_"));
    let below = std::fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path());
    below
        .flat_map(|folder| [folder.join(&name), folder.join("worker").join(&name)])
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("worker")) && path.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwind_tables_are_asked_of_a_rustc_that_would_leave_them_out() {
        for (version, flags) in [
            ("rustc 1.89.0 (29483883e 2025-08-04)", TABLES),
            ("rustc 1.91.1 (ed61e7d7e 2025-11-07)", TABLES),
            ("rustc 1.92.0 (ded5c06cf 2025-12-08)", ""),
            ("rustc 1.95.0 (59807616e 2026-04-14)", ""),
            ("rustc 2.0.0-nightly", ""),
            ("", ""),
        ] {
            assert_eq!(flags_of(version), flags, "{version}");
        }
    }

    #[test]
    fn the_whole_profile_is_given_to_cargo_where_nothing_overrules_it() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(&manifest, "[profile.worker]\ninherits = \"release\"\nopt-level = 3\nstrip = true\n").unwrap();
        let settings = profile_settings(&manifest).unwrap();
        for expected in ["inherits=\"release\"", "opt-level=3", "strip=true", "incremental=false"] {
            assert!(settings.contains(&format!("profile.worker.{expected}")), "{expected} in {settings:?}");
        }
        assert_eq!(settings.iter().filter(|setting| setting.contains("strip")).count(), 1, "the manifest decides");
    }
}
