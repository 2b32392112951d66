//! Archives and programs, made of object files.

use super::objects::{Job, Object};
use super::template::{self, Compile, Link};
use super::{GateBuild, launch};
use crate::build::outside::Outside;
use crate::gate::identity;
use crate::interrupt;
use anyhow::{Context as _, Result};
use model::build_config::LIBRARIES;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Static libraries of the objects that `library` compiles, in link order.
pub(super) fn archives(job: &Job<'_>, library: &[Compile], objects: &[Object]) -> Result<Vec<PathBuf>> {
    let path_of: BTreeMap<&str, &PathBuf> = objects.iter().map(|o| (o.object.as_str(), &o.path)).collect();
    let folder = job.folder.join("lib");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut archives = Vec::new();
    for name in LIBRARIES.iter().map(|name| format!("lib{name}.a")) {
        let of_it = |compile: &&Compile| template::library_file(&compile.target).as_ref() == Some(&name);
        let members: Vec<&PathBuf> =
            library.iter().filter(of_it).filter_map(|compile| path_of.get(compile.object.as_str()).copied()).collect();
        if members.is_empty() {
            continue;
        }
        let archive = folder.join(&name);
        let mut command = launch::tool("ar", job.folder, job.readable, &folder)?;
        command.arg("qcsD").arg(&archive).args(members);
        finish(job, &mut command, &name)?;
        archives.push(archive);
    }
    Ok(archives)
}

/// Compiles the object file that makes a program say which build it is of.
pub(super) fn identity(job: &Job<'_>, build: &GateBuild) -> Result<()> {
    let made = build.identity.parent().context("it is in a folder")?;
    std::fs::create_dir_all(made).with_context(|| format!("cannot create {}", made.display()))?;
    let code = job.folder.join("identity.c");
    std::fs::write(&code, identity::code(&identity::text(build))).context("cannot write identity.c")?;
    // Without the sanitizer: it runs before that is ready.
    let mut command = launch::tool(job.cc, job.folder, job.readable, made)?;
    command.args(["-O1", "-fPIC", "-c", "identity.c", "-o"]).arg(&build.identity);
    finish(job, &mut command, "identity.c")
}

/// Links every test program, and returns their names and paths.
pub(super) fn programs(
    job: &Job<'_>,
    build: &GateBuild,
    links: &[Link],
    objects: &[Object],
) -> Result<Vec<(String, PathBuf)>> {
    let mut path_of: BTreeMap<&str, &PathBuf> = objects.iter().map(|o| (o.object.as_str(), &o.path)).collect();
    let named: Vec<(String, &PathBuf)> =
        build.libraries.iter().filter_map(|path| Some((in_cmake(path)?, path))).collect();
    path_of.extend(named.iter().map(|(name, path)| (name.as_str(), *path)));
    let folder = job.folder.join("bin");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut programs = Vec::new();
    for link in links {
        interrupt::check()?;
        let program = folder.join(&link.name);
        let mut command = launch::tool(job.cc, job.folder, job.readable, &folder)?;
        command.args(job.flags).arg("-o").arg(&program).arg(&build.identity);
        for word in super::objects::flags_in_source(&link.words, job.source) {
            match path_of.get(word.as_str()) {
                Some(path) => command.arg(path),
                None => command.arg(word),
            };
        }
        finish(job, &mut command, &link.name)?;
        programs.push((link.name.clone(), program));
    }
    Ok(programs)
}

/// What the links name besides objects, libevent's archives and flags: `-lssl`, or a library's path.
pub(super) fn system_libraries(links: &[Link]) -> Vec<String> {
    let words = links.iter().filter(|link| link.name == "regress").flat_map(|link| &link.words);
    let system = |word: &&String| word.starts_with("-l") || (word.starts_with('/') && !word.ends_with(".o"));
    words.filter(system).cloned().collect()
}

/// How CMake names a library in a link: `lib/libevent_core.a`.
fn in_cmake(path: &std::path::Path) -> Option<String> {
    Some(format!("lib/{}", path.file_name()?.to_str()?))
}

fn finish(job: &Job<'_>, command: &mut Command, what: &str) -> Result<()> {
    let outside = Outside::begin(job.folder);
    let got = launch::run(command)?;
    if got.status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = got.stderr.lines().take(30).collect();
    let message = format!(
        "variant {} ({}): {what} cannot be linked for the gate ({}):\n{}",
        job.variant.id,
        job.variant.name,
        got.status,
        lines.join("\n")
    );
    Err(outside.error(got.status, &got.stderr, message))
}
