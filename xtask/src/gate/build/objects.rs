//! Object files: compiled on all CPUs, or taken from pristine's build where nothing that they were made of differs.
//!
//! Most patches change one file, and most of the time goes into libevent's tests, which no patch touches. An object
//! file of pristine is used again if the source file and every file that the compiler read for it, system headers
//! included, have the same content, and no file of the variant could be found in the place of one of them.

use super::launch;
use super::read::{Hashes, Places};
use super::template::{Compile, SOURCE};
use crate::build::outside::Outside;
use crate::{files, interrupt, sandbox};
use anyhow::{Context as _, Result};
use model::variant::Variant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An object file and what it was made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Object {
    /// As the template names it.
    pub(super) object: String,
    /// Where it is: in this build's folder or in pristine's.
    pub(super) path: PathBuf,
    pub(super) sha256: String,
    /// Every file that was read for it, with [`SOURCE`] for the source's folder, and the SHA-256 of each.
    read: Vec<(String, String)>,
}

/// What objects are compiled for.
pub(super) struct Job<'a> {
    pub(super) variant: &'a Variant,
    pub(super) source: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) cc: &'a str,
    /// Behind all others.
    pub(super) flags: &'a [String],
    /// Folders and files that the compiler reads besides the source.
    pub(super) readable: &'a [PathBuf],
    /// Objects of pristine, and the names of files that only one of both sources has.
    pub(super) earlier: &'a [Object],
    pub(super) foreign_names: &'a BTreeSet<String>,
}

/// All objects of `compiles`, in that order, and how many of them had to be compiled.
pub(super) fn objects(job: &Job<'_>, compiles: &[&Compile]) -> Result<(Vec<Object>, usize)> {
    let own = job.readable.iter().map(PathBuf::as_path).chain([job.source]);
    let hashes = Hashes::new(Places::new(job.cc, own)?);
    let earlier: BTreeMap<&str, &Object> = job.earlier.iter().map(|object| (object.object.as_str(), object)).collect();
    let reused = |compile: &Compile| {
        let object = earlier.get(compile.object.as_str())?;
        is_same(object, job.source, job.foreign_names, &hashes).then(|| (*object).clone())
    };
    let mut found: Vec<Option<Object>> = compiles.iter().map(|compile| reused(compile)).collect();
    let missing: Vec<usize> = (0..found.len()).filter(|&number| found[number].is_none()).collect();
    // Large files first, so that no CPU is left alone with one at the end.
    let size =
        |number: &usize| std::fs::metadata(in_source(&compiles[*number].source, job.source)).map_or(0, |m| m.len());
    let mut queue = missing;
    queue.sort_by_key(|number| std::cmp::Reverse(size(number)));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        while let Some(&number) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            let object = compile(job, compiles[number], &hashes)
                .inspect_err(|_| next.store(usize::MAX / 2, Ordering::Relaxed))?;
            done.lock().map_err(|_| anyhow::anyhow!("a thread of the build ended"))?.push((number, object));
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(queue.len().max(1));
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .map(|result| result.map_err(|_| anyhow::anyhow!("a thread of the build ended"))?)
            .collect::<Result<Vec<()>>>()
    })?;
    for (number, object) in done.into_inner().unwrap_or_default() {
        found[number] = Some(object);
    }
    let all = found.into_iter().collect::<Option<Vec<_>>>().context("an object file is missing")?;
    Ok((all, queue.len()))
}

/// A path of a template, on this machine.
pub(super) fn in_source(path: &str, source: &Path) -> PathBuf {
    PathBuf::from(path.replace(SOURCE, &source.to_string_lossy()))
}

/// The template's flags for one source.
pub(super) fn flags_in_source(flags: &[String], source: &Path) -> Vec<String> {
    flags.iter().map(|flag| flag.replace(SOURCE, &source.to_string_lossy())).collect()
}

fn compile(job: &Job<'_>, compile: &Compile, hashes: &Hashes) -> Result<Object> {
    interrupt::check()?;
    // A folder for each: what the compiler makes of one file, it cannot put into the place of another one.
    let folder = job.folder.join(&compile.object);
    let path = folder.join(folder.file_name().context("an object file has a name")?);
    let read = path.with_extension("d");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let source = in_source(&compile.source, job.source);
    let mut arguments = flags_in_source(&compile.flags, job.source);
    // Errors are shown as plain text.
    arguments.retain(|flag| flag != "-fdiagnostics-color=always");
    let mut command = launch::tool(job.cc, job.folder, job.readable, &folder)?;
    command.args(arguments).args(job.flags).arg("-MD").arg("-MF").arg(&read).arg("-o").arg(&path);
    command.arg("-c").arg(&source);
    let outside = Outside::begin(&folder);
    let got = launch::run(&mut command)?;
    if !got.status.success() {
        let message = format!(
            "variant {} ({}): {} does not compile for the gate:\n{}",
            job.variant.id,
            job.variant.name,
            compile.source.replace(&format!("{SOURCE}/"), ""),
            first_lines(&got.stderr, 40)
        );
        return Err(outside.error(got.status, &got.stderr, message));
    }
    sandbox::take_back(&path)?;
    let text = std::fs::read_to_string(&read).with_context(|| format!("cannot read {}", read.display()))?;
    let names = prerequisites(&text).with_context(|| format!("{} is not understood", read.display()))?;
    let folder = job.source.to_str().context("paths are UTF-8")?;
    let known = |name: String| {
        let sha256 = hashes.of(Path::new(&name)).with_context(|| {
            let file = compile.source.replace(&format!("{SOURCE}/"), "");
            format!("variant {} ({}): {file} cannot be taken", job.variant.id, job.variant.name)
        })?;
        let inside = name.strip_prefix(folder).filter(|rest| rest.starts_with('/'));
        Ok((inside.map_or(name.clone(), |rest| format!("{SOURCE}{rest}")), sha256))
    };
    let read = names.into_iter().map(known).collect::<Result<Vec<_>>>()?;
    Ok(Object { object: compile.object.clone(), sha256: files::sha256_file(&path)?, path, read })
}

/// Whether compiling again with this source would give the same object file.
fn is_same(object: &Object, source: &Path, foreign_names: &BTreeSet<String>, hashes: &Hashes) -> bool {
    let hidden = |path: &str| foreign_names.contains(path.rsplit('/').next().unwrap_or(path));
    let same = |path: &str, sha256: &str| hashes.of(&in_source(path, source)).is_ok_and(|now| now == sha256);
    object.read.iter().all(|(path, sha256)| !hidden(path) && same(path, sha256))
        && files::sha256_file(&object.path).is_ok_and(|now| now == object.sha256)
}

/// The files on the right of a rule that a compiler wrote for `make`.
fn prerequisites(text: &str) -> Option<Vec<String>> {
    let (_, right) = text.split_once(": ")?;
    let (mut names, mut name) = (Vec::new(), String::new());
    let mut characters = right.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, characters.peek()) {
            ('\\', Some('\n')) => drop(characters.next()),
            ('\\', Some(' ' | '#' | '\\')) | ('$', Some('$')) => name.extend(characters.next()),
            (' ' | '\n', _) => names.extend(Some(std::mem::take(&mut name)).filter(|name| !name.is_empty())),
            _ => name.push(c),
        }
    }
    names.extend(Some(name).filter(|name| !name.is_empty()));
    Some(names)
}

fn first_lines(text: &str, most: usize) -> String {
    text.lines().take(most).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::build::read;

    #[test]
    fn a_rule_for_make_is_understood() {
        let rule = "a.o: /s/a.c /usr/include/x.h \\\n /s/b\\ c.h /s/$$d.h\n";
        assert_eq!(prerequisites(rule).unwrap(), ["/s/a.c", "/usr/include/x.h", "/s/b c.h", "/s/$d.h"]);
        assert_eq!(prerequisites("nothing"), None);
    }

    #[test]
    fn an_object_is_used_again_only_if_nothing_that_was_read_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for source in [&one, &other] {
            std::fs::create_dir(source).unwrap();
            std::fs::write(source.join("a.c"), "x").unwrap();
            std::fs::write(source.join("a.h"), "y").unwrap();
        }
        let path = folder.path().join("a.o");
        std::fs::write(&path, "code").unwrap();
        let hash = |path: &Path| files::sha256_file(path).unwrap();
        let read = ["a.c", "a.h"].map(|name| (format!("{SOURCE}/{name}"), hash(&one.join(name))));
        let object = Object { object: "a.o".into(), sha256: hash(&path), path: path.clone(), read: read.into() };
        let same = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            is_same(&object, &other, &names, &read::tests::below(folder.path()))
        };
        assert!(same(&[]) && same(&["b.h"]));
        assert!(!same(&["a.h"]), "another file of that name may be found first");
        std::fs::write(other.join("a.h"), "z").unwrap();
        assert!(!same(&[]));
        std::fs::write(other.join("a.h"), "y").unwrap();
        assert!(same(&[]));
        std::fs::write(&path, "other code").unwrap();
        assert!(!same(&[]));
    }
}
