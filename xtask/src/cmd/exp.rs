//! `cargo xtask exp`: experiments from a hypothesis to a decision.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::exp::evidence::Records;
use crate::exp::open::{self, Hypothesis};
use crate::exp::run::{self, Options};
use crate::exp::{decide, export, reproduce, sides};
use crate::report::{exp as report, print_patch};
use crate::{git, interrupt, ledger, lock, progress, variants};
use anyhow::Result;
use model::decision::Verdict;
use model::experiment::State;
use model::ledger::event::{About, Prediction};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Runs experiments: a hypothesis, a patch, its gate, profile and comparison, and what was decided.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask exp open --hypothesis \"drain frees one chain at a time\" --technique evbuffer --predict evbuffer_drain=less
  cargo xtask exp attach 7 drain.patch --test-patch tests.patch
  cargo xtask exp run 7                     full gate, profile, comparison, decision; may be ended at any time
  cargo xtask exp run 7 --quick             a first look within minutes, which can never be accepted
  cargo xtask exp accept 7 --reason \"...\"   refused unless all evidence is there and holds
  cargo xtask exp reject 7 --reason \"...\" --non-starter
  cargo xtask exp reproduce 7               on any machine: does the recorded verdict hold here?
  cargo xtask exp export 7                  as mail, ready for a pull request

An experiment is named by its id, the beginning of it, or its number. Exit code of `run`: 0 accept, 2 reject, 3 park or
inconclusive, 4 the host or a tool failed. docs/EXPERIMENTS.md has the whole way.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Begin an experiment on today's tip
    Open {
        /// What should become faster, and why
        #[arg(long, value_name = "TEXT")]
        hypothesis: String,
        /// Technique or tier of playbook/program.md
        #[arg(long, value_name = "T")]
        technique: String,
        /// In a few words; part of the id [default: the first words of the hypothesis]
        #[arg(long, value_name = "TEXT")]
        title: Option<String>,
        /// What the profile should show, repeatable: SYMBOL=less (or -20%, of what it is), syscalls:NAME=less,
        /// instructions:SYMBOL=more. The direction confirms; whether half of the size was reached is told beside it
        #[arg(long = "predict", value_name = "SYMBOL=PCT", value_parser = open::prediction)]
        predictions: Vec<Prediction>,
        /// Experiment that it follows
        #[arg(long, value_name = "EXP")]
        follows: Option<String>,
        /// Who proposes it: a name or a role
        #[arg(long, value_name = "NAME")]
        author: Option<String>,
    },
    /// Give an experiment its patch, or another one
    Attach {
        exp: String,
        /// A patch file on the experiment's baseline, or the name of a variant
        patch: String,
        /// A second patch, of libevent's unit tests, never measured
        #[arg(long, value_name = "FILE")]
        test_patch: Option<PathBuf>,
        /// Why a patch that had its answer is gated and measured anew with other tests
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let an experiment go on from today's tip
    Rebase {
        exp: String,
        /// Its patch on that tip [default: the one that it has, if it applies]
        #[arg(long, value_name = "PATCH")]
        patch: Option<String>,
        /// The second patch, on that tip
        #[arg(long, value_name = "FILE")]
        test_patch: Option<PathBuf>,
    },
    /// Gate, profile, compare and decide; what is done is not done again
    Run {
        exp: String,
        #[command(flatten)]
        how: How,
    },
    /// Go on with a run that was ended, with its options; or, with --reason, take up again what was put aside or undecided
    Resume {
        exp: String,
        /// Why what was measured is not enough: gate and measurements are due anew
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Make the patch part of the tip; refused unless full gate, confirmed comparison and profile are there and hold
    Accept {
        exp: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// A person's word against the evidence: asked for on a terminal, recorded, and shown in every report
        #[arg(long)]
        force: bool,
    },
    /// Give an experiment up; an accepted patch goes out of the tip
    Reject {
        exp: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// The technique itself does not work: it goes to the known non-starters of playbook/program.md
        #[arg(long)]
        non_starter: bool,
    },
    /// Put an experiment aside
    Park {
        exp: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Explain, as a reviewer, what the figures alone do not: asked for on a terminal, recorded, and the decision is made anew
    Explain {
        exp: String,
        #[arg(long, value_enum)]
        about: AboutName,
        text: String,
        /// Who explains [default: the user]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Write down something that a reader should know
    Note { exp: String, text: String },
    /// Every experiment
    List,
    /// Everything about one experiment
    Show { exp: String },
    /// Its patch, as the two variants differ
    Diff { exp: String },
    /// What happened, entry by entry [default: to every experiment]
    Log { exp: Option<String> },
    /// Build both variants from the ledger, gate and measure them here, and say whether the recorded verdict holds
    Reproduce {
        exp: String,
        /// Write nothing into the ledger
        #[arg(long)]
        no_record: bool,
        #[command(flatten)]
        how: How,
    },
    /// Write an experiment as mail: message, measured results, how to test, the patch
    Export {
        exp: String,
        /// File to write [default: ID.mail]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Author [default: git's user.name and user.email]
        #[arg(long, value_name = "NAME <MAIL>")]
        author: Option<String>,
    },
}

/// How a run measures.
#[derive(clap::Args, Clone, Debug)]
struct How {
    /// A first look: a few tests, two workloads, little time; it can never be accepted
    #[arg(long, conflicts_with_all = ["workloads", "budget"])]
    quick: bool,
    /// Workloads besides the guarded ones; repeatable
    #[arg(long = "workload", value_name = "GLOB")]
    workloads: Vec<String>,
    /// Time for each workload, as for `compare`; guards that it leaves undecided get more [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = super::compare::budget)]
    budget: Option<Duration>,
}

impl How {
    /// The options, if any were given.
    fn given(&self) -> Option<Options> {
        let all = Options::default();
        let options = Options {
            quick: self.quick,
            workloads: self.workloads.clone(),
            budget_s: self.budget.map_or(all.budget_s, |budget| budget.as_secs_f64()),
        };
        (options != all).then_some(options)
    }
}

/// What an explanation is about, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum AboutName {
    /// The profile does not show what was predicted
    Profile,
    /// The gain is larger than one believes
    Suspicion,
    /// Lines of the patch that a reviewer should look at
    Screened,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.action {
        Action::List => {
            report::list(context, &ledger::read(context)?.1)?;
            Ok(Exit::Ok)
        }
        Action::Show { exp } => show(exp, context),
        Action::Diff { exp } => diff(exp, context),
        Action::Log { exp } => log(exp.as_deref(), context),
        Action::Export { exp, out, author } => mail(exp, out.as_deref(), author.as_deref(), context),
        Action::Run { exp, how } => run_one(exp, how, None, context),
        Action::Resume { exp, reason, how } => run_one(exp, how, Some(reason.as_deref()), context),
        Action::Reproduce { exp, no_record, how } => again(exp, how, !no_record, context),
        written => write(written, context),
    }
}

/// What only writes an entry: under the ledger's lock alone, so that it need not wait for a run of hours.
fn write(action: &Action, context: &Context) -> Result<Exit> {
    interrupt::install()?;
    let (done, id) = match action {
        Action::Open { hypothesis, technique, title, predictions, follows, author } => {
            for (option, text) in [("--hypothesis", hypothesis), ("--technique", technique)] {
                said(option, text)?;
            }
            let asked = Hypothesis {
                title: title.clone(),
                hypothesis: hypothesis.clone(),
                technique: technique.clone(),
                predictions: predictions.clone(),
                follows: follows.clone(),
                author: author.clone(),
            };
            ("open", open::open(context, &asked)?)
        }
        Action::Attach { exp, patch, test_patch, reason } => {
            ("attach", open::attach(context, exp, patch, test_patch.as_deref(), reason.as_deref())?)
        }
        Action::Rebase { exp, patch, test_patch } => {
            ("rebase", open::rebase(context, exp, patch.as_deref(), test_patch.as_deref())?)
        }
        Action::Accept { exp, reason, force } => {
            said("--reason", reason)?;
            ("accept", decide::accept(context, exp, reason, *force)?)
        }
        Action::Reject { exp, reason, non_starter } => {
            said("--reason", reason)?;
            let id = decide::reject(context, exp, reason, *non_starter)?;
            variants::discard::candidate_of(context, &id);
            ("reject", id)
        }
        Action::Park { exp, reason } => {
            said("--reason", reason)?;
            ("park", decide::park(context, exp, reason)?)
        }
        Action::Explain { exp, about, text, by } => {
            said("the explanation", text)?;
            let about = match about {
                AboutName::Profile => About::Profile,
                AboutName::Suspicion => About::Suspicion,
                AboutName::Screened => About::Screened,
            };
            ("explain", decide::explain(context, exp, about, text, by.as_deref())?)
        }
        Action::Note { exp, text } => {
            said("the note", text)?;
            ("note", decide::note(context, exp, text)?)
        }
        _ => anyhow::bail!("an action that writes an entry"),
    };
    let (state, commit) = rebuilt(context, &id)?;
    let text = format!("{id}: {}\ncommit {}\n", state.name(), commit.join(" "));
    report::answer(context, done, json!({ "id": id, "state": state, "commit": commit }), &text)?;
    Ok(Exit::Ok)
}

fn said(what: &str, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Err(failure(Exit::Usage, format!("{what} says nothing")));
    }
    Ok(())
}

/// Makes generated files what the ledger says; returns the state and what is to be committed.
fn rebuilt(context: &Context, id: &str) -> Result<(State, Vec<String>)> {
    let book = ledger::write(context)?;
    let changed = book.rebuild()?;
    let state = ledger::named(book.history(), id)?.state;
    Ok((state, open::to_commit(context, id, &changed)))
}

/// `resume`: the outer `Some`; its inner one is the reason for measuring anew.
fn run_one(exp: &str, how: &How, resume: Option<Option<&str>>, context: &Context) -> Result<Exit> {
    let _lock = lock::take(context, "exp run")?;
    interrupt::install()?;
    let experiment = run::current(context, exp)?;
    // A run that was killed behind its last entry has left them as they were.
    rebuilt(context, &experiment.id)?;
    let given = how.given();
    let under_way =
        experiment.decision.is_none() && matches!(experiment.state, State::Proposed | State::Gated | State::Measured);
    match resume {
        Some(Some(reason)) => {
            said("--reason", reason)?;
            // An attempt that could not be run to its end is none.
            run::refuse_unplannable(context, given.as_ref().unwrap_or(&Options::default()))?;
            open::reopen(context, &experiment.id, reason)?;
        }
        Some(None) if !under_way => {
            let message = format!(
                "{} is {} and has nothing to go on with; to measure it anew, with other seeds, say why with --reason",
                experiment.id,
                experiment.state.name()
            );
            return Err(failure(Exit::Usage, message));
        }
        // The command line of `run` says everything; that of `resume` may leave it to what was begun.
        None | Some(None) => {}
    }
    let given = if resume.is_none() { Some(given.unwrap_or_default()) } else { given };
    let ran = run::run(context, &experiment.id, given.as_ref())?;
    let (state, commit) = rebuilt(context, &experiment.id)?;
    let text = format!(
        "{} ({})\n\n{}\ncommit {}\n",
        experiment.id,
        state.name(),
        report::ran(&ran.decision, &ran.not_run),
        commit.join(" ")
    );
    let content = json!({
        "id": experiment.id, "state": state, "decision": ran.decision, "not_run": ran.not_run, "commit": commit,
    });
    report::answer(context, "run", content, &text)?;
    super::variant::bound(context);
    Ok(match ran.decision.verdict {
        Verdict::Accept => Exit::Ok,
        Verdict::Reject => Exit::Failed,
        Verdict::Park | Verdict::Inconclusive => Exit::Inconclusive,
        Verdict::InfraError => Exit::Infrastructure,
    })
}

fn again(exp: &str, how: &How, record: bool, context: &Context) -> Result<Exit> {
    let _lock = lock::take(context, "exp reproduce")?;
    interrupt::install()?;
    let experiment = run::current(context, exp)?;
    let options = match how.given() {
        Some(given) => given,
        None => reproduce::options_of(context, &experiment)?,
    };
    run::refuse_unplannable(context, &options)?;
    let again = reproduce::reproduce(context, &experiment.id, &options, record)?;
    let (state, commit) = rebuilt(context, &experiment.id)?;
    let commit_line = if record { format!("\ncommit {}\n", commit.join(" ")) } else { String::new() };
    let text = format!("{} ({})\n\n{}{commit_line}", experiment.id, state.name(), report::again(&again));
    let content = json!({
        "id": experiment.id, "holds": again.holds, "recorded": again.recorded, "here": again.here,
        "summary": again.summary, "not_run": again.not_run, "commit": if record { Some(commit) } else { None },
    });
    report::answer(context, "reproduce", content, &text)?;
    super::variant::bound(context);
    Ok(match again.holds {
        Some(true) => Exit::Ok,
        Some(false) => Exit::Failed,
        None => Exit::Inconclusive,
    })
}

fn show(exp: &str, context: &Context) -> Result<Exit> {
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, exp)?;
    let records = Records::of(context, &history, experiment)?;
    let content = json!({
        "experiment": report::value(&history, experiment), "gate": records.gate, "compare": records.compare,
        "profile": records.profile,
    });
    report::answer(context, "show", content, &report::show(&history, experiment, &records))?;
    Ok(Exit::Ok)
}

fn diff(exp: &str, context: &Context) -> Result<Exit> {
    let (_, history) = ledger::read(context)?;
    let experiment = ledger::named(&history, exp)?;
    let sides = sides::sides(context, &history, experiment)?;
    let text = git::Store::open(&context.work)?.diff(&sides.baseline.tree, &sides.candidate.tree)? + "\n";
    if !context.json {
        print_patch(&text)?;
        return Ok(Exit::Ok);
    }
    let content = json!({
        "id": experiment.id, "baseline": sides.baseline.id, "candidate": sides.candidate.id, "diff": text,
    });
    report::answer(context, "diff", content, &text)?;
    Ok(Exit::Ok)
}

fn log(exp: Option<&str>, context: &Context) -> Result<Exit> {
    let (_, history) = ledger::read(context)?;
    let experiments = match exp {
        Some(exp) => vec![ledger::named(&history, exp)?],
        None => history.experiments.values().collect(),
    };
    let mut lines = Vec::new();
    for experiment in experiments {
        lines.extend(experiment.steps.iter().map(|step| (step, &experiment.id)));
    }
    lines.sort_by_key(|(step, _)| step.sequence);
    let entries: Vec<_> = lines
        .iter()
        .map(|(step, id)| {
            json!({
                "sequence": step.sequence, "hash": step.hash, "time": step.time, "clock_set_back": step.clock_set_back,
                "host": step.host, "experiment": id, "kind": step.kind, "what": step.what,
            })
        })
        .collect();
    let text = |(step, id): &(&model::ledger::history::Step, &String)| {
        let clock = if step.clock_set_back { " (clock set back)" } else { "" };
        format!("{:4} {}{clock} {id} {}: {}\n", step.sequence, step.time, step.kind, step.what)
    };
    let text: String = lines.iter().map(text).collect();
    report::answer(context, "log", json!({ "entries": entries }), &text)?;
    Ok(Exit::Ok)
}

fn mail(exp: &str, out: Option<&std::path::Path>, author: Option<&str>, context: &Context) -> Result<Exit> {
    let _lock = lock::take(context, "exp export")?;
    let exported = export::export(context, exp, out, author)?;
    exported.notes.iter().for_each(|note| progress::note(note));
    let mut text = format!("{}\n{}\n", exported.path.display(), exported.style.described());
    if let crate::exp::style::Style::Differs { diff } = &exported.style {
        text.push_str(diff);
    }
    let content = json!({ "path": exported.path, "style": exported.style, "notes": exported.notes });
    report::answer(context, "export", content, &text)?;
    Ok(Exit::Ok)
}
