//! The worker program: compiled once per set of public headers, relinked against every build.

use crate::build;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::rust_object::{self, Program, SYSTEM_LIBRARIES};
use crate::{files, layout, process, progress, sandbox};
use anyhow::{Context as _, Result};
use model::variant::Build;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
/// What decides how is measured and what is made of it.
const HARNESS: &[&str] = &["Cargo.lock", "config", "model/src", "xtask/Cargo.toml", "xtask/src"];

/// What measures a comparison and decides it: a calibration holds for this.
const METHOD: &[&str] = &[
    "bench-harness/csrc",
    "bench-harness/src/client",
    "bench-harness/src/client.rs",
    "bench-harness/src/cpus.rs",
    "bench-harness/src/latency.rs",
    "bench-harness/src/worker/batch.rs",
    "bench-harness/src/worker/busy.rs",
    "bench-harness/src/worker/clock.rs",
    "bench-harness/src/worker/commands.rs",
    "bench-harness/src/worker/probe.rs",
    "bench-harness/src/workloads",
    "config/build.toml",
    "config/thresholds.toml",
    "config/workloads.toml",
    "model/src/stats",
    "model/src/thresholds.rs",
    "model/src/verdict",
    // Draws, and what a batch takes, of which the shape of a block follows.
    "xtask/src/bench/plan.rs",
    "xtask/src/bench/subject.rs",
    "xtask/src/compare",
    "xtask/src/host/external.rs",
    "xtask/src/host/pinning.rs",
    "xtask/src/layout.rs",
    // What surrounds a worker.
    "xtask/src/sandbox",
    "xtask/src/sandbox.rs",
    "xtask/src/session.rs",
    // How it is linked.
    "xtask/src/worker.rs",
];

/// What a soak does besides: a journal holds for this, too.
const SOAK: &[&str] = &[
    "model/src/calibration/summary.rs",
    "xtask/src/calibrate/forms.rs",
    "xtask/src/calibrate/load.rs",
    "xtask/src/calibrate/schedule.rs",
    "xtask/src/calibrate/sizing.rs",
    "xtask/src/calibrate/soak.rs",
];

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
    let user = std::env::join_paths(user_workloads).context("a path with `:`")?;
    let environment = [("BENCH_USER_WORKLOADS", user.as_os_str())];
    let program = Program { package: "bench-harness", environment: &environment };
    let bytes = rust_object::compile(context, &program, &build::headers(context, build), &log)?.map_err(|message| {
        let what = if user_workloads.is_empty() { "the worker" } else { "the worker with the given workloads" };
        failure(
            if user_workloads.is_empty() { Exit::Infrastructure } else { Exit::Failed },
            format!("{what} {message}"),
        )
    })?;
    files::write_atomic(&object, &bytes)?;
    let sha256 = files::sha256_hex(&[&bytes]);
    files::write_atomic(&sum, sha256.as_bytes())?;
    prune(&context.work.join("workers"))?;
    Ok(code(sha256))
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

/// SHA-256 over what the comparisons of a soak depend on, besides the method.
pub(crate) fn soak_sha256(context: &Context) -> Result<String> {
    hash_of(context, SOAK, &[])
}

/// SHA-256 over everything that the worker's code depends on, besides headers and compiler.
pub(crate) fn ingredients(context: &Context, user_workloads: &[PathBuf]) -> Result<String> {
    hash_of(context, INGREDIENTS, user_workloads)
}

/// SHA-256 over files and folders of the workspace, and other files by path and content.
pub(crate) fn hash_of(context: &Context, names: &[&str], others: &[PathBuf]) -> Result<String> {
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

pub(crate) fn rustc_version(context: &Context) -> Result<String> {
    // In the checkout, whose folder may decide which one it is.
    let mut command = Command::new("rustc");
    let got = process::capture(command.arg("--version").current_dir(&context.root), Duration::from_secs(30))?;
    Ok(got.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
