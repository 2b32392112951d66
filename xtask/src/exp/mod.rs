//! Experiments: a hypothesis, a patch on the tip, and what the evidence says of it. The ledger keeps what happened; this
//! module makes it happen, in steps that can be ended at any instant.

mod compare_step;
pub(crate) mod decide;
pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod gate_step;
pub(crate) mod open;
mod profile_step;
pub(crate) mod reproduce;
pub(crate) mod run;
pub(crate) mod sides;
pub(crate) mod steps;
pub(crate) mod style;
#[cfg(test)]
pub(crate) mod tests;

use crate::context::Context;
use crate::{ledger, variant};
use anyhow::Result;
use model::decision::Verdict;
use model::ledger::history::{Experiment, History};
use std::collections::BTreeMap;

/// Variants that experiments which are under way, and the tip, are made of, by id, with what they are needed for.
pub(crate) fn needed(context: &Context) -> Result<BTreeMap<String, String>> {
    Ok(needed_for(&ledger::read(context)?.1))
}

/// The same of a history. What is put aside, ended without an answer or is to be rejected is made again if it is taken up
/// again: kept until a person decides, such variants would have no bound.
fn needed_for(history: &History) -> BTreeMap<String, String> {
    let mut needed = BTreeMap::new();
    let is_to_reject = |experiment: &Experiment| {
        experiment.decision.as_ref().is_some_and(|decision| decision.verdict == Verdict::Reject)
    };
    let all = history.experiments.values();
    for experiment in all.filter(|experiment| experiment.state.is_under_way() && !is_to_reject(experiment)) {
        let base = variant::id_of(&experiment.base.source_tree, &experiment.base.patches);
        let candidate = experiment.attached.as_ref().map(|attached| attached.variant.clone());
        for id in candidate.into_iter().chain([base]) {
            needed.entry(id).or_insert_with(|| experiment.id.clone());
        }
    }
    if let Some(tip) = history.tip.as_ref().filter(|tip| !tip.patches.is_empty()) {
        needed.insert(variant::id_of(&tip.source_tree, &tip.patches), "the tip".to_owned());
    }
    needed
}

#[cfg(test)]
mod needs {
    use super::*;
    use crate::ledger::fixtures::Workspace;
    use model::decision::Decision;
    use model::experiment::State;
    use model::ledger::event::TipRef;

    #[test]
    fn what_is_under_way_is_needed_and_what_waits_for_a_person_is_not() {
        let workspace = Workspace::new();
        let id = workspace.proposed("Larger reads", "patch one\n", &TipRef::default());
        let history = workspace.place.read().unwrap().1;
        let candidate = history.experiments[&id].attached.as_ref().unwrap().variant.clone();
        let decided = |state: State, verdict: Option<Verdict>| {
            let mut history = history.clone();
            let experiment = history.experiments.get_mut(&id).unwrap();
            experiment.state = state;
            experiment.decision = verdict.map(|verdict| Decision {
                verdict,
                reasons: vec![],
                sides: Default::default(),
                gains: vec![],
                guarded_by_counts: vec![],
                suspicious: vec![],
                tests_changed: vec![],
                records: Default::default(),
                rule_sha256: None,
            });
            needed_for(&history).get(&candidate) == Some(&id)
        };
        assert!(decided(State::Proposed, None) && decided(State::Gated, None));
        assert!(decided(State::Measured, Some(Verdict::Accept)) && decided(State::Measured, Some(Verdict::Park)));
        assert!(!decided(State::Measured, Some(Verdict::Reject)) && !decided(State::Gated, Some(Verdict::Reject)));
        for state in [State::Parked, State::Inconclusive, State::InfraError, State::Rejected] {
            assert!(!decided(state, None), "{state:?}");
        }
    }
}
