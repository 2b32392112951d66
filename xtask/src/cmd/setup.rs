//! `cargo xtask setup`: tools and libevent's source, found or fetched.

use crate::context::Context;
use crate::exit::Exit;
use crate::setup::{self, Report};
use crate::{host, interrupt, lock, report, source};
use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use model::host::HostFingerprint;
use serde::Serialize;

/// Prepares this machine: installs missing tools and fills libevent's source.
///
/// Every verb does this for itself when needed; a second run finds nothing to do.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask setup            what bench and test cannot do without
  cargo xtask setup --all      what later verbs need and what is optional, too")]
pub(crate) struct Args {
    /// Also what only later verbs need, and what all of them can do without.
    #[arg(long)]
    all: bool,
}

/// The answer of `--json`.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    host: HostFingerprint,
    /// Something that was asked for could not be had.
    partial: bool,
    /// Anything was installed or filled.
    changed: bool,
    tools: Vec<Line>,
    source: source::Filled,
}

/// One tool of the summary.
#[derive(Serialize)]
struct Line {
    name: &'static str,
    /// `found`, `installed`, `missing` or `failed`.
    status: &'static str,
    path: Option<std::path::PathBuf>,
    version: Option<String>,
    /// What is lost without it, where it is not here.
    lost: Option<&'static str>,
    error: Option<String>,
}

/// Exit code 4 if something that was asked for cannot be had.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    interrupt::install()?;
    let verbs = if args.all { setup::ALL } else { setup::TODAY };
    let _lock = lock::take(context, "setup")?;
    let found = setup::ensure_all(verbs, args.all, context)?;
    let source = source::ensure_pinned(context)?;
    let document = Document {
        schema: "setup/1",
        host: host::fingerprint(),
        partial: !found.failed.is_empty(),
        changed: !found.installed.is_empty() || source.how.starts_with("filled"),
        tools: lines(&found),
        source,
    };
    if context.json {
        report::print(&(serde_json::to_string_pretty(&document)? + "\n"))?;
    } else {
        report::print(&text(&document))?;
    }
    Ok(if document.partial { Exit::Infrastructure } else { Exit::Ok })
}

fn lines(report: &Report) -> Vec<Line> {
    let here = report.found.iter().map(|(tool, path)| Line {
        name: tool.name,
        status: if report.installed.contains(&tool.name) { "installed" } else { "found" },
        version: setup::version(tool, path),
        path: Some(path.clone()),
        lost: None,
        error: None,
    });
    let absent = report.optional_missing.iter().map(|tool| {
        let error = report.failed.iter().find(|(failed, _)| failed.name == tool.name).map(|(_, why)| why.clone());
        let status = if error.is_some() { "failed" } else { "missing" };
        Line { name: tool.name, status, path: None, version: None, lost: Some(tool.lost), error }
    });
    here.chain(absent).collect()
}

fn text(document: &Document) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["tool", "version", "", "where"]);
    for line in &document.tools {
        let path = line.path.as_ref().map(|path| path.display().to_string());
        let place = path.as_deref().or(line.lost).unwrap_or("");
        table.add_row([line.name, line.version.as_deref().unwrap_or("-"), line.status, place]);
    }
    let source = &document.source;
    table.add_row(["libevent", &source.source.label, source.how, &source.source.tree]);
    let mut text = format!("{table}\n");
    for (line, error) in document.tools.iter().filter_map(|line| Some((line, line.error.as_ref()?))) {
        text += &format!("\n{} was not installed: {error}\n", line.name);
    }
    if document.tools.iter().any(|line| line.status == "missing") {
        text += "what is missing is optional; `cargo xtask setup --all` installs it\n";
    }
    if !document.changed && !document.partial {
        text += "nothing was to do\n";
    }
    text
}
