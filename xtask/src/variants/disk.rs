//! What variants take of the disk: worktrees, builds, builds of the gate, folders for editing and shells.

use super::names;
use crate::context::Context;
use crate::variant;
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::variant::{Build, Purpose, Variant};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder that belongs to a variant, and can be made again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Place {
    /// `worktree`, `build`, `gate` (a build of the gate), `edit`, `shell`.
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
        let Some(build) = read::<Build>(&path.join("build.json")) else { continue };
        add(&mut found, build.variant.clone(), place("build", path, Some(described(&build)))?);
    }
    for (_, path) in entries(&context.work.join("gate/builds"))? {
        let Some(build) = read::<OfGate>(&path.join("gate.json")) else { continue };
        let tests = if build.changed_tests { ", tests of a test patch" } else { "" };
        let how = format!("tests, sanitizer {}{tests}", build.sanitizer.name());
        add(&mut found, build.variant, place("gate", path, Some(how))?);
    }
    for named in names::all(context)? {
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
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
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
            // Another run may be at work.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
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

/// Removes a folder, whole: one that is half removed is not taken for what it was.
pub(crate) fn gone(folder: &Path) -> Result<()> {
    let doomed = folder.with_extension("removed");
    let moved = std::fs::rename(folder, &doomed);
    for path in [&doomed, folder] {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
        if moved.is_ok() {
            break;
        }
    }
    Ok(())
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
