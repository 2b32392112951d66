//! Which comparisons a calibration makes, and in which order: pure.

use model::calibration::Form;
use std::time::Duration;

/// One kind of comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind {
    /// How the sides are made equal.
    pub(crate) form: Form,
    /// Slowdown of the candidate, in per cent; zero for comparisons of equal things.
    pub(crate) injected_pct: f64,
    /// Time for each workload.
    pub(crate) budget: Duration,
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    /// Among those of its kind, from 0.
    pub(crate) number: u64,
}

impl Kind {
    /// What tells kinds apart, in seeds and in the journal.
    pub(crate) fn name(&self) -> String {
        format!("{} {:.3}% {} ms", self.form.name(), self.injected_pct, self.budget.as_millis())
    }
}

/// Every comparison, so mixed that each beginning of the list has done about the same share of every kind: a
/// soak that is cut short knows something of everything, and the host's moods hit all kinds alike.
pub(crate) fn schedule(kinds: &[(Kind, u64)]) -> Vec<Item> {
    let mut items: Vec<(f64, Item)> = kinds
        .iter()
        .flat_map(|(kind, count)| {
            (0..*count).map(move |number| ((number as f64 + 0.5) / *count as f64, Item { kind: *kind, number }))
        })
        .collect();
    // Stable: kinds with equal shares stay in their order.
    items.sort_by(|a, b| a.0.total_cmp(&b.0));
    items.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(form: Form, injected_pct: f64) -> Kind {
        Kind { form, injected_pct, budget: Duration::from_secs(1) }
    }

    #[test]
    fn every_beginning_has_the_same_share_of_every_kind() {
        let kinds = [(kind(Form::ByteCopy, 0.0), 100), (kind(Form::Relink, 0.0), 100), (kind(Form::Relink, 1.0), 20)];
        let items = schedule(&kinds);
        assert_eq!(items.len(), 220);
        for length in [22, 110, 198] {
            for (kind, count) in &kinds {
                let done = items[..length].iter().filter(|item| item.kind == *kind).count() as f64;
                let expected = *count as f64 * length as f64 / 220.0;
                assert!((done - expected).abs() <= 1.5, "{length}: {done} of {expected} {kind:?}");
            }
        }
    }

    #[test]
    fn more_of_a_kind_begins_with_the_same_comparisons() {
        let numbers = |count| -> Vec<u64> {
            schedule(&[(kind(Form::Load, 0.0), count)]).into_iter().map(|item| item.number).collect()
        };
        assert_eq!(numbers(3), [0, 1, 2]);
        assert_eq!(numbers(5)[..3], numbers(3)[..]);
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<String> =
            [kind(Form::Relink, 0.0), kind(Form::Relink, 0.5), kind(Form::Load, 0.0)].map(|k| k.name()).into();
        assert_eq!(names.len(), 3);
    }
}
