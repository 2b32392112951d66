//! An experiment's README.md, from experiments/TEMPLATE.md.

use super::{cell, gain, state};
use anyhow::{Context as _, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value};
use model::decision::Shift;
use model::experiment::layout;
use model::ledger::event::{Attached, ChangeRef, Event, Explained, Forced, Prediction};
use model::ledger::history::{Experiment, History, Step};
use serde::Serialize;

/// The template, read once.
pub(super) struct Template<'a> {
    environment: Environment<'a>,
}

/// What the template can name.
#[derive(Serialize)]
struct Page<'a> {
    id: &'a str,
    title: &'a str,
    hypothesis: &'a str,
    technique: &'a str,
    author: Option<&'a str>,
    follows: Option<&'a str>,
    predictions: Vec<Predicted<'a>>,
    opened_at: &'a str,
    state: String,
    attempt: u32,
    base: Base,
    patch: Option<&'a Attached>,
    gate: Option<Gate<'a>>,
    changes: Vec<Change<'a>>,
    gain: String,
    verdict: Option<&'static str>,
    reasons: Vec<Reason<'a>>,
    explained: &'a [Explained],
    reason: Option<&'a str>,
    forced: Option<&'a Forced>,
    rebase: Option<String>,
    reproduced: Vec<Again<'a>>,
    steps: Vec<Line<'a>>,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct Predicted<'a> {
    #[serde(flatten)]
    prediction: &'a Prediction,
    /// What became of its size, once it is profiled.
    of_size: Option<String>,
}

#[derive(Serialize)]
struct Base {
    commit: String,
    patches: usize,
}

#[derive(Serialize)]
struct Gate<'a> {
    said: String,
    record: &'a str,
    tests_changed: &'a [String],
}

#[derive(Serialize)]
struct Change<'a> {
    workload: &'a str,
    verdict: &'a str,
    change: String,
    interval: String,
}

#[derive(Serialize)]
struct Reason<'a> {
    allows: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct Again<'a> {
    holds: &'static str,
    verdict: &'static str,
    summary: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    sequence: u64,
    time: String,
    host: &'a str,
    kind: &'static str,
    what: &'a str,
    hash: String,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    sha256: String,
}

impl<'a> Template<'a> {
    /// A word that the template has and no experiment knows is an error, not an empty place.
    pub(super) fn parse(text: &'a str) -> Result<Template<'a>> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.context("the syntax of templates")?);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("cell", |text: String| cell(&text));
        environment.add_template("experiment", text).with_context(|| layout::TEMPLATE.to_owned())?;
        Ok(Template { environment })
    }

    /// The page of one experiment.
    pub(super) fn page(&self, history: &History, experiment: &Experiment) -> Result<String> {
        let values = Value::from(Serde(page(history, experiment)));
        let template = self.environment.get_template("experiment")?;
        template.render(values).with_context(|| format!("{}: {}", layout::TEMPLATE, experiment.id))
    }
}

fn page<'a>(history: &History, experiment: &'a Experiment) -> Page<'a> {
    let decision = experiment.decision.as_ref();
    let reasons = decision.iter().flat_map(|decision| &decision.reasons);
    let changes = experiment.measured.iter().flat_map(|measured| &measured.changes);
    let gate = experiment.gated.as_ref().map(|gated| Gate {
        said: Event::Gated(gated.clone()).in_short(),
        record: &gated.record.path,
        tests_changed: &gated.tests_changed,
    });
    Page {
        id: &experiment.id,
        title: &experiment.title,
        hypothesis: &experiment.hypothesis,
        technique: &experiment.technique,
        author: experiment.author.as_deref(),
        follows: experiment.follows.as_deref(),
        predictions: experiment.predictions.iter().map(|one| predicted(experiment, one)).collect(),
        opened_at: &experiment.opened_at,
        state: state(history, experiment),
        attempt: experiment.attempt,
        base: Base { commit: format!("{:.12}", experiment.base.commit), patches: experiment.base.patches.len() },
        patch: experiment.attached.as_ref(),
        gate,
        changes: changes.map(change).collect(),
        gain: gain(experiment),
        verdict: decision.map(|decision| decision.verdict.name()),
        reasons: reasons.map(|reason| Reason { allows: reason.allows.name(), text: &reason.text }).collect(),
        explained: &experiment.explained,
        reason: experiment.reason.as_deref(),
        forced: experiment.forced(),
        rebase: history.needs_rebase(experiment),
        reproduced: experiment.reproduced.iter().map(again).collect(),
        steps: experiment.steps.iter().map(line).collect(),
        files: experiment.files.iter().map(|(path, sha256)| File { path, sha256: format!("{sha256:.16}") }).collect(),
    }
}

fn predicted<'a>(experiment: &Experiment, prediction: &'a Prediction) -> Predicted<'a> {
    let mut shifts = experiment.profiled.iter().flat_map(|profiled| &profiled.shifts);
    let found = shifts.find(|shift| shift.prediction == *prediction).and_then(Shift::of_size);
    let asked = || prediction.size_pct.map(|pct| format!("{pct:+}% of it is predicted"));
    Predicted { prediction, of_size: found.or_else(asked) }
}

fn change(change: &ChangeRef) -> Change<'_> {
    let unknown = || "-".to_owned();
    Change {
        workload: &change.workload,
        verdict: change.verdict.as_deref().unwrap_or("error"),
        change: change.relative_change_pct.map_or_else(unknown, |pct| format!("{pct:+.2}%")),
        interval: change.interval_pct.map_or_else(unknown, |[low, high]| format!("[{low:+.2}%, {high:+.2}%]")),
    }
}

fn again(again: &model::ledger::event::Reproduced) -> Again<'_> {
    let holds = match again.holds {
        Some(true) => "the verdict holds",
        Some(false) => "the verdict does not hold",
        None => "no answer",
    };
    Again { holds, verdict: again.decision.verdict.name(), summary: &again.summary }
}

fn line(step: &Step) -> Line<'_> {
    let clock = if step.clock_set_back { " (clock set back)" } else { "" };
    let time = format!("{}{clock}", step.time);
    let hash = format!("{:.12}", step.hash);
    Line { sequence: step.sequence, time, host: &step.host, kind: step.kind, what: &step.what, hash }
}
