//! What a profile of two variants says of an experiment's predictions: pure.

use super::{ProfileRecord, WorkloadProfile};
use crate::decision::{ProfileEvidence, Shift};
use crate::ledger::event::{Prediction, Quantity};
use crate::record::Role;

/// The evidence of a profile of a baseline and a candidate. A prediction is held against the workload in which its figure is
/// largest on the baseline, or, where it is on none, on the candidate: which one that is does not depend on how it moved.
pub fn evidence(record: &ProfileRecord, sides: [&str; 2], predictions: &[Prediction]) -> ProfileEvidence {
    let shifts = predictions.iter().filter_map(|prediction| shift(record, prediction)).collect();
    ProfileEvidence { sides: sides.map(str::to_owned), shifts }
}

/// `None` where no workload was profiled at all.
fn shift(record: &ProfileRecord, prediction: &Prediction) -> Option<Shift> {
    let of = |role: Role, name: &str| record.workloads.iter().find(|one| one.role == role && one.workload == name);
    let baselines = record.workloads.iter().filter(|one| one.role == Role::Baseline);
    let shifts = baselines.filter_map(|baseline| {
        let candidate = of(Role::Candidate, &baseline.workload)?;
        let (one, other) = (figure(baseline, prediction), figure(candidate, prediction));
        let known = |this: Option<Figure>, that: Option<Figure>| match this? {
            Figure::Seen(value) => Some(value),
            // Nothing of it was seen here: that is nothing if there is something there, and unknown otherwise.
            Figure::None => matches!(that, Some(Figure::Seen(_))).then_some(0.0),
        };
        Some(Shift {
            prediction: prediction.clone(),
            workload: baseline.workload.clone(),
            baseline: known(one, other),
            candidate: known(other, one),
        })
    });
    let size = |shift: &Shift| (shift.baseline.unwrap_or(0.0), shift.candidate.unwrap_or(0.0));
    // The first of equals, in the order of the manifest.
    shifts.reduce(|best, next| if size(&next) > size(&best) { next } else { best })
}

#[derive(Clone, Copy)]
enum Figure {
    Seen(f64),
    None,
}

/// A quantity on one side; `None` where the profile does not tell.
fn figure(side: &WorkloadProfile, prediction: &Prediction) -> Option<Figure> {
    let name = prediction.name.as_str();
    let found: Vec<f64> = match prediction.quantity {
        // A function that has no code of its own takes its time in its callers.
        Quantity::SelfSharePct if side.symbols.is_empty() || side.manifest.get(name) == Some(&false) => return None,
        Quantity::SelfSharePct => {
            side.symbols.iter().filter(|symbol| symbol.symbol == name).map(|symbol| 100.0 * symbol.self_share).collect()
        }
        Quantity::SyscallsPerEvent => {
            side.io.as_ref()?;
            side.syscalls.iter().filter(|call| call.name == name).map(|call| call.per_event).collect()
        }
        Quantity::InstructionsPerEvent => {
            let functions = &side.instructions.as_ref()?.functions;
            functions
                .iter()
                .filter(|function| function.symbol == name)
                .map(|function| function.self_per_event)
                .collect()
        }
    };
    Some(if found.is_empty() { Figure::None } else { Figure::Seen(found.iter().sum()) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, profile};
    use super::*;
    use crate::ledger::event::Direction;

    /// A record of workloads by name, each with self shares of `f` on both sides; null: not seen.
    fn record(shares: &[(&str, Option<f64>, Option<f64>)]) -> ProfileRecord {
        let one = |workload: &str, role: Role, share: Option<f64>| {
            let mut one = profile();
            let mut symbol = one.symbols[0].clone();
            symbol.symbol = "g".to_owned();
            one.symbols = vec![symbol.clone()];
            if let Some(share) = share {
                symbol.symbol = "f".to_owned();
                symbol.self_share = share;
                one.symbols.push(symbol);
            }
            (one.workload, one.role) = (workload.to_owned(), role);
            one
        };
        let workloads = shares.iter().flat_map(|(name, baseline, candidate)| {
            [one(name, Role::Baseline, *baseline), one(name, Role::Candidate, *candidate)]
        });
        let text = serde_json::json!({
            "schema": "profile/1", "host": crate::host::HostFingerprint::default(), "partial": false, "id": "x",
            "started_at": "", "finished_at": "", "command": [],
            "settings": { "config": config(), "worker_cpu": 0, "peer_cpus": [], "layout_seed": 0, "sandbox": "", "missing": [] },
            "harness": { "commit": null, "dirty": null, "worker_sha256": {}, "ingredients_sha256": "", "xtask_sha256": "",
                "rustc": "", "user_workloads": [] },
            "sides": [], "workloads": workloads.collect::<Vec<_>>(), "shifts": [], "notes": [],
        });
        serde_json::from_value(text).unwrap()
    }

    fn found(shares: &[(&str, Option<f64>, Option<f64>)]) -> (String, Option<f64>, Option<f64>) {
        let prediction = Prediction { name: "f".into(), quantity: Quantity::SelfSharePct, direction: Direction::Less };
        let evidence = evidence(&record(shares), ["a", "b"], &[prediction]);
        let [shift] = evidence.shifts.as_slice() else { panic!("one prediction") };
        (shift.workload.clone(), shift.baseline, shift.candidate)
    }

    #[test]
    fn a_prediction_is_held_against_the_workload_in_which_its_figure_is_largest_before() {
        let shares = [("a", Some(0.1), Some(0.4)), ("b", Some(0.25), Some(0.25)), ("c", None, Some(0.5))];
        assert_eq!(found(&shares), ("b".to_owned(), Some(25.0), Some(25.0)));
        assert_eq!(found(&[("a", Some(0.1), None)]), ("a".to_owned(), Some(10.0), Some(0.0)), "no sample is no time");
        assert_eq!(found(&[("a", None, Some(0.25))]), ("a".to_owned(), Some(0.0), Some(25.0)));
        assert_eq!(found(&[("a", None, None)]), ("a".to_owned(), None, None), "nobody has seen it");
    }
}
