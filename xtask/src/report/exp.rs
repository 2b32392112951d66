//! What `exp` prints.

use super::format::{UNKNOWN, figure, interval, percent2};
use super::print;
use super::table::{Style, draw};
use crate::context::Context;
use crate::exp::evidence::Records;
use crate::exp::export::wrapped;
use crate::exp::reproduce::Again;
use crate::host;
use anyhow::Result;
use model::compare::{CompareRecord, Compared};
use model::decision::{Decision, Verdict};
use model::gate::{self, VerifyRecord};
use model::host::HostFingerprint;
use model::ledger::event::{Direction, Prediction, Quantity};
use model::ledger::history::{Experiment, History};
use serde::Serialize;
use serde_json::{Value, json};

/// One document with what every document has.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    host: HostFingerprint,
    partial: bool,
    action: &'a str,
    #[serde(flatten)]
    content: Value,
}

/// Prints a document, or a text for people.
pub(crate) fn answer(context: &Context, action: &str, content: Value, text: &str) -> Result<()> {
    if !context.json {
        return print(text);
    }
    let document = Document { schema: "exp/1", host: host::fingerprint(), partial: false, action, content };
    print(&(serde_json::to_string(&document)? + "\n"))
}

/// An experiment as documents have it.
pub(crate) fn value(history: &History, experiment: &Experiment) -> Value {
    let attempts = history.attempts(experiment);
    json!({
        "id": experiment.id, "title": experiment.title, "state": experiment.state, "hypothesis": experiment.hypothesis,
        "technique": experiment.technique, "predictions": experiment.predictions, "follows": experiment.follows,
        "author": experiment.author, "opened_at": experiment.opened_at, "changed_at": experiment.changed_at(),
        "attempt": experiment.attempt, "attempt_of_patch": attempts.here, "attempts": attempts, "base": experiment.base,
        "patch": experiment.attached, "begun": experiment.begun,
        "gate": experiment.gated, "profile": experiment.profiled, "comparison": experiment.measured,
        "explained": experiment.explained, "decision": experiment.decision, "acceptance": experiment.acceptance,
        "reason": experiment.reason, "reproduced": experiment.reproduced, "files": experiment.files,
        "needs_rebase": history.needs_rebase(experiment), "disputed": experiment.dispute.is_some(),
    })
}

/// Every experiment in a line.
pub(crate) fn list(context: &Context, history: &History) -> Result<()> {
    let all: Vec<&Experiment> = history.experiments.values().collect();
    let values: Vec<Value> = all.iter().map(|experiment| value(history, experiment)).collect();
    let rows = all.iter().map(|experiment| {
        let forced = if experiment.forced().is_some() { " FORCED" } else { "" };
        let rebase = if history.needs_rebase(experiment).is_some() { " (to rebase)" } else { "" };
        vec![
            experiment.id.clone(),
            format!("{}{forced}{rebase}", experiment.state.name()),
            experiment.decision.as_ref().map_or(UNKNOWN.to_owned(), |decision| decision.verdict.name().to_owned()),
            best(experiment),
            experiment.technique.clone(),
            experiment.changed_at().to_owned(),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut text = draw(&["id", "state", "verdict", "best change", "technique", "changed"], rows, Style::Terminal);
    if all.is_empty() {
        text =
            "no experiments yet; `cargo xtask exp open --hypothesis \"...\" --technique ...` begins one\n".to_owned();
    }
    answer(context, "list", json!({ "experiments": values }), &text)
}

/// The largest gain, or, without one, the largest loss.
fn best(experiment: &Experiment) -> String {
    let Some(measured) = &experiment.measured else { return UNKNOWN.to_owned() };
    let changed = measured
        .changes
        .iter()
        .filter(|change| change.verdict.as_deref() == Some("faster") || change.verdict.as_deref() == Some("slower"));
    let sizes = changed.filter_map(|change| Some((change.relative_change_pct?, &change.workload)));
    let found = sizes.min_by(|one, other| one.0.total_cmp(&other.0));
    found.map_or("no change".to_owned(), |(pct, workload)| format!("{} {workload}", percent2(pct)))
}

/// Everything about one experiment.
pub(crate) fn show(history: &History, experiment: &Experiment, records: &Records) -> String {
    let mut text = format!("{}\n\n{}", experiment.id, wrapped(&experiment.hypothesis));
    let forced = experiment.forced().map_or(String::new(), |force| format!(", FORCED by {}", force.by));
    text.push_str(&format!("\nstate      {}{forced}\n", experiment.state.name()));
    if experiment.attempt > 0 {
        let said = history.attempts(experiment).said();
        text.push_str(&format!("attempt    {}; {said}\n", experiment.attempt));
    }
    text.push_str(&format!("technique  {}\n", experiment.technique));
    experiment.follows.iter().for_each(|follows| text.push_str(&format!("follows    {follows}\n")));
    for prediction in &experiment.predictions {
        text.push_str(&format!("predicts   {}\n", predicted(prediction)));
    }
    let base = match experiment.base.patches.len() {
        0 => "pristine".to_owned(),
        n => format!("tip of {n} accepted patches"),
    };
    text.push_str(&format!("baseline   {base}, commit {:.12}\n", experiment.base.commit));
    history.needs_rebase(experiment).iter().for_each(|why| text.push_str(&format!("STALE      {why}\n")));
    if experiment.dispute.is_some() {
        text.push_str("DISPUTED   two branches went on with it, and not in the same way\n");
    }
    if let Some(attached) = &experiment.attached {
        text.push_str(&format!("patch      {} (variant {})\n", attached.patch.path, attached.variant));
        attached.test_patch.iter().for_each(|patch| text.push_str(&format!("tests      {}\n", patch.path)));
        attached.screened.iter().for_each(|line| text.push_str(&format!("review     {line}\n")));
    }
    experiment.reason.iter().for_each(|reason| text.push_str(&format!("reason     {reason}\n")));
    if let Some(force) = experiment.acceptance.as_ref().and_then(|acceptance| acceptance.force()) {
        force.against.iter().for_each(|against| text.push_str(&format!("against    {against}\n")));
    }
    text.push_str("\nCorrectness\n\n");
    text.push_str(&gated(records));
    text.push_str("\nMeasured\n\n");
    text.push_str(&measured(records));
    text.push_str("\nProfile\n\n");
    text.push_str(&match &records.profile {
        None => "not run\n".to_owned(),
        Some(profile) if profile.shifts.is_empty() => "run; nothing was predicted\n".to_owned(),
        Some(profile) => profile.shifts.iter().map(shift).collect(),
    });
    let missing = experiment.profiled.iter().flat_map(|profiled| &profiled.missing);
    // Only an attempt that is not decided goes on: another one profiles everything anyway.
    let anew = if experiment.decision.is_none() { ", the next run profiles anew" } else { "" };
    missing.for_each(|why| text.push_str(&format!("missing{anew}: {why}\n")));
    for explained in &experiment.explained {
        text.push_str(&format!("{} explains: {}\n", explained.by, explained.text));
    }
    if let Some(decision) = &experiment.decision {
        text.push_str(&format!("\n{}", decided(decision)));
    }
    for again in &experiment.reproduced {
        text.push_str(&format!("\nreproduced: {}\n", again.summary));
    }
    text
}

/// A prediction as it is typed.
fn predicted(prediction: &Prediction) -> String {
    let what = match prediction.quantity {
        Quantity::SelfSharePct => "self share",
        Quantity::SyscallsPerEvent => "system calls per event",
        Quantity::InstructionsPerEvent => "instructions per event",
    };
    let way = match prediction.direction {
        Direction::Less => "less",
        Direction::More => "more",
    };
    let size = prediction.size_pct.map_or(String::new(), |pct| format!(" ({pct:+}%)"));
    format!("{}: {way} {what}{size}", prediction.name)
}

fn shift(shift: &model::decision::Shift) -> String {
    let (from, to) = (figure(shift.baseline), figure(shift.candidate));
    let size = shift.of_size().map_or(String::new(), |said| format!("; {said}"));
    format!("{} on {}: {from} -> {to}{size}\n", predicted(&shift.prediction), shift.workload)
}

/// A decision with all its sentences.
pub(crate) fn decided(decision: &Decision) -> String {
    let mut text = format!("Decision: {}\n\n", decision.verdict.name());
    for reason in &decision.reasons {
        let mark = if reason.allows == Verdict::Accept { "  " } else { "- " };
        text.push_str(&format!("{mark}{:12} {}\n", reason.allows.name(), reason.text));
    }
    text
}

/// What the gate said, in a few lines.
pub(crate) fn gated(records: &Records) -> String {
    let Some(record) = &records.gate else { return "the gate was not run\n".to_owned() };
    let mut text =
        format!("{}: {}\n", gate_name(record), if record.verdict == gate::Verdict::Pass { "pass" } else { "FAIL" });
    for stage in &record.stages {
        let verdict = match stage.verdict {
            gate::Verdict::Pass => "pass",
            gate::Verdict::Fail => "FAIL",
            gate::Verdict::NotRun if stage.excluded => "left out",
            gate::Verdict::NotRun => "NOT RUN",
        };
        let tests = match (stage.tests_run, stage.tests_expected) {
            (Some(run), Some(expected)) => format!(" {run} of {expected} tests"),
            _ => String::new(),
        };
        let failed = if stage.failed.is_empty() { String::new() } else { format!(": {}", stage.failed.join(", ")) };
        text.push_str(&format!("  {:18} {verdict}{tests}{failed}\n", stage.name));
    }
    text
}

fn gate_name(record: &VerifyRecord) -> &'static str {
    match (&record.rerun_of, record.tier) {
        (Some(_), _) => "a part of the gate, which is none",
        (None, gate::Tier::Full) => "full gate",
        (None, gate::Tier::Light) => "light gate",
    }
}

/// What was measured, in a table that needs no terminal, with where it is from.
pub(crate) fn measured(records: &Records) -> String {
    let Some(record) = &records.compare else { return "not measured\n".to_owned() };
    let mut text = String::new();
    for workload in &record.workloads {
        text.push_str(&line(workload));
    }
    text.push_str(&from(record));
    text
}

fn line(workload: &Compared) -> String {
    let name = &workload.workload;
    if let Some(error) = &workload.error {
        return format!("{name}: no figure: {error}\n");
    }
    let verdict = workload.verdict.as_deref().unwrap_or(UNKNOWN);
    let change = workload.relative_change_pct.map_or(UNKNOWN.to_owned(), percent2);
    let mut text = format!(
        "{name}: {} -> {} ns/event, {change} {} {verdict}\n",
        figure(workload.baseline_ns),
        figure(workload.candidate_ns),
        interval(workload.interval_pct)
    );
    if let Some(counts) = &workload.counts {
        let of = |what: &str, pair: Option<[f64; 2]>| {
            let [baseline, candidate] = pair?;
            (baseline.to_bits() != candidate.to_bits())
                .then(|| format!("  {what} per event {} -> {}\n", figure(Some(baseline)), figure(Some(candidate))))
        };
        text.extend(of("system calls", counts.syscalls_per_event));
        text.extend(of("instructions", counts.instructions_per_event));
    }
    text
}

fn from(record: &CompareRecord) -> String {
    let build = |number: usize| record.sides.get(number).map_or(UNKNOWN.to_owned(), |side| side.build.compiler.clone());
    let calibration = match &record.calibration {
        Some(standing) => format!(
            "calibration of this host: {} of {} comparisons of equal code found a change",
            standing.false_positives, standing.comparisons
        ),
        None => "no calibration for this host".to_owned(),
    };
    wrapped(&format!(
        "Time per event with its change and 99% interval, of fresh processes of both sides in turns, each block in another \
         random order of functions; a change is confirmed by fresh blocks. Host {}: {}. {}. {calibration}.",
        record.head.host.id,
        record.head.host.summary(),
        build(0)
    ))
}

/// What an experiment's run came to.
pub(crate) fn ran(decision: &Decision, not_run: &[String]) -> String {
    let mut text = decided(decision);
    not_run.iter().for_each(|why| text.push_str(&format!("not run: {why}\n")));
    text
}

/// What came of doing it again.
pub(crate) fn again(again: &Again) -> String {
    let mut text = format!("{}\n\nHere: {}", wrapped(&again.summary), decided(&again.here));
    again.not_run.iter().for_each(|why| text.push_str(&format!("not run: {why}\n")));
    text
}
