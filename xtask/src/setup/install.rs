//! Installs tools through the system's package manager: as root at once, otherwise with sudo after
//! asking on a terminal, otherwise not, and then says what to type. Bounded in time, and believed
//! only after the tool was really found.

use super::find::Places;
use super::packages::{self, Manager};
use super::tools::{Find, Tool};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::host;
use crate::{interrupt, process, progress};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// One installation, retries included.
const TOTAL_LIMIT: Duration = Duration::from_secs(600);
/// How long another package manager is waited for, and how often it is looked at.
const LOCK_LIMIT: Duration = Duration::from_secs(120);
const LOCK_LOOK: Duration = Duration::from_secs(3);
/// How long a package manager may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(60);
/// Asking for the password: sudo gives up by itself before.
const SUDO_LIMIT: Duration = Duration::from_secs(600);
/// Lines of the package manager's output that an error shows.
const SHOWN_LINES: usize = 8;

/// Puts a question to a person and returns the answer.
pub(super) type Ask<'a> = dyn Fn(&str) -> Result<bool> + 'a;

/// Everything outside that decides what happens; invented in tests.
pub(super) struct Situation<'a> {
    pub(super) places: Places,
    pub(super) linux: bool,
    pub(super) is_root: bool,
    /// `--no-install` was not given.
    pub(super) may_install: bool,
    /// Asks a person, where there is one.
    pub(super) ask: Option<&'a Ask<'a>>,
    /// Gets the package manager's output.
    pub(super) log: PathBuf,
    pub(super) limit: Duration,
    pub(super) lock_limit: Duration,
    pub(super) lock_look: Duration,
}

impl Situation<'_> {
    /// That of this process.
    pub(super) fn here(context: &Context) -> Self {
        Situation {
            places: Places::here(),
            linux: cfg!(target_os = "linux"),
            is_root: host::is_root(),
            may_install: context.install,
            ask: has_person().then_some(&ask_on_terminal),
            log: context.work.join("logs/setup.log"),
            limit: TOTAL_LIMIT,
            lock_limit: LOCK_LIMIT,
            lock_look: LOCK_LOOK,
        }
    }
}

/// Installs `missing` and makes sure that they are found afterwards; or fails with exit code 4.
pub(super) fn install(missing: &[&Tool], situation: &Situation<'_>) -> Result<()> {
    let names = missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
    let manager = manager(&names, situation)?;
    let mut packages: Vec<&str> = Vec::new();
    for package in missing.iter().flat_map(|tool| tool.packages(manager)) {
        if !packages.contains(package) {
            packages.push(package);
        }
    }
    let typed = typed(manager, &packages, situation);
    if !situation.may_install {
        return Err(infrastructure(format!("missing: {names}. Not installed because of --no-install; {typed}")));
    }
    let sudo = rights(&names, &typed, situation)?;

    let started = Instant::now();
    let log = situation.log.display();
    progress::note(&format!("setup: installing {names} with {} (log: {log})", manager.program()));
    let run = Run { situation, manager, sudo, deadline: started + situation.limit };
    run.install(&packages, &typed)?;
    verify(missing, &typed, situation)?;
    progress::note(&format!("setup: installed {names} in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// The package manager, or the reason why nothing can be installed here.
fn manager(names: &str, situation: &Situation<'_>) -> Result<Manager> {
    let platform = || packages::distribution(&situation.places.facts);
    if !situation.linux {
        let message = format!("missing: {names}. Only Linux is supported; this is {}", std::env::consts::OS);
        return Err(infrastructure(message));
    }
    Manager::detect(|name| situation.places.program(name).is_some(), &situation.places.facts).ok_or_else(|| {
        infrastructure(format!(
            "missing: {names}. {} has no package manager that set-up knows (apt-get, dnf, apk, pacman, zypper); \
             install them by hand and run again",
            platform()
        ))
    })
}

/// `type: COMMAND`, as this user has to type it.
fn typed(manager: Manager, packages: &[&str], situation: &Situation<'_>) -> String {
    if situation.is_root {
        format!("type: {}", manager.typed(packages, ""))
    } else if situation.places.program("sudo").is_some() {
        format!("type: {}", manager.typed(packages, "sudo "))
    } else {
        format!("type as root: {}", manager.typed(packages, ""))
    }
}

/// Whether sudo is to be used; fails where the rights to install cannot be had.
fn rights(names: &str, typed: &str, situation: &Situation<'_>) -> Result<Option<PathBuf>> {
    if situation.is_root {
        return Ok(None);
    }
    let (Some(ask), Some(sudo)) = (situation.ask, situation.places.program("sudo")) else {
        return Err(infrastructure(format!("missing: {names}. To install them, {typed}")));
    };
    if !ask(&format!("{names} missing. Install with sudo ({typed})?"))? {
        return Err(infrastructure(format!("missing: {names}. Not installed; {typed}")));
    }
    // In the terminal's own process group, so that it can ask for the password. Later calls do not ask.
    let mut child =
        Command::new(&sudo).arg("-v").spawn().with_context(|| format!("cannot start {}", sudo.display()))?;
    let deadline = Instant::now() + SUDO_LIMIT;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(Some(sudo)),
            Some(_) => return Err(infrastructure(format!("sudo refused. To install {names}, {typed}"))),
            None if Instant::now() < deadline && !interrupt::asked() => std::thread::sleep(Duration::from_millis(50)),
            None => {
                // A child that just ended by itself cannot be killed, and need not be.
                drop(child.kill());
                drop(child.wait());
                interrupt::check()?;
                return Err(infrastructure(format!("sudo got no password. To install {names}, {typed}")));
            }
        }
    }
}

/// One use of the package manager.
struct Run<'a> {
    situation: &'a Situation<'a>,
    manager: Manager,
    sudo: Option<PathBuf>,
    deadline: Instant,
}

/// How a call of the package manager ended.
enum Outcome {
    Done,
    Failed,
}

impl Run<'_> {
    /// Installs; a first failure is tried once more with fresh lists.
    fn install(&self, packages: &[&str], typed: &str) -> Result<()> {
        let mut refresh = self.manager.has_no_lists(&self.situation.places.facts);
        for _ in 0..2 {
            let fresh = !refresh || matches!(self.call(self.manager.refresh())?, Outcome::Done);
            if fresh && matches!(self.call(&self.manager.install(packages))?, Outcome::Done) {
                return Ok(());
            }
            refresh = true;
        }
        let log = &self.situation.log;
        let output = process::tail(log, SHOWN_LINES);
        let program = self.manager.program();
        Err(infrastructure(format!(
            "{program} failed:\n{output}\nThe whole output: {}. To repeat, {typed}",
            log.display()
        )))
    }

    /// Calls the package manager; waits, within limits, for another one to let go of its lock.
    fn call(&self, arguments: &[&str]) -> Result<Outcome> {
        // Ctrl-C must not end this process with the package manager half-way and nobody waiting for it.
        interrupt::install()?;
        let give_up = self.deadline.min(Instant::now() + self.situation.lock_limit);
        let mut told = false;
        loop {
            let before = size(&self.situation.log);
            let left = self.deadline.saturating_duration_since(Instant::now());
            let status = process::logged_gently(&mut self.command(arguments)?, left, GRACE, &self.situation.log)?;
            if status.success() {
                return Ok(Outcome::Done);
            }
            let locked = Manager::is_locked(&text_from(&self.situation.log, before));
            if !locked || Instant::now() + self.situation.lock_look >= give_up {
                return Ok(Outcome::Failed);
            }
            if !std::mem::replace(&mut told, true) {
                let seconds = self.situation.lock_limit.as_secs();
                progress::note(&format!("setup: another package manager is at work; waiting up to {seconds} s for it"));
            }
            std::thread::sleep(self.situation.lock_look);
            interrupt::check()?;
        }
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let name = self.manager.program();
        let program = self.situation.places.program(name).with_context(|| format!("{name} is gone"))?;
        // No questions about time zones and configuration files.
        let quiet = ("DEBIAN_FRONTEND", "noninteractive");
        let mut command = match &self.sudo {
            None => Command::new(program),
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.args(["-n", "env"]).arg(format!("{}={}", quiet.0, quiet.1)).arg(program);
                command
            }
        };
        command.args(arguments).env(quiet.0, quiet.1).env("LC_ALL", "C");
        Ok(command)
    }
}

/// A package manager may succeed without bringing what was asked for.
fn verify(wanted: &[&Tool], typed: &str, situation: &Situation<'_>) -> Result<()> {
    let absent: Vec<String> =
        wanted.iter().filter(|tool| situation.places.find(tool).is_none()).map(|tool| looked_for(tool)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(infrastructure(format!(
        "the package manager reported success, but these are still not there: {}. See {}, or {typed}",
        absent.join("; "),
        situation.log.display()
    )))
}

fn looked_for(tool: &Tool) -> String {
    match tool.find {
        Find::Program(names) => format!("{} (no {} in PATH)", tool.name, names.join(" or ")),
        Find::File(files) => format!("{} (no {})", tool.name, files.join(" or ")),
        Find::Libclang => {
            format!("{} (no libclang.so with its compiler headers; LIBCLANG_PATH names its folder)", tool.name)
        }
    }
}

/// A person can be asked: both ends are a terminal, and no automation says otherwise.
fn has_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

fn ask_on_terminal(question: &str) -> Result<bool> {
    eprint!("{question} [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    // The end of input is no consent.
    let answered = std::io::stdin().lock().read_line(&mut answer)? > 0;
    Ok(answered && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn infrastructure(message: String) -> anyhow::Error {
    failure(Exit::Infrastructure, message)
}

fn size(log: &Path) -> usize {
    log.metadata().map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX))
}

/// What was written to the log since it had `from` bytes.
fn text_from(log: &Path, from: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}
