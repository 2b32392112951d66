//! `cargo xtask tip`: pristine plus the accepted patches.

use crate::build;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::exp::gate_step::{self, Gate};
use crate::exp::{open, sides};
use crate::report;
use crate::setup::{self, Verb};
use crate::tip::{self, Derived};
use crate::{host, interrupt, ledger, lock, source};
use anyhow::Result;
use model::experiment::layout;
use model::gate::{Tier, Verdict, VerifyRecord};
use model::host::HostFingerprint;
use model::ledger::event::{Event, TipDerived, TipGate, TipRef};
use model::ledger::history::{AcceptedPatch, History};
use model::variant::{Build, Purpose};
use serde::Serialize;
use std::collections::BTreeMap;

/// Shows the tip: pristine plus the accepted patches in order, and its commit, the same on every machine.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask tip                       its patches and its commit, derived here and held against the ledger
  cargo xtask tip --without EXP-0003    what it would be without that patch, or why that cannot be
  cargo xtask tip build                 builds it as it is measured
  cargo xtask tip --record              after a merge of two branches that both accepted patches, or a rejection under later
                                        ones: gates what is accepted, in full, and writes its commit down; nothing starts
                                        from it before

Exit code 2: a patch does not apply, or the gate failed; 5: the commit derived here is not the recorded one, or a patch is not the accepted one.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
    /// As it would be without this experiment's patch; nothing is changed
    #[arg(long, value_name = "EXP")]
    pub(crate) without: Option<String>,
    /// Run the full gate, and write the commit into the ledger, where a merge or a rejection left none
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

/// Derives the tip anew and holds its commit against the ledger's. Where no patch is accepted there is nothing to hold, and where
/// libevent's source cannot be had, that is said.
pub(crate) fn verify(context: &Context) -> Result<()> {
    let (_, history) = ledger::read(context)?;
    let Some(recorded) = history.tip.as_ref().filter(|_| !history.series.is_empty()) else { return Ok(()) };
    let derived = match source::resolve(context, None).and_then(|source| tip::derive(context, &source, &history)) {
        Ok(derived) => derived,
        Err(error) if exit_of(&error) == Exit::Infrastructure => {
            crate::progress::note(&format!("the tip was not derived, and its commit not checked: {error:#}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    same(&derived, recorded)
}

/// Writes the commit down where there is none. What is there already is the same, or this is not reached.
fn record(context: &Context, derived: &Derived, history: &History) -> Result<()> {
    if history.tip.as_ref() == Some(&derived.reference) || history.series.is_empty() {
        crate::progress::note("tip: the ledger has its commit already");
        return Ok(());
    }
    crate::progress::note(
        "tip: each patch passed the gate on the tip that it was made on; the full gate of all of them together",
    );
    let tests_of_tip = sides::tests_of(context, history, &derived.reference.patches)?;
    let candidate = &derived.variant;
    let attempt = format!("tip {}", derived.reference.commit);
    let gate = Gate { candidate, test_patch: None, tests_of_tip: &tests_of_tip, quick: false, attempt: &attempt };
    let (step, kept, record) = gate_step::gate(context, &gate)?;
    passed(&record, &candidate.id)?;
    let record_sha256 = kept.sha256(gate_step::RECORD)?.to_owned();
    let folder = TipDerived::folder(&derived.reference, &record_sha256);
    let experiments = context.root.join(layout::EXPERIMENTS);
    // Its name has the record's hash: what is there already is the same record, or no record of ours.
    let recorded = BTreeMap::from([(format!("{folder}/{}", gate_step::RECORD), record_sha256.clone())]);
    step.publish(&kept, &experiments, &folder, &recorded)?;
    let mut book = ledger::write(context)?;
    if book.history().series != history.series {
        return Err(failure(Exit::Locked, "another process changed the tip meanwhile; run the same command again"));
    }
    let gate = TipGate {
        variant: candidate.id.clone(),
        tier: record.tier,
        verdict: record.verdict,
        run: record.head.id,
        record_sha256,
        has_own_folder: true,
    };
    book.append_at_large(Event::TipDerived(TipDerived { tip: derived.reference.clone(), gate }))?;
    let rebuilt = book.rebuild()?;
    crate::progress::note(&format!("tip: commit {}", open::to_commit(context, &folder, &rebuilt).join(" ")));
    Ok(())
}

/// Fails unless a gate is a whole one of this variant, and passed.
fn passed(record: &VerifyRecord, variant: &str) -> Result<()> {
    let is_of_it = record.variant.as_deref() == Some(variant);
    let is_whole = record.tier == Tier::Full && !record.head.partial && record.rerun_of.is_none();
    let named = |wanted: Verdict| {
        let stages = record.stages.iter().filter(|stage| stage.verdict == wanted);
        stages.map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (failed, not_run) = (named(Verdict::Fail), named(Verdict::NotRun));
    let (exit, why) = match (failed.is_empty(), not_run.is_empty()) {
        (false, _) => (Exit::Failed, format!("the gate failed ({failed})")),
        (true, false) => (Exit::Infrastructure, format!("the gate could not run all of its stages ({not_run})")),
        (true, true) if is_of_it && is_whole && record.verdict == Verdict::Pass => return Ok(()),
        (true, true) => (Exit::Infrastructure, "it was no whole gate of the tip".to_owned()),
    };
    let message = format!(
        "the tip is not recorded: {why}. The accepted patches do not go together as they are: reject one of them, and make it \
         anew as an experiment on the tip that is left"
    );
    let message = if exit == Exit::Failed { message } else { format!("the tip is not recorded: {why}; try again") };
    Err(failure(exit, message))
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
        (None, false) => "the ledger has no commit of this tip: nobody has gated it; `cargo xtask tip --record` does and writes it down\n",
    });
    if let Some(build) = build {
        text.push_str(&format!("build {} in {}\n", build.id, build.folder.display()));
    }
    report::print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::gate::StageRecord;

    fn record() -> VerifyRecord {
        serde_json::from_value(serde_json::json!({
            "schema": "verify/1", "host": HostFingerprint::default().sealed(), "partial": false, "id": "run",
            "started_at": "", "finished_at": "", "command": [], "asked": "tip", "variant": "abc", "pristine": "p",
            "tier": "full", "verdict": "pass", "rerun_of": null, "test_patch": null,
            "stages": [StageRecord::plain("epoll")], "mutants": [], "seconds": 1.0, "pristine_seconds": 0.0,
            "sandbox": "complete", "notes": [],
        }))
        .unwrap()
    }

    #[test]
    fn only_a_whole_gate_of_the_tip_that_passed_records_it() {
        passed(&record(), "abc").unwrap();
        let of = |change: fn(&mut VerifyRecord)| {
            let mut record = record();
            change(&mut record);
            exit_of(&passed(&record, "abc").unwrap_err())
        };
        assert_eq!(of(|r| r.variant = Some("other".into())), Exit::Infrastructure);
        assert_eq!(of(|r| r.tier = Tier::Light), Exit::Infrastructure);
        assert_eq!(of(|r| r.head.partial = true), Exit::Infrastructure);
        assert_eq!(of(|r| r.rerun_of = Some("quick".into())), Exit::Infrastructure);
        assert_eq!(of(|r| r.verdict = Verdict::Fail), Exit::Infrastructure, "without a stage that failed");
        assert_eq!(of(|r| r.stages.push(StageRecord::not_run("thread", "no sanitizer"))), Exit::Infrastructure);
        assert_eq!(of(|r| r.stages.push(StageRecord::failed("poll", "x"))), Exit::Failed);
    }
}
