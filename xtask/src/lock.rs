//! One run at a time: two would disturb each other's timings and share folders.

use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Held until dropped; the kernel releases it when the process dies, however it dies.
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of the state folder, or fails at once with exit code 6 and the holder's name.
pub(crate) fn take(context: &Context, verb: &str) -> Result<Lock> {
    std::fs::create_dir_all(&context.work).with_context(|| format!("cannot create {}", context.work.display()))?;
    refuse_foreign(&context.work)?;
    let path = context.work.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).with_context(|| format!("cannot read {}", path.display()))?;
            let message = format!(
                "another run holds {} ({}); wait for it, or set LIBEVENT_PERF_WORK to work in another folder",
                path.display(),
                holder.trim()
            );
            return Err(failure(Exit::Locked, message));
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{verb}, process {}", std::process::id())
        .with_context(|| format!("cannot write {}", path.display()))?;
    sweep(context)?;
    Ok(Lock { _file: file })
}

/// Builds and sources in the state folder are believed: whoever owns it decides what is measured.
fn refuse_foreign(folder: &Path) -> Result<()> {
    let owner = folder.metadata().with_context(|| format!("cannot read {}", folder.display()))?.uid();
    // SAFETY: geteuid has no preconditions and cannot fail.
    let own = unsafe { libc::geteuid() };
    if is_trusted(owner, own) {
        return Ok(());
    }
    let message = format!(
        "{} belongs to user {owner}, not to you (user {own}); set LIBEVENT_PERF_WORK to a folder of your own",
        folder.display()
    );
    Err(failure(Exit::Infrastructure, message))
}

fn is_trusted(owner: u32, own: u32) -> bool {
    owner == own || owner == 0
}

/// Scratch folders that a killed run left: with the lock held, nobody uses them.
fn sweep(context: &Context) -> Result<()> {
    let folder = context.scratch_folder();
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_state_and_the_administrators_is_believed() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
