//! libevent's own style script, `checkpatch.sh`, over a patch: in the sandbox, where its tools are there.

use crate::context::Context;
use crate::setup::Places;
use crate::{process, sandbox, variant};
use anyhow::{Context as _, Result};
use model::variant::Variant;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The script, and what it reads its rules from.
const SCRIPT: &str = "checkpatch.sh";
const RULES: &str = ".clang-format";
/// What the script starts for a patch.
const TOOLS: &[&str] = &["bash", "clang-format-diff", "less", "sed"];

/// What the script says of a patch.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum Style {
    /// It finds nothing.
    Clean,
    /// What it would write otherwise, as a diff.
    Differs {
        /// The diff.
        diff: String,
    },
    /// It did not run: never clean.
    NotChecked {
        /// Why.
        why: String,
    },
}

/// Checks the patch that made `candidate`, in its worktree: the formatter reads the lines there that the patch names, and finds
/// nothing at all where the patch is not applied.
pub(crate) fn check(context: &Context, candidate: &Variant, patch: &Path) -> Result<Style> {
    let not = |why: String| Ok(Style::NotChecked { why });
    let source = variant::checkout(context, candidate, None)?;
    if let Some(missing) = [SCRIPT, RULES].iter().find(|name| !source.join(name).is_file()) {
        return not(format!("{} has no {missing}", candidate.source.label));
    }
    let places = Places::here();
    let missing: Vec<&str> = TOOLS.iter().copied().filter(|tool| places.program(tool).is_none()).collect();
    if !missing.is_empty() {
        return not(format!("its {SCRIPT} needs {}, which this host does not have", missing.join(", ")));
    }
    let scratch = context.scratch("style-")?;
    let place = scratch.path().join("place");
    // The formatter may be somewhere that the sandbox does not show by itself.
    let tools = TOOLS.iter().filter_map(|tool| Some(places.program(tool)?.parent()?.to_owned()));
    let tools: Vec<PathBuf> = tools.filter(|folder| folder.components().count() > 2).collect();
    let readable: Vec<&Path> =
        [source.as_path(), patch].into_iter().chain(tools.iter().map(PathBuf::as_path)).collect();
    let mut command = sandbox::build_tool("bash", &readable, &place)?;
    command.arg(source.join(SCRIPT)).arg("-p").arg(patch).current_dir(&source).env("LESS", "").env("TERM", "dumb");
    let got = process::capture(&mut command, Duration::from_secs(60)).context("libevent's style script")?;
    if !got.status.success() {
        return not(format!("its {SCRIPT} ended with {}: {}", got.status, process::excerpt(got.stderr.trim())));
    }
    // A formatter that cannot read its rules says so and prints nothing: that is no clean patch.
    if got.stdout.trim().is_empty() && !got.stderr.trim().is_empty() {
        return not(format!("its {SCRIPT} says: {}", process::excerpt(got.stderr.trim())));
    }
    Ok(if got.stdout.trim().is_empty() { Style::Clean } else { Style::Differs { diff: got.stdout } })
}

impl Style {
    /// In a sentence.
    pub(crate) fn described(&self) -> String {
        match self {
            Style::Clean => format!("style: libevent's {SCRIPT} has nothing to say"),
            Style::Differs { diff } => {
                let hunks = diff.lines().filter(|line| line.starts_with("@@")).count();
                format!("style: libevent's {SCRIPT} would write {hunks} places otherwise")
            }
            Style::NotChecked { why } => format!("style: not checked: {why}"),
        }
    }
}
