//! What a profile of two variants says of an experiment's predictions: pure.

use super::counted::{Repeats, repeats};
use super::samples::Both;
use super::stacks::name_in_source;
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

/// Whether any workload was profiled without an error and with samples enough for shares.
pub fn tells_shares(record: &ProfileRecord) -> bool {
    let enough = |one: &WorkloadProfile| {
        let samples = one.budget.as_ref().map_or(0, |budget| budget.samples);
        one.error.is_none() && !one.symbols.is_empty() && samples >= record.settings.config.fewest_samples
    };
    record.workloads.iter().any(enough)
}

/// `None` where no workload was profiled at all.
fn shift(record: &ProfileRecord, prediction: &Prediction) -> Option<Shift> {
    let of = |role: Role, name: &str| record.workloads.iter().find(|one| one.role == role && one.workload == name);
    let baselines = record.workloads.iter().filter(|one| one.role == Role::Baseline);
    let own = [Role::Baseline, Role::Candidate].map(|role| record.functions.get(&role));
    let shifts = baselines.filter_map(|baseline| {
        let candidate = of(Role::Candidate, &baseline.workload)?;
        let both = Both::new([baseline, candidate], own, &record.settings.config);
        let (figures, noise) = figures([baseline, candidate], &both, prediction);
        // Neither side has seen it: what is not called, not there or under another name does not move.
        let seen = figures.iter().any(|figure| figure.is_some_and(|figure| figure > 0.0));
        let [of_baseline, of_candidate] = figures.map(|figure| figure.filter(|_| seen));
        Some(Shift {
            prediction: prediction.clone(),
            workload: baseline.workload.clone(),
            baseline: of_baseline,
            candidate: of_candidate,
            noise,
        })
    });
    let size = |shift: &Shift| (shift.baseline.unwrap_or(0.0), shift.candidate.unwrap_or(0.0));
    // The first of equals, in the order of the manifest.
    shifts.reduce(|best, next| if size(&next) > size(&best) { next } else { best })
}

/// A quantity on both sides, null where the profile does not tell, and what it differs by without having moved, null of counts that
/// are exact.
fn figures(sides: [&WorkloadProfile; 2], both: &Both<'_>, prediction: &Prediction) -> ([Option<f64>; 2], Option<f64>) {
    let name = prediction.name.as_str();
    match prediction.quantity {
        Quantity::SelfSharePct => {
            let shares = both.shares(name);
            let noise = both.noise(shares.map(|share| share.unwrap_or(0.0)));
            (both.of_cpu_pct(shares), Some(noise * 100.0))
        }
        Quantity::SyscallsPerEvent => {
            let calls = |side: &WorkloadProfile| {
                side.io.as_ref()?;
                Some(side.syscalls.iter().filter(|call| call.name == name).map(|call| call.per_event).sum())
            };
            match repeats(sides, name) {
                Repeats::Exactly => (sides.map(calls), None),
                Repeats::Within(noise) => (sides.map(calls), Some(noise)),
                Repeats::Unknown => ([None, None], None),
            }
        }
        Quantity::InstructionsPerEvent => {
            let of_name = |side: &WorkloadProfile| {
                let functions = &side.instructions.as_ref()?.functions;
                let found: Vec<_> =
                    functions.iter().filter(|one| name_in_source(&one.symbol) == name).cloned().collect();
                Some(found)
            };
            let found = sides.map(of_name);
            let libevents =
                both.is_libevents(name) || found.iter().flatten().flatten().any(|function| function.part.is_libevent());
            let figure = |side: usize| {
                let found = found[side].as_ref()?;
                let told = !libevents || both.has_own_code(side, name);
                told.then(|| found.iter().map(|function| function.self_per_event).sum())
            };
            ([0, 1].map(figure), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OwnCode;
    use super::super::tests::{config, profile};
    use super::*;
    use crate::ledger::event::Direction;

    /// A record of workloads by name, each with self shares of `f` on both sides; null: not seen.
    fn record(shares: &[(&str, Option<f64>, Option<f64>)]) -> ProfileRecord {
        let one = |workload: &str, role: Role, share: Option<f64>| {
            let mut one = profile();
            let mut symbol = one.symbols[1].clone();
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
            "sides": [], "functions": { "baseline": ["f", "g"], "candidate": ["f", "g"] }, "workloads": workloads.collect::<Vec<_>>(), "shifts": [], "notes": [],
        });
        serde_json::from_value(text).unwrap()
    }

    fn predicted(quantity: Quantity) -> Prediction {
        Prediction { name: "f".into(), quantity, direction: Direction::Less, size_pct: None }
    }

    fn found(shares: &[(&str, Option<f64>, Option<f64>)]) -> (String, Option<f64>, Option<f64>) {
        let prediction = predicted(Quantity::SelfSharePct);
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

    fn one_shift(record: &ProfileRecord, quantity: Quantity) -> Shift {
        evidence(record, ["a", "b"], &[predicted(quantity)]).shifts.remove(0)
    }

    #[test]
    fn a_function_that_was_inlined_or_renamed_confirms_nothing() {
        let mut record = record(&[("a", Some(0.3), None)]);
        let told = one_shift(&record, Quantity::SelfSharePct);
        assert!(told.is_confirmed(2.0, 1.0), "{told:?}");
        record.functions.insert(Role::Candidate, OwnCode::new(["g", "f.cold"]));
        let gone = one_shift(&record, Quantity::SelfSharePct);
        assert_eq!((gone.baseline, gone.candidate), (Some(30.0), None));
        assert!(!gone.is_confirmed(2.0, 1.0));
        record.functions.clear();
        assert_eq!(one_shift(&record, Quantity::SelfSharePct).candidate, None, "of an old record");
    }

    #[test]
    fn few_samples_are_no_evidence_and_noise_confirms_nothing() {
        let with = |samples: u64, after: f64| {
            let mut record = record(&[("a", Some(0.3), Some(after))]);
            record.workloads.iter_mut().for_each(|one| one.budget.as_mut().unwrap().samples = samples);
            one_shift(&record, Quantity::SelfSharePct)
        };
        let mut few = record(&[("a", Some(0.3), Some(0.1))]);
        assert!(tells_shares(&few));
        few.workloads.iter_mut().for_each(|one| one.budget.as_mut().unwrap().samples = 60);
        assert!(!tells_shares(&few));
        let few = with(60, 0.1);
        assert_eq!((few.baseline, few.candidate), (None, None));
        assert!(!with(600, 0.26).is_confirmed(2.0, 1.0), "four points of 600 samples");
        assert!(with(100_000, 0.26).is_confirmed(2.0, 1.0) && with(600, 0.1).is_confirmed(2.0, 1.0));
    }

    #[test]
    fn numbers_of_calls_that_differ_from_batch_to_batch_confirm_no_more_than_their_noise() {
        let calls = |exact: Option<bool>, error: Option<f64>| {
            let mut record = record(&[("a", None, None)]);
            for (one, per_event) in record.workloads.iter_mut().zip([2.0, 1.9]) {
                one.exact_counts = exact;
                (one.syscalls[0].per_event, one.syscalls[0].standard_error_per_event) = (per_event, error);
            }
            let prediction = Prediction {
                name: "readv".into(),
                quantity: Quantity::SyscallsPerEvent,
                direction: Direction::Less,
                size_pct: None,
            };
            evidence(&record, ["a", "b"], &[prediction]).shifts.remove(0)
        };
        let confirmed = |shift: Shift| shift.is_confirmed(2.0, 1.0);
        assert!(confirmed(calls(Some(true), Some(0.04))) && confirmed(calls(None, None)), "exact, or an old record");
        assert!(confirmed(calls(Some(false), Some(0.01))));
        assert!(!confirmed(calls(Some(false), Some(0.04))), "five per cent of what repeats within eight");
        let unknown = calls(Some(false), None);
        assert_eq!((unknown.baseline, unknown.candidate), (None, None));
    }

    #[test]
    fn instructions_are_those_of_all_clones_and_of_functions_that_are_there() {
        let function = |symbol: &str, of_event: f64| {
            serde_json::json!({ "symbol": symbol, "file": "buffer.c", "part": "evbuffer", "self_per_event": of_event,
                "self_pct": 1.0, "inclusive_per_event": of_event, "inclusive_pct": 1.0, "cycle": null })
        };
        let counted = |functions: Vec<serde_json::Value>| {
            serde_json::from_value(serde_json::json!({ "per_event": 100.0, "batches": 1, "events": 1, "repeats": 2,
                "functions": functions, "lines": [], "annotated": [], "clock_step_ns": 1, "fixed_addresses": true,
                "tunables": "", "valgrind": "", "build": "" }))
            .unwrap()
        };
        let mut record = record(&[("a", None, None)]);
        record.workloads[0].instructions = Some(counted(vec![function("f", 40.0)]));
        record.workloads[1].instructions = Some(counted(vec![function("f.isra.0", 30.0), function("f.cold", 5.0)]));
        let clones = one_shift(&record, Quantity::InstructionsPerEvent);
        assert_eq!((clones.baseline, clones.candidate), (Some(40.0), Some(35.0)));
        record.workloads[1].instructions = Some(counted(vec![]));
        assert_eq!(one_shift(&record, Quantity::InstructionsPerEvent).candidate, Some(0.0), "there, and not run");
        record.functions.insert(Role::Candidate, OwnCode::new(["g"]));
        assert_eq!(one_shift(&record, Quantity::InstructionsPerEvent).candidate, None);
    }
}
