//! How libevent and its tests are compiled and linked: taken once from libevent's own CMake, then done for every variant.
//!
//! A patch cannot touch what CMake reads, so the commands are the same for all variants of a source but for the path
//! of the source. The library's commands are those of the build that is measured; only the tests' come from a
//! configuration of their own, in which tests are on.

use super::launch;
use crate::build::{self, Recipe};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::setup::{self, Verb};
use crate::{files, process, progress, variant};
use anyhow::{Context as _, Result, bail};
use model::build_config::{LIBRARIES, Profile};
use model::variant::{Build, Purpose, Variant};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Stands for the folder of a variant's source in commands.
pub(super) const SOURCE: &str = "@SOURCE@";
/// Written by libevent's generator from `test/regress.rpc`.
const GENERATED: &str = "regress.gen.c";
const TOOL_LIMIT: Duration = Duration::from_secs(120);

/// One object file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compile {
    /// What it is part of: `event_core_static`, `regress`.
    pub(super) target: String,
    /// Path of the object file from the build folder.
    pub(super) object: String,
    /// Path of the source file, with [`SOURCE`].
    pub(super) source: String,
    /// Flags, with [`SOURCE`].
    pub(super) flags: Vec<String>,
}

/// One test program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// `regress`, `test-eof`.
    pub(super) name: String,
    /// The compiler's arguments without `-o` and what follows it; object files and libraries as CMake names them.
    pub(super) words: Vec<String>,
}

/// All commands of one source and profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Template {
    /// Twelve hexadecimal digits.
    pub(super) id: String,
    /// The compiler that CMake was given. What a source's CMake then says of it is not taken over: this one is also
    /// started outside of the sandbox.
    pub(super) cc: String,
    /// Library by library, in the order of [`LIBRARIES`].
    pub(super) library: Vec<Compile>,
    pub(super) tests: Vec<Compile>,
    pub(super) programs: Vec<Link>,
    /// SHA-256 of the folders whose files the commands read besides the source.
    read: Vec<(PathBuf, String)>,
}

impl Template {
    /// Folder of the public headers that the measured build's CMake made.
    pub(super) fn generated_headers(&self) -> Result<PathBuf> {
        self.read.first().map(|(path, _)| path.clone()).context("a template reads generated headers")
    }
}

/// Reads the commands for variants of `variant`'s source, or finds them out.
pub(super) fn template(context: &Context, variant: &Variant, profile: Profile) -> Result<Template> {
    setup::ensure(Verb::Verify, context)?;
    let pristine = variant::pristine(context, &variant.source)?;
    let recipe = Recipe { purpose: Purpose::Measure, profile, place: None };
    let measured = build::build_recipe(context, &pristine, &recipe)?;
    let id = files::sha256_hex(&[b"template 2", measured.id.as_bytes()])[..12].to_owned();
    let folder = context.work.join("gate/templates").join(&id);
    if let Some(known) = known(&folder, &id) {
        return Ok(known);
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    progress::note(&format!("asking libevent's CMake how its tests are built ({})", pristine.source.label));
    let source = variant::checkout(context, &pristine, None)?;
    let cmake = configured(context, &pristine, profile, &measured, &folder)?;
    let generated = generate(&source, &folder)?;
    let cc = build::named_compiler(context, &profile)?.0;
    let template = understood(&id, &cc, &source, &measured, &cmake, generated.as_deref())?;
    files::write_atomic(&folder.join("template.json"), &serde_json::to_vec_pretty(&template)?)?;
    Ok(template)
}

/// A template that was written down, if what its commands read is what it was.
fn known(folder: &Path, id: &str) -> Option<Template> {
    let text = std::fs::read(folder.join("template.json")).ok()?;
    let template: Template = serde_json::from_slice(&text).ok()?;
    let unchanged = |(path, sha256): &(PathBuf, String)| files::sha256_tree(path).is_ok_and(|now| now == *sha256);
    (template.id == id && template.read.iter().all(unchanged)).then_some(template)
}

/// Configures with tests. What the measured build's configuration found out of the system is not asked again:
/// most of the time goes into that. Where the outcome differs all the same, nothing is taken over.
fn configured(
    context: &Context,
    pristine: &Variant,
    profile: Profile,
    measured: &Build,
    folder: &Path,
) -> Result<PathBuf> {
    let of_measured = measured.folder.join("cmake");
    let seed = folder.join("seed.cmake");
    files::write_atomic(&seed, build::answers_script(&read(&of_measured.join("CMakeCache.txt"))?).as_bytes())?;
    let cmake = build::configure_tests(context, pristine, profile, folder, Some(&seed))?;
    if differing_lines(&config(&of_measured)?, &config(&cmake)?).is_empty() {
        return Ok(cmake);
    }
    std::fs::remove_dir_all(&cmake).with_context(|| format!("cannot clear {}", cmake.display()))?;
    let cmake = build::configure_tests(context, pristine, profile, folder, None)?;
    for line in differing_lines(&config(&of_measured)?, &config(&cmake)?) {
        progress::note(&format!("with tests, libevent configures itself otherwise than it is measured: {line}"));
    }
    Ok(cmake)
}

fn config(cmake: &Path) -> Result<String> {
    read(&cmake.join("include/event2/event-config.h"))
}

/// Lines of `tests` that `measured` has not; zlib is looked for by the tests alone.
fn differing_lines(measured: &str, tests: &str) -> Vec<String> {
    let lines: std::collections::BTreeSet<&str> = measured.lines().collect();
    let other = tests.lines().filter(|line| !lines.contains(line) && !line.contains("EVENT__HAVE_LIBZ"));
    other.map(str::to_owned).collect()
}

/// Lets libevent's generator write its two files, which CMake would have put into the source folder.
fn generate(source: &Path, folder: &Path) -> Result<Option<PathBuf>> {
    let (rpc, generator) = (source.join("test/regress.rpc"), source.join("event_rpcgen.py"));
    if !rpc.is_file() || !generator.is_file() {
        return Ok(None);
    }
    let generated = folder.join("generated");
    std::fs::create_dir_all(&generated).with_context(|| format!("cannot create {}", generated.display()))?;
    std::fs::copy(&rpc, generated.join("regress.rpc")).with_context(|| format!("cannot copy {}", rpc.display()))?;
    let mut command = launch::tool("python3", &generated, &[source.to_owned()], &generated)?;
    command.arg("-B").arg(&generator).args(["--quiet", "regress.rpc"]);
    let got = launch::run(&mut command)?;
    if !got.status.success() || !generated.join(GENERATED).is_file() {
        let message = format!(
            "{} failed ({}): {}{}; libevent's tests need a working python3",
            process::shown(&command),
            got.status,
            got.stdout.trim(),
            got.stderr.trim()
        );
        return Err(failure(Exit::Infrastructure, message));
    }
    Ok(Some(generated))
}

/// The commands as data.
fn understood(
    id: &str,
    cc: &str,
    source: &Path,
    measured: &Build,
    cmake: &Path,
    generated: Option<&Path>,
) -> Result<Template> {
    let of_measured = measured.folder.join("cmake");
    let all = compiles(&of_measured, source, None)?;
    let library: Vec<Compile> = LIBRARIES
        .iter()
        .flat_map(|name| all.iter().filter(move |compile| is_library(&compile.target, name)).cloned())
        .collect();
    let programs = links(cmake)?;
    let all = compiles(cmake, source, generated)?;
    let used = |compile: &Compile| programs.iter().any(|link| link.words.contains(&compile.object));
    let tests: Vec<Compile> = all.into_iter().filter(used).collect();
    if !programs.iter().any(|link| link.name == "regress") || library.is_empty() || tests.is_empty() {
        let message = format!("libevent's CMake makes no program `regress`; see {}", cmake.display());
        return Err(failure(Exit::Infrastructure, message));
    }
    let folders = [Some(of_measured.join("include")), Some(cmake.join("include")), generated.map(Path::to_owned)];
    let read = folders.into_iter().flatten().map(|path| Ok((path.clone(), files::sha256_tree(&path)?)));
    Ok(Template { id: id.to_owned(), cc: cc.to_owned(), library, tests, programs, read: read.collect::<Result<_>>()? })
}

/// Whether CMake's target is the static library of that name.
fn is_library(target: &str, name: &str) -> bool {
    target == name || target.strip_suffix("_static") == Some(name)
}

/// Name of the library that a target makes, as linkers are given it.
pub(super) fn library_file(target: &str) -> Option<String> {
    LIBRARIES.iter().find(|name| is_library(target, name)).map(|name| format!("lib{name}.a"))
}

/// Every compilation that CMake recorded.
fn compiles(cmake: &Path, source: &Path, generated: Option<&Path>) -> Result<Vec<Compile>> {
    #[derive(Deserialize)]
    struct Entry {
        command: String,
    }
    let path = cmake.join("compile_commands.json");
    let entries: Vec<Entry> = serde_json::from_str(&read(&path)?).with_context(|| path.display().to_string())?;
    let source = source.to_str().context("paths are UTF-8")?;
    let generated = generated.map(|path| path.to_str().context("paths are UTF-8")).transpose()?;
    let understood = |entry: &Entry| {
        compile_of(&entry.command, source, generated)
            .with_context(|| format!("{}: not understood: {}", path.display(), entry.command))
    };
    let all = entries.iter().map(understood).collect::<Result<Vec<_>>>()?;
    if all.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(all)
}

/// One recorded command line, with the source's folder taken out.
fn compile_of(command: &str, source: &str, generated: Option<&str>) -> Option<Compile> {
    // Behind the compiler.
    let mut words = shlex::split(command)?.into_iter().skip(1);
    let (mut flags, mut object, mut file) = (Vec::new(), None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-o" => object = words.next(),
            "-c" => file = words.next(),
            "-MF" | "-MT" => drop(words.next()),
            "-MD" => {}
            _ => flags.push(without(&word, source)),
        }
    }
    let (object, file) = (object?, file?);
    let target = object.strip_prefix("CMakeFiles/")?.split_once(".dir/")?.0.to_owned();
    let file = match generated {
        Some(folder) if file.ends_with(GENERATED) => format!("{folder}/{GENERATED}"),
        _ => without(&file, source),
    };
    // Last, so that nothing of the source is hidden by it.
    flags.extend(generated.map(|folder| format!("-I{folder}")));
    Some(Compile { target, object, source: file, flags })
}

/// `word` with [`SOURCE`] in the place of the folder, where that is a whole folder's name.
fn without(word: &str, source: &str) -> String {
    let Some(at) = word.find(source) else { return word.to_owned() };
    let (before, after) = (&word[..at], &word[at + source.len()..]);
    let whole = after.is_empty() || after.starts_with(['/', '=']);
    if whole { format!("{before}{SOURCE}{after}") } else { word.to_owned() }
}

/// Every program that this configuration would make.
fn links(cmake: &Path) -> Result<Vec<Link>> {
    let ninja = |args: &[&str]| -> Result<String> {
        // What it reads was written by the source's own CMake.
        let mut command = launch::tool("ninja", cmake, &[], cmake)?;
        command.arg("-C").arg(cmake).args(["-t"]).args(args);
        let got = process::capture(&mut command, TOOL_LIMIT)?;
        if !got.status.success() {
            let message = format!("{} failed: {}{}", process::shown(&command), got.stdout.trim(), got.stderr.trim());
            return Err(failure(Exit::Infrastructure, message));
        }
        Ok(got.stdout)
    };
    let targets = ninja(&["targets", "all"])?;
    let programs = targets.lines().filter_map(|line| line.split_once(": "));
    let programs = programs.filter(|(_, rule)| rule.starts_with("C_EXECUTABLE_LINKER"));
    let mut all = Vec::new();
    for (path, _) in programs {
        let commands = ninja(&["commands", path])?;
        let link = commands.lines().last().and_then(|line| link_of(line, path));
        all.push(link.with_context(|| format!("ninja's command for {path} is not understood: {commands}"))?);
    }
    Ok(all)
}

/// One link, as ninja has it: `: && cc ... -o bin/regress ... && :`.
fn link_of(command: &str, path: &str) -> Option<Link> {
    let words = shlex::split(command)?;
    let link = words.split(|word| word == "&&").find(|words| words.iter().any(|word| word == path))?;
    let output = link.iter().position(|word| word == "-o")?;
    let words = link[1..output].iter().chain(&link[output + 2..]).cloned().collect();
    Some(Link { name: path.rsplit('/').next()?.to_owned(), words })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_command_is_understood() {
        let command = "/usr/bin/cc -DX '-I/a b/src' -I/a b/other -ffile-prefix-map='/a b/src'=. -MD -MT o -MF d -o \
            CMakeFiles/event_core_static.dir/buffer.c.o -c '/a b/src/buffer.c'";
        let compile = compile_of(&command.replace("-I/a b/other", "'-I/a b/srcs'"), "/a b/src", None).unwrap();
        assert_eq!(compile.flags, ["-DX", "-I@SOURCE@", "-I/a b/srcs", "-ffile-prefix-map=@SOURCE@=."]);
        assert_eq!(compile.source, "@SOURCE@/buffer.c");
        assert_eq!(compile.target, "event_core_static");
        assert_eq!(library_file(&compile.target).unwrap(), "libevent_core.a");
        assert_eq!(library_file("event_static"), None);

        let of_test = "cc -I/s -o CMakeFiles/regress.dir/test/regress.gen.c.o -c /s/test/regress.gen.c";
        let compile = compile_of(of_test, "/s", Some("/g")).unwrap();
        assert_eq!((compile.source.as_str(), compile.flags.last().unwrap().as_str()), ("/g/regress.gen.c", "-I/g"));
    }

    #[test]
    fn a_link_is_understood() {
        let link = link_of(": && /usr/bin/cc -O2 a.c.o -o bin/test-eof  -lz  lib/libevent_core.a && :", "bin/test-eof");
        let link = link.unwrap();
        assert_eq!(link.name, "test-eof");
        assert_eq!(link.words, ["-O2", "a.c.o", "-lz", "lib/libevent_core.a"]);
    }

    #[test]
    fn differences_of_configurations_are_found_but_for_zlib() {
        assert!(differing_lines("a\nb\n", "b\n#define EVENT__HAVE_LIBZ 1\n").is_empty());
        assert_eq!(differing_lines("a\n", "b\n"), ["b"]);
    }
}
