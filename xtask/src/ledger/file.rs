//! The file itself: its lock, its bytes, and an unfinished line at its end.

use crate::exit::{Exit, failure};
use crate::{interrupt, progress};
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait for another process: an append takes milliseconds, a merge some more.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the file is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// With other readers.
    Read,
    /// Alone; the file is made if it is not there.
    Write,
}

/// The ledger's file, locked until it is dropped; the kernel releases the lock when the process ends, however it does. `None`:
/// there is no such file, and it is only to be read.
///
/// The lock is on the ledger itself, not on a file in the work folder: two processes with work folders of their own may
/// share a checkout, and two checkouts may share a work folder.
pub(super) fn locked(path: &Path, access: Access) -> Result<Option<File>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(file) = open(path, access)? else { return Ok(None) };
        let locked = match access {
            Access::Read => file.try_lock_shared(),
            Access::Write => file.try_lock(),
        };
        match locked {
            // Git and a merge put another file in its place: the lock of the old one is worth nothing.
            Ok(()) if is_still(path, &file) => return Ok(Some(file)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        interrupt::check()?;
        if Instant::now() >= deadline {
            let message = format!(
                "another process has held the ledger {} for {} s; wait for it, or find it with `fuser {0}`",
                path.display(),
                PATIENCE.as_secs()
            );
            return Err(failure(Exit::Locked, message));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn open(path: &Path, access: Access) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if access == Access::Write {
        let folder = path.parent().context("the ledger is in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        options.append(true).create(true);
    }
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && access == Access::Read => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot open the ledger {}", path.display())),
    }
}

/// Whether the path still leads to that file.
pub(super) fn is_still(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(here)) = (path.metadata(), file.metadata()) else { return false };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
}

/// Everything in it.
pub(super) fn content(path: &Path, file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

/// Sets an unfinished line aside: writes it to a file of its own, then cuts it off. It was never acknowledged, so nobody
/// relies on it; the step that it was to record is done again. With the lock held.
pub(super) fn set_aside(path: &Path, file: &File, torn: &[u8], whole: u64, aside: &Path) -> Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    std::fs::create_dir_all(aside).with_context(|| format!("cannot create {}", aside.display()))?;
    let kept = tempfile::Builder::new().prefix(&format!("ledger-line-{stamp}-")).tempfile_in(aside)?;
    std::fs::write(kept.path(), torn).with_context(|| format!("cannot write {}", kept.path().display()))?;
    kept.as_file().sync_all()?;
    let (_, kept) = kept.keep().map_err(|error| error.error)?;
    file.set_len(whole).and_then(|()| file.sync_all()).with_context(|| format!("cannot repair {}", path.display()))?;
    progress::note(&format!(
        "ledger: {} ended with {} bytes of a line that was never finished (a run was killed, or the disk was full); they \
         are kept as {}",
        path.display(),
        torn.len(),
        kept.display()
    ));
    Ok(kept)
}
