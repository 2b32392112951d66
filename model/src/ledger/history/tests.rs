//! What entries come to, and which no program would have written.

use super::{History, Illegal};
use crate::decision::{Topic, Verdict};
use crate::experiment::State;
use crate::gate;
use crate::ledger::event::{About, Because, Event, NonStarter, Rebased, Rejected, Reopened, Reproduced, TipRef};
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
    let whole = TipRef { patches: both, ..tip(&["p", "q"]) };
    let recorded = with(merged.clone(), None, Event::TipDerived(derived(whole.clone())));
    assert_eq!(history(&recorded).tip, Some(whole.clone()));
    let refused_at_large = |event: Event| {
        let draft = Draft { experiment: None, event, files: Default::default() };
        let said = joined.allows(&merged.next(draft, "2026-06-01T00:00:00Z", origin()));
        assert!(matches!(said, Err(Illegal::Mismatch { .. })), "{said:?}");
    };
    refused_at_large(Event::TipDerived(derived(tip(&["p"]))));
    // A tip that nobody has gated in full is not recorded, and nothing starts from it until somebody has.
    for (tier, verdict) in [
        (gate::Tier::Light, gate::Verdict::Pass),
        (gate::Tier::Full, gate::Verdict::Fail),
        (gate::Tier::Full, gate::Verdict::NotRun),
    ] {
        let mut wrong = derived(whole.clone());
        (wrong.gate.tier, wrong.gate.verdict) = (tier, verdict);
        refused_at_large(Event::TipDerived(wrong));
    }
    const C: &str = "EXP-0003-third-00000c";
    let open = |ledger: &Ledger| history(ledger).allows(&entry(ledger, C, opened("third", &["p", "q"])));
    assert!(open(&merged).unwrap_err().to_string().contains("nobody has gated the tip"), "not opened");
    assert_eq!(open(&recorded), Ok(()));
    // What is left of it is not gated either; pristine needs no gate.
    let order = history(&merged).series;
    let names = |id: &str| if id == A { "p" } else { "q" };
    let fewer = with(merged, Some(&order[0]), rejected(Some(tip(&[names(&order[1])]))));
    assert!(history(&fewer).is_unsettled() && open(&fewer).is_err());
    let none = with(fewer, Some(&order[1]), rejected(Some(tip(&[]))));
    assert!(!history(&none).is_unsettled() && open(&none).is_ok());
}

#[test]
fn a_note_or_a_reproduction_in_another_branch_is_no_dispute() {
    let base = with(acceptable(Ledger::default(), A, &[], "p"), Some(A), accepted(&["p"]));
    let note = |text: &str| Event::Noted(Because { reason: text.into() });
    let again = Event::Reproduced(Reproduced {
        holds: Some(true),
        decision: decision(Verdict::Accept),
        records: vec![file("reproduced-1-a/gate.json", "a")],
        summary: "it holds".into(),
    });
    // Both only say something beside: it is accepted, it is in the tip, and all was kept.
    let one = with(base.clone(), Some(A), note("look at this"));
    let other = with(base.clone(), Some(A), again);
    for merged in [merge(&one, &other).unwrap(), merge(&other, &one).unwrap()] {
        let joined = history(&merged);
        let experiment = &joined.experiments[A];
        assert_eq!((experiment.state, &experiment.dispute), (State::Accepted, &None));
        assert_eq!((joined.series.len(), &joined.tip), (1, &Some(tip(&["p"]))));
        assert_eq!((experiment.reproduced.len(), experiment.steps.len()), (1, 8));
        assert!(experiment.files.contains_key("reproduced-1-a/gate.json") && experiment.decision.is_some());
    }
    // One goes on, the other notes: what went on holds, whichever of the two it is.
    let gone = with(base, Some(A), rejected(Some(tip(&[]))));
    for merged in [merge(&one, &gone).unwrap(), merge(&gone, &other).unwrap()] {
        let joined = history(&merged);
        assert_eq!((joined.experiments[A].state, &joined.experiments[A].dispute), (State::Rejected, &None));
        assert!(joined.series.is_empty());
    }
    // An explanation that changed a decision is a decision: against another one, it is a dispute.
    let measured = [opened("x", &[]), attached("p"), gated("run-1-a", gate::Verdict::Pass), profiled("run-1-a")];
    let parked = [measured_one(), asking(Verdict::Park, Topic::Profile)];
    let base = measured.into_iter().chain(parked).fold(Ledger::default(), |l, e| with(l, Some(A), e));
    let explained_it = with(base.clone(), Some(A), explained(About::Profile, "a reviewer"));
    let decided_anew = with(explained_it.clone(), Some(A), decided(Verdict::Accept));
    let given_up = with(base.clone(), Some(A), rejected(None));
    assert!(history(&merge(&decided_anew, &given_up).unwrap()).experiments[A].dispute.is_some());
    assert!(history(&merge(&explained_it, &given_up).unwrap()).experiments[A].dispute.is_none());
    let noted = with(base, Some(A), note("x"));
    let joined = history(&merge(&explained_it, &noted).unwrap());
    assert_eq!(joined.experiments[A].explained.len(), 1);
}

fn measured_one() -> Event {
    measured("run-1-a")
}

#[test]
fn a_patch_is_not_tried_again_until_lucky() {
    let once = acceptable(Ledger::default(), A, &[], "p");
    assert_eq!(history(&once).experiments[A].attempts_of_patch(), 1);
    let said = refused(&once, A, attached("p"));
    assert!(said.contains("had this patch on this tip before") && said.contains("--reason"), "{said}");
    // Nor by way of another one, which leaves its place in the count.
    let other = with(once.clone(), Some(A), attached("q"));
    assert_eq!(history(&other).experiments[A].attempts_of_patch(), 1);
    assert!(refused(&other, A, attached("p")).contains("--follows"));
    // After a verdict that is none, or when it was put aside, just as little.
    for last in [decided(Verdict::Inconclusive), decided(Verdict::InfraError), parked()] {
        let ended = with(once.clone(), Some(A), last);
        assert!(!allowed(&ended, A, attached("p")));
        assert!(allowed(&ended, A, attached("q")));
        let again = with(ended, Some(A), reopened());
        assert_eq!(history(&again).experiments[A].attempts_of_patch(), 2, "with a reason it is, and it is counted");
    }
    // With other tests, it is another thing to gate; on another tip, another thing to measure.
    let Event::Attached(mut with_tests) = attached("p") else { unreachable!() };
    with_tests.test_patch = Some(file("p.tests.patch", "tests"));
    let tests = with(once.clone(), Some(A), Event::Attached(with_tests));
    assert_eq!(history(&tests).experiments[A].attempts_of_patch(), 2, "it is the same patch all the same");
    let Event::Attached(patch) = attached("p") else { unreachable!() };
    let rebased = with(once, Some(A), Event::Rebased(Rebased { base: tip(&["other"]), patch: Some(patch) }));
    assert_eq!(history(&rebased).experiments[A].attempts_of_patch(), 1);
    // In a file, it is tampering.
    let mut forged = acceptable(Ledger::default(), A, &[], "p");
    forged.push(entry(&forged, A, attached("p"))).unwrap();
    assert_eq!(History::of(&forged).unwrap_err().0, 6);
}

#[test]
fn only_what_a_decision_asks_for_is_explained_and_not_by_who_proposed_it() {
    let Event::Opened(mut by_somebody) = opened("x", &[]) else { unreachable!() };
    by_somebody.author = Some("The Author".into());
    let mut attached_lines = attached("p");
    if let Event::Attached(attached) = &mut attached_lines {
        attached.screened = vec!["buffer.c:1 getenv".into()];
    }
    let ledger = |events: Vec<Event>| events.into_iter().fold(Ledger::default(), |l, e| with(l, Some(A), e));
    let gate = || gated("run-1-a", gate::Verdict::Pass);
    let mut steps = vec![Event::Opened(by_somebody), attached_lines];
    // In advance: while there is nothing that could be explained.
    for about in [About::Profile, About::Suspicion, About::Screened] {
        assert!(refused(&ledger(steps.clone()), A, explained(about, "x")).contains("run it first"), "{about:?}");
    }
    steps.extend([gate(), profiled("run-1-a"), measured("run-1-a")]);
    for about in [About::Profile, About::Suspicion, About::Screened] {
        let early = refused(&ledger(steps.clone()), A, explained(about, "x"));
        assert!(early.contains("no decision of this attempt asks for an explanation"), "{early}");
    }
    for (about, topic) in
        [(About::Profile, Topic::Profile), (About::Suspicion, Topic::Suspicion), (About::Screened, Topic::Screened)]
    {
        let asked = with(ledger(steps.clone()), Some(A), asking(Verdict::Park, topic));
        for other in [About::Profile, About::Suspicion, About::Screened] {
            assert_eq!(allowed(&asked, A, explained(other, "a reviewer")), other == about, "{about:?} {other:?}");
        }
        for author in ["The Author", " the author "] {
            assert!(refused(&asked, A, explained(about, author)).contains("somebody else has to explain"));
        }
        // Said once, it may be said better; another attempt is another thing to explain.
        let said = with(asked, Some(A), explained(about, "a reviewer"));
        let settled = with(said, Some(A), decided(Verdict::Accept));
        assert!(allowed(&settled, A, explained(about, "a reviewer")));
        assert!(!allowed(&with(settled, Some(A), reopened()), A, explained(about, "a reviewer")));
    }
    // A sentence that allows everything asks for nothing; and a profile that was not made cannot be explained.
    let fine = with(ledger(steps.clone()), Some(A), asking(Verdict::Accept, Topic::Profile));
    assert!(!allowed(&fine, A, explained(About::Profile, "a reviewer")));
    steps.remove(3);
    let without = with(ledger(steps), Some(A), asking(Verdict::Park, Topic::Profile));
    assert!(!allowed(&without, A, explained(About::Profile, "a reviewer")));
}

#[test]
fn what_a_harness_without_a_commit_has_written_earns_nothing() {
    let steps = |last: usize| {
        let events = [
            opened("x", &[]),
            attached("p"),
            gated("run-1-a", gate::Verdict::Pass),
            profiled("run-1-a"),
            measured_one(),
        ];
        events.into_iter().enumerate().fold(Ledger::default(), |ledger, (number, event)| {
            let ledger = with(ledger, Some(A), event);
            if number == last { unclean(&ledger) } else { ledger }
        })
    };
    for (number, kind) in [(2, "gated"), (3, "profiled"), (4, "measured")] {
        let ledger = with(steps(number), Some(A), decided(Verdict::Accept));
        assert_eq!(history(&ledger).experiments[A].unclean, [kind]);
        let said = refused(&ledger, A, accepted(&["p"]));
        assert!(said.contains(&format!("{kind} by a harness with changes that no commit has")), "{said}");
        assert!(allowed(&ledger, A, forced(&["p"])), "a person may");
        // What is measured anew with a clean one stands by itself.
        let again = [reopened(), gated("run-2-a", gate::Verdict::Pass), measured("run-2-a"), decided(Verdict::Accept)];
        let again = again.into_iter().fold(ledger, |ledger, event| with(ledger, Some(A), event));
        assert!(allowed(&again, A, accepted(&["p"])));
    }
    // Who hands in a patch may have changes.
    let ledger = with(steps(1), Some(A), decided(Verdict::Accept));
    assert!(allowed(&ledger, A, accepted(&["p"])));
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
