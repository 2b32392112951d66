//! The ledger, open for writing: who holds a [`Book`] holds the lock.

use super::file::{self, Access};
use super::{append, rebuild};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{files, git, host, progress, records};
use anyhow::{Context as _, Result};
use model::experiment::layout;
use model::ledger::anchor::{Anchor, Anchored};
use model::ledger::event::{Event, FileRef, Opened};
use model::ledger::history::History;
use model::ledger::{Draft, Entry, Ledger, Origin, chain};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Where a ledger and its experiments are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The workspace.
    pub(crate) root: PathBuf,
    /// Where unfinished lines are put.
    pub(crate) aside: PathBuf,
}

impl Place {
    /// Of this workspace.
    pub(crate) fn of(context: &Context) -> Place {
        Place { root: context.root.clone(), aside: context.work.join("set-aside") }
    }

    /// The ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join(layout::LEDGER)
    }

    /// The folder of an experiment.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.root.join(layout::EXPERIMENTS).join(id)
    }

    /// The ledger and what it comes to. An unfinished line at its end is left alone and does not count.
    pub(crate) fn read(&self) -> Result<(Ledger, History)> {
        let path = self.ledger();
        let bytes = match file::locked(&path, Access::Read)? {
            Some(mut file) => file::content(&path, &mut file)?,
            None => vec![],
        };
        let (read, history) = understood(&path, &bytes)?;
        Ok((read.ledger, history))
    }
}

/// A file's content, verified and replayed.
fn understood(path: &Path, bytes: &[u8]) -> Result<(chain::Read, History)> {
    let tampered = |line: usize, why: String| {
        let message = format!(
            "{}:{line}: {why}. Entries are never edited: restore the file from git, and run `cargo xtask ledger check`",
            path.display()
        );
        failure(Exit::Tampering, message)
    };
    let read = chain::read(bytes).map_err(|fault| tampered(fault.line(), fault.to_string()))?;
    let history = History::of(&read.ledger)
        .map_err(|(line, illegal)| tampered(line, format!("{illegal}: no program of this workspace wrote that")))?;
    Ok((read, history))
}

/// The ledger, locked.
pub(crate) struct Book {
    place: Place,
    file: File,
    ledger: Ledger,
    history: History,
    origin: Origin,
    now: fn() -> String,
}

/// What this process writes of itself into its entries.
pub(super) fn origin(context: &Context) -> Origin {
    let checkout = git::describe_harness(&context.root);
    Origin {
        host: host::fingerprint().id,
        harness_commit: checkout.as_ref().map(|(commit, _)| commit.clone()),
        harness_dirty: checkout.map(|(_, dirty)| dirty),
    }
}

impl Book {
    pub(super) fn open(place: Place, origin: Origin) -> Result<Book> {
        let path = place.ledger();
        let mut file = file::locked(&path, Access::Write)?.context("a ledger that is written is made")?;
        let bytes = file::content(&path, &mut file)?;
        let (read, history) = understood(&path, &bytes)?;
        let book = Book { place, file, ledger: read.ledger, history, origin, now: records::now };
        // Before anything is cut off: a line that generated files know of was acknowledged, whatever is left of it.
        book.check_anchors()?;
        if !read.torn.is_empty() {
            let whole = (bytes.len() - read.torn.len()) as u64;
            file::set_aside(&path, &book.file, &read.torn, whole, &book.place.aside)?;
        }
        Ok(book)
    }

    /// The lines.
    #[cfg(test)]
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What they come to.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// The folder of an experiment.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.place.folder(id)
    }

    /// Whether entries of this process say that its harness has changes that no commit has.
    pub(crate) fn is_unclean(&self) -> bool {
        self.origin.harness_dirty == Some(true)
    }

    /// Opens an experiment: gives it an id and a folder, and says so. Returns the id.
    pub(crate) fn open_experiment(&mut self, opened: Opened) -> Result<String> {
        let title = opened.title.clone();
        let mut draft = Draft { experiment: None, event: Event::Opened(opened), files: BTreeMap::new() };
        let time = (self.now)();
        let id = self.history.allocate(&title, self.ledger.head(), &time, &self.origin.host, &draft);
        let folder = self.folder(&id);
        // A killed run may have left the folder; with the id's suffix, it can be of nothing else.
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        draft.experiment = Some(id.clone());
        self.write(draft, &time)?;
        Ok(id)
    }

    /// A file of an experiment's folder, for an event to name.
    pub(crate) fn file(&self, id: &str, path: &str) -> Result<FileRef> {
        let file = self.folder(id).join(path);
        Ok(FileRef { path: path.to_owned(), sha256: files::sha256_file(&file)? })
    }

    /// Appends an entry about an experiment. The entry vouches for every file that the event names, and for `besides`: files,
    /// or folders with all that is in them, relative to the experiment's folder. They must be complete; they are on the
    /// disk before the entry is.
    pub(crate) fn append(&mut self, id: &str, event: Event, besides: &[&str]) -> Result<&Entry> {
        let folder = self.folder(id);
        let mut hashes = BTreeMap::new();
        let named: Vec<String> = event.files().iter().map(|file| file.path.clone()).collect();
        for path in named.iter().map(String::as_str).chain(besides.iter().copied()) {
            take(&folder, path, &mut hashes)?;
        }
        let time = (self.now)();
        self.write(Draft { experiment: Some(id.to_owned()), event, files: hashes }, &time)
    }

    /// Appends an entry that belongs to no experiment.
    pub(crate) fn append_at_large(&mut self, event: Event) -> Result<&Entry> {
        let time = (self.now)();
        self.write(Draft { experiment: None, event, files: BTreeMap::new() }, &time)
    }

    /// Makes every generated file what the ledger says, and returns those that changed.
    pub(crate) fn rebuild(&self) -> Result<Vec<PathBuf>> {
        rebuild::write(&self.place, &self.ledger, &self.history)
    }

    /// With another clock.
    #[cfg(test)]
    pub(super) fn set_clock(&mut self, now: fn() -> String) {
        self.now = now;
    }

    fn write(&mut self, draft: Draft, time: &str) -> Result<&Entry> {
        let entry = self.ledger.next(draft, time, self.origin.clone());
        self.history.allows(&entry).map_err(|illegal| failure(Exit::Usage, illegal.to_string()))?;
        if entry.clock_set_back {
            progress::note(
                "ledger: the clock of this host is behind the last entry's; entries are ordered by what they follow",
            );
        }
        let path = self.place.ledger();
        let whole = self.file.metadata().with_context(|| path.display().to_string())?.len();
        if whole != self.ledger.text().len() as u64 || !file::is_still(&path, &self.file) {
            let message =
                format!("{} was changed by something that does not take its lock; nothing was written", path.display());
            return Err(failure(Exit::Infrastructure, message));
        }
        append::append(&mut self.file, whole, &entry.line()).with_context(|| {
            format!("cannot write {}; it is as it was; free space there and run the same command", path.display())
        })?;
        if whole == 0 {
            // The file is new: its name has to be on the disk, too.
            sync_folder(path.parent().context("the ledger is in a folder")?)?;
        }
        if !file::is_still(&path, &self.file) {
            let message =
                format!("{} was replaced while it was written to (git?); run the same command again", path.display());
            return Err(failure(Exit::Infrastructure, message));
        }
        let (mut ledger, mut history) = (self.ledger.clone(), self.history.clone());
        let line = ledger.push(entry).context("an entry that was made for the head")?.clone();
        history.append(&line).context("an entry that was allowed")?;
        (self.ledger, self.history) = (ledger, history);
        Ok(&self.ledger.lines().last().context("a line was added")?.entry)
    }

    fn check_anchors(&self) -> Result<()> {
        for (file, anchor) in anchors(&self.place.root)? {
            if let Anchored::Lost(lost) = anchor.holds(&self.ledger) {
                return Err(lost_head(&self.place, &file, &lost.to_string()));
            }
        }
        Ok(())
    }
}

/// The error of a head that is known and not there.
pub(super) fn lost_head(place: &Place, file: &Path, lost: &str) -> anyhow::Error {
    let message =
        format!("{}: {lost} ({} says so); restore the ledger from git", place.ledger().display(), file.display());
    failure(Exit::Tampering, message)
}

/// Heads that generated files know of.
pub(super) fn anchors(root: &Path) -> Result<Vec<(PathBuf, Anchor)>> {
    let mut found = Vec::new();
    for name in rebuild::ANCHORED {
        let path = root.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => found.extend(Anchor::parse(&text).map(|anchor| (path, anchor))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    Ok(found)
}

/// Hashes a file, or all files of a folder, and has them on the disk.
fn take(folder: &Path, path: &str, hashes: &mut BTreeMap<String, String>) -> Result<()> {
    let file = folder.join(path);
    let kind = file.symlink_metadata().with_context(|| format!("cannot read {}", file.display()))?.file_type();
    if kind.is_dir() {
        for entry in std::fs::read_dir(&file).with_context(|| format!("cannot read {}", file.display()))? {
            let name = entry?.file_name();
            let name = name.to_str().with_context(|| format!("{}: a name that is no UTF-8", file.display()))?;
            take(folder, &format!("{}/{name}", path.trim_end_matches('/')), hashes)?;
        }
    } else if kind.is_file() {
        File::open(&file)
            .and_then(|file| file.sync_all())
            .with_context(|| format!("cannot sync {}", file.display()))?;
        hashes.insert(path.to_owned(), files::sha256_file(&file)?);
    } else {
        let message = format!("{} is neither a file nor a folder; the ledger vouches for nothing else", file.display());
        return Err(failure(Exit::Usage, message));
    }
    sync_folder(file.parent().context("a file is in a folder")?)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}
