//! One experiment, as its entries left it.

use crate::decision::Decision;
use crate::experiment::State;
use crate::ledger::event::{
    Acceptance, Attached, Begun, Event, Explained, Forced, Gated, Measured, Opened, Prediction, Profiled, Reproduced,
    TipRef,
};
use crate::ledger::{Entry, Line};
use serde::Serialize;
use std::collections::BTreeMap;

/// One experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Its id, and the name of its folder.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// What should become faster, and why.
    pub hypothesis: String,
    /// Technique or tier of playbook/program.md.
    pub technique: String,
    /// What the profile should show.
    pub predictions: Vec<Prediction>,
    /// Experiment that it follows.
    pub follows: Option<String>,
    /// Who proposed it.
    pub author: Option<String>,
    /// User of the system who opened it.
    pub user: Option<String>,
    /// When it was opened.
    pub opened_at: String,
    /// Where it stands.
    pub state: State,
    /// Tip that it started from, or was rebased on.
    pub base: TipRef,
    /// Attempts so far: patches attached, and runs that were taken up again. Files carry its number; 0 before the first.
    pub attempt: u32,
    /// The patch of every attempt that had one, oldest first.
    pub tried: Vec<Tried>,
    /// Its patch.
    pub attached: Option<Attached>,
    /// How this attempt is run.
    pub begun: Option<Begun>,
    /// The gate of this attempt.
    pub gated: Option<Gated>,
    /// The profile of this attempt.
    pub profiled: Option<Profiled>,
    /// The comparison of this attempt.
    pub measured: Option<Measured>,
    /// Kinds of those entries of this attempt with a record that a harness with uncommitted changes has written.
    pub unclean: Vec<String>,
    /// What reviewers explained about this attempt.
    pub explained: Vec<Explained>,
    /// The newest decision on this attempt.
    pub decision: Option<Decision>,
    /// A harness with uncommitted changes made it, among which may be other rules.
    pub decided_unclean: bool,
    /// Its acceptance, also where it was taken out of the tip later.
    pub acceptance: Option<Acceptance>,
    /// Reason of the newest acceptance, rejection, parking or taking up again.
    pub reason: Option<String>,
    /// It was done again.
    pub reproduced: Vec<Reproduced>,
    /// Two branches went on with it, and not in the same way: it is out of the tip and has no decision until somebody takes it up
    /// again, rejects or forces it.
    pub dispute: Option<Dispute>,
    /// SHA-256 of every file that an entry speaks of, by path relative to its folder.
    pub files: BTreeMap<String, String>,
    /// Every entry about it, oldest first; both branches' where they were merged.
    pub steps: Vec<Step>,
}

/// A patch that was, or is, an attempt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Hash of the line that began the attempt.
    pub entry: String,
    /// Tip that it was on.
    pub base: TipRef,
    /// SHA-256 of the patch.
    pub patch: String,
    /// Tree hash of the tip with the patch, where it is known.
    pub tree: Option<String>,
    /// SHA-256 of the test patch.
    pub test_patch: Option<String>,
    /// Why it was begun, if somebody said so: taken up again, or given again with other tests.
    pub reason: Option<String>,
    /// A gate or a comparison has answered.
    pub is_answered: bool,
}

impl Tried {
    /// Whether it is the same code on the same tip. A patch's file may have other words around the same changes.
    pub(super) fn is_same_code(&self, base: &TipRef, patch: &str, tree: Option<&str>) -> bool {
        let same_tree = || tree.is_some() && self.tree.as_deref() == tree;
        self.base.is_same_code(base) && (self.patch == patch || same_tree())
    }
}

/// How often the code of an experiment was begun on its tip, in this experiment and others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// In this experiment, this attempt included; 0 without a patch.
    pub here: u32,
    /// Of these, without the first, those that were begun with a reason.
    pub with_reason: u32,
    /// In other experiments, by id.
    pub elsewhere: BTreeMap<String, u32>,
}

impl Attempts {
    /// The count in a sentence.
    pub fn said(&self) -> String {
        let again = self.here.saturating_sub(1);
        let mut text = format!("attempt {} of this patch on this tip", self.here);
        text += &match (again, self.with_reason) {
            (0, _) => String::new(),
            (again, with_reason) if with_reason == again => "; each after the first was begun with a reason".to_owned(),
            (again, with_reason) => {
                format!("; of the {again} after the first, {with_reason} were begun with a reason")
            }
        };
        for (id, count) in &self.elsewhere {
            text += &format!("; {count} more as {id}");
        }
        text
    }
}

/// What two branches did to one experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispute {
    /// State in each.
    pub states: [State; 2],
    /// Hash of the merge entry.
    pub merge: String,
}

/// One entry about an experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Hash of the line.
    pub hash: String,
    /// Sequence number.
    pub sequence: u64,
    /// By the clock of its host.
    pub time: String,
    /// That clock had been set back.
    pub clock_set_back: bool,
    /// Host id.
    pub host: String,
    /// Kind of the event.
    pub kind: &'static str,
    /// What it came to, in a few words.
    pub what: String,
}

impl Experiment {
    pub(super) fn opened(id: &str, opened: &Opened, entry: &Entry) -> Experiment {
        Experiment {
            id: id.to_owned(),
            title: opened.title.clone(),
            hypothesis: opened.hypothesis.clone(),
            technique: opened.technique.clone(),
            predictions: opened.predictions.clone(),
            follows: opened.follows.clone(),
            author: opened.author.clone(),
            user: opened.user.clone(),
            opened_at: entry.time.clone(),
            state: State::Open,
            base: opened.base.clone(),
            attempt: 0,
            tried: vec![],
            attached: None,
            begun: None,
            gated: None,
            profiled: None,
            measured: None,
            unclean: vec![],
            explained: vec![],
            decision: None,
            decided_unclean: false,
            acceptance: None,
            reason: None,
            reproduced: vec![],
            dispute: None,
            files: BTreeMap::new(),
            steps: vec![],
        }
    }

    /// Who forced its acceptance, if it is part of the tip by force.
    pub fn forced(&self) -> Option<&Forced> {
        self.acceptance.as_ref().filter(|_| self.state == State::Accepted)?.force()
    }

    /// Whether its acceptance was ever forced, also if it was taken out again.
    pub fn was_forced(&self) -> bool {
        self.acceptance.as_ref().is_some_and(Acceptance::is_forced)
    }

    /// When the newest entry was written.
    pub fn changed_at(&self) -> &str {
        self.steps.last().map_or(&self.opened_at, |step| &step.time)
    }

    pub(super) fn apply(&mut self, line: &Line, next: State) {
        let entry = &line.entry;
        self.state = next;
        self.files.extend(entry.files.clone());
        let is_dirty = entry.origin.as_ref().and_then(|origin| origin.harness_dirty) == Some(true);
        if is_dirty && matches!(entry.event, Event::Gated(_) | Event::Profiled(_) | Event::Measured(_)) {
            self.unclean.push(entry.event.kind().to_owned());
        }
        match &entry.event {
            Event::Attached(attached) => {
                self.begin_attempt();
                self.attached = Some(attached.clone());
            }
            Event::Rebased(rebased) => {
                self.begin_attempt();
                self.base = rebased.base.clone();
                self.attached = rebased.patch.clone();
            }
            Event::Reopened(reopened) => {
                self.begin_attempt();
                self.reason = Some(reopened.reason.clone());
            }
            Event::Begun(begun) => self.begun = Some(begun.clone()),
            Event::Gated(gated) => self.gated = Some(gated.clone()),
            Event::Profiled(profiled) => self.profiled = Some(profiled.clone()),
            Event::Measured(measured) => self.measured = Some(measured.clone()),
            Event::Explained(explained) => self.explained.push(explained.clone()),
            Event::Decided(decided) => {
                self.decision = Some(decided.decision.clone());
                // The newest one counts: a clean harness that decides again makes the one before it void.
                self.decided_unclean = is_dirty;
            }
            Event::Accepted(acceptance) => {
                self.reason = Some(acceptance.reason().to_owned());
                self.acceptance = Some(acceptance.clone());
                self.dispute = None;
            }
            Event::Rejected(rejected) => {
                self.reason = Some(rejected.reason.clone());
                self.dispute = None;
            }
            Event::Parked(because) => {
                self.reason = Some(because.reason.clone());
                self.dispute = None;
            }
            Event::Reproduced(reproduced) => self.reproduced.push(reproduced.clone()),
            Event::Opened(_) | Event::Noted(_) | Event::NonStarter(_) | Event::TipDerived(_) | Event::Merge => {}
        }
        if let (Event::Gated(_) | Event::Measured(_), Some(tried)) = (&entry.event, self.tried.last_mut()) {
            tried.is_answered = true;
        }
        // The outer: it begins an attempt; the inner: with a reason.
        let begins = match &entry.event {
            Event::Attached(attached) => Some(attached.reason.clone()),
            Event::Reopened(reopened) => Some(Some(reopened.reason.clone())),
            Event::Rebased(_) => Some(None),
            _ => None,
        };
        if let (Some(attached), Some(reason)) = (&self.attached, begins) {
            self.tried.push(Tried {
                entry: line.hash.clone(),
                base: self.base.clone(),
                patch: attached.patch.sha256.clone(),
                tree: attached.tree.clone(),
                test_patch: attached.test_patch.as_ref().map(|patch| patch.sha256.clone()),
                reason,
                is_answered: false,
            });
        }
        self.steps.push(Step {
            hash: line.hash.clone(),
            sequence: entry.sequence,
            time: entry.time.clone(),
            clock_set_back: entry.clock_set_back,
            host: entry.origin.as_ref().map_or("?", |origin| &origin.host).to_owned(),
            kind: entry.event.kind(),
            what: entry.event.in_short(),
        });
    }

    /// What was found of the attempt before says nothing of this one.
    fn begin_attempt(&mut self) {
        self.attempt += 1;
        self.begun = None;
        self.gated = None;
        self.profiled = None;
        self.measured = None;
        self.unclean.clear();
        self.explained.clear();
        self.decision = None;
        self.decided_unclean = false;
        self.dispute = None;
    }
}
