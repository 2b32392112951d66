//! The one place where the gate starts programs that hold a candidate's code, and scripts of a source.

use super::build::GateBuild;
use crate::context::Context;
use crate::sandbox::{self, Policy, Sandbox};
use anyhow::Result;
use model::gate::Sanitizer;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A program of `build`, or one linked against it, confined, in the environment of a configuration and no other.
pub(super) fn command(
    context: &Context,
    build: &GateBuild,
    program: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Command> {
    let sandbox = Sandbox::open()?;
    sandbox.suffices(context, &build.variant)?;
    let mut command = sandbox.command(&Policy::test(build.sanitizer != Sanitizer::None), program)?;
    command.env("TZ", "UTC").envs(options(build.sanitizer)).envs(environment).current_dir("/");
    Ok(command)
}

/// A script of the source of `build`, run by python3: nobody vouches for it where nobody vouches for the source. It
/// sees itself, python's installation and what it gets on standard input.
pub(super) fn script(context: &Context, build: &GateBuild, script: &Path) -> Result<Command> {
    Sandbox::open()?.suffices(context, &build.variant)?;
    let mut command = sandbox::script("python3", script)?;
    command.current_dir("/");
    Ok(command)
}

/// How sanitizers behave: findings are read from what they print. A race or undefined behaviour that pristine has,
/// too, must not end the test that meets it.
fn options(sanitizer: Sanitizer) -> Option<(&'static str, &'static str)> {
    match sanitizer {
        Sanitizer::None => None,
        Sanitizer::Address => Some((
            "ASAN_OPTIONS",
            "allocator_may_return_null=1:detect_leaks=1:detect_stack_use_after_return=1:log_path=stderr",
        )),
        Sanitizer::Undefined => Some(("UBSAN_OPTIONS", "print_stacktrace=1:print_summary=1:halt_on_error=0")),
        Sanitizer::Thread => {
            Some(("TSAN_OPTIONS", "allocator_may_return_null=1:exitcode=0:halt_on_error=0:history_size=4"))
        }
    }
}
