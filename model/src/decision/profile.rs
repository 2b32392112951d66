//! Where did the time go? The profile confirms what was predicted, or a reviewer explains why it looks as it does.

use super::{DecisionRule, Evidence, Findings, ProfileEvidence, Shift, Topic, Verdict};
use crate::ledger::event::{About, Direction, Quantity};

pub(super) fn judge(evidence: &Evidence<'_>, rule: &DecisionRule, findings: &mut Findings) {
    let (confirms, said) = match evidence.profile {
        None => {
            // An explanation is of a profile; without one there is nothing to explain.
            let text = "there is no profile of both sides: nothing shows where the time went";
            return findings.add(Topic::Profile, Verdict::Park, text);
        }
        Some(profile) if profile.sides != [evidence.baseline, evidence.candidate] => {
            let text = format!("the profile is of {} and {}, not of these sides", profile.sides[0], profile.sides[1]);
            return findings.add(Topic::Profile, Verdict::Park, text);
        }
        Some(profile) => found(profile, rule),
    };
    let explained = evidence.explained.iter().rev().find(|explained| explained.about == About::Profile);
    match (confirms, explained) {
        (true, _) => {
            findings.add(Topic::Profile, Verdict::Accept, format!("the profile confirms the prediction: {said}"));
        }
        (false, Some(explained)) => {
            let text = format!(
                "the profile does not confirm the prediction ({said}); {} explains: {}",
                explained.by, explained.text
            );
            findings.add(Topic::Profile, Verdict::Accept, text);
        }
        (false, None) => {
            let text = format!("the profile does not confirm the prediction, and nobody has explained why: {said}");
            findings.add(Topic::Profile, Verdict::Park, text);
        }
    }
}

/// Whether every prediction came true, and what was found of each.
fn found(profile: &ProfileEvidence, rule: &DecisionRule) -> (bool, String) {
    if profile.shifts.is_empty() {
        return (false, "nothing was predicted".to_owned());
    }
    let confirmed = |shift: &Shift| shift.is_confirmed(rule.shift_share_points, rule.shift_count_pct);
    let all: Vec<String> = profile.shifts.iter().map(|shift| sentence(shift, confirmed(shift))).collect();
    (profile.shifts.iter().all(confirmed), all.join("; "))
}

fn sentence(shift: &Shift, confirmed: bool) -> String {
    let (of, unit) = match shift.prediction.quantity {
        Quantity::SelfSharePct => ("self share of", "%"),
        Quantity::SyscallsPerEvent => ("calls per event of", ""),
        Quantity::InstructionsPerEvent => ("instructions per event of", ""),
    };
    let figure = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:.2}{unit}"));
    let way = match shift.prediction.direction {
        Direction::Less => "less was predicted",
        Direction::More => "more was predicted",
    };
    let way = shift.of_size().unwrap_or_else(|| way.to_owned());
    format!(
        "{of} {} from {} to {} in {} ({way}, {})",
        shift.prediction.name,
        figure(shift.baseline),
        figure(shift.candidate),
        shift.workload,
        if confirmed { "confirmed" } else { "not confirmed" }
    )
}
