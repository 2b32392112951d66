//! The hidden verb: puts the sandbox up around this process and becomes the program.

use super::{Policy, landlock, limits, mounts, namespaces, system_calls};
use anyhow::{Context as _, Result, bail};
use model::sandbox::Part;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// How this program is called to enter a sandbox.
pub(crate) const VERB: &str = "sandbox-enter";

/// The program was not started because the sandbox could not be put up.
pub(super) const REFUSED: u8 = 125;

/// Begins the one line that says which part could not be put up.
pub(super) const REFUSAL: &str = "sandbox: ";

/// `VERB POLICY PROGRAM ARGUMENT...`: does not return unless something fails.
pub(crate) fn enter(arguments: &[OsString]) -> ExitCode {
    let error = match become_program(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("{REFUSAL}{error:#}");
    ExitCode::from(REFUSED)
}

fn become_program(arguments: &[OsString]) -> Result<std::convert::Infallible> {
    let [policy, program, rest @ ..] = arguments else { bail!("usage: {VERB} POLICY PROGRAM ARGUMENT...") };
    let policy: Policy = serde_json::from_str(policy.to_str().context("the policy is UTF-8")?).context("the policy")?;
    // SAFETY: getppid, geteuid and getegid cannot fail.
    let (parent, user, group) = unsafe { (libc::getppid(), libc::geteuid(), libc::getegid()) };
    let root = user == 0;
    let has = |part: Part| !policy.without.contains(&part);
    let put_up = |part: Part, done: Result<()>| done.with_context(|| part.name());

    // Without root's rights, only a user namespace gives the right to the other namespaces.
    let users_first = !root && has(Part::Users);
    match policy.network_of {
        Some(peer) => {
            if users_first {
                put_up(Part::Users, namespaces::join(peer, "user", libc::CLONE_NEWUSER))?;
            }
            if has(Part::Network) {
                put_up(Part::Network, namespaces::join(peer, "net", libc::CLONE_NEWNET))?;
            }
        }
        None => {
            if users_first {
                put_up(Part::Users, namespaces::users(user, group))?;
            }
            if has(Part::Network) {
                put_up(Part::Network, namespaces::network())?;
            }
        }
    }
    let cwd = std::env::current_dir().ok();
    if has(Part::Mounts) {
        put_up(Part::Mounts, mounts::own_tree(&policy, Path::new(program)))?;
    }
    let (mut user, mut group) = (user, group);
    if root && has(Part::Unprivileged) {
        put_up(Part::Unprivileged, namespaces::leave_root(super::UNPRIVILEGED_ID))?;
        (user, group) = (super::UNPRIVILEGED_ID, super::UNPRIVILEGED_ID);
    }
    if root && has(Part::Users) {
        put_up(Part::Users, namespaces::users(user, group))?;
    }
    // The folder that the caller chose, where it is to be seen.
    if cwd.is_none_or(|cwd| std::env::set_current_dir(cwd).is_err()) {
        std::env::set_current_dir("/").context("cannot enter /")?;
    }
    limits::set(&policy)?;
    namespaces::no_new_privileges()?;
    let abi = landlock::abi();
    if has(Part::Landlock) {
        put_up(Part::Landlock, landlock::refuses_writes(abi, has(Part::Mounts)))?;
        put_up(Part::Landlock, landlock::confine(&policy))?;
    }
    if has(Part::Signals) {
        put_up(Part::Signals, landlock::keeps_signals(abi, has(Part::Landlock)))?;
    }
    // A change of user forgets it. The kernel ends this process when the harness ends.
    namespaces::die_with(parent)?;
    if has(Part::SystemCalls) {
        put_up(Part::SystemCalls, system_calls::restrict(&policy))?;
    }
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", Path::new(program).display()))
}
