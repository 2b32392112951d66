//! experiments/SUMMARY.md: what came of the experiments.

use super::{cell, gain, short, state};
use model::experiment::{STATES, State};
use model::ledger::history::{Experiment, History};

/// The page.
pub(super) fn page(history: &History) -> String {
    let mut text = "# Summary of experiments\n\n".to_owned();
    text.push_str(&counts(history));
    text.push_str(&tip(history));
    let of = |wanted: &dyn Fn(&Experiment) -> bool| -> Vec<&Experiment> {
        history.experiments.values().filter(|experiment| wanted(experiment)).collect()
    };
    section(&mut text, "Accepted by force", &of(&|e| e.forced().is_some()), |experiment| {
        let Some(forced) = experiment.forced() else { return String::new() };
        let against =
            if forced.against.is_empty() { "no decision".to_owned() } else { cell(&forced.against.join("; ")) };
        format!("by {}: {}; against: {against}", cell(&forced.by), reason(experiment))
    });
    section(&mut text, "Disputed", &of(&|e| e.dispute.is_some()), |experiment| {
        let Some(dispute) = &experiment.dispute else { return String::new() };
        let [one, other] = dispute.states.map(State::name);
        format!(
            "{one} in one branch, {other} in the other, merged by {:.12}; run it again, or reject it",
            dispute.merge
        )
    });
    section(&mut text, "To be rebased", &of(&|e| history.needs_rebase(e).is_some()), |experiment| {
        history.needs_rebase(experiment).unwrap_or_default()
    });
    section(&mut text, "Pristine unit tests changed by a test patch", &of(&|e| changes_tests(e)), |experiment| {
        let tests = experiment.gated.iter().flat_map(|gated| &gated.tests_changed);
        cell(&tests.cloned().collect::<Vec<_>>().join("; "))
    });
    section(&mut text, "Under way", &of(&|e| e.state.is_under_way()), |e| {
        format!("{}: {}", state(history, e), last(e))
    });
    section(&mut text, "Parked", &of(&|e| e.state == State::Parked), |e| format!("{}; {}", gain(e), reason(e)));
    section(&mut text, "Inconclusive", &of(&|e| e.state == State::Inconclusive && e.dispute.is_none()), last);
    section(&mut text, "Errors of the infrastructure", &of(&|e| e.state == State::InfraError), last);
    section(&mut text, "Rejected", &of(&|e| e.state == State::Rejected), |experiment| {
        let taken_out = if experiment.acceptance.is_some() { "was part of the tip; " } else { "" };
        format!("{taken_out}{}", reason(experiment))
    });
    text.push_str(&non_starters(history));
    text
}

fn changes_tests(experiment: &Experiment) -> bool {
    experiment.gated.as_ref().is_some_and(|gated| !gated.tests_changed.is_empty())
}

fn counts(history: &History) -> String {
    let mut text = format!("{} experiments.\n\n| state | experiments |\n|---|---|\n", history.experiments.len());
    for state in STATES {
        text.push_str(&format!("| {} | {} |\n", state.name(), history.count(state)));
    }
    text
}

fn tip(history: &History) -> String {
    let accepted = history.accepted();
    if accepted.is_empty() {
        return "\n## The tip\n\nPristine: no patch is accepted.\n".to_owned();
    }
    let commit = match &history.tip {
        Some(tip) => format!("commit `{}`, the same on every machine", tip.commit),
        None => "of no recorded commit since two branches were merged: `cargo xtask tip --record` gates and records it"
            .to_owned(),
    };
    let patches =
        if accepted.len() == 1 { "one patch".to_owned() } else { format!("{} patches in order", accepted.len()) };
    let mut text = format!("\n## The tip\n\nPristine and {patches}, {commit}.\n\n");
    text.push_str("| patch | gain when accepted | technique |\n|---|---|---|\n");
    for patch in accepted {
        let Some(experiment) = history.experiments.get(&patch.experiment) else { continue };
        let forced = if patch.forced { " (FORCED)" } else { "" };
        let (id, technique) = (&experiment.id, cell(&experiment.technique));
        text.push_str(&format!("| [{id}]({id}/README.md){forced} | {} | {technique} |\n", gain(experiment)));
    }
    text
}

fn section(text: &mut String, title: &str, experiments: &[&Experiment], what: impl Fn(&Experiment) -> String) {
    if experiments.is_empty() {
        return;
    }
    text.push_str(&format!("\n## {title}\n\n"));
    for experiment in experiments {
        let id = &experiment.id;
        text.push_str(&format!("- [{id}]({id}/README.md): {}. {}\n", short(&experiment.title, 80), what(experiment)));
    }
}

fn reason(experiment: &Experiment) -> String {
    short(experiment.reason.as_deref().unwrap_or("no reason"), 400)
}

/// What the newest decision said, or the newest entry.
fn last(experiment: &Experiment) -> String {
    let step = || experiment.steps.last().map_or(String::new(), |step| format!("{}: {}", step.kind, step.what));
    short(&experiment.decision.as_ref().map_or_else(step, |decision| decision.headline().to_owned()), 400)
}

fn non_starters(history: &History) -> String {
    if history.non_starters.is_empty() {
        return String::new();
    }
    let mut text = "\n## Non-starters\n\n".to_owned();
    history.non_starters.iter().for_each(|known| text.push_str(&super::blocks::non_starter(known, "")));
    text
}
