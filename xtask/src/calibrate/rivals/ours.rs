//! `compare` itself, through its own code: fresh layouts, interleaved launches, looks fixed in advance.

use super::method::{Call, Called, Task};
use crate::compare::contest::{self, Entry};
use crate::compare::shape;
use anyhow::{Context as _, Result};
use model::verdict::{Answer, Plan};

pub(super) const RULES: &[&str] = &["sign-flip test, 1%, three looks"];

pub(super) fn compare(task: &Task<'_>) -> Result<Vec<Called>> {
    let thresholds = task.contest.thresholds;
    let mut division = shape::divide(task.trial.shape, task.trial.pair, task.links, 1, task.budget);
    // Fewer are no comparison; a budget that is too small for them was mentioned, and the time is recorded.
    division.blocks = division.blocks.max(Plan::least_blocks(thresholds.alpha)?);
    let plan = Plan::new(division.blocks, thresholds.alpha)?;
    let mut entry = Entry::new(task.spec, task.trial, division, plan, thresholds, task.budget);
    entry.slow_down = task.slow_down;
    contest::run(task.contest, std::slice::from_mut(&mut entry), task.seed, false)?;
    if let Some(error) = entry.error {
        anyhow::bail!(error);
    }
    let report = entry.report.context("a comparison without an error has an answer")?;
    let call = match report.answer {
        Answer::Faster => Call::Faster,
        Answer::Slower => Call::Slower,
        Answer::NoChange { .. } | Answer::Inconclusive { .. } => Call::Nothing,
    };
    Ok(vec![Called::new(RULES[0], call, Some(report.relative_change_pct))])
}
