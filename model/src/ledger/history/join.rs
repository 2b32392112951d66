//! What two branches come to together.

use super::{Dispute, Experiment, History};
use crate::experiment::State;
use crate::ledger::Line;
use std::collections::HashSet;

/// The history after a merge entry. An experiment that went on in one branch alone is as it is there. One that went on in both
/// is disputed: which of two verdicts holds is not guessed.
pub(super) fn join(one: History, other: History, merge: &Line) -> History {
    let (series, tips) = ([one.series, other.series], [one.tip, other.tip]);
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
    let tip = if joined == series[1] {
        theirs
    } else if joined == series[0] {
        ours
    } else {
        None
    };
    History { experiments, series: joined, non_starters, tip }
}

fn join_one(ours: Experiment, theirs: Experiment, merge: &Line) -> Experiment {
    let is_prefix = |short: &Experiment, long: &Experiment| {
        short.steps.len() <= long.steps.len() && short.steps.iter().zip(&long.steps).all(|(a, b)| a.hash == b.hash)
    };
    if is_prefix(&theirs, &ours) {
        return ours;
    }
    if is_prefix(&ours, &theirs) {
        return theirs;
    }
    let states = [ours.state, theirs.state];
    let mut joined = ours;
    let known: HashSet<String> = joined.steps.iter().map(|step| step.hash.clone()).collect();
    joined.steps.extend(theirs.steps.into_iter().filter(|step| !known.contains(&step.hash)));
    joined
        .reproduced
        .extend(theirs.reproduced.into_iter().filter(|again| !joined.reproduced.contains(again)).collect::<Vec<_>>());
    joined.attempt = joined.attempt.max(theirs.attempt);
    for (path, sha256) in theirs.files {
        joined.files.entry(path).or_insert(sha256);
    }
    joined.state = State::Inconclusive;
    joined.dispute = Some(Dispute { states, merge: merge.hash.clone() });
    joined.decision = None;
    joined
}
