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
    let here = |ledger: &Ledger| {
        let history = history(ledger);
        let attempts = history.attempts(&history.experiments[A]);
        (attempts.here, attempts.with_reason)
    };
    assert_eq!(here(&once), (1, 0));
    let said = refused(&once, A, attached("p"));
    assert!(said.contains("had this patch on this tip before") && said.contains("--reason"), "{said}");
    // Nor by way of another one, which leaves its place in the count.
    let other = with(once.clone(), Some(A), attached("q"));
    assert_eq!(here(&other), (1, 0));
    assert!(refused(&other, A, attached("p")).contains("--follows"));
    // After a verdict that is none, or when it was put aside, just as little.
    for last in [decided(Verdict::Inconclusive), decided(Verdict::InfraError), parked()] {
        let ended = with(once.clone(), Some(A), last);
        assert!(!allowed(&ended, A, attached("p")));
        assert!(allowed(&ended, A, attached("q")));
        let again = with(ended, Some(A), reopened());
        assert_eq!(here(&again), (2, 1), "with a reason it is, and it is counted");
    }
    // With other tests, it is another thing to gate, but no other answer is asked for without a reason; on another tip, it is
    // another thing to measure.
    let with_tests = |reason: Option<&str>| {
        attached_as("p", |attached| {
            attached.test_patch = Some(file("p.tests.patch", "tests"));
            attached.reason = reason.map(str::to_owned);
        })
    };
    for reason in [None, Some(" ")] {
        let said = refused(&once, A, with_tests(reason));
        assert!(said.contains("with other tests") && said.contains("--reason"), "{said}");
    }
    let tests = with(once.clone(), Some(A), with_tests(Some("they do not compile")));
    assert_eq!(here(&tests), (2, 1), "it is the same patch all the same");
    let unanswered = [opened("x", &[]), attached("p")].into_iter().fold(Ledger::default(), |l, e| with(l, Some(A), e));
    let tests = with(unanswered, Some(A), with_tests(None));
    assert_eq!(here(&tests), (2, 0), "nothing was known of it, so nobody has to say why");
    let Event::Attached(patch) = attached("p") else { unreachable!() };
    let rebased = with(once, Some(A), Event::Rebased(Rebased { base: tip(&["other"]), patch: Some(patch) }));
    assert_eq!(here(&rebased), (1, 0));
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

#[test]
fn a_patch_is_what_it_comes_to_not_how_its_file_is_written() {
    let as_tree = |patch: &str, tree: &str| attached_as(patch, |attached| attached.tree = Some(tree.to_owned()));
    let steps = |id: &str, ledger: Ledger, patch: &str| {
        let steps = [opened(id, &[]), as_tree(patch, "t1"), gated("run-1-a", gate::Verdict::Pass)];
        steps.into_iter().fold(ledger, |ledger, event| with(ledger, Some(id), event))
    };
    let once = steps(A, Ledger::default(), "p");
    // A line above the diff makes another file of the same changes.
    assert!(refused(&once, A, as_tree("words and p", "t1")).contains("had this patch on this tip before"));
    assert!(allowed(&once, A, as_tree("q", "t2")));
    // Entries from before know the file alone, and are held against it.
    assert!(!allowed(&once, A, attached("p")) && allowed(&once, A, attached("words and p")));
    // Another experiment with it is another place, and no other count.
    let twice = steps(B, once, "words and p");
    let joined = history(&twice);
    for (id, other) in [(A, B), (B, A)] {
        let attempts = joined.attempts(&joined.experiments[id]);
        assert_eq!((attempts.here, &attempts.elsewhere), (1, &[(other.to_owned(), 1)].into()));
        assert!(attempts.said().contains(&format!("1 more as {other}")), "{}", attempts.said());
    }
    // In a file, giving it again is tampering.
    let mut forged = steps(A, Ledger::default(), "p");
    forged.push(entry(&forged, A, as_tree("words and p", "t1"))).unwrap();
    assert_eq!(History::of(&forged).unwrap_err().0, 4);
}

#[test]
fn attempts_that_both_branches_have_are_counted_once() {
    let base = [opened("x", &[]), attached("p")].into_iter().fold(Ledger::default(), |l, e| with(l, Some(A), e));
    // One has its answer in one branch; both branches went on.
    let one = with(base.clone(), Some(A), gated("run-1-a", gate::Verdict::Pass));
    let other = with(base, Some(A), parked());
    for merged in [merge(&one, &other).unwrap(), merge(&other, &one).unwrap()] {
        let joined = history(&merged);
        let experiment = &joined.experiments[A];
        assert!(experiment.dispute.is_some());
        assert_eq!((experiment.tried.len(), joined.attempts(experiment).here), (1, 1));
        assert!(experiment.tried[0].is_answered);
    }
}

#[test]
fn what_was_found_of_one_attempt_is_not_written_of_another() {
    let of = |attempt: u32| {
        let Event::Gated(mut gated) = gated("run-1-a", gate::Verdict::Pass) else { unreachable!() };
        gated.attempt = Some(attempt);
        Event::Gated(gated)
    };
    let first = [opened("x", &[]), attached("p")].into_iter().fold(Ledger::default(), |l, e| with(l, Some(A), e));
    assert!(allowed(&first, A, of(1)) && !allowed(&first, A, of(2)));
    // Meanwhile, somebody gives it the same patch with tests: the variant is the same, the attempt is not.
    let tests = attached_as("p", |attached| attached.test_patch = Some(file("p.tests.patch", "tests")));
    let second = with(first, Some(A), tests);
    let said = refused(&second, A, of(1));
    assert!(said.contains("the gate is of attempt 1, and it is at attempt 2 now"), "{said}");
    let second = with(second, Some(A), of(2));
    let (Event::Measured(mut measured), Event::Profiled(mut profiled), Event::Decided(mut decided)) =
        (measured_one(), profiled("run-1-a"), decided(Verdict::Accept))
    else {
        unreachable!()
    };
    (measured.attempt, profiled.attempt, decided.attempt) = (Some(1), Some(1), Some(1));
    for event in [Event::Measured(measured), Event::Profiled(profiled), Event::Decided(decided)] {
        assert!(refused(&second, A, event).contains("of attempt 1"));
    }
}

#[test]
fn how_an_attempt_is_run_is_written_once_and_is_of_that_attempt() {
    let open = with(Ledger::default(), Some(A), opened("x", &[]));
    assert!(refused(&open, A, begun(0)).contains("attach a patch"));
    let proposed = with(open, Some(A), attached("p"));
    assert!(refused(&proposed, A, begun(2)).contains("the run is of attempt 2"));
    let running = with(proposed, Some(A), begun(1));
    let known = &history(&running).experiments[A];
    assert_eq!((known.state, known.begun.as_ref().map(|begun| begun.budget_s)), (State::Proposed, Some(30.0)));
    assert!(refused(&running, A, begun(1)).contains("options cannot change"));
    let again = [gated("run-1-a", gate::Verdict::Pass), reopened()];
    let again = again.into_iter().fold(running, |ledger, event| with(ledger, Some(A), event));
    assert!(history(&again).experiments[A].begun.is_none() && allowed(&again, A, begun(2)));
    assert_eq!(reread(&again).unwrap(), again);
}

#[test]
fn nobody_explains_under_another_name_what_they_proposed() {
    let Event::Opened(mut by_ann) = opened("x", &[]) else { unreachable!() };
    (by_ann.author, by_ann.user) = (Some("The Author".into()), Some("ann".into()));
    let steps = [
        Event::Opened(by_ann),
        attached("p"),
        gated("run-1-a", gate::Verdict::Pass),
        profiled("run-1-a"),
        measured_one(),
        asking(Verdict::Park, Topic::Profile),
    ];
    let asked = steps.into_iter().fold(Ledger::default(), |ledger, event| with(ledger, Some(A), event));
    let explains = |by: &str, user: Option<&str>| {
        let Event::Explained(mut explained) = explained(About::Profile, by) else { unreachable!() };
        explained.user = user.map(str::to_owned);
        Event::Explained(explained)
    };
    for (by, user) in
        [("Bob (user ann)", Some("ann")), ("Bob", Some(" Ann")), ("the author", Some("bob")), ("ann", None)]
    {
        assert!(refused(&asked, A, explains(by, user)).contains("somebody else has to explain"), "{by} {user:?}");
    }
    assert!(allowed(&asked, A, explains("Bob", Some("bob"))));
}

#[test]
fn an_acceptance_is_not_earned_by_rules_that_no_commit_has() {
    let dirty = |entry: &Entry| {
        let mut entry = entry.clone();
        entry.origin.as_mut().unwrap().harness_dirty = Some(true);
        entry
    };
    let ledger = acceptable(Ledger::default(), A, &[], "p");
    // Accepted by a changed harness: its rules may be changed as well.
    let acceptance = entry(&ledger, A, accepted(&["p"]));
    assert_eq!(history(&ledger).allows(&acceptance), Ok(()));
    let said = history(&ledger).allows(&dirty(&acceptance)).unwrap_err().to_string();
    assert!(said.contains("cannot be accepted") && said.contains("changes that no commit has"), "{said}");
    assert_eq!(history(&ledger).allows(&dirty(&entry(&ledger, A, forced(&["p"])))), Ok(()), "a person may");
    let mut forged = ledger.clone();
    forged.push(dirty(&acceptance)).unwrap();
    assert_eq!(History::of(&forged).unwrap_err().0, 6, "in a file, it is tampering");
    // Decided by one: the rule is put back, and the decision that it made stays worth nothing.
    let decided_dirty = unclean(&with(ledger.clone(), Some(A), decided(Verdict::Accept)));
    assert!(history(&decided_dirty).experiments[A].decided_unclean);
    let said = refused(&decided_dirty, A, accepted(&["p"]));
    assert!(said.contains("decided by a harness with changes"), "{said}");
    assert!(allowed(&decided_dirty, A, forced(&["p"])));
    // Decided again by a clean one, it stands.
    let again = with(decided_dirty, Some(A), decided(Verdict::Accept));
    assert!(allowed(&again, A, accepted(&["p"])));
}

const C: &str = "EXP-0003-sockets-00000c";
const D: &str = "EXP-0004-http-00000d";

/// Accepts a patch on a tip, as it is earned.
fn accepts(ledger: Ledger, id: &str, base: &[&str], patch: &str) -> Ledger {
    let whole: Vec<&str> = base.iter().copied().chain([patch]).collect();
    with(acceptable(ledger, id, base, patch), Some(id), accepted(&whole))
}

#[test]
fn a_tip_that_a_rejection_leaves_is_one_only_if_somebody_has_gated_it() {
    let three = accepts(accepts(accepts(Ledger::default(), A, &[], "p"), B, &["p"], "q"), C, &["p", "q"], "r");
    let opens = |ledger: &Ledger, base: &[&str]| history(ledger).allows(&entry(ledger, D, opened("d", base)));
    // The last one goes: what is left was the tip before, and was gated as it is.
    assert!(refused(&three, C, rejected(None)).contains("names no tip without it"));
    let two = with(three.clone(), Some(C), rejected(Some(tip(&["p", "q"]))));
    assert_eq!(history(&two).tip, Some(tip(&["p", "q"])));
    assert_eq!(opens(&two, &["p", "q"]), Ok(()));
    // One below it goes: `q` alone was never gated, whatever tip an entry names.
    for named in [None, Some(tip(&["q"]))] {
        let one = with(two.clone(), Some(A), rejected(named));
        assert!(history(&one).is_unsettled() && history(&one).tip.is_none());
        assert!(opens(&one, &["q"]).unwrap_err().to_string().contains("nobody has gated the tip"));
        let recorded = with(one.clone(), None, Event::TipDerived(derived(tip(&["q"]))));
        assert_eq!(opens(&recorded, &["q"]), Ok(()));
        // And the last of all leaves pristine.
        let none = with(one, Some(B), rejected(Some(tip(&[]))));
        assert!(!history(&none).is_unsettled() && opens(&none, &[]).is_ok());
    }
    // Not the last one by place, but a tip that there was: `p` and `r` were gated after `q` had gone.
    let without_b = with(three, Some(B), rejected(None));
    let recorded = with(without_b, None, Event::TipDerived(derived(tip(&["p", "r"]))));
    let more = accepts(recorded, D, &["p", "r"], "s");
    let less = with(more, Some(D), rejected(Some(tip(&["p", "r"]))));
    assert_eq!(history(&less).tip, Some(tip(&["p", "r"])));
    // What came first alone was a tip as well, and `r` alone never was.
    assert!(!history(&with(less.clone(), Some(C), rejected(Some(tip(&["p"]))))).is_unsettled());
    assert!(history(&with(less, Some(A), rejected(None))).is_unsettled());
}

#[test]
fn branches_that_do_not_go_together_can_be_taken_apart_again() {
    const E: &str = "EXP-0005-dns-00000e";
    // A, then B on it, in one branch; C, then D on it, in the other.
    let one = accepts(accepts(Ledger::default(), A, &[], "a1"), B, &["a1"], "a2");
    let other = accepts(accepts(Ledger::default(), C, &[], "b1"), D, &["b1"], "b2");
    for merged in [merge(&one, &other).unwrap(), merge(&other, &one).unwrap()] {
        assert!(history(&merged).is_unsettled());
        // Nobody can say what the other three come to, and nobody has to.
        let mut ledger = merged;
        for id in [C, D] {
            ledger = with(ledger, Some(id), rejected(None));
        }
        let left = history(&ledger);
        assert_eq!((&left.series[..], left.is_unsettled()), (&[A.to_owned(), B.to_owned()][..], true));
        assert!(refused(&ledger, E, opened("e", &["a1", "a2"])).contains("tip --record"));
        let settled = with(ledger, None, Event::TipDerived(derived(tip(&["a1", "a2"]))));
        assert!(allowed(&settled, E, opened("e", &["a1", "a2"])));
        assert_eq!(reread(&settled).unwrap(), settled);
    }
}

#[test]
fn a_life_of_several_experiments_through_a_merge_is_replayed_as_it_was_written() {
    // Accepted on pristine; another one starts from there, and one is under way from before.
    let under_way = acceptable(Ledger::default(), C, &[], "r");
    let base = accepts(under_way, A, &[], "p");
    let stale = history(&base);
    assert!(stale.needs_rebase(&stale.experiments[C]).is_some());
    assert!(refused(&base, C, accepted(&["p", "r"])).contains("rebase"), "it was measured against another tip");
    // One branch rebases and accepts it; the other takes the accepted one out again.
    let Event::Attached(on_tip) = attached("r") else { unreachable!() };
    let rebased = Event::Rebased(Rebased { base: tip(&["p"]), patch: Some(on_tip) });
    let steps =
        [rebased, begun(2), gated("run-2-a", gate::Verdict::Pass), measured("run-2-a"), decided(Verdict::Accept)];
    let one = steps.into_iter().fold(base.clone(), |ledger, event| with(ledger, Some(C), event));
    assert_eq!(history(&one).attempts(&history(&one).experiments[C]).here, 1, "on this tip, the first");
    let one = with(one, Some(C), accepted(&["p", "r"]));
    let other = with(base, Some(A), rejected(Some(tip(&[]))));
    let merged = merge(&one, &other).unwrap();
    let joined = history(&merged);
    assert_eq!((&joined.series[..], joined.is_unsettled()), (&[C.to_owned()][..], true), "`r` alone: nobody gated it");
    // It is gated and recorded in two clones, each with its own record, and merged again: nothing is in the way.
    let derived_by = |digit: &str| {
        let mut recorded = derived(tip(&["r"]));
        recorded.gate.record_sha256 = digit.repeat(64);
        recorded
    };
    let clones = ["1", "2"].map(|digit| with(merged.clone(), None, Event::TipDerived(derived_by(digit))));
    let [first, second] = ["1", "2"].map(|digit| derived_by(digit).record().unwrap());
    assert_ne!(first, second, "two records, two files");
    let both = merge(&clones[0], &clones[1]).unwrap();
    assert_eq!(history(&both).tip, Some(tip(&["r"])));
    // Work goes on from there, and every prefix is a ledger that can be read.
    let whole = accepts(both, D, &["r"], "s");
    assert_eq!(reread(&whole).unwrap(), whole);
    assert_eq!((history(&whole).series.len(), history(&whole).tip), (2, Some(tip(&["r", "s"]))));
    let gone = with(whole, Some(D), rejected(Some(tip(&["r"]))));
    assert_eq!(history(&gone).tip, Some(tip(&["r"])), "gated by its own record");
}

#[test]
fn entries_from_before_are_read_as_they_were_written() {
    let ledger = acceptable(Ledger::default(), A, &[], "p");
    let text = ledger.text();
    for field in ["\"user\"", "\"tree\"", "\"attempt\"", "\"rule_sha256\"", "has_own_folder"] {
        assert!(!text.contains(field), "{field} is written only where it says something: {text}");
    }
    let mut before = derived(tip(&["p"]));
    before.gate.has_own_folder = false;
    assert_eq!(before.record().unwrap(), format!("tips/{:.12}/gate.json", before.tip.commit));
    let text = serde_json::to_string(&before).unwrap();
    assert!(!text.contains("has_own_folder"), "{text}");
    // No path is made of what is no hash.
    for forged in ["", "../../x", "0/1"] {
        let mut wrong = derived(tip(&["p"]));
        wrong.tip.commit = forged.to_owned();
        assert_eq!(wrong.record(), None);
        let mut wrong = derived(tip(&["p"]));
        wrong.gate.record_sha256 = forged.to_owned();
        assert_eq!(wrong.record(), None);
    }
}

#[test]
fn tests_that_were_accepted_are_part_of_the_tip_that_their_patches_make() {
    let with_tests = |patch: &str| {
        attached_as(patch, |attached| attached.test_patch = Some(file(&format!("{patch}.tests.patch"), patch)))
    };
    let steps = |ledger: Ledger, id: &str, base: &[&str], patch: &str, whole: &[&str]| {
        let steps = [
            opened(id, base),
            with_tests(patch),
            gated("run-1-a", gate::Verdict::Pass),
            measured_one(),
            decided(Verdict::Accept),
            accepted(whole),
        ];
        steps.into_iter().fold(ledger, |ledger, event| with(ledger, Some(id), event))
    };
    let ledger = steps(Ledger::default(), A, &[], "p", &["p"]);
    let ledger = accepts(ledger, B, &["p"], "q");
    let ledger = steps(ledger, C, &["p", "q"], "r", &["p", "q", "r"]);
    let of = |ledger: &Ledger, patches: &[&str]| {
        let tests = history(ledger).tests_of(&tip(patches).patches);
        tests.into_iter().map(|(id, file)| (id, file.path)).collect::<Vec<_>>()
    };
    let [a, c] = [(A, "p"), (C, "r")].map(|(id, patch)| (id.to_owned(), format!("{patch}.tests.patch")));
    assert_eq!(of(&ledger, &["p", "q", "r"]), [a.clone(), c.clone()]);
    assert_eq!(of(&ledger, &["p", "q"]), std::slice::from_ref(&a), "an earlier tip has those of its patches");
    assert_eq!(of(&ledger, &["q"]), []);
    // What nobody has accepted is in none.
    let proposed = [opened("d", &["p", "q", "r"]), with_tests("s")];
    let proposed = proposed.into_iter().fold(ledger.clone(), |ledger, event| with(ledger, Some(D), event));
    assert_eq!(of(&proposed, &["s"]), []);
    assert_eq!(of(&proposed, &["p", "q", "r"]), [a.clone(), c.clone()]);
    // What is out of the tip again was part of the tips that there were.
    let without = with(ledger, Some(A), rejected(None));
    assert_eq!((of(&without, &["p", "q"]), of(&without, &["q", "r"])), (vec![a], vec![c]));
}
