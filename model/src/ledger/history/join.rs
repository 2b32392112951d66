//! What two branches come to together.

use super::{Dispute, Experiment, History};
use crate::experiment::State;
use crate::ledger::Line;
use std::collections::HashSet;

/// The history after a merge entry. An experiment that went on in one branch alone is as it is there, with what the other put
/// beside it. One that went on in both is disputed: which of two verdicts holds is not guessed.
pub(super) fn join(one: History, other: History, merge: &Line) -> History {
    let (series, tips) = ([one.series, other.series], [one.tip, other.tip]);
    let mut settled = one.settled;
    settled.extend(other.settled);
    let mut experiments = one.experiments;
    for (id, theirs) in other.experiments {
        let joined = match experiments.remove(&id) {
            None => theirs,
            Some(ours) => join_one(ours, theirs, merge),
        };
        experiments.insert(id, joined);
    }
    let mut non_starters = one.non_starters;
    non_starters
        .extend(other.non_starters.into_iter().filter(|known| !non_starters.contains(known)).collect::<Vec<_>>());
    // Ours, then what they have besides; what is not accepted any more on either side is in neither.
    let mut seen = HashSet::new();
    let accepted = |id: &String| experiments.get(id).is_some_and(|experiment| experiment.state == State::Accepted);
    let joined: Vec<String> =
        series.iter().flatten().filter(|id| accepted(id) && seen.insert((*id).clone())).cloned().collect();
    let [ours, theirs] = tips;
    // The tip of a branch is the tip of both only if the patches are the same.
    let [of_ours, of_theirs] = [&series[0], &series[1]].map(|branch| *branch == joined);
    let tip = theirs.filter(|_| of_theirs).or(ours.filter(|_| of_ours));
    History { experiments, series: joined, non_starters, tip, settled }
}

/// Entries that leave an experiment's state, attempt, decision and acceptance as they are. An explanation that changed a decision
/// is followed by that one.
const BESIDE: [&str; 3] = ["noted", "reproduced", "explained"];

fn join_one(ours: Experiment, theirs: Experiment, merge: &Line) -> Experiment {
    let went_on = |this: &Experiment, that: &Experiment| {
        let known: HashSet<&str> = that.steps.iter().map(|step| step.hash.as_str()).collect();
        let new = this.steps.iter().filter(|step| !known.contains(step.hash.as_str()));
        new.into_iter().any(|step| !BESIDE.contains(&step.kind))
    };
    match (went_on(&ours, &theirs), went_on(&theirs, &ours)) {
        (_, false) => united(ours, theirs),
        (false, true) => united(theirs, ours),
        (true, true) => disputed(ours, theirs, merge),
    }
}

/// An experiment with what another branch put beside it.
fn united(mut joined: Experiment, other: Experiment) -> Experiment {
    let known: HashSet<String> = joined.steps.iter().map(|step| step.hash.clone()).collect();
    joined.steps.extend(other.steps.into_iter().filter(|step| !known.contains(&step.hash)));
    for again in other.reproduced {
        if !joined.reproduced.contains(&again) {
            joined.reproduced.push(again);
        }
    }
    // Of an attempt that is over, an explanation explains nothing.
    for explained in other.explained.into_iter().filter(|_| other.attempt == joined.attempt) {
        if !joined.explained.contains(&explained) {
            joined.explained.push(explained);
        }
    }
    for (path, sha256) in other.files {
        joined.files.entry(path).or_insert(sha256);
    }
    joined
}

fn disputed(ours: Experiment, theirs: Experiment, merge: &Line) -> Experiment {
    let states = [ours.state, theirs.state];
    let attempt = ours.attempt.max(theirs.attempt);
    // An attempt that both have may have had its answer in one of them alone.
    let mut tried = ours.tried.clone();
    for one in &theirs.tried {
        match tried.iter_mut().find(|known| known.entry == one.entry) {
            Some(known) => known.is_answered |= one.is_answered,
            None => tried.push(one.clone()),
        }
    }
    Experiment {
        attempt,
        tried,
        state: State::Inconclusive,
        dispute: Some(Dispute { states, merge: merge.hash.clone() }),
        decision: None,
        decided_unclean: false,
        ..united(ours, theirs)
    }
}
