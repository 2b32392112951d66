//! One run at a time: two would disturb each other's timings and share folders.

use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::{Context as _, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};

/// Held until dropped; the kernel releases it when the process dies, however it dies.
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of the state folder, or fails at once with exit code 6 and the holder's name.
pub(crate) fn take(context: &Context, verb: &str) -> Result<Lock> {
    std::fs::create_dir_all(&context.work).with_context(|| format!("cannot create {}", context.work.display()))?;
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
