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
use std::collections::BTreeMap;

/// Variants that experiments which are not decided, and the tip, are made of, by id, with what they are needed for.
pub(crate) fn needed(context: &Context) -> Result<BTreeMap<String, String>> {
    let (_, history) = ledger::read(context)?;
    let mut needed = BTreeMap::new();
    for experiment in history.experiments.values().filter(|experiment| !experiment.state.is_final()) {
        let base = variant::id_of(&experiment.base.source_tree, &experiment.base.patches);
        let candidate = experiment.attached.as_ref().map(|attached| attached.variant.clone());
        for id in candidate.into_iter().chain([base]) {
            needed.entry(id).or_insert_with(|| experiment.id.clone());
        }
    }
    if let Some(tip) = history.tip.filter(|tip| !tip.patches.is_empty()) {
        needed.insert(variant::id_of(&tip.source_tree, &tip.patches), "the tip".to_owned());
    }
    Ok(needed)
}
