//! Compiles a variant's libevent with its own CMake, once per (variant, flags, compiler, host).

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::variant;
use crate::{files, host, process, progress};
use anyhow::{Context as _, Result};
use model::build_config::{BuildConfig, LIBRARIES};
use model::variant::{Build, Library, Purpose, Variant};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Configuring and compiling takes about 20 s on two cores.
const LIMIT: Duration = Duration::from_secs(600);

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

/// Paths of the static libraries in link order.
pub(crate) fn library_paths(build: &Build) -> Vec<PathBuf> {
    build.libraries.iter().map(|library| build.folder.join("cmake/lib").join(&library.name)).collect()
}

/// The public headers, all in one folder, shared by builds with equal headers.
pub(crate) fn headers(context: &Context, build: &Build) -> PathBuf {
    context.work.join("headers").join(&build.headers_sha256[..16])
}

/// A program that libevent's own CMake built, such as `bench`.
pub(crate) fn program(build: &Build, name: &str) -> PathBuf {
    build.folder.join("cmake/bin").join(name)
}

/// The variant's build: an earlier one if its files are what they were, else a new one.
pub(crate) fn build(context: &Context, variant: &Variant, purpose: Purpose) -> Result<Build> {
    refuse_separators(context)?;
    let config = BuildConfig::parse(&context.config("build.toml")?).context("config/build.toml")?;
    let cc = compiler();
    let version = compiler_version(&cc)?;
    let cpu = match purpose {
        Purpose::Measure => &config.cpu.measure,
        Purpose::Instructions => &config.cpu.instructions,
    };
    let c_flags: Vec<String> = std::iter::once(cpu).chain(&config.c_flags).cloned().collect();
    let mut options: Vec<(String, String)> = config.options.clone().into_iter().collect();
    let openssl = if has_openssl(&cc) { "OFF" } else { "ON" };
    options.push(("EVENT__DISABLE_OPENSSL".to_owned(), openssl.to_owned()));

    let recipe = format!("{:?}", (&cc, &version, &config.build_type, &c_flags, &options, instruction_set()));
    let id = files::sha256_hex(&[variant.id.as_bytes(), recipe.as_bytes()])[..12].to_owned();
    let folder = context.work.join("builds").join(&id);
    if let Some(build) = finished(&folder, &id)? {
        build_headers(context, &build)?;
        // The same build under another name, such as a patch file that was renamed.
        return Ok(Build { variant: variant.clone(), ..build });
    }

    let source = variant::checkout(context, variant)?;
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    progress::note(&format!("building libevent, variant {} ({}), {version}", variant.id, variant.name));
    let cmake = folder.join("cmake");
    let log = folder.join("build.log");
    let mut configure = Command::new("cmake");
    configure.args(["-G", "Ninja", "-Wno-dev", "-S"]).arg(&source).arg("-B").arg(&cmake);
    configure.arg(format!("-DCMAKE_C_COMPILER={cc}")).arg(format!("-DCMAKE_BUILD_TYPE={}", config.build_type));
    // Two worktrees have paths of different lengths; mapped away, they give the same code and data.
    let mapped = shell_quoted(&format!("-ffile-prefix-map={}=.", source.display()));
    configure.arg(format!("-DCMAKE_C_FLAGS={} {mapped}", c_flags.join(" ")));
    configure.arg("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON");
    for (name, value) in &options {
        configure.arg(format!("-D{name}={value}"));
    }
    step(variant, configure, &log, "configured")?;
    let mut compile = Command::new("cmake");
    compile.arg("--build").arg(&cmake);
    step(variant, compile, &log, "compiled")?;

    let lib = cmake.join("lib");
    let present = LIBRARIES.iter().map(|name| format!("lib{name}.a")).filter(|name| lib.join(name).is_file());
    let libraries = present
        .map(|name| Ok(Library { sha256: files::sha256_file(&lib.join(&name))?, name }))
        .collect::<Result<Vec<_>>>()?;
    if !libraries.iter().any(|library| library.name == "libevent_core.a") {
        let message = format!(
            "variant {} ({}) compiled, but left no libevent_core.a in {}; its CMakeLists does not know EVENT__LIBRARY_TYPE",
            variant.id,
            variant.name,
            lib.display()
        );
        return Err(failure(Exit::Failed, message));
    }
    let mut build = Build {
        id,
        variant: variant.clone(),
        purpose,
        compiler: version,
        build_type: config.build_type,
        c_flags,
        options,
        event_c_command: recorded_command(&cmake)?,
        tls: libraries.iter().any(|library| library.name == "libevent_openssl.a"),
        headers_sha256: String::new(),
        libraries,
        folder,
    };
    let staged = stage_headers(context, &source, &cmake)?;
    build.headers_sha256 = files::sha256_tree(staged.path())?;
    let home = headers(context, &build);
    if !home.exists() {
        std::fs::create_dir_all(home.parent().context("below work/")?)?;
        std::fs::rename(staged.keep(), &home).with_context(|| format!("cannot create {}", home.display()))?;
    }
    build_headers(context, &build)?;
    files::write_atomic(&build.folder.join("build.json"), &serde_json::to_vec_pretty(&build)?)?;
    Ok(build)
}

/// Cargo and compilers take lists of folders with `:` between them: a folder that has one in its name
/// cannot be handed to them.
fn refuse_separators(context: &Context) -> Result<()> {
    let has_separator = |path: &&PathBuf| path.as_os_str().as_encoded_bytes().contains(&b':');
    let Some(folder) = [&context.root, &context.work].into_iter().find(has_separator) else { return Ok(()) };
    let message = format!(
        "{}: cargo and compilers cannot work in a folder with a `:`; move the checkout, or set LIBEVENT_PERF_WORK",
        folder.display()
    );
    Err(failure(Exit::Usage, message))
}

/// A word of a command line that CMake writes down for a shell, whatever is in the path of the checkout.
fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+@%:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The compiler that builds libevent and links workers: `CC`, or `cc`.
pub(crate) fn compiler() -> String {
    std::env::var("CC").ok().filter(|cc| !cc.is_empty()).unwrap_or_else(|| "cc".to_owned())
}

fn compiler_version(cc: &str) -> Result<String> {
    if cc.contains(char::is_whitespace) && !Path::new(cc).is_file() {
        let message = format!("CC={cc}: give one program; a cache in front of a compiler is of no use here");
        return Err(failure(Exit::Usage, message));
    }
    let got = process::capture(Command::new(cc).arg("--version"), Duration::from_secs(20))?;
    let first = got.stdout.lines().next().filter(|_| got.status.success());
    first.map(str::to_owned).with_context(|| format!("`{cc} --version` failed: {}", got.stderr.trim()))
}

/// Whether the compiler finds OpenSSL's headers. `LIBEVENT_TLS=off` builds without in any case.
fn has_openssl(cc: &str) -> bool {
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
fn instruction_set() -> impl std::fmt::Debug {
    let host = host::fingerprint();
    (host.arch, host.cpu_vendor, host.cpu_family, host.cpu_model_number, host.cpu_flags_sha256)
}

/// A build that was finished and whose libraries are byte for byte what they were then.
fn finished(folder: &Path, id: &str) -> Result<Option<Build>> {
    let Ok(text) = std::fs::read(folder.join("build.json")) else { return Ok(None) };
    let Ok(mut build) = serde_json::from_slice::<Build>(&text) else { return Ok(None) };
    folder.clone_into(&mut build.folder);
    for (library, path) in build.libraries.iter().zip(library_paths(&build)) {
        if files::sha256_file(&path).ok().as_ref() != Some(&library.sha256) {
            progress::note(&format!("build {id}: {} is not what was built; building again", path.display()));
            return Ok(None);
        }
    }
    Ok((build.id == id).then_some(build))
}

/// Fails if a library of the build is not what was compiled.
pub(crate) fn check_unchanged(build: &Build) -> Result<()> {
    for (library, path) in build.libraries.iter().zip(library_paths(build)) {
        if files::sha256_file(&path)? != library.sha256 {
            let message = format!("{} changed while it was measured; the figures are void", path.display());
            return Err(failure(Exit::Tampering, message));
        }
    }
    Ok(())
}

/// Fails if the shared headers folder is not what the build recorded.
fn build_headers(context: &Context, build: &Build) -> Result<()> {
    let home = headers(context, build);
    if files::sha256_tree(&home)? == build.headers_sha256 {
        return Ok(());
    }
    let message = format!("{} was changed after it was made; remove {}", home.display(), context.work.display());
    Err(failure(Exit::Tampering, message))
}

/// Public headers of the source and those that CMake generated, in one folder.
fn stage_headers(context: &Context, source: &Path, cmake: &Path) -> Result<tempfile::TempDir> {
    let staged = context.scratch("headers-")?;
    files::copy_tree(&source.join("include"), staged.path())?;
    files::copy_tree(&cmake.join("include"), staged.path())?;
    Ok(staged)
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

fn step(variant: &Variant, mut command: Command, log: &Path, what: &str) -> Result<()> {
    without_compiler_settings(&mut command);
    let status = process::logged(&mut command, LIMIT, log)?;
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
    Err(failure(Exit::Failed, message))
}

fn errors_of(log: &Path) -> String {
    errors_in(&process::tail(log, 4000))
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
fn recorded_command(cmake: &Path) -> Result<String> {
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
    fn a_compiler_of_several_words_is_a_usage_error() {
        let error = compiler_version("ccache gcc").unwrap_err();
        assert_eq!(crate::exit::exit_of(&error), Exit::Usage, "{error:#}");
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
