//! The sandbox around every build and run of libevent's code, whoever wrote it: the same for both sides of a
//! comparison, so that its cost cancels.
//!
//! This program starts itself with the hidden verb [`VERB`]; that process puts the sandbox up around itself
//! and then becomes what was asked for, so process ids, pipes and stops are those of the program itself.

mod enter;
mod landlock;
mod limits;
mod mounts;
mod namespaces;
mod probe;
mod system_calls;
mod tools;

pub(crate) use enter::{VERB, enter};
pub(crate) use probe::cost_seconds;
use tools::located;

use crate::context::Context;
use crate::exit::{Exit, failure};
use anyhow::{Context as _, Result};
use model::sandbox::{Missing, Part, describe};
use model::variant::Variant;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The user and group that confined code is when the harness is root: nobody's, not even `nobody`'s.
const UNPRIVILEGED_ID: u32 = 65_533;

/// What confined code may do; everything else it may not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Folders below which it may write. They are made where they do not exist.
    pub(crate) writable: Vec<PathBuf>,
    /// Files and folders that it sees besides those of the system.
    pub(crate) readable: Vec<PathBuf>,
    /// Most memory of its processes together: watched, and of each process's address space unless `sanitizer`.
    pub(crate) memory_bytes: Option<u64>,
    /// Most processes and threads.
    pub(crate) processes: u64,
    /// Largest file that it may write; its private /tmp holds four times as much.
    pub(crate) file_bytes: u64,
    /// CPU time of each process. None where it is measured: with such a limit, the kernel counts the process's CPU
    /// time in ticks of milliseconds. Time limits of [`crate::process::Group`] hold in any case.
    pub(crate) cpu_seconds: Option<u64>,
    /// It may start process groups of its own, as ninja does; code of a candidate may not.
    pub(crate) groups: bool,
    /// It may trace its own threads and reserve terabytes of address space, as sanitizers do.
    pub(crate) sanitizer: bool,
    /// It is a client of the confined process of this id, and shares its network.
    pub(crate) network_of: Option<u32>,
    /// Parts that this host lacks.
    pub(crate) without: Vec<Part>,
}

impl Policy {
    /// For a compiler: it reads `readable` and writes below `writable`.
    pub(crate) fn build(readable: &[&Path], writable: &Path) -> Policy {
        Policy {
            writable: vec![writable.to_owned()],
            readable: readable.iter().map(|path| (*path).to_owned()).collect(),
            memory_bytes: Some(8 << 30),
            processes: 1024,
            file_bytes: 1 << 30,
            cpu_seconds: Some(3600),
            groups: true,
            sanitizer: false,
            network_of: None,
            without: vec![],
        }
    }

    /// For a program that is measured: it writes nowhere but in its private /tmp.
    pub(crate) fn measure() -> Policy {
        Policy {
            writable: vec![],
            readable: vec![],
            memory_bytes: Some(8 << 30),
            processes: 256,
            file_bytes: 256 << 20,
            cpu_seconds: None,
            groups: false,
            sanitizer: false,
            network_of: None,
            without: vec![],
        }
    }

    /// For a test program, with or without a sanitizer in it.
    pub(crate) fn test(sanitizer: bool) -> Policy {
        Policy {
            memory_bytes: Some(2 << 30),
            cpu_seconds: Some(600),
            file_bytes: 64 << 20,
            sanitizer,
            ..Policy::measure()
        }
    }
}

/// What of the sandbox this host has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox {
    missing: &'static [Missing],
}

/// Probed once a process: it is the same for every launch.
static HOST: OnceLock<Vec<Missing>> = OnceLock::new();

impl Sandbox {
    /// Finds out what this host has.
    pub(crate) fn open() -> Result<Sandbox> {
        if let Some(missing) = HOST.get() {
            return Ok(Sandbox { missing });
        }
        let missing = probe::missing()?;
        Ok(Sandbox { missing: HOST.get_or_init(|| missing) })
    }

    /// What is not there.
    pub(crate) fn missing(&self) -> &'static [Missing] {
        self.missing
    }

    /// As records have it.
    pub(crate) fn described(&self) -> String {
        describe(self.missing)
    }

    /// Fails if a part is not there that code of `variant` needs and the user has not done without.
    pub(crate) fn suffices(&self, context: &Context, variant: &Variant) -> Result<()> {
        // The pinned source is verified by its hash, and as well known as the compiler.
        let known = variant.source.pinned && variant.patches.is_empty();
        let lacking: Vec<&Missing> =
            self.missing.iter().filter(|missing| !context.sandbox_without.contains(&missing.part)).collect();
        if known || lacking.is_empty() {
            return Ok(());
        }
        let causes: Vec<String> = lacking.iter().map(|m| format!("  {}: {}", m.part, m.cause)).collect();
        let names: Vec<&str> = lacking.iter().map(|missing| missing.part.name()).collect();
        let message = format!(
            "variant {} ({}) is code that nobody vouches for, and this host's sandbox is not complete:\n{}\n`cargo xtask doctor` \
             has the fixes; if you have read the code, `--sandbox-without {}` runs it all the same, and records say so",
            variant.id,
            variant.name,
            causes.join("\n"),
            names.join(",")
        );
        Err(failure(Exit::Infrastructure, message))
    }

    /// A command that runs `program` confined, in a cleared environment; arguments are added as usual.
    pub(crate) fn command(&self, policy: &Policy, program: &Path) -> Result<Command> {
        let words = self.words(policy, program)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("LC_ALL", "C").env("HOME", "/tmp").env("TMPDIR", "/tmp");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        Ok(command)
    }

    /// The same as words, for a tracer that is outside and starts them.
    pub(crate) fn words(&self, policy: &Policy, program: &Path) -> Result<Vec<OsString>> {
        if cfg!(test) {
            // The program of unit tests has no verbs; tests/sandbox.rs has the sandbox's own.
            return Ok(vec![program.into()]);
        }
        for folder in &policy.writable {
            hand_over(folder, self.missing.iter().any(|missing| missing.part == Part::Unprivileged))?;
        }
        let without = self.missing.iter().map(|missing| missing.part).collect();
        let policy = serde_json::to_string(&Policy { without, ..policy.clone() })?;
        // By its process, not by its path: cargo may have put another program there by now.
        let own = format!("/proc/{}/exe", std::process::id());
        Ok(vec![own.into(), VERB.into(), policy.into(), program.into()])
    }
}

/// A command that runs `program` confined on this host.
#[allow(dead_code, reason = "for the gate")]
pub(crate) fn command(policy: &Policy, program: &Path) -> Result<Command> {
    Sandbox::open()?.command(policy, program)
}

/// What of the sandbox this host has, as records say it.
pub(crate) fn described() -> String {
    // Nothing was run where it could not be opened.
    Sandbox::open().map_or_else(|_| "unknown".to_owned(), |sandbox| sandbox.described())
}

/// A command that runs a compiler or a build tool, which reads `readable` and writes below `writable` alone.
pub(crate) fn build_tool(name: &str, readable: &[&Path], writable: &Path) -> Result<Command> {
    let program = located(name)?;
    let mut policy = Policy::build(readable, writable);
    policy.readable.extend(tools::folders(&program));
    let mut command = Sandbox::open()?.command(&policy, &program)?;
    // Tools are looked for where the caller has them.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    Ok(command)
}

/// A command that runs a script by an interpreter, which reads the script and its own installation and writes nowhere but
/// in its private /tmp.
pub(crate) fn script(interpreter: &str, script: &Path) -> Result<Command> {
    let program = located(interpreter)?;
    let mut policy = Policy::test(false);
    policy.readable = tools::folders(&program);
    policy.readable.push(script.to_owned());
    let mut command = Sandbox::open()?.command(&policy, &program)?;
    // An interpreter that others start by a shim looks for itself there. No folder of the user's or the script's is
    // looked into for modules.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).arg("-I").arg(script);
    Ok(command)
}

/// Folders below which headers are that are not a source's: the system's, and the compiler's installation.
pub(crate) fn header_folders(cc: &str) -> Result<Vec<PathBuf>> {
    // Settings are shown to programs, but nothing there is for including.
    let system = mounts::SYSTEM.iter().map(PathBuf::from).filter(|path| !path.starts_with("/etc"));
    Ok(system.chain(tools::folders(&located(cc)?)).collect())
}

/// Takes a file that confined code has made out of its hands.
pub(crate) fn take_back(path: &Path) -> Result<()> {
    if !crate::host::is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(path, Some(0), Some(0)).with_context(|| format!("cannot take {} back", path.display()))
}

/// Most memory that a command's processes may have together, if it is a confined one.
pub(crate) fn memory_limit_bytes(command: &Command) -> Option<u64> {
    let mut words = command.get_args().skip_while(|word| *word != VERB);
    words.next()?;
    serde_json::from_str::<Policy>(words.next()?.to_str()?).ok()?.memory_bytes
}

/// Makes a folder that confined code may write to, and gives it to the user that such code is.
fn hand_over(folder: &Path, same_user: bool) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    if same_user || !crate::host::is_root() {
        return Ok(());
    }
    let give = |path: &Path| -> Result<()> {
        let metadata = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if metadata.uid() == UNPRIVILEGED_ID && metadata.gid() == UNPRIVILEGED_ID {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(UNPRIVILEGED_ID), Some(UNPRIVILEGED_ID))
            .with_context(|| format!("cannot give {} to the user of the sandbox", path.display()))
    };
    let mut folders = vec![folder.to_owned()];
    give(folder)?;
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            give(&entry.path())?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
