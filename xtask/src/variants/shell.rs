//! A shell in a variant's worktree, confined as every program is that runs a candidate's code.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{build, sandbox};
use anyhow::{Context as _, Result};
use model::variant::Build;
use std::path::Path;

/// What a shell is opened on.
pub(crate) struct Shell<'a> {
    /// As the user called it.
    pub(crate) name: &'a str,
    /// The harness's build of what is saved; read only.
    pub(crate) build: &'a Build,
    /// The worktree.
    pub(crate) source: &'a Path,
    /// Below this it may write; the worktree lies below it if it is one for editing.
    pub(crate) writable: &'a Path,
    /// Run this in place of an interactive shell.
    pub(crate) command: &'a [String],
}

/// Opens it, and waits for its end.
pub(crate) fn open(context: &Context, shell: &Shell<'_>) -> Result<Exit> {
    let own = shell.writable.join("build");
    std::fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
    let program = shell.command.first().map_or("bash", String::as_str);
    let headers = build::headers(context, shell.build);
    let mut readable = vec![shell.build.folder.as_path(), headers.as_path()];
    if !shell.source.starts_with(shell.writable) {
        // What is shown read only cannot be written to, whatever it lies in.
        readable.push(shell.source);
    }
    let mut command = sandbox::build_tool(program, &readable, shell.writable).or_else(|error| {
        if shell.command.is_empty() { sandbox::build_tool("sh", &readable, shell.writable) } else { Err(error) }
    })?;
    if shell.command.is_empty() {
        command.arg("-i");
    }
    command.args(shell.command.iter().skip(1));
    let flags = shell.build.c_flags.join(" ");
    let term = std::env::var_os("TERM").unwrap_or_else(|| "dumb".into());
    command
        .env("TERM", term)
        .env("PS1", format!("[{} {}] \\w\\$ ", shell.name, &shell.build.variant.id))
        .env("VARIANT", shell.name)
        .env("VARIANT_ID", &shell.build.variant.id)
        .env("LIBEVENT_SOURCE", shell.source)
        .env("LIBEVENT_BUILD", shell.build.folder.join("cmake"))
        .env("LIBEVENT_HEADERS", &headers)
        .env("BUILD", &own)
        .env("CC", build::compiler())
        .env("CFLAGS", flags)
        .current_dir(shell.source);
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    // Ctrl-C is the shell's, which has the terminal.
    let _ignored = Ignored::begin();
    let status = child.wait()?;
    if shell.command.is_empty() || status.success() {
        return Ok(Exit::Ok);
    }
    Err(failure(Exit::Failed, format!("{program} ended with {status}")))
}

/// SIGINT and SIGQUIT do nothing to this process until it is dropped.
struct Ignored([(libc::c_int, libc::sighandler_t); 2]);

impl Ignored {
    fn begin() -> Ignored {
        // SAFETY: no handler is installed, only taken away.
        Ignored([libc::SIGINT, libc::SIGQUIT].map(|signal| (signal, unsafe { libc::signal(signal, libc::SIG_IGN) })))
    }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        for (signal, before) in self.0 {
            // SAFETY: puts back what was there.
            unsafe { libc::signal(signal, before) };
        }
    }
}
