//! Tools that a verb needs: found at once where they are there, installed where they are not.
//!
//! `tools` is the table, `find` looks, `packages` knows package managers, `install` uses them.

mod find;
mod install;
mod packages;
mod tools;
mod version;

pub(crate) use find::Places;
pub(crate) use tools::{ALL, TODAY, TOOLS, Tool, Verb};
pub(crate) use version::version;

use crate::context::Context;
use crate::exit::{Exit, exit_of};
use crate::host::{self, Facts};
use crate::progress;
use anyhow::Result;
use install::Situation;
use packages::Manager;
use std::path::PathBuf;

/// What `ensure` found and did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Tools that are here, those just installed included, and where.
    pub(crate) found: Vec<(&'static Tool, PathBuf)>,
    /// Names of the tools that were installed just now.
    pub(crate) installed: Vec<&'static str>,
    /// Tools that the verbs use, can do without, and do not have.
    pub(crate) optional_missing: Vec<&'static Tool>,
    /// Optional tools that could not be installed though that was asked for, and why.
    pub(crate) failed: Vec<(&'static Tool, String)>,
}

/// Makes sure that everything `verb` cannot do without is here. Silent and done within milliseconds
/// where it is; otherwise installs it, or fails with exit code 4 and the command to type.
pub(crate) fn ensure(verb: Verb, context: &Context) -> Result<Report> {
    let report = ensure_in(&[verb], false, &Situation::here(context))?;
    mention_optional(&report);
    Ok(report)
}

/// The same for several verbs; with `optional`, what they can do without is installed, too.
pub(crate) fn ensure_all(verbs: &[Verb], optional: bool, context: &Context) -> Result<Report> {
    ensure_in(verbs, optional, &Situation::here(context))
}

/// Whether missing tools would be installed without anybody being asked.
pub(crate) fn installs_by_itself(context: &Context) -> bool {
    context.install && host::is_root() && Manager::detect(has_program, &Facts::here()).is_some()
}

/// The command with which this user installs a tool, where the package manager is known.
pub(crate) fn command_for(tool: &Tool) -> Option<String> {
    let manager = Manager::detect(has_program, &Facts::here())?;
    let prefix = if host::is_root() { "" } else { "sudo " };
    Some(manager.typed(tool.packages(manager), prefix))
}

fn has_program(name: &str) -> bool {
    Places::here().program(name).is_some()
}

fn ensure_in(verbs: &[Verb], optional: bool, situation: &Situation<'_>) -> Result<Report> {
    let used = || TOOLS.iter().filter(|tool| tool.is_used(verbs));
    let missing = || used().filter(|tool| situation.places.find(tool).is_none());
    let required: Vec<&Tool> = missing().filter(|tool| tool.is_required(verbs)).collect();
    let mut report = Report::default();
    if !required.is_empty() {
        install::install(&required, situation)?;
        report.installed.extend(required.iter().map(|tool| tool.name));
    }
    if optional {
        // One by one: a distribution that lacks one of them still gets the others.
        for tool in missing() {
            match install::install(&[tool], situation) {
                Ok(()) => report.installed.push(tool.name),
                Err(error) if exit_of(&error) == Exit::Interrupted => return Err(error),
                Err(error) => report.failed.push((tool, format!("{error:#}"))),
            }
        }
    }
    report.found = used().filter_map(|tool| Some((tool, situation.places.find(tool)?))).collect();
    report.optional_missing = missing().collect();
    Ok(report)
}

fn mention_optional(report: &Report) {
    for tool in &report.optional_missing {
        progress::note(&format!("setup: no {}: {} (`cargo xtask setup --all` installs it)", tool.name, tool.lost));
    }
}

#[cfg(test)]
mod tests;
