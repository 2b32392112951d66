//! What variants take of the disk: worktrees, builds, builds of the gate, steps of runs, folders for editing and shells. What
//! cannot be read, or was left unfinished, is no reason to see nothing.

use super::names;
use crate::context::Context;
use crate::exp::steps;
use crate::{progress, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::variant::{Build, Purpose, Variant};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder that belongs to a variant, and can be made again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    /// `worktree`, `build`, `gate` (a build of the gate), `step` (of a run of an experiment), `edit`, `shell`.
    pub(crate) kind: &'static str,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it takes of the disk.
    pub(crate) bytes: u64,
    /// How it was built, of a build: purpose, profile and compiler.
    pub(crate) how: Option<String>,
}

/// Everything about a variant in this work folder.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Holding {
    /// Id of the variant.
    pub(crate) id: String,
    /// Names that stand for it.
    pub(crate) names: Vec<String>,
    /// What it is; null where only a build is left of it.
    pub(crate) variant: Option<Variant>,
    /// Since it was last used, in seconds.
    pub(crate) unused_s: u64,
    /// Its folders.
    pub(crate) places: Vec<Place>,
    #[serde(skip)]
    pub(crate) used_at: Option<SystemTime>,
}

impl Holding {
    /// What it takes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.places.iter().map(|place| place.bytes).sum()
    }
}

/// What the gate's builds say of themselves, as far as it matters here.
#[derive(serde::Deserialize)]
struct OfGate {
    variant: Variant,
    sanitizer: model::gate::Sanitizer,
    #[serde(default)]
    changed_tests: bool,
}

/// What every variant takes, by id.
pub(crate) fn holdings(context: &Context) -> Result<Vec<Holding>> {
    let mut found: BTreeMap<String, Holding> = BTreeMap::new();
    for (id, path) in entries(&context.work.join("variants"))? {
        let remembered: Option<Variant> = read(&path.join("variant.json"));
        let holding = holding(&mut found, &id);
        holding.variant = remembered;
        holding.used_at = modified(&path);
        for (name, folder) in entries(&path)? {
            if name.starts_with("src") && folder.is_dir() {
                holding.places.push(place("worktree", folder, None)?);
            }
        }
    }
    for (_, path) in entries(&context.work.join("builds"))? {
        let Some(build) = read::<Build>(&path.join("build.json")) else {
            left(&mut found, "build", path)?;
            continue;
        };
        add(&mut found, build.variant.clone(), place("build", path, Some(described(&build)))?);
    }
    for (_, path) in entries(&context.work.join("gate/builds"))? {
        let Some(build) = read::<OfGate>(&path.join("gate.json")) else {
            left(&mut found, "gate", path)?;
            continue;
        };
        let tests = if build.changed_tests { ", tests of a test patch" } else { "" };
        let how = format!("tests, sanitizer {}{tests}", build.sanitizer.name());
        add(&mut found, build.variant, place("gate", path, Some(how))?);
    }
    for (_, path) in entries(&context.work.join("steps"))? {
        // Of the candidate: while its experiment is not decided, a run may go on with it.
        match read::<BTreeMap<String, String>>(&path.join(steps::INPUTS))
            .and_then(|mut inputs| inputs.remove("candidate"))
        {
            Some(id) => {
                let used_at = modified(&path);
                let holding = holding(&mut found, &id);
                holding.used_at = holding.used_at.max(used_at);
                holding.places.push(place("step", path, None)?);
            }
            None => left(&mut found, "step", path)?,
        }
    }
    for named in names::all(context)? {
        let named = match named {
            Ok(named) => named,
            Err(error) => {
                progress::note(&format!("{error:#}"));
                continue;
            }
        };
        let folder = super::edit::folder(context, &named.name);
        let holding = holding(&mut found, &named.variant.id);
        holding.names.push(named.name.clone());
        holding.variant.get_or_insert_with(|| named.variant.clone());
        if folder.is_dir() {
            holding.used_at = holding.used_at.max(modified(&folder));
            holding.places.push(place("edit", folder, None)?);
        }
    }
    for (id, path) in entries(&context.work.join("shells"))? {
        holding(&mut found, &id).places.push(place("shell", path, None)?);
    }
    let now = SystemTime::now();
    let mut all: Vec<Holding> = found.into_values().collect();
    for holding in &mut all {
        // A clock that was set back makes nothing old.
        let age = holding.used_at.and_then(|at| now.duration_since(at).ok());
        holding.unused_s = age.unwrap_or(Duration::ZERO).as_secs();
    }
    Ok(all)
}

/// How a build was made, for people.
pub(crate) fn described(build: &Build) -> String {
    let purpose = match build.purpose {
        Purpose::Measure => "to be timed",
        Purpose::Instructions => "for callgrind",
    };
    let profile = if build.profile == Profile::default() { String::new() } else { format!(" {}", build.profile) };
    let placed = build.place.as_ref().map_or(String::new(), |place| format!(", in {place}"));
    format!("build {}{profile}, {purpose}, {}{placed}", build.id, build.compiler)
}

fn holding<'a>(found: &'a mut BTreeMap<String, Holding>, id: &str) -> &'a mut Holding {
    let empty =
        || Holding { id: id.to_owned(), names: vec![], variant: None, unused_s: 0, places: vec![], used_at: None };
    found.entry(id.to_owned()).or_insert_with(empty)
}

/// What a build or a step that was killed has left, by the folder's name: it says itself of no variant.
fn left(found: &mut BTreeMap<String, Holding>, kind: &'static str, path: PathBuf) -> Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { return Ok(()) };
    let used_at = modified(&path);
    let holding = holding(found, &name);
    holding.used_at = holding.used_at.max(used_at);
    holding.places.push(place(kind, path, Some("unfinished".to_owned()))?);
    Ok(())
}

fn add(found: &mut BTreeMap<String, Holding>, variant: Variant, place: Place) {
    let used_at = modified(&place.path);
    let holding = holding(found, &variant.id);
    holding.variant.get_or_insert(variant);
    holding.used_at = holding.used_at.max(used_at);
    holding.places.push(place);
}

fn place(kind: &'static str, path: PathBuf, how: Option<String>) -> Result<Place> {
    Ok(Place { kind, bytes: bytes(&path)?, path, how })
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// Names and paths in a folder, in alphabetical order; none where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
        if entry.file_name().to_string_lossy().starts_with(DOOMED) {
            continue;
        }
        all.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    all.sort();
    Ok(all)
}

/// What a folder takes of the disk, in blocks that it has, not in the lengths of its files.
pub(crate) fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Another run may be at work, and a build may have made folders that nobody may look into.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            sum += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(sum)
}

/// Removes a variant's folders. Names stay, and all of it can be made again from what the store holds.
pub(crate) fn remove(context: &Context, holding: &Holding) -> Result<()> {
    for place in holding.places.iter().filter(|place| place.kind != "edit") {
        gone(&place.path)?;
    }
    gone(&variant::folder(context, &holding.id))
}

/// Begins the name of what is being removed: no name of a variant, an id or a step does.
const DOOMED: &str = ".removed-";

/// Removes a folder, whole: one that is half removed is not taken for what it was.
pub(crate) fn gone(folder: &Path) -> Result<()> {
    let name = folder.file_name().context("a folder has a name")?.to_string_lossy();
    let doomed = folder.with_file_name(format!("{DOOMED}{name}"));
    // Of a removal that was ended.
    removed(&doomed)?;
    match std::fs::rename(folder, &doomed) {
        Ok(()) => removed(&doomed),
        Err(_) => removed(folder),
    }
}

/// Removes what removals that were ended have left.
pub(crate) fn sweep(context: &Context) -> Result<()> {
    for name in ["variants", "builds", "gate/builds", "steps", "edits", "shells"] {
        let Ok(entries) = std::fs::read_dir(context.work.join(name)) else { continue };
        let is_doomed = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(DOOMED);
        entries.flatten().filter(is_doomed).try_for_each(|entry| removed(&entry.path()))?;
    }
    Ok(())
}

fn removed(path: &Path) -> Result<()> {
    let remove = || match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let again = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => {
            open_up(path);
            remove()
        }
        _ => Err(error),
    };
    remove().or_else(again).with_context(|| format!("cannot remove {}", path.display()))
}

/// Lets this user into every folder, as far as they are its own.
fn open_up(folder: &Path) {
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    drop(std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)));
    std::fs::read_dir(folder).into_iter().flatten().flatten().for_each(|entry| open_up(&entry.path()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_blocks_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).unwrap();
        let bytes = bytes(folder.path()).unwrap();
        assert!((98_304..1_000_000).contains(&bytes), "{bytes}");
        assert_eq!(super::bytes(&folder.path().join("none")).unwrap(), 0);
    }

    /// Runs in a thread whose files are those of somebody who is not root.
    fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let run = move || {
            // SAFETY: setfsuid changes this thread alone, which ends with the closure; it cannot fail in a way that matters.
            unsafe { libc::syscall(libc::SYS_setfsuid, 65_532) };
            work()
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn a_folder_that_nobody_may_look_into_hides_nothing_and_goes_like_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let build = folder.path().join("build");
        unprivileged(|| {
            std::fs::create_dir_all(build.join("closed")).unwrap();
            std::fs::write(build.join("file"), vec![1; 100_000]).unwrap();
            std::fs::set_permissions(build.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
            assert!(bytes(&build).unwrap() >= 98_304);
            gone(&build).unwrap();
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_goes_takes_nothing_with_it_that_has_a_name_like_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["heap.4ary", "heap.removed", "heap.4ary.removed", ".removed-heap.4ary"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        gone(&folder.path().join("heap.4ary")).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["heap.4ary.removed", "heap.removed"], "and what an ended removal has left is gone, too");
    }

    #[test]
    fn unfinished_builds_steps_and_damaged_names_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let context = crate::exp::tests::context(folder.path());
        let make =
            |path: &str, text: &str| crate::files::write_atomic(&context.work.join(path), text.as_bytes()).unwrap();
        make("builds/aaaa/CMakeCache.txt", "x");
        make("gate/builds/bbbb/log", "x");
        make("steps/gate-cccc/inputs.json", r#"{"candidate":"dddd"}"#);
        make("steps/gate-eeee/log", "x");
        make("names/damaged.json", "{");
        let found = holdings(&context).unwrap();
        let found: Vec<_> = found.iter().map(|holding| (holding.id.as_str(), holding.places[0].kind)).collect();
        assert_eq!(found, [("aaaa", "build"), ("bbbb", "gate"), ("dddd", "step"), ("gate-eeee", "step")]);
    }

    #[test]
    fn what_is_removed_is_gone_and_what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let doomed = folder.path().join("abc");
        std::fs::create_dir_all(doomed.join("x")).unwrap();
        gone(&doomed).unwrap();
        gone(&doomed).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
