//! Ledgers made by hand, for tests.

use super::chain;
use super::event::{
    About, Acceptance, Attached, Because, Begun, Decided, Event, Explained, FileRef, Forced, Gated, Measured, Opened,
    Profiled, Rejected, Reopened, TipDerived, TipGate, TipRef,
};
use super::{Draft, Ledger, Origin, sha256};
use crate::decision::{Decision, Reason, Topic, Verdict};
use crate::gate;
use std::collections::BTreeMap;

/// A ledger of so many entries that belong to no experiment.
pub(super) fn notes(count: usize, whose: &str) -> Ledger {
    extended(Ledger::default(), count, whose)
}

/// More of them.
pub(super) fn extended(ledger: Ledger, count: usize, whose: &str) -> Ledger {
    (0..count).fold(ledger, |ledger, number| {
        let known = crate::ledger::event::NonStarter {
            technique: format!("{whose} {number}"),
            reason: "it does not work".into(),
        };
        with(ledger, None, Event::NonStarter(known))
    })
}

/// One more entry, with the files that its event names.
pub(super) fn with(ledger: Ledger, experiment: Option<&str>, event: Event) -> Ledger {
    let time = format!("2026-01-01T00:{:02}:{:02}Z", ledger.lines().len() / 60, ledger.lines().len() % 60);
    at(ledger, experiment, event, &time)
}

/// The same at a time.
pub(super) fn at(mut ledger: Ledger, experiment: Option<&str>, event: Event, time: &str) -> Ledger {
    let files: BTreeMap<String, String> =
        event.files().into_iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
    let draft = Draft { experiment: experiment.map(str::to_owned), event, files };
    let entry = ledger.next(draft, time, origin());
    ledger.push(entry).unwrap();
    ledger
}

pub(super) fn origin() -> Origin {
    Origin { host: "host".into(), harness_commit: Some("c".repeat(40)), harness_dirty: Some(false) }
}

/// The file as bytes, and back.
pub(super) fn reread(ledger: &Ledger) -> Result<Ledger, chain::Fault> {
    chain::read(ledger.text().as_bytes()).map(|read| read.ledger)
}

pub(super) fn tip(patches: &[&str]) -> TipRef {
    let patches: Vec<String> = patches.iter().map(|patch| sha256(patch.as_bytes())).collect();
    TipRef { source_tree: "4".repeat(40), commit: sha256(patches.concat().as_bytes())[..40].to_owned(), patches }
}

pub(super) fn opened(title: &str, base: &[&str]) -> Event {
    Event::Opened(Opened {
        title: title.into(),
        hypothesis: format!("{title} is faster"),
        technique: "evbuffer".into(),
        predictions: vec![],
        base: tip(base),
        follows: None,
        author: None,
        user: None,
    })
}

pub(super) fn file(path: &str, content: &str) -> FileRef {
    FileRef { path: path.into(), sha256: sha256(content.as_bytes()) }
}

pub(super) fn attached(patch: &str) -> Event {
    let patch = file(&format!("{patch}.patch"), patch);
    let (variant, screened) = ("c".repeat(12), vec![]);
    Event::Attached(Attached { patch, test_patch: None, variant, screened, tree: None, reason: None })
}

/// The same, changed.
pub(super) fn attached_as(patch: &str, change: impl FnOnce(&mut Attached)) -> Event {
    let Event::Attached(mut event) = attached(patch) else { unreachable!() };
    change(&mut event);
    Event::Attached(event)
}

pub(super) fn begun(attempt: u32) -> Event {
    Event::Begun(Begun { attempt, tag: "a".into(), quick: false, workloads: vec![], budget_s: 30.0 })
}

pub(super) fn gated(run: &str, verdict: gate::Verdict) -> Event {
    Event::Gated(Gated {
        variant: "c".repeat(12),
        tier: gate::Tier::Full,
        verdict,
        failed: vec![],
        record: file(&format!("{run}/gate.json"), run),
        tests_changed: vec![],
        attempt: None,
    })
}

pub(super) fn measured(run: &str) -> Event {
    let record = file(&format!("{run}/compare.json"), run);
    let sides = ["b".repeat(12), "c".repeat(12)];
    Event::Measured(Measured { sides, record, samples: None, changes: vec![], attempt: None })
}

pub(super) fn decided(verdict: Verdict) -> Event {
    Event::Decided(Decided { decision: decision(verdict), attempt: None })
}

pub(super) fn decision(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        reasons: vec![],
        sides: ["b".repeat(12), "c".repeat(12)],
        gains: vec![],
        guarded_by_counts: vec![],
        suspicious: vec![],
        tests_changed: vec![],
        records: [None, None],
        rule_sha256: None,
    }
}

/// A decision whose sentence about a topic allows no more than its verdict.
pub(super) fn asking(verdict: Verdict, topic: Topic) -> Event {
    let reason = Reason { topic, allows: verdict, text: "nobody has explained it".into() };
    Event::Decided(Decided { decision: Decision { reasons: vec![reason], ..decision(verdict) }, attempt: None })
}

pub(super) fn profiled(run: &str) -> Event {
    let record = file(&format!("{run}/profile.json"), run);
    let sides = ["b".repeat(12), "c".repeat(12)];
    Event::Profiled(Profiled { sides, shifts: vec![], record, missing: vec![], attempt: None })
}

pub(super) fn explained(about: About, by: &str) -> Event {
    Event::Explained(Explained { about, text: "memmem".into(), by: by.into(), user: None })
}

pub(super) fn reopened() -> Event {
    Event::Reopened(Reopened { reason: "the host is quiet now".into(), has_patch: true })
}

/// A tip that passed its gate.
pub(super) fn derived(tip: TipRef) -> TipDerived {
    let gate = TipGate {
        variant: "d".repeat(12),
        tier: gate::Tier::Full,
        verdict: gate::Verdict::Pass,
        run: "run".into(),
        record_sha256: "e".repeat(64),
        has_own_folder: true,
    };
    TipDerived { tip, gate }
}

/// The ledger with its newest entry written by a harness with changes that no commit has.
pub(super) fn unclean(ledger: &Ledger) -> Ledger {
    let mut again = Ledger::default();
    let last = ledger.lines().len() - 1;
    for (number, line) in ledger.lines().iter().enumerate() {
        let mut entry = line.entry.clone();
        if number == last {
            entry.origin.as_mut().unwrap().harness_dirty = Some(true);
        }
        again.push(entry).unwrap();
    }
    again
}

/// An earned acceptance, as a ledger that was read has it.
pub(super) fn accepted(patches: &[&str]) -> Event {
    let forced = Acceptance::forced(Forced { by: "nobody".into(), against: vec![] }, "it is faster", tip(patches));
    let mut value = serde_json::to_value(forced).unwrap();
    value["forced"] = serde_json::Value::Null;
    Event::Accepted(serde_json::from_value(value).unwrap())
}

pub(super) fn forced(patches: &[&str]) -> Event {
    let forced = Forced { by: "somebody".into(), against: vec!["no profile".into()] };
    Event::Accepted(Acceptance::forced(forced, "I know better", tip(patches)))
}

pub(super) fn rejected(tip: Option<TipRef>) -> Event {
    Event::Rejected(Rejected { reason: "it is slower".into(), non_starter: false, tip })
}

pub(super) fn parked() -> Event {
    Event::Parked(Because { reason: "later".into() })
}

/// An experiment from its opening to a decision to accept.
pub(super) fn acceptable(ledger: Ledger, id: &str, base: &[&str], patch: &str) -> Ledger {
    let events = [
        opened(id, base),
        attached(patch),
        gated(&format!("run-1-{patch}"), gate::Verdict::Pass),
        measured(&format!("run-1-{patch}")),
        decided(Verdict::Accept),
    ];
    events.into_iter().fold(ledger, |ledger, event| with(ledger, Some(id), event))
}
