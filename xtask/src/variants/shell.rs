//! A shell in a variant's worktree, confined as every program is that runs a candidate's code.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::process::Group;
use crate::sandbox::Sandbox;
use crate::{build, sandbox};
use anyhow::{Context as _, Result};
use model::variant::{Build, Source, Variant};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

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
    let _terminal = Terminal::saved();
    // From now on what it leaves behind, whatever group that is in, is a child of this process.
    adopt(true);
    let (status, killed_at_bytes) = {
        let mut group = Group::spawn_session(&mut command)?;
        // Ctrl-C is the shell's, to which the terminal does not send it.
        let _forwarded = Forwarded::begin(group.pid());
        let status = loop {
            if let Some(status) = group.wait_until(Instant::now() + LOOK)? {
                break status;
            }
        };
        (status, group.killed_for_memory_bytes())
    };
    reap();
    adopt(false);
    if let Some(bytes) = killed_at_bytes {
        let message = format!("{program} had {} MiB of memory with all that it started, and was killed", bytes >> 20);
        return Err(failure(Exit::Failed, message));
    }
    if shell.command.is_empty() || status.success() {
        return Ok(Exit::Ok);
    }
    Err(failure(Exit::Failed, format!("{program} ended with {status}")))
}

/// Fails if a part of the sandbox is not there: what is compiled or run by hand is nobody's that is known, whatever the build is of.
pub(crate) fn refuse_unconfined(context: &Context, variant: &Variant) -> Result<()> {
    Sandbox::open()?.suffices(context, &as_unknown(variant))
}

fn as_unknown(variant: &Variant) -> Variant {
    let source = Source { pinned: false, ..variant.source.clone() };
    Variant { source, ..variant.clone() }
}

/// Between two looks at the time, which is unlimited.
const LOOK: Duration = Duration::from_secs(3600);

/// Whether orphans of this process's descendants become its children.
fn adopt(yes: bool) {
    // SAFETY: it takes a number, and can only fail where the kernel has no such thing.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, libc::c_ulong::from(yes)) };
}

/// Kills adopted processes: children in another session than this process's, in which no child of the harness's own is.
fn reap() {
    // SAFETY: both cannot fail.
    let (own, session) = unsafe { (libc::getpid(), libc::getsid(0)) };
    for _ in 0..100 {
        let left = adopted(own, session);
        if left.is_empty() {
            return;
        }
        for pid in left {
            // SAFETY: signals to, and waits for, a child of this process.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

fn adopted(own: libc::pid_t, session: libc::pid_t) -> Vec<libc::pid_t> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_left = |pid: &libc::pid_t| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or(vec![], |(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
        let field = |at: usize| fields.get(at).and_then(|field| field.parse::<libc::pid_t>().ok());
        field(1) == Some(own) && field(3).is_some_and(|of| of != session)
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_left).collect()
}

/// Who gets this process's SIGINT and SIGQUIT.
static GROUP: AtomicI32 = AtomicI32::new(0);

extern "C" fn forward(signal: libc::c_int) {
    let group = GROUP.load(Ordering::SeqCst);
    if group > 0 {
        // SAFETY: kill is async-signal-safe.
        unsafe { libc::kill(-group, signal) };
    }
}

/// SIGINT and SIGQUIT go on to a group until this is dropped.
struct Forwarded([(libc::c_int, libc::sighandler_t); 2]);

impl Forwarded {
    fn begin(group: u32) -> Forwarded {
        GROUP.store(group.cast_signed(), Ordering::SeqCst);
        // SAFETY: the handler reads an atomic number and sends a signal.
        let handle = |signal| unsafe { libc::signal(signal, forward as *const () as libc::sighandler_t) };
        Forwarded([libc::SIGINT, libc::SIGQUIT].map(|signal| (signal, handle(signal))))
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        GROUP.store(0, Ordering::SeqCst);
        for (signal, before) in self.0 {
            // SAFETY: puts back what was there.
            unsafe { libc::signal(signal, before) };
        }
    }
}

/// How the terminal was before, and is again: a shell that is killed leaves it as it happens to be.
struct Terminal(Option<libc::termios>);

impl Terminal {
    fn saved() -> Terminal {
        let mut settings = std::mem::MaybeUninit::uninit();
        // SAFETY: filled if the call succeeds, which it does on a terminal alone.
        Terminal(unsafe { (libc::tcgetattr(0, settings.as_mut_ptr()) == 0).then(|| settings.assume_init()) })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // SAFETY: the settings are those that the terminal had.
            unsafe { libc::tcsetattr(0, libc::TCSANOW, settings) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_edited_on_pristine_is_not_known() {
        let source: Source = serde_json::from_value(serde_json::json!({
            "label": "pinned", "tree": "t", "root_commit": "c", "upstream_commit": null, "pinned": true,
        }))
        .unwrap();
        let pristine = Variant {
            id: "a".into(),
            name: "draft".into(),
            source,
            patches: vec![],
            tree: "t".into(),
            commit: "c".into(),
        };
        assert!(!as_unknown(&pristine).source.pinned, "pinned source without patches needs no whole sandbox");
    }
}
