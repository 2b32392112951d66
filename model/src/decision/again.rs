//! Guards that a comparison left undecided are measured once more, for longer. What is decided by then.
//!
//! A guard is looked at twice at most, so that the chance of letting a loss beyond its margin pass is at most twice that of one look:
//! 1% where intervals are of 99%. A gain is never taken from the second look, which only some workloads get.

use super::gains::certain_gain;
use super::{DecisionRule, guards};
use crate::compare::{CompareRecord, Compared};
use crate::thresholds::Thresholds;

/// Guarded workloads that are worth measuring once more: undecided, where nothing is lost and nothing has failed. Empty if the
/// decision is made without them.
pub fn undecided_guards(record: &CompareRecord, thresholds: &Thresholds, rule: &DecisionRule) -> Vec<String> {
    if record.head.partial || record.identical || record.workloads.iter().any(|compared| compared.error.is_some()) {
        return vec![];
    }
    guards::undecided(record, thresholds, rule)
}

/// The first comparison with what the second one found about the workloads that were measured once more. Where a gain was certain,
/// its figures stay those of the first, and the guards beside it are of the second.
pub fn with_again(first: CompareRecord, again: CompareRecord) -> CompareRecord {
    let mut record = first;
    let places = format!("{} (the first figures: {})", again.head.id, record.head.id);
    record.head.finished_at = again.head.finished_at;
    record.head.partial |= again.head.partial;
    for second in again.workloads {
        let Some(first) = record.workloads.iter_mut().find(|compared| compared.workload == second.workload) else {
            continue;
        };
        if second.error.as_ref().is_some_and(|error| error.starts_with("infrastructure")) {
            let error = second.error.unwrap_or_default();
            record.notes.push(format!("{}: measured once more, without an answer: {error}", second.workload));
            continue;
        }
        record
            .notes
            .push(format!("{}: undecided at first, and measured once more, for longer: {places}", second.workload));
        *first = match certain_gain(first) {
            Some(_) if second.error.is_none() => Compared { guards: second.guards, ..first.clone() },
            _ => Compared { gained: false, p_adjusted: None, ..second },
        };
    }
    record.notes.extend(again.notes);
    record
}
