//! libevent's own CMake: configured, compiled, and asked what it did.

use super::Plan;
use super::answers::{self, Answers};
use super::compiler::without_compiler_settings;
use super::outside::Outside;
use crate::exit::{Exit, exit_of, failure};
use crate::{process, progress, sandbox};
use anyhow::{Context as _, Result, bail};
use model::build_config::LIBRARIES;
use model::variant::Variant;
use serde::Deserialize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Configuring and compiling takes about 20 s on two cores, where the system has to be asked.
const LIMIT: Duration = Duration::from_secs(600);

/// Lines of a log in which errors are looked for.
const LINES_OF_A_LOG: usize = 4000;

/// Compiles `source` as planned, with `more` flags behind the plan's.
pub(super) fn compile(plan: &Plan, variant: &Variant, source: &Path, more: &[String]) -> Result<()> {
    let file = answers::file(plan, source)?;
    let Some(known) = Answers::known(&file) else { return ask_and_build(plan, variant, source, more, &file) };
    let script = known.as_script(&plan.folder)?;
    configure(plan, variant, source, more, Some(&script))?;
    if !known.led_to(&plan.cmake()) {
        return Err(changed(variant, &file));
    }
    let built = build(plan, variant, source);
    let Err(error) = &built else { return built };
    if exit_of(error) != Exit::Failed || !variant.patches.is_empty() {
        return built;
    }
    // No patch is to blame: it may be the answers, where the system changed in a way that their name does not tell.
    progress::note(
        "an unpatched source does not compile with the answers of an earlier build; asking the system again",
    );
    clear(&plan.cmake())?;
    configure(plan, variant, source, more, None)?;
    if known.led_to(&plan.cmake()) { built } else { Err(changed(variant, &file)) }
}

/// Builds from before and after would differ in more than their patches.
fn changed(variant: &Variant, file: &Path) -> anyhow::Error {
    let message = format!(
        "variant {} ({}): libevent configures itself otherwise than in earlier builds here, so the system has changed; \
         remove {} and the folder `builds` beside it, then all are built alike",
        variant.id,
        variant.name,
        file.parent().unwrap_or(file).display()
    );
    failure(Exit::Infrastructure, message)
}

/// Compiles, and writes to `file` what CMake found out. That is read before code of the source can have changed it.
fn ask_and_build(plan: &Plan, variant: &Variant, source: &Path, more: &[String], file: &Path) -> Result<()> {
    configure(plan, variant, source, more, None)?;
    Answers::of(&plan.cmake())?.keep(file)?;
    build(plan, variant, source)
}

/// Compiles what is configured: the libraries, and the programs unless they have no place in such a build.
fn build(plan: &Plan, variant: &Variant, source: &Path) -> Result<()> {
    let cmake = plan.cmake();
    let mut compile = tool(plan, &[source])?;
    compile.arg("--build").arg(&cmake).arg("--target").args(targets(&cmake, !plan.libraries_only())?);
    step(variant, compile, &plan.log(), "compiled")
}

fn clear(cmake: &Path) -> Result<()> {
    std::fs::remove_dir_all(cmake).with_context(|| format!("cannot clear {}", cmake.display()))
}

/// Configures `source` as planned; `seed` is a script of CMake with answers that are known.
pub(super) fn configure(
    plan: &Plan,
    variant: &Variant,
    source: &Path,
    more: &[String],
    seed: Option<&Path>,
) -> Result<()> {
    let (cmake, log) = (plan.cmake(), plan.log());
    let readable: Vec<&Path> = std::iter::once(source).chain(seed).collect();
    let mut configure = tool(plan, &readable)?;
    if let Some(seed) = seed {
        configure.arg("-C").arg(seed);
    }
    configure.args(["-G", "Ninja", "-Wno-dev", "-S"]).arg(source).arg("-B").arg(&cmake);
    configure.arg(format!("-DCMAKE_C_COMPILER={}", plan.cc)).arg(format!("-DCMAKE_BUILD_TYPE={}", plan.build_type));
    // Two worktrees have paths of different lengths; mapped away, they give the same code and data.
    let mapped = shell_quoted(&format!("-ffile-prefix-map={}=.", source.display()));
    let flags = plan.c_flags.iter().cloned().chain([mapped]).chain(more.iter().map(|flag| shell_quoted(flag)));
    configure.arg(format!("-DCMAKE_C_FLAGS={}", flags.collect::<Vec<_>>().join(" ")));
    configure.arg("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON");
    for (name, value) in &plan.options {
        configure.arg(format!("-D{name}={value}"));
    }
    step(variant, configure, &log, "configured")
}

/// CMake, which reads `readable` and the profile, and writes to the build folder.
fn tool(plan: &Plan, readable: &[&Path]) -> Result<Command> {
    let profile = Some(super::pgo::folder(plan)).filter(|folder| folder.is_dir());
    let readable: Vec<&Path> = readable.iter().copied().chain(profile.as_deref()).collect();
    sandbox::build_tool("cmake", &readable, &plan.cmake())
}

/// Ninja's names of the libraries that workers are linked with, and of libevent's own programs. The rest, such as
/// libevent.a, which has everything once more, takes as long again.
fn targets(cmake: &Path, programs: bool) -> Result<Vec<String>> {
    let path = cmake.join("build.ninja");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let made = |target: &String| text.lines().any(|line| line.starts_with(&format!("build {target}:")));
    let mut targets: Vec<String> = LIBRARIES.iter().map(|name| format!("lib/lib{name}.a")).filter(made).collect();
    if targets.is_empty() {
        bail!("{} makes no library of libevent", path.display());
    }
    let executables = text.lines().filter_map(|line| line.strip_prefix("build ")?.split_once(": C_EXECUTABLE_LINKER"));
    targets.extend(executables.filter(|_| programs).map(|(target, _)| target.to_owned()));
    Ok(targets)
}

/// A word of a command line that CMake writes down for a shell, whatever is in the path of the checkout.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+@%:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

fn step(variant: &Variant, mut command: Command, log: &Path, what: &str) -> Result<()> {
    without_compiler_settings(&mut command);
    // The log is on the disk of the build.
    let outside = Outside::begin(log);
    let status = process::within_bounds("building libevent", process::logged(&mut command, LIMIT, log))?;
    if status.success() {
        return Ok(());
    }
    let message = format!(
        "variant {} ({}) cannot be {what}; the end of {}:\n{}",
        variant.id,
        variant.name,
        log.display(),
        errors_of(log)
    );
    Err(outside.error(status, &process::tail(log, LINES_OF_A_LOG), message))
}

fn errors_of(log: &Path) -> String {
    errors_in(&process::tail(log, LINES_OF_A_LOG))
}

/// The lines of a build log that say what is wrong: from the first error on, at most 40.
fn errors_in(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_error = |line: &&str| line.contains("error:") || line.contains("CMake Error") || line.starts_with("FAILED:");
    let start = lines.iter().position(is_error).unwrap_or(lines.len().saturating_sub(40));
    // Command lines of the compiler are long and say nothing about the error.
    let is_command = |line: &&str| line.contains(" -o ") && !is_error(line);
    let telling = lines[start..].iter().filter(|line| !is_command(line)).take(40).copied();
    telling.collect::<Vec<_>>().join("\n")
}

/// How event.c was really compiled, from CMake's own record, without the build's absolute paths.
pub(super) fn recorded_command(cmake: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Entry {
        command: String,
        file: String,
    }
    let path = cmake.join("compile_commands.json");
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries: Vec<Entry> = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let entry =
        entries.into_iter().find(|entry| entry.file.ends_with("/event.c")).context("event.c was not compiled")?;
    let source = entry.file.trim_end_matches("/event.c").to_owned();
    let cmake = cmake.to_str().context("paths are UTF-8")?;
    // In quotation marks of a shell, an apostrophe is written in another way.
    let without = |text: &str, path: &str, name| text.replace(&path.replace('\'', r"'\''"), name).replace(path, name);
    Ok(without(&without(&entry.command, cmake, "BUILD"), &source, "SOURCE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_without_command_lines() {
        let log = "[1/9] Building C object buffer.c.o\n\
            FAILED: CMakeFiles/event_core_static.dir/event.c.o \n\
            /usr/bin/cc -DHAVE_CONFIG_H -I/a/include -Werror=x -o event.c.o -c /a/event.c\n\
            /a/event.c:3:1: error: unknown type name -o here\n    3 | foo;\n\
            cc: error: unrecognized option -o \nninja: build stopped: subcommand failed.\n";
        let shown = errors_in(log);
        assert!(shown.starts_with("FAILED: CMakeFiles/event_core_static.dir/event.c.o"), "{shown}");
        assert!(!shown.contains("/usr/bin/cc"), "{shown}");
        for line in ["unknown type name -o here", "    3 | foo;", "unrecognized option -o", "build stopped"] {
            assert!(shown.contains(line), "no `{line}` in {shown}");
        }
    }

    #[test]
    fn words_come_through_the_shell_as_they_are() {
        for word in ["-O2", "a b,c", "it's", "$HOME `x` \"y\" \\z"] {
            let script = format!("printf %s {}", shell_quoted(word));
            let got = process::capture(Command::new("sh").args(["-c", &script]), Duration::from_secs(10)).unwrap();
            assert_eq!(got.stdout, word);
        }
    }
}
