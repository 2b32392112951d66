//! The worker program: compiled once per set of public headers, relinked against every build.

use crate::build;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{files, layout, process, progress, sandbox};
use anyhow::{Context as _, Result};
use model::variant::Build;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Compiling the worker with all its dependencies takes about a minute on two cores.
const COMPILE_LIMIT: Duration = Duration::from_secs(900);
/// Linking takes well under a second.
const LINK_LIMIT: Duration = Duration::from_secs(120);

/// Workers that are kept.
const MOST_WORKERS: usize = 6;

/// What the worker is made of, besides what users add.
const INGREDIENTS: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "bench-harness/Cargo.toml",
    "bench-harness/build.rs",
    "bench-harness/csrc",
    "bench-harness/include",
    "bench-harness/src",
    "config",
    "libevent-sys/Cargo.toml",
    "libevent-sys/build.rs",
    "libevent-sys/src",
    "libevent-sys/wrapper.h",
    "model/Cargo.toml",
    "model/src",
];
/// Variables with which cargo is told how to compile; by how they begin.
const CARGO_SETTINGS_BEGIN: &[&str] =
    &["CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_INCREMENTAL", "CARGO_PROFILE_", "CARGO_TARGET_", "RUSTC", "RUSTFLAGS"];
/// What the worker's profile leaves at its default, where a user's configuration could put something else.
const PROFILE_DEFAULTS: &[&str] =
    &["debug-assertions=false", "incremental=false", "overflow-checks=false", "rpath=false", "strip=\"none\""];

/// What decides how is measured and what is made of it.
const HARNESS: &[&str] = &["Cargo.lock", "config", "model/src", "xtask/Cargo.toml", "xtask/src"];

/// What measures a comparison and decides it: a calibration holds for this.
const METHOD: &[&str] = &[
    "bench-harness/csrc",
    "bench-harness/src/worker/batch.rs",
    "bench-harness/src/worker/busy.rs",
    "bench-harness/src/worker/clock.rs",
    "bench-harness/src/worker/probe.rs",
    "bench-harness/src/workloads",
    "config/build.toml",
    "config/thresholds.toml",
    "config/workloads.toml",
    "model/src/stats",
    "model/src/verdict",
    "xtask/src/compare",
    "xtask/src/host/external.rs",
    "xtask/src/host/pinning.rs",
    "xtask/src/layout.rs",
    "xtask/src/session.rs",
];

/// What Rust's standard library needs from the system (`--print native-static-libs`).
const SYSTEM_LIBRARIES: &[&str] = &["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// LLVM's bitcode, which Rust's standard library brings along and no linker here reads: without it a link takes
/// half of the time.
const LEFT_OUT: &str = "SECTIONS\n{\n  /DISCARD/ : { *(.llvmbc) *(.llvmcmd) }\n}\nINSERT AFTER .comment;\n";

/// The worker's own machine code, the same for every build with these headers.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WorkerCode {
    /// SHA-256 of the object file that is linked.
    pub(crate) sha256: String,
    /// SHA-256 over the harness sources, lock file and users' workloads that it was compiled from.
    pub(crate) ingredients_sha256: String,
    /// `rustc --version`.
    pub(crate) rustc: String,
    /// Users' workloads that it contains.
    pub(crate) user_workloads: Vec<PathBuf>,
    #[serde(skip)]
    object: PathBuf,
}

/// A worker linked against one build in one order of functions.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    /// The program.
    pub(crate) program: PathBuf,
    /// The variant id that it must report.
    pub(crate) variant_id: String,
}

/// Compiles the worker for the headers of `build`, unless that was done before.
pub(crate) fn compile(context: &Context, build: &Build, user_workloads: &[PathBuf]) -> Result<WorkerCode> {
    let rustc = rustc_version(context)?;
    let ingredients_sha256 = ingredients(context, user_workloads)?;
    // The C compiler makes the workloads in C and the worker's own C parts.
    let cc = build::compiler();
    // It is that of every worker, not that of the build: the worker is the same beside libevent of another compiler.
    let version = build::compiler_version(&cc)?;
    let made_of = [&build.headers_sha256, &ingredients_sha256, &rustc, &cc, &version];
    let identity = made_of.map(String::as_bytes);
    let key = files::sha256_hex(&identity)[..12].to_owned();
    let folder = context.work.join("workers").join(&key);
    let object = folder.join("worker.o");
    let sum = folder.join("sha256");
    let code = |sha256: String| WorkerCode {
        sha256,
        ingredients_sha256: ingredients_sha256.clone(),
        rustc: rustc.clone(),
        user_workloads: user_workloads.to_vec(),
        object: object.clone(),
    };
    if let Ok(recorded) = std::fs::read_to_string(&sum)
        && files::sha256_file(&object).ok().as_deref() == Some(recorded.trim())
    {
        // Its age is that of its last use: the other side's worker must not push it out.
        let touched = std::fs::File::open(&folder).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        touched.with_context(|| format!("cannot write {}", folder.display()))?;
        return Ok(code(recorded.trim().to_owned()));
    }

    progress::note("compiling the worker (once for these headers; about a minute from nothing)");
    let log = folder.join("compile.log");
    let target = context.work.join("target");
    let mut command = cargo(context)?;
    command
        .env("CC", &cc)
        .env("CARGO_TARGET_DIR", &target)
        .env("LIBEVENT_INCLUDE_DIR", build::headers(context, build))
        .env("BENCH_USER_WORKLOADS", std::env::join_paths(user_workloads).context("a path with `:`")?);
    // An older one must not be taken for what is compiled now.
    for old in places(&target) {
        std::fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    let status = process::logged(&mut command, COMPILE_LIMIT, &log)?;
    if !status.success() {
        let what = if user_workloads.is_empty() { "the worker" } else { "the worker with the given workloads" };
        let message = format!("{what} does not compile; the end of {}:\n{}", log.display(), process::tail(&log, 30));
        return Err(failure(if user_workloads.is_empty() { Exit::Infrastructure } else { Exit::Failed }, message));
    }
    let [made] = <[PathBuf; 1]>::try_from(places(&target))
        .map_err(|places| anyhow::anyhow!("cargo left {} static libraries below {}", places.len(), target.display()))?;
    let bytes = join(context, &made, &log)?;
    files::write_atomic(&object, &bytes)?;
    let sha256 = files::sha256_hex(&[&bytes]);
    files::write_atomic(&sum, sha256.as_bytes())?;
    prune(&context.work.join("workers"))?;
    Ok(code(sha256))
}

/// Makes one object file of the worker's static library and its `main`, so that each of many links has
/// little to do. What only other parts of the library use is left out; the names of libevent's functions
/// stay open, and so does the variant's id, which each link defines.
fn join(context: &Context, library: &Path, log: &Path) -> Result<Vec<u8>> {
    let scratch = context.scratch("join-")?;
    let [script, joined] = ["left-out.ld", "joined.o"].map(|name| scratch.path().join(name));
    std::fs::write(&script, LEFT_OUT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut link = Command::new(build::compiler());
    link.args(["-O2", "-r", "-nostdlib", "-Xlinker", "--gc-sections", "-Xlinker", "-u", "-Xlinker", "main"]);
    link.args(["-Xlinker", "--strip-debug", "-Xlinker", "-T", "-Xlinker"]).arg(&script);
    link.arg("-o").arg(&joined).arg(context.root.join("bench-harness/csrc/main.c")).arg(library);
    build::without_compiler_settings(&mut link);
    let status = process::logged(&mut link, LINK_LIMIT, log)?;
    if !status.success() {
        let message = format!("the worker cannot be linked; the end of {}:\n{}", log.display(), process::tail(log, 30));
        return Err(failure(Exit::Infrastructure, message));
    }
    std::fs::read(&joined).with_context(|| format!("cannot read {}", joined.display()))
}

/// The cargo that compiles the worker, and compiles it the same whatever the caller's environment and
/// configuration files say. They still decide where crates come from.
fn cargo(context: &Context) -> Result<Command> {
    let mut command = plain_cargo(context);
    command.args(["build", "--locked", "--profile", "worker", "--package", "bench-harness", "--lib"]);
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

/// Where cargo has put the worker's static library: below the profile, or, if the user's cargo builds for
/// a named target, below that.
fn places(target: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path());
    below
        .flat_map(|folder| [folder.join("libbench_harness.a"), folder.join("worker/libbench_harness.a")])
        .filter(|path| path.parent().is_some_and(|folder| folder.ends_with("worker")) && path.is_file())
        .collect()
}

/// Removes the workers that were used longest ago; each has some 30 MB, and every change of the
/// harness makes a new one.
fn prune(folder: &Path) -> Result<()> {
    let read = || -> std::io::Result<Vec<(std::time::SystemTime, PathBuf)>> {
        std::fs::read_dir(folder)?
            .map(|entry| entry.and_then(|entry| Ok((entry.metadata()?.modified()?, entry.path()))))
            .collect()
    };
    let mut workers = read().with_context(|| format!("cannot read {}", folder.display()))?;
    workers.sort();
    for (_, path) in workers.iter().rev().skip(MOST_WORKERS) {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Links the worker against `build` into `folder`, with libevent's functions in the order of `seed`.
pub(crate) fn link(code: &WorkerCode, build: &Build, seed: u64, folder: &Path) -> Result<Worker> {
    link_with(code, build, seed, folder, &[])
}

/// The same with more libraries, such as one that writes a profile. One compiler links all builds, whichever
/// compiled them: what differs is libevent's code alone.
pub(crate) fn link_with(code: &WorkerCode, build: &Build, seed: u64, folder: &Path, more: &[String]) -> Result<Worker> {
    let stem = format!("worker-{}-{seed:016x}", build.id);
    let path = |suffix: &str| folder.join(format!("{stem}{suffix}"));
    let libraries = build::library_paths(build);
    let ordered = layout::order(&layout::functions(&libraries)?, seed);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let (script, identity, program) = (path(".ld"), path("-id.c"), path(""));
    write(&script, &layout::linker_script(&ordered))?;
    write(
        &identity,
        &format!("extern const char bench_variant_id[];\nconst char bench_variant_id[] = \"{}\";\n", build.variant.id),
    )?;

    // The linker reads what was compiled of a candidate, and writes where nothing else is.
    let place = folder.join(format!("{stem}.d"));
    let mut readable: Vec<&Path> = libraries.iter().map(PathBuf::as_path).collect();
    readable.extend([script.as_path(), identity.as_path(), code.object.as_path()]);
    let mut command = sandbox::build_tool(&build::compiler(), &readable, &place)?;
    let linked = place.join("worker");
    command.arg("-O2").arg("-o").arg(&linked).arg(&identity).arg(&code.object).args(&libraries).args(more);
    command.args(["-Xlinker", "-T", "-Xlinker"]).arg(&script);
    if build.tls {
        command.args(["-lssl", "-lcrypto"]);
    }
    command.args(SYSTEM_LIBRARIES);
    build::without_compiler_settings(&mut command);
    let got = process::capture(&mut command, LINK_LIMIT)?;
    if !got.status.success() {
        let message = format!(
            "variant {} ({}) does not link with the worker:\n{}",
            build.variant.id,
            build.variant.name,
            got.stderr.trim()
        );
        return Err(failure(Exit::Failed, message));
    }
    std::fs::rename(&linked, &program).with_context(|| format!("the linker left no {}", linked.display()))?;
    sandbox::take_back(&program)?;
    std::fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    layout::verify(&program, &ordered)?;
    for made in [&script, &identity] {
        // A soak links many thousand times.
        std::fs::remove_file(made).with_context(|| format!("cannot remove {}", made.display()))?;
    }
    Ok(Worker { program, variant_id: build.variant.id.clone() })
}

/// SHA-256 over the sources of the harness itself.
pub(crate) fn harness_sha256(context: &Context) -> Result<String> {
    hash_of(context, HARNESS, &[])
}

/// SHA-256 over what a calibration holds for.
pub(crate) fn method_sha256(context: &Context) -> Result<String> {
    hash_of(context, METHOD, &[])
}

/// SHA-256 over everything that the worker's code depends on, besides headers and compiler.
pub(crate) fn ingredients(context: &Context, user_workloads: &[PathBuf]) -> Result<String> {
    hash_of(context, INGREDIENTS, user_workloads)
}

/// SHA-256 over files and folders of the workspace, and other files by path and content.
fn hash_of(context: &Context, names: &[&str], others: &[PathBuf]) -> Result<String> {
    let mut parts = Vec::new();
    for name in names {
        let path = context.root.join(name);
        parts.push(if path.is_dir() { files::sha256_tree(&path)? } else { files::sha256_file(&path)? });
    }
    for path in others {
        parts.push(path.display().to_string());
        parts.push(files::sha256_file(path)?);
    }
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Ok(files::sha256_hex(&parts))
}

fn rustc_version(context: &Context) -> Result<String> {
    // In the checkout, whose folder may decide which one it is.
    let mut command = Command::new("rustc");
    let got = process::capture(command.arg("--version").current_dir(&context.root), Duration::from_secs(30))?;
    Ok(got.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn only_the_newest_workers_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..MOST_WORKERS + 3 {
            let path = folder.path().join(format!("{number:02}"));
            std::fs::create_dir(&path).unwrap();
            let age = Duration::from_secs(1000 - number as u64);
            std::fs::File::open(&path).unwrap().set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        prune(folder.path()).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left.len(), MOST_WORKERS);
        assert_eq!(left[0], "03");
    }
}
