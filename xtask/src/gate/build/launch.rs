//! The one place where the gate's builds start compilers, which read what nobody trusts.

use crate::build::without_compiler_settings;
use crate::process::{self, Captured};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One file takes seconds, on a busy machine with a sanitizer up to a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A compiler or archiver that writes below `folder` only, and works there.
pub(super) fn tool(program: &str, folder: &Path, _readable: &[PathBuf]) -> Result<Command> {
    let mut command = Command::new(program);
    without_compiler_settings(&mut command);
    command.current_dir(folder);
    Ok(command)
}

/// Runs it to its end.
pub(super) fn run(command: &mut Command) -> Result<Captured> {
    process::capture(command, LIMIT)
}
