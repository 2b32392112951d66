//! `cargo xtask tip`: pristine plus the accepted patches.

use crate::build;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::report;
use crate::setup::{self, Verb};
use crate::tip::{self, Derived};
use crate::{host, interrupt, ledger, lock, source};
use anyhow::Result;
use model::host::HostFingerprint;
use model::ledger::event::{Event, TipRef};
use model::ledger::history::{AcceptedPatch, History};
use model::variant::{Build, Purpose};
use serde::Serialize;

/// Shows the tip: pristine plus the accepted patches in order, and its commit, the same on every machine.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask tip                       its patches and its commit, derived here and held against the ledger
  cargo xtask tip --without EXP-0003    what it would be without that patch, or why that cannot be
  cargo xtask tip build                 builds it as it is measured
  cargo xtask tip --record              after a merge of two branches that both accepted patches: writes its commit down

Exit code 2: a patch does not apply; 5: the commit derived here is not the recorded one, or a patch is not the accepted one.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    /// As it would be without this experiment's patch; nothing is changed
    #[arg(long, value_name = "EXP")]
    pub(crate) without: Option<String>,
    /// Write the commit into the ledger, where a merge of two branches left none
    #[arg(long, conflicts_with = "without")]
    pub(crate) record: bool,
}

/// What to do besides.
#[derive(clap::Subcommand, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Build it
    Build,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostFingerprint,
    partial: bool,
    /// Variant id.
    variant: &'a str,
    /// Git tree hash.
    tree: &'a str,
    commit: &'a str,
    /// Commit that the ledger has; null where it has none.
    recorded_commit: Option<&'a str>,
    source: &'a str,
    /// Experiment that was left out.
    without: Option<&'a str>,
    patches: Vec<Patch<'a>>,
    build: Option<&'a Build>,
    build_folder: Option<String>,
}

#[derive(Serialize)]
struct Patch<'a> {
    experiment: &'a str,
    path: &'a str,
    sha256: &'a str,
    forced: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    if args.action == Some(Action::Build) {
        setup::ensure(Verb::Bench, context)?;
    }
    interrupt::install()?;
    let _lock = lock::take(context, "tip")?;
    let source = source::resolve(context, None)?;
    let (_, history) = ledger::read(context)?;
    let without =
        args.without.as_ref().map(|text| ledger::named(&history, text)).transpose()?.map(|one| one.id.clone());
    let derived = match &without {
        Some(id) => tip::without(context, &source, &history, id)?,
        None => tip::derive(context, &source, &history)?,
    };
    let recorded = without.is_none().then(|| history.tip.clone()).flatten();
    if let Some(recorded) = &recorded {
        same(&derived, recorded)?;
    }
    if args.record {
        record(context, &derived, &history)?;
    }
    let recorded = if args.record { Some(derived.reference.clone()) } else { recorded };
    let build = match args.action {
        Some(Action::Build) => Some(build::build(context, &derived.variant, Purpose::Measure)?),
        None => None,
    };
    deliver(context, &derived, recorded.as_ref(), &history, without.as_deref(), build.as_ref())?;
    Ok(Exit::Ok)
}

/// A tip that comes out otherwise than when it was accepted is no tip.
fn same(derived: &Derived, recorded: &TipRef) -> Result<()> {
    if derived.reference == *recorded {
        return Ok(());
    }
    let what = if derived.reference.source_tree == recorded.source_tree {
        format!("its commit is {}, and the ledger recorded {}", derived.reference.commit, recorded.commit)
    } else {
        format!(
            "patches were accepted on source tree {}, and the pin is {}",
            recorded.source_tree, derived.reference.source_tree
        )
    };
    Err(failure(Exit::Tampering, format!("the tip is not the one that was accepted: {what}")))
}

/// Writes the commit down where there is none. What is there already is the same, or this is not reached.
fn record(context: &Context, derived: &Derived, history: &History) -> Result<()> {
    if history.tip.as_ref() == Some(&derived.reference) || history.series.is_empty() {
        crate::progress::note("tip: the ledger has its commit already");
        return Ok(());
    }
    let mut book = ledger::write(context)?;
    if book.history().series != history.series {
        return Err(failure(Exit::Locked, "another process changed the tip meanwhile; run the same command again"));
    }
    book.append_at_large(Event::TipDerived(derived.reference.clone()))?;
    book.rebuild()?;
    Ok(())
}

fn deliver(
    context: &Context,
    derived: &Derived,
    recorded: Option<&TipRef>,
    history: &History,
    without: Option<&str>,
    build: Option<&Build>,
) -> Result<()> {
    let accepted = history.accepted();
    let shown: Vec<&AcceptedPatch> =
        accepted.iter().filter(|patch| Some(patch.experiment.as_str()) != without).collect();
    if context.json {
        let document = Document {
            schema: "tip/1",
            host: host::fingerprint(),
            partial: false,
            variant: &derived.variant.id,
            tree: &derived.variant.tree,
            commit: &derived.variant.commit,
            recorded_commit: recorded.map(|tip| tip.commit.as_str()),
            source: &derived.variant.source.tree,
            without,
            patches: shown
                .iter()
                .map(|patch| Patch {
                    experiment: &patch.experiment,
                    path: &patch.path,
                    sha256: &patch.sha256,
                    forced: patch.forced,
                })
                .collect(),
            build,
            build_folder: build.map(|build| build.folder.display().to_string()),
        };
        return report::print(&(serde_json::to_string(&document)? + "\n"));
    }
    let variant = &derived.variant;
    let mut text = match without {
        Some(id) => format!("the tip without {id} would be:\n"),
        None => String::new(),
    };
    text.push_str(&format!("pristine {} (tree {:.12})\n", variant.source.label, variant.source.tree));
    for patch in shown {
        let forced = if patch.forced { "  FORCED" } else { "" };
        text.push_str(&format!("+ {}  {:.12}{forced}\n", patch.path, patch.sha256));
    }
    text.push_str(&format!("commit {}, tree {:.12}, variant {}\n", variant.commit, variant.tree, variant.id));
    text.push_str(match (recorded, history.series.is_empty()) {
        (Some(_), _) => "the ledger has the same commit\n",
        (None, true) => "no patch is accepted\n",
        (None, false) if without.is_some() => "nothing was changed\n",
        (None, false) => "the ledger has no commit of this tip since two branches were merged; `cargo xtask tip --record` writes it down\n",
    });
    if let Some(build) = build {
        text.push_str(&format!("build {} in {}\n", build.id, build.folder.display()));
    }
    report::print(&text)
}
