//! The one place where the gate's builds start tools on what nobody trusts: confined, each writing to its own folder.

use crate::build::without_compiler_settings;
use crate::process::{self, Captured};
use crate::sandbox;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One file takes seconds, on a busy machine with a sanitizer up to a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// A compiler or another tool that reads `readable`, works in `folder`, and writes below `writable` only.
pub(super) fn tool(program: &str, folder: &Path, readable: &[PathBuf], writable: &Path) -> Result<Command> {
    let readable: Vec<&Path> = readable.iter().map(PathBuf::as_path).collect();
    let mut command = sandbox::build_tool(program, &readable, writable)?;
    without_compiler_settings(&mut command);
    command.current_dir(folder);
    Ok(command)
}

/// Runs it to its end.
pub(super) fn run(command: &mut Command) -> Result<Captured> {
    process::within_bounds("building the tests", process::capture(command, LIMIT))
}
