//! libevent's source: the pin in ./libevent, or any other the user names.
//!
//! Whatever its origin, a source becomes a tree in the private store, and everything later is
//! checked out from there. The user's folders are only read.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::git::{self, Store};
use crate::{files, process, progress};
use anyhow::{Context as _, Result};
use model::variant::Source;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Subject of the parentless commit that stands for a source; part of its hash.
const ROOT_MESSAGE: &str = "libevent source";

/// Files whose presence makes a tree a libevent that can be built here.
const MARKS: &[&str] = &["CMakeLists.txt", "event.c", "include/event2/event.h"];

/// `config/source.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) commit: String,
    pub(crate) tree: String,
    pub(crate) package: Package,
}

/// The registry package that carries the pinned tree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) folder: String,
}

/// What `ensure_pinned` did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Filled {
    /// The pinned source.
    #[serde(flatten)]
    pub(crate) source: Source,
    /// How ./libevent came to hold it.
    pub(crate) how: &'static str,
}

/// Reads the pin.
pub(crate) fn pin(context: &Context) -> Result<Pin> {
    toml::from_str(&context.config("source.toml")?).context("config/source.toml")
}

/// Makes sure that ./libevent holds the pinned tree, filling it if it is empty. A folder that holds
/// anything else is refused and left as it is.
pub(crate) fn ensure_pinned(context: &Context) -> Result<Filled> {
    let pin = pin(context)?;
    let store = Store::open(&context.work)?;
    let folder = context.root.join("libevent");
    let how = if is_empty(&folder)? {
        fill_from_package(context, &store, &pin, &folder)?;
        "filled from the package in cargo's registry"
    } else {
        "already there"
    };
    let tree = store.import(&folder)?;
    if tree != pin.tree {
        return Err(refuse(&store, &pin, &tree, &folder));
    }
    let source = Source {
        label: pin.tag.clone(),
        root_commit: store.root_commit(&tree, ROOT_MESSAGE)?,
        tree,
        upstream_commit: Some(pin.commit),
        pinned: true,
    };
    Ok(Filled { source, how })
}

/// The source that a run works on: the pinned one, or `--source PATH|GIT-URL[@REV]`.
pub(crate) fn resolve(context: &Context, asked: Option<&str>) -> Result<Source> {
    let Some(asked) = asked else { return Ok(ensure_pinned(context)?.source) };
    let store = Store::open(&context.work)?;
    let (tree, upstream_commit) = match parse(asked) {
        Origin::Folder(folder) => (import_folder(&store, &folder)?, None),
        Origin::Revision(repository, revision) => {
            let (location, revision) = if repository.is_dir() {
                let commit = git::local_commit(&repository, &revision)?;
                let location = repository.canonicalize().with_context(|| repository.display().to_string())?;
                (location.to_str().context("paths are UTF-8")?.to_owned(), commit)
            } else {
                (repository.to_str().context("paths are UTF-8")?.to_owned(), revision)
            };
            progress::note(&format!("source: fetching {revision} of {location}"));
            let (commit, tree) = store.fetch(&location, &revision)?;
            (tree, Some(commit))
        }
    };
    let names = store.files(&tree)?;
    if let Some(missing) = MARKS.iter().find(|mark| !names.iter().any(|name| name == *mark)) {
        let message = format!(
            "--source {asked} is no libevent that can be built with CMake: it has no {missing}; give the top folder of \
             libevent 2.1 or later, or a git URL, with @REVISION if wanted"
        );
        return Err(failure(Exit::Usage, message));
    }
    if let Some(place) = store.submodules(&tree)?.first() {
        let message = format!("--source {asked} holds a submodule at {place}; give a source that stands alone");
        return Err(failure(Exit::Usage, message));
    }
    Ok(Source {
        label: asked.to_owned(),
        root_commit: store.root_commit(&tree, ROOT_MESSAGE)?,
        pinned: tree == pin(context)?.tree,
        tree,
        upstream_commit,
    })
}

/// Where a `--source` comes from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// The files of a folder as they are, changes included.
    Folder(PathBuf),
    /// A revision of a repository, local or not.
    Revision(PathBuf, String),
}

/// `PATH`, `PATH@REV`, `URL` or `URL@REV`; the `@` of `git@host:path` and of `ssh://git@host/path`
/// belongs to the URL.
fn parse(asked: &str) -> Origin {
    if Path::new(asked).exists() {
        return Origin::Folder(asked.into());
    }
    let Some(location_begins) = url_location(asked) else {
        return match asked.rsplit_once('@') {
            Some((left, revision)) if Path::new(left).exists() => Origin::Revision(left.into(), revision.to_owned()),
            _ => Origin::Folder(asked.into()),
        };
    };
    match asked[location_begins..].rfind('@') {
        Some(at) => {
            let (left, revision) = asked.split_at(location_begins + at);
            Origin::Revision(left.into(), revision[1..].to_owned())
        }
        None => Origin::Revision(asked.into(), "HEAD".to_owned()),
    }
}

/// Where a URL's path begins, behind user and host; `None` for what is no URL.
fn url_location(text: &str) -> Option<usize> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = scheme.len() + "://".len();
        return Some(host + rest.find('/').unwrap_or(rest.len()));
    }
    let (user, rest) = text.split_once('@')?;
    let host_ends = rest.find(':')?;
    (!user.contains('/') && !rest[..host_ends].contains('/')).then_some(user.len() + 1 + host_ends)
}

fn import_folder(store: &Store, folder: &Path) -> Result<String> {
    if !folder.is_dir() {
        let message = format!("--source {}: there is no such folder, and it is no git URL", folder.display());
        return Err(failure(Exit::Usage, message));
    }
    if !folder.join(MARKS[0]).is_file() {
        // Said before anything is taken in: the folder may be someone's home.
        let message = format!(
            "--source {} is no libevent that can be built with CMake: it has no {}; give the top folder of libevent 2.1 \
             or later",
            folder.display(),
            MARKS[0]
        );
        return Err(failure(Exit::Usage, message));
    }
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    store.import(&folder)
}

fn refuse(store: &Store, pin: &Pin, tree: &str, folder: &Path) -> anyhow::Error {
    let differing =
        if store.has(&pin.tree) { store.differing_files(&pin.tree, tree).unwrap_or_default() } else { vec![] };
    let which = match differing.len() {
        0 => String::new(),
        n => format!("; {n} files differ, the first is {}", differing[0]),
    };
    failure(
        Exit::Tampering,
        format!(
            "{} is not {} {}: its tree is {tree}, not {}{which}. Nothing was changed. Remove the folder's content and run \
             `cargo xtask setup` to fill it again, or measure it as it is with `--source {}`",
            folder.display(),
            pin.name,
            pin.tag,
            pin.tree,
            folder.display()
        ),
    )
}

fn is_empty(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// Obtains the package with cargo, verifies its tree and puts it into `folder` in one step.
fn fill_from_package(context: &Context, store: &Store, pin: &Pin, folder: &Path) -> Result<()> {
    progress::note("source: ./libevent is empty; filling it from the package in cargo's registry");
    let file = package_file(context, &pin.package)?;
    let scratch = context.scratch("fill-")?;
    let unpacked = scratch.path().join("unpacked");
    std::fs::create_dir(&unpacked)?;
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(&file).arg("-C").arg(&unpacked);
    let got = process::capture(&mut tar, Duration::from_secs(60))?;
    if !got.status.success() {
        return Err(damaged(&file, got.stderr.trim()));
    }
    let inside = unpacked.join(format!("{}-{}", pin.package.name, pin.package.version)).join(&pin.package.folder);
    if !inside.is_dir() {
        return Err(damaged(&file, &format!("it has no folder {}", pin.package.folder)));
    }
    let tree = store.import(&inside)?;
    if tree != pin.tree {
        return Err(damaged(&file, &format!("its tree is {tree}, not {}", pin.tree)));
    }
    // Plain files, no repository: git then takes the gitlink above for an unpopulated submodule, and
    // `git commit --all` cannot record another commit for it, as it would for a repository of ours.
    if std::fs::rename(&inside, folder).is_err() {
        // Another file system: copied instead. A copy cut short has another tree and is refused.
        files::copy_tree(&inside, folder)?;
    }
    Ok(())
}

fn damaged(file: &Path, why: &str) -> anyhow::Error {
    let message = format!(
        "the package file {} does not hold the pinned libevent: {why}. Nothing was changed. Remove that file and run the \
         same command again",
        file.display()
    );
    failure(Exit::Tampering, message)
}

/// The package file in cargo's cache, downloaded if need be.
fn package_file(context: &Context, package: &Package) -> Result<PathBuf> {
    let manifest = context.root.join("xtask/libevent-source/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut fetch = Command::new(&cargo);
    fetch.args(["fetch", "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
    let got = process::capture(&mut fetch, Duration::from_secs(300))?;
    if !got.status.success() {
        if got.stderr.contains("failed to unpack package")
            && let Ok(Some(file)) = cached(package)
        {
            return Err(damaged(&file, got.stderr.trim()));
        }
        let message = format!(
            "cannot obtain libevent's source: ./libevent is empty and cargo cannot fetch the package {} {}:\n{}\nGive \
             cargo access to its registry, or run `git submodule update --init`, or use `--source PATH`",
            package.name,
            package.version,
            got.stderr.trim()
        );
        return Err(failure(Exit::Infrastructure, message));
    }
    cached(package)?.ok_or_else(|| {
        failure(
            Exit::Infrastructure,
            format!(
                "cargo fetched {} {}, but its cache holds no package file of it (a vendored registry does not: it changes \
                 the files). Fill ./libevent with `git submodule update --init`, or use `--source PATH`",
                package.name, package.version
            ),
        )
    })
}

/// The package file in cargo's cache, if it is there.
fn cached(package: &Package) -> Result<Option<PathBuf>> {
    let name = format!("{}-{}.crate", package.name, package.version);
    let cache = cargo_home()?.join("registry/cache");
    let registries = std::fs::read_dir(&cache).with_context(|| format!("cannot read {}", cache.display()))?;
    let mut found: Vec<PathBuf> =
        registries.filter_map(|entry| Some(entry.ok()?.path().join(&name))).filter(|path| path.is_file()).collect();
    found.sort();
    Ok(found.pop())
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_folders_revisions_and_urls_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let revision = |repository: &str, revision: &str| Origin::Revision(repository.into(), revision.into());
        assert_eq!(parse(path), Origin::Folder(path.into()));
        assert_eq!(parse(&format!("{path}@v1")), revision(path, "v1"));
        assert_eq!(parse("https://host/libevent.git"), revision("https://host/libevent.git", "HEAD"));
        assert_eq!(parse("https://host/libevent.git@v2"), revision("https://host/libevent.git", "v2"));
        assert_eq!(parse("git@host:libevent.git"), revision("git@host:libevent.git", "HEAD"));
        assert_eq!(parse("git@host:libevent.git@v2"), revision("git@host:libevent.git", "v2"));
        assert_eq!(parse("ssh://git@host/libevent.git"), revision("ssh://git@host/libevent.git", "HEAD"));
        assert_eq!(parse("ssh://git@host:22/libevent.git@v2"), revision("ssh://git@host:22/libevent.git", "v2"));
        assert_eq!(parse("https://me:pw@host/a/b@topic/x"), revision("https://me:pw@host/a/b", "topic/x"));
        assert_eq!(parse(&format!("{path}@feature/a@b")), Origin::Folder(format!("{path}@feature/a@b").into()));
        assert_eq!(parse("/no/such/folder"), Origin::Folder("/no/such/folder".into()));
    }
}
