//! Profile feedback: libevent is compiled with counters, does the training workloads, and is compiled again with
//! what they counted. A build that found no profile is an error, never a build without one.

use super::Plan;
use super::compiler::without_compiler_settings;
use crate::bench::select;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::sandbox::Policy;
use crate::session::{self, Surroundings};
use crate::setup::{self, Verb};
use crate::{files, host, interrupt, process, progress, sandbox, worker};
use anyhow::{Context as _, Result, bail};
use model::build_config::Training;
use model::protocol::Message;
use model::variant::Build;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Most time for all training batches of one workload; the slowest take seconds.
const WORKLOAD_LIMIT: Duration = Duration::from_secs(120);
const TOOL_LIMIT: Duration = Duration::from_secs(60);
/// What stands for the folder of the profile in records.
const FOLDER: &str = "PROFILE";
/// clang's profile, merged.
const MERGED: &str = "merged.profdata";
/// Files whose profile must be found, and a function of each that every training runs.
const HOT: &[(&str, &str)] = &[("event.c", "event_base_loop"), ("buffer.c", "evbuffer_add")];

/// Where the counters of a build are kept. It stays beside the build, for those who want to look.
pub(super) fn folder(plan: &Plan) -> PathBuf {
    plan.folder.join("profile")
}

/// Flags for the build that counts; atomic, because some workloads have several threads.
pub(super) fn counting_flags(profile: &str) -> Vec<String> {
    vec![format!("-fprofile-generate={profile}"), "-fprofile-update=atomic".to_owned()]
}

/// Flags for the build that uses what was counted.
pub(super) fn using_flags(clang: bool, profile: &str) -> Vec<String> {
    if clang {
        return vec![format!("-fprofile-use={profile}/{MERGED}")];
    }
    // Counters that threads raised may not add up to the last one: they are corrected. That a file has no
    // profile is said in the log, which is read.
    let correct = ["-fprofile-correction", "-Wmissing-profile"].map(str::to_owned);
    std::iter::once(format!("-fprofile-use={profile}")).chain(correct).collect()
}

/// A command line without this machine's folder.
pub(super) fn without_folder(plan: &Plan, command: &str) -> String {
    command.replace(&folder(plan).display().to_string(), FOLDER)
}

/// What training needs besides the compiler.
pub(super) fn ensure_tools(context: &Context, clang: bool) -> Result<()> {
    if clang { setup::ensure(Verb::ClangPgo, context).map(drop) } else { Ok(()) }
}

/// Does the training workloads on the build that counts, and returns the SHA-256 of what was counted.
pub(super) fn train(context: &Context, plan: &Plan, counting: &Build, training: &Training) -> Result<String> {
    let profile = folder(plan);
    let code = worker::compile(context, counting, &[])?;
    let scratch = context.scratch("training-")?;
    let mut runtime = vec![runtime_library(plan)?];
    if plan.clang {
        // What clang compiles does not itself ask for the part that writes the counters; clang's own link does.
        runtime.push("-Wl,-u,__llvm_profile_runtime".to_owned());
    }
    let worker = worker::link_with(&code, counting, 0, scratch.path(), &runtime)?;
    let pinning = host::pinning()?;
    let surroundings = Surroundings { pinning: &pinning, environment_bytes: 0, limit: WORKLOAD_LIMIT };
    let run = |args: &[&str], what: &str| -> Result<String> {
        interrupt::check()?;
        // The counters are written where they will be looked for, and nowhere else.
        let policy = Policy { writable: vec![profile.clone()], ..Policy::measure() };
        let mut command = session::command_within(&policy, &worker.program, &surroundings)?;
        let got = process::capture(command.args(["--cpu", &pinning.worker.to_string()]).args(args), WORKLOAD_LIMIT)
            .with_context(|| format!("training {what}"))?;
        if got.status.success() {
            return Ok(got.stdout);
        }
        let message = format!(
            "variant {} ({}): training {what} failed ({}): {}{}",
            counting.variant.id,
            counting.variant.name,
            got.status,
            got.stdout.trim(),
            got.stderr.trim()
        );
        Err(failure(Exit::Failed, message))
    };
    let Message::List(list) = serde_json::from_str(&run(&["list"], "worker")?)? else {
        bail!("the training worker does not list its workloads");
    };
    // All of them by default: what no training runs is taken for code that never runs, and made small and slow.
    let workloads = select::select(&list.workloads, &training.workloads).context("config/build.toml: [pgo]")?;
    progress::note(&format!("training with {} batches of each of {} workloads", training.batches, workloads.len()));
    for spec in &workloads {
        run(&["profile", "--workload", &spec.name, "--batches", &training.batches.to_string()], &spec.name)?;
    }
    if !profile.is_dir() {
        return Err(no_profile(plan, HOT[0].0));
    }
    if plan.clang { merged(plan, &profile) } else { counted(plan, &profile) }
}

/// The library that writes the counters when the worker ends.
fn runtime_library(plan: &Plan) -> Result<String> {
    let ask = |option: &str| -> Result<PathBuf> {
        let mut command = Command::new(&plan.cc);
        without_compiler_settings(&mut command);
        let got = process::capture(command.arg(option), TOOL_LIMIT)?;
        Ok(PathBuf::from(got.stdout.trim()))
    };
    let candidates = if plan.clang {
        let folder = ask("-print-runtime-dir")?;
        let name = format!("libclang_rt.profile-{}.a", std::env::consts::ARCH);
        vec![folder.join("libclang_rt.profile.a"), folder.join(name)]
    } else {
        vec![ask("-print-file-name=libgcov.a")?]
    };
    let found = candidates.iter().find(|path| path.is_absolute() && path.is_file());
    let found = found.and_then(|path| path.to_str()).map(str::to_owned);
    found.ok_or_else(|| {
        let message = format!(
            "{} has no run-time library for profiles ({}); install the whole compiler",
            plan.version,
            candidates.last().map_or_else(String::new, |path| path.display().to_string())
        );
        failure(Exit::Infrastructure, message)
    })
}

/// What trained code has written. It is a candidate's: a pipe or a link in the place of a file is not opened.
fn written(profile: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(profile).with_context(|| format!("cannot read {}", profile.display()))? {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            let message = format!("training left {}, which is no regular file", entry.path().display());
            return Err(failure(Exit::Failed, message));
        }
        paths.push(entry.path());
    }
    Ok(paths)
}

/// gcc: one file of counters for each object file, named after its path. The path is that of the build to come,
/// which is made in the same folder.
fn counted(plan: &Plan, profile: &Path) -> Result<String> {
    let mut names = Vec::new();
    for path in written(profile)? {
        let name = path.file_name().and_then(|name| name.to_str()).context("names of profiles are UTF-8")?;
        names.push(name.to_owned());
    }
    names.sort();
    for (file, _) in HOT {
        if !names.iter().any(|name| name.ends_with(&format!("#{file}.gcda"))) {
            return Err(no_profile(plan, file));
        }
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for name in &names {
        // Without the folder, so that it is the same on another machine if the counts are.
        let relative = name.rsplit("#CMakeFiles#").next().unwrap_or(name);
        let content = std::fs::read(profile.join(name))?;
        parts.extend([relative.as_bytes().to_vec(), content.len().to_le_bytes().to_vec(), content]);
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(files::sha256_hex(&parts))
}

/// clang: one profile of all, merged from what each process wrote.
fn merged(plan: &Plan, profile: &Path) -> Result<String> {
    let merged = profile.join(MERGED);
    let mut raw = written(profile)?;
    raw.retain(|path| path.extension().is_some_and(|ending| ending == "profraw"));
    raw.sort();
    let tool = |args: &[&str], paths: &[PathBuf]| -> Result<String> {
        let mut command = sandbox::build_tool("llvm-profdata", &[], profile)?;
        command.args(args).args(paths);
        let got = process::capture(&mut command, TOOL_LIMIT)?;
        if !got.status.success() {
            let message = format!("{} failed: {}", process::shown(&command), got.stderr.trim());
            return Err(failure(Exit::Infrastructure, message));
        }
        Ok(got.stdout)
    };
    let of_all: Vec<PathBuf> = std::iter::once(&merged).chain(&raw).cloned().collect();
    tool(&["merge", "-o"], &of_all)?;
    for (file, function) in HOT {
        let shown = tool(&["show", "--counts", &format!("--function={function}")], std::slice::from_ref(&merged))?;
        if !has_counts(&shown) {
            return Err(no_profile(plan, file));
        }
    }
    files::sha256_file(&merged)
}

/// Whether `llvm-profdata show --counts` shows a counter that is not zero.
fn has_counts(shown: &str) -> bool {
    let counts = shown.lines().filter_map(|line| line.trim().strip_prefix("Block counts: ["));
    let mut numbers = counts.flat_map(|list| list.trim_end_matches(']').split(", "));
    numbers.any(|number| number.parse::<u64>().is_ok_and(|count| count > 0))
}

/// Fails if the compiler said that it found no profile for a file of `HOT`, or one of other code.
pub(super) fn check_used(plan: &Plan) -> Result<()> {
    let log = plan.log();
    let text = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    match unused(&text) {
        None => Ok(()),
        Some(line) => Err(failure(
            Exit::Infrastructure,
            format!("the recorded profile does not fit the code: {line}; see {}", log.display()),
        )),
    }
}

/// The line of a build log that says so. libevent.a is compiled, too, and never linked: it has no profile.
fn unused(log: &str) -> Option<&str> {
    log.lines().find(|line| {
        let missing = line.contains("[-Wmissing-profile]")
            && line.contains("event_core")
            && HOT.iter().any(|(file, _)| line.contains(&format!("#{file}.gcda")));
        missing || line.contains("[-Wcoverage-mismatch]") || line.contains("hash mismatch")
    })
}

fn no_profile(plan: &Plan, file: &str) -> anyhow::Error {
    let message = format!(
        "the training left no profile of {file} in {}; a build without one is not made (config/build.toml, [pgo])",
        folder(plan).display()
    );
    failure(Exit::Infrastructure, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_was_not_used_is_seen_in_the_log() {
        let missing = |target: &str, file: &str| {
            format!(
                "x.c:1: warning: ‘/w/#b#CMakeFiles#{target}.dir#{file}.gcda’ profile count data file not found \
                 [-Wmissing-profile]"
            )
        };
        let text = [missing("event_static", "event.c"), missing("event_core_static", "win32select.c")].join("\n");
        assert_eq!(unused(&text), None);
        assert!(unused(&missing("event_core_static", "buffer.c")).is_some());
        assert!(unused("a.c: warning: function control flow change detected (hash mismatch) f").is_some());
        assert!(unused("a.c:3: error: control flow does not match its profile data [-Wcoverage-mismatch]").is_some());
    }

    #[test]
    fn what_training_left_is_opened_only_if_it_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.gcda"), "x").unwrap();
        assert_eq!(written(folder.path()).unwrap(), [folder.path().join("a.gcda")]);
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("b.gcda")).unwrap();
        let error = written(folder.path()).unwrap_err();
        assert!(crate::exit::exit_of(&error) == Exit::Failed && error.to_string().contains("b.gcda"), "{error}");
    }

    #[test]
    fn counts_of_clang_are_read() {
        let shown = |counts: &str| format!("Counters:\n  f:\n    Hash: 0x1\n    Block counts: [{counts}]\n");
        assert!(has_counts(&shown("0, 12, 0")));
        assert!(!has_counts(&shown("0, 0")));
        assert!(!has_counts("Functions shown: 0\n"));
    }
}
