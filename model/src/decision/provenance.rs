//! What stands behind the figures: lines that a reviewer has to look at, the harness that measured, the sandbox that it
//! measured in, how often it was tried.

use super::{Evidence, Findings, Topic, Verdict};
use crate::ledger::event::About;
use crate::sandbox::COMPLETE;

/// Most screened lines that a sentence repeats; the page of the experiment has all of them.
const MOST_LINES: usize = 3;

pub(super) fn judge(evidence: &Evidence<'_>, findings: &mut Findings) {
    screened(evidence, findings);
    if !evidence.unclean.is_empty() {
        let text = format!(
            "{} by a harness with changes that no commit has: nobody can measure it again in the same way",
            evidence.unclean.join(", ")
        );
        findings.add(Topic::Harness, Verdict::Park, text);
    }
    sandbox(evidence, findings);
    if let Some(attempts) = evidence.attempts {
        findings.add(Topic::Attempt, Verdict::Accept, attempts.said());
    }
}

/// A patch that could reach what it is judged by was trusted by whoever did without a part of the sandbox: that is a person's
/// word, as [`crate::ledger::event::Forced`] is, and earns nothing.
fn sandbox(evidence: &Evidence<'_>, findings: &mut Findings) {
    let gate = evidence.gate.map(|gate| ("the gate", gate.sandbox.as_str()));
    let compare = evidence.compare.map(|compare| ("the comparison", compare.settings.sandbox.as_str()));
    let lacking = gate.into_iter().chain(compare).filter(|(_, sandbox)| *sandbox != COMPLETE);
    let said: Vec<String> = lacking.map(|(step, sandbox)| format!("{step} in one {sandbox}")).collect();
    if !said.is_empty() {
        let text = format!("the sandbox was not complete: {}", said.join(", "));
        findings.add(Topic::Sandbox, Verdict::Park, text);
    }
}

/// A patch that reads clocks, environments or names can be fast where it is measured alone: a reviewer says that it is not.
fn screened(evidence: &Evidence<'_>, findings: &mut Findings) {
    let count = evidence.screened.len();
    if count == 0 {
        return;
    }
    let mut said = evidence.screened.iter().take(MOST_LINES).cloned().collect::<Vec<_>>().join("; ");
    if count > MOST_LINES {
        said += &format!("; and {} more", count - MOST_LINES);
    }
    let lines = if count == 1 { "one line".to_owned() } else { format!("{count} lines") };
    match evidence.explained.iter().rev().find(|explained| explained.about == About::Screened) {
        Some(explained) => {
            let text = format!("{lines} to be looked at ({said}); {} explains: {}", explained.by, explained.text);
            findings.add(Topic::Screened, Verdict::Accept, text);
        }
        None => {
            let text = format!("{lines} that a reviewer has to look at and explain: {said}");
            findings.add(Topic::Screened, Verdict::Park, text);
        }
    }
}
