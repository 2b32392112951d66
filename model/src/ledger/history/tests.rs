//! What entries come to, and which no program would have written.

use super::{History, Illegal};
use crate::decision::Verdict;
use crate::experiment::State;
use crate::gate;
use crate::ledger::event::{Because, Event, NonStarter, Rebased, Rejected, Reopened, TipRef};
use crate::ledger::fixtures::*;
use crate::ledger::merge::merge;
use crate::ledger::{Draft, Entry, Ledger};

const A: &str = "EXP-0001-reads-00000a";
const B: &str = "EXP-0002-timers-00000b";

fn history(ledger: &Ledger) -> History {
    History::of(ledger).unwrap_or_else(|(line, illegal)| panic!("line {line}: {illegal}"))
}

/// The entry that an event would be, with the files that it names.
fn entry(ledger: &Ledger, id: &str, event: Event) -> Entry {
    let files = event.files().into_iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
    ledger.next(Draft { experiment: Some(id.to_owned()), event, files }, "2026-06-01T00:00:00Z", origin())
}

fn refused(ledger: &Ledger, id: &str, event: Event) -> String {
    history(ledger).allows(&entry(ledger, id, event)).expect_err("it is refused").to_string()
}

fn allowed(ledger: &Ledger, id: &str, event: Event) -> bool {
    history(ledger).allows(&entry(ledger, id, event)).is_ok()
}

#[test]
fn an_experiment_goes_from_its_hypothesis_into_the_tip() {
    let mut ledger = Ledger::default();
    let steps = [
        (opened("reads", &[]), State::Open),
        (attached("p"), State::Proposed),
        (gated("run-1-a", gate::Verdict::Pass), State::Gated),
        (measured("run-1-a"), State::Measured),
        (decided(Verdict::Accept), State::Measured),
        (accepted(&["p"]), State::Accepted),
    ];
    for (event, state) in steps {
        ledger = with(ledger, Some(A), event);
        assert_eq!(history(&ledger).experiments[A].state, state);
    }
    let history = history(&ledger);
    let patches = history.accepted();
    assert_eq!((patches.len(), patches[0].path.as_str()), (1, "EXP-0001-reads-00000a/p.patch"));
    assert_eq!(history.tip, Some(tip(&["p"])));
    let experiment = &history.experiments[A];
    assert_eq!((experiment.steps.len(), experiment.attempt, experiment.files.len()), (6, 1, 3));
    assert!(experiment.forced().is_none());
}

#[test]
fn verdicts_that_are_not_the_patchs_fault_are_states_of_their_own() {
    let run = |verdict| {
        let ledger = [
            opened("reads", &[]),
            attached("p"),
            gated("run-1-a", gate::Verdict::Pass),
            measured("run-1-a"),
            decided(verdict),
        ]
        .into_iter()
        .fold(Ledger::default(), |ledger, event| with(ledger, Some(A), event));
        (history(&ledger).experiments[A].state, ledger)
    };
    for (verdict, state) in [
        (Verdict::Inconclusive, State::Inconclusive),
        (Verdict::InfraError, State::InfraError),
        (Verdict::Reject, State::Measured),
        (Verdict::Park, State::Measured),
    ] {
        let (found, ledger) = run(verdict);
        assert_eq!(found, state, "{verdict:?}");
        assert!(refused(&ledger, A, accepted(&["p"])).contains("cannot be accepted"), "{verdict:?}");
        // Measuring again until it suits is no evidence.
        assert!(refused(&ledger, A, measured("run-1-b")).contains("cannot be measured"));
        // Taken up again with a reason, everything is due anew.
        let again = Event::Reopened(Reopened { reason: "the host is quiet now".into(), has_patch: true });
        let ledger = with(ledger, Some(A), again);
        let experiment = &history(&ledger).experiments[A];
        assert_eq!((experiment.state, experiment.attempt), (State::Proposed, 2));
        assert!(experiment.decision.is_none() && experiment.measured.is_none() && experiment.gated.is_none());
    }
    // A host that fails before the gate, and a gate that fails.
    let proposed =
        [opened("reads", &[]), attached("p")].into_iter().fold(Ledger::default(), |l, e| with(l, Some(A), e));
    assert_eq!(
        history(&with(proposed.clone(), Some(A), decided(Verdict::InfraError))).experiments[A].state,
        State::InfraError
    );
    let failed = with(proposed, Some(A), gated("run-1-a", gate::Verdict::Fail));
    let failed = with(failed, Some(A), decided(Verdict::Reject));
    assert_eq!(history(&with(failed, Some(A), rejected(None))).experiments[A].state, State::Rejected);
}

#[test]
fn every_transition_that_is_not_one_is_refused() {
    let open = with(Ledger::default(), Some(A), opened("reads", &[]));
    let acceptable = acceptable(Ledger::default(), A, &[], "p");
    let accepted_one = with(acceptable.clone(), Some(A), accepted(&["p"]));
    let gone = with(accepted_one.clone(), Some(A), rejected(Some(tip(&[]))));
    for (ledger, event, why) in [
        (&Ledger::default(), attached("p"), "open it first"),
        (&open, opened("again", &[]), "its id is taken"),
        (&open, gated("run-1-a", gate::Verdict::Pass), "attach a patch"),
        (&open, measured("run-1-a"), "gate it first"),
        (&open, accepted(&["p"]), "run it first"),
        (&open, forced(&["p"]), "run it first"),
        (&accepted_one, attached("q"), "open another experiment"),
        (&accepted_one, accepted(&["p", "p"]), "part of the tip already"),
        (&accepted_one, parked(), "only what is not decided"),
        (&accepted_one, rejected(None), "names no tip without it"),
        (&gone, rejected(None), "rejected already"),
        (&gone, attached("q"), "open another experiment"),
        (&gone, Event::Reopened(Reopened { reason: "x".into(), has_patch: true }), "open another experiment"),
        (&acceptable, rejected(Some(tip(&[]))), "not part of the tip"),
        (
            &acceptable,
            Event::Reopened(Reopened { reason: "x".into(), has_patch: false }),
            "against what the entry says",
        ),
        (&acceptable, Event::Merge, "names one"),
    ] {
        let said = refused(ledger, A, event.clone());
        assert!(said.contains(why), "{}: {said}", event.kind());
    }
    // The same found in a file is tampering, with its line.
    let mut forged = acceptable;
    forged.push(entry(&forged, A, attached("q"))).unwrap();
    forged.push(entry(&forged, A, accepted(&["q"]))).unwrap();
    let (line, illegal) = History::of(&forged).unwrap_err();
    assert_eq!((line, matches!(illegal, Illegal::Transition { .. })), (7, true), "{illegal}");
}

#[test]
fn nothing_is_accepted_without_a_decision_of_this_attempt_against_this_tip() {
    let without = [opened("reads", &[]), attached("p"), gated("run-1-a", gate::Verdict::Pass), measured("run-1-a")]
        .into_iter()
        .fold(Ledger::default(), |ledger, event| with(ledger, Some(A), event));
    assert!(refused(&without, A, accepted(&["p"])).contains("nothing has decided"));
    assert!(
        refused(&with(without, Some(A), decided(Verdict::Park)), A, accepted(&["p"])).contains("the decision is park")
    );
    // Two experiments from one tip: the second has to be measured against the tip that the first has made.
    let both = acceptable(acceptable(Ledger::default(), A, &[], "p"), B, &[], "q");
    let first = with(both, Some(A), accepted(&["p"]));
    assert!(refused(&first, B, accepted(&["p", "q"])).contains("rebase it and measure it anew"));
    assert!(history(&first).needs_rebase(&history(&first).experiments[B]).is_some());
    assert!(history(&first).needs_rebase(&history(&first).experiments[A]).is_none(), "it is the tip");
    // Rebased, it starts over.
    let Event::Attached(patch) = attached("q2") else { unreachable!() };
    let rebased = with(first, Some(B), Event::Rebased(Rebased { base: tip(&["p"]), patch: Some(patch) }));
    let experiment = &history(&rebased).experiments[B];
    assert_eq!((experiment.state, experiment.attempt), (State::Proposed, 2));
    let ledger =
        [gated("run-2-b", gate::Verdict::Pass), measured("run-2-b"), decided(Verdict::Accept), accepted(&["p", "q2"])]
            .into_iter()
            .fold(rebased, |ledger, event| with(ledger, Some(B), event));
    assert_eq!(history(&ledger).series, [A, B]);
    // The tip that the entry tells has to be the one that follows.
    let acceptable = acceptable(Ledger::default(), A, &[], "p");
    for wrong in [&["p", "p"][..], &[], &["q"]] {
        assert!(!allowed(&acceptable, A, accepted(wrong)), "{wrong:?}");
    }
}

#[test]
fn a_forced_acceptance_stays_visible() {
    let ledger = [opened("reads", &[]), attached("p"), forced(&["p"])]
        .into_iter()
        .fold(Ledger::default(), |ledger, event| with(ledger, Some(A), event));
    let known = history(&ledger);
    assert_eq!(known.experiments[A].forced().unwrap().against, ["no profile"]);
    assert!(known.accepted()[0].forced);
    assert!(known.experiments[A].steps[2].what.starts_with("FORCED by somebody"));
    let out = with(ledger, Some(A), rejected(Some(tip(&[]))));
    let known = history(&out);
    assert!(known.experiments[A].forced().is_none() && known.experiments[A].was_forced());
    assert!(known.series.is_empty() && known.tip == Some(tip(&[])));
}

#[test]
fn files_are_vouched_for_once_and_stay_inside() {
    let ledger = acceptable(Ledger::default(), A, &[], "p");
    let note = |files: &[(&str, &str)]| {
        let files =
            files.iter().map(|(path, content)| (path.to_string(), crate::ledger::sha256(content.as_bytes()))).collect();
        let event = Event::Noted(Because { reason: "x".into() });
        let entry =
            ledger.next(Draft { experiment: Some(A.to_owned()), event, files }, "2026-06-01T00:00:00Z", origin());
        history(&ledger).allows(&entry)
    };
    assert_eq!(note(&[("run-1-p/extra", "x"), ("p.patch", "p")]), Ok(()), "the same content again");
    assert!(matches!(note(&[("p.patch", "other")]), Err(Illegal::Overwritten { .. })));
    for path in ["../x", "/etc/passwd", "README.md", "a/../b"] {
        assert!(matches!(note(&[(path, "x")]), Err(Illegal::Path { .. })), "{path}");
    }
    let mut unhashed = entry(&ledger, A, attached("q"));
    unhashed.files.clear();
    assert!(matches!(history(&ledger).allows(&unhashed), Err(Illegal::Unhashed { .. })));
    assert!(matches!(history(&ledger).allows(&entry(&ledger, "EXP-1", parked())), Err(Illegal::Id(_))));
}

#[test]
fn what_was_measured_is_the_patch_that_is_attached() {
    let ledger = [opened("reads", &[]), attached("p"), gated("run-1-a", gate::Verdict::Pass)]
        .into_iter()
        .fold(Ledger::default(), |ledger, event| with(ledger, Some(A), event));
    let Event::Measured(mut of_another) = measured("run-1-a") else { unreachable!() };
    of_another.sides[1] = "d".repeat(12);
    assert!(refused(&ledger, A, Event::Measured(of_another)).contains("not of its patch's"));
    let Event::Gated(mut of_another) = gated("run-1-b", gate::Verdict::Pass) else { unreachable!() };
    of_another.variant = "d".repeat(12);
    assert!(refused(&ledger, A, Event::Gated(of_another)).contains("not of its patch's"));
}

#[test]
fn two_branches_keep_what_each_of_them_did() {
    let base = acceptable(acceptable(Ledger::default(), A, &[], "p"), B, &[], "q");
    let one = with(base.clone(), Some(A), accepted(&["p"]));
    let other = with(base.clone(), Some(B), parked());
    let joined = history(&merge(&one, &other).unwrap());
    assert_eq!((joined.experiments[A].state, joined.experiments[B].state), (State::Accepted, State::Parked));
    assert_eq!((&joined.series[..], &joined.tip), (&[A.to_owned()][..], &Some(tip(&["p"]))));
    // Both accepted one: the tip of both has no commit until it is derived.
    let other = with(base, Some(B), accepted(&["q"]));
    let merged = merge(&one, &other).unwrap();
    let joined = history(&merged);
    assert_eq!((joined.series.len(), &joined.tip), (2, &None));
    assert_eq!(history(&merge(&other, &one).unwrap()), joined, "whoever merges");
    let both: Vec<String> = joined.accepted().into_iter().map(|patch| patch.sha256).collect();
    let derived = TipRef { patches: both, ..tip(&["p", "q"]) };
    assert_eq!(history(&with(merged.clone(), None, Event::TipDerived(derived.clone()))).tip, Some(derived));
    let wrong = merged.next(
        Draft { experiment: None, event: Event::TipDerived(tip(&["p"])), files: Default::default() },
        "2026-06-01T00:00:00Z",
        origin(),
    );
    assert!(matches!(joined.allows(&wrong), Err(Illegal::Mismatch { .. })));
}

#[test]
fn two_verdicts_on_one_experiment_are_a_dispute_not_a_guess() {
    let base = acceptable(Ledger::default(), A, &[], "p");
    let one = with(base.clone(), Some(A), accepted(&["p"]));
    let other = with(base, Some(A), rejected(None));
    let merged = merge(&one, &other).unwrap();
    let joined = history(&merged);
    let experiment = &joined.experiments[A];
    let mut states = experiment.dispute.as_ref().unwrap().states;
    states.sort();
    assert_eq!(states, [State::Accepted, State::Rejected]);
    assert_eq!(
        (experiment.state, experiment.decision.is_none(), experiment.steps.len()),
        (State::Inconclusive, true, 7)
    );
    assert!(joined.series.is_empty() && joined.tip.is_none(), "disputed patches are in no tip");
    assert!(!allowed(&merged, A, accepted(&["p"])));
    // Somebody takes it up again, and it is settled.
    let again = Event::Reopened(Reopened { reason: "two branches disagree".into(), has_patch: true });
    let settled = with(merged, Some(A), again);
    assert!(history(&settled).experiments[A].dispute.is_none());
    assert_eq!(history(&settled).experiments[A].state, State::Proposed);
}

#[test]
fn what_does_not_work_is_kept_with_its_source() {
    let elsewhere = NonStarter { technique: "EPOLLONESHOT".into(), reason: "drops the other interest".into() };
    let ledger = with(Ledger::default(), None, Event::NonStarter(elsewhere.clone()));
    let ledger = with(ledger, Some(A), opened("reads", &[]));
    let rejection = Rejected { reason: "always slower".into(), non_starter: true, tip: None };
    let known = history(&with(ledger, Some(A), Event::Rejected(rejection))).non_starters;
    assert_eq!((&known[0].what, &known[0].experiment), (&elsewhere, &None));
    assert_eq!((known[1].what.technique.as_str(), known[1].experiment.as_deref()), ("evbuffer", Some(A)));
}

#[test]
fn ids_are_allocated_from_what_is_known() {
    let ledger = acceptable(Ledger::default(), "EXP-0041-reads-00000a", &[], "p");
    let draft = |title: &str| Draft { experiment: None, event: opened(title, &[]), files: Default::default() };
    let allocate = |title: &str, head: &str| history(&ledger).allocate("Larger reads", head, "t", "h", &draft(title));
    assert!(allocate("x", ledger.head()).starts_with("EXP-0042-larger-reads-"));
    assert_ne!(allocate("x", "one head"), allocate("x", "another"), "two branches");
    assert_ne!(allocate("x", "one head"), allocate("y", "one head"));
}
