//! One experiment, as its entries left it.

use crate::decision::Decision;
use crate::experiment::State;
use crate::ledger::event::{
    Acceptance, Attached, Event, Explained, Forced, Gated, Measured, Opened, Prediction, Profiled, Reproduced, TipRef,
};
use crate::ledger::{Entry, Line};
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
    /// SHA-256 of the test patch.
    pub test_patch: Option<String>,
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
            opened_at: entry.time.clone(),
            state: State::Open,
            base: opened.base.clone(),
            attempt: 0,
            tried: vec![],
            attached: None,
            gated: None,
            profiled: None,
            measured: None,
            unclean: vec![],
            explained: vec![],
            decision: None,
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

    /// How often its patch was tried on its tip, this attempt included; 0 without a patch.
    pub fn attempts_of_patch(&self) -> u32 {
        let Some(now) = self.attached.as_ref().map(|attached| &attached.patch.sha256) else { return 0 };
        let same = |tried: &&Tried| tried.patch == *now && tried.base.is_same_code(&self.base);
        self.tried.iter().filter(same).count() as u32
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
            Event::Gated(gated) => self.gated = Some(gated.clone()),
            Event::Profiled(profiled) => self.profiled = Some(profiled.clone()),
            Event::Measured(measured) => self.measured = Some(measured.clone()),
            Event::Explained(explained) => self.explained.push(explained.clone()),
            Event::Decided(decided) => self.decision = Some(decided.decision.clone()),
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
        let begins = matches!(entry.event, Event::Attached(_) | Event::Rebased(_) | Event::Reopened(_));
        if let Some(attached) = self.attached.as_ref().filter(|_| begins) {
            self.tried.push(Tried {
                entry: line.hash.clone(),
                base: self.base.clone(),
                patch: attached.patch.sha256.clone(),
                test_patch: attached.test_patch.as_ref().map(|patch| patch.sha256.clone()),
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
        self.gated = None;
        self.profiled = None;
        self.measured = None;
        self.unclean.clear();
        self.explained.clear();
        self.decision = None;
        self.dispute = None;
    }
}
