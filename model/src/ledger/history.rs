//! What the entries of a ledger come to: every experiment with its state, the accepted patches, what does not work. Pure.

mod check;
mod experiment;
mod illegal;
mod join;
#[cfg(test)]
mod tests;

pub use check::{Offered, UNSETTLED};
pub use experiment::{Attempts, Dispute, Experiment, Step, Tried};
pub use illegal::Illegal;

use super::event::{Event, FileRef, NonStarter, TipDerived, TipRef};
use super::{Draft, Entry, GENESIS, Ledger, Line};
use crate::experiment::{State, after, id};
use crate::gate::{Tier, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Everything that a ledger says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Every experiment, by id.
    pub experiments: BTreeMap<String, Experiment>,
    /// Ids of the accepted ones, in the order in which their patches apply.
    pub series: Vec<String>,
    /// What does not work, oldest first.
    pub non_starters: Vec<KnownNonStarter>,
    /// The newest tip that an entry tells; `None` before the first acceptance, and where nobody has gated what the accepted
    /// patches come to: after a merge of two branches that had different tips, and after a rejection under later patches.
    pub tip: Option<TipRef>,
    /// Patches of every tip that was one by an acceptance or a gate of its own, by SHA-256.
    pub settled: BTreeSet<Vec<String>>,
}

/// A technique that does not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNonStarter {
    /// The technique and the reason.
    pub what: NonStarter,
    /// The experiment that showed it; `None` if it is known from elsewhere.
    pub experiment: Option<String>,
    /// When it was written down.
    pub time: String,
}

/// A patch of the tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPatch {
    /// Whose.
    pub experiment: String,
    /// Relative to `experiments/`.
    pub path: String,
    /// Of the patch file.
    pub sha256: String,
    /// A person's word stands in the place of evidence.
    pub forced: bool,
}

impl History {
    /// Replays a ledger.
    ///
    /// # Errors
    /// The first entry that cannot follow those before it, with its line.
    pub fn of(ledger: &Ledger) -> Result<History, (usize, Illegal)> {
        let lines = ledger.lines();
        let mut followers: HashMap<&str, usize> = HashMap::new();
        for parent in lines.iter().flat_map(|line| &line.entry.parents) {
            *followers.entry(parent.as_str()).or_default() += 1;
        }
        let mut known: HashMap<&str, History> = HashMap::from([(GENESIS, History::default())]);
        // A history is copied only where two branches go on from it.
        let mut take = |known: &mut HashMap<&str, History>, hash: &str| {
            let left = followers.get_mut(hash)?;
            *left -= 1;
            if *left == 0 { known.remove(hash) } else { known.get(hash).cloned() }
        };
        for line in lines {
            let missing = "the chain was verified: what a line follows stands before it";
            let mut parents = line.entry.parents.iter().map(|parent| take(&mut known, parent).expect(missing));
            let first = parents.next().expect(missing);
            let history = match parents.next() {
                Some(second) => join::join(first, second, line),
                None => {
                    let mut history = first;
                    history.apply(line).map_err(|illegal| (line.number, illegal))?;
                    history
                }
            };
            known.insert(&line.hash, history);
        }
        Ok(known.remove(ledger.head()).unwrap_or_default())
    }

    /// Whether an entry may be appended.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, entry: &Entry) -> Result<(), Illegal> {
        let line = Line { number: 0, hash: String::new(), text: String::new(), entry: entry.clone() };
        self.clone().apply(&line)
    }

    /// The id of a new experiment, opened by a draft that follows `head`.
    pub fn allocate(&self, title: &str, head: &str, time: &str, host: &str, draft: &Draft) -> String {
        let content = serde_json::to_vec(&draft.event).expect("events are made of texts and numbers");
        let parts: [&[u8]; 4] = [head.as_bytes(), time.as_bytes(), host.as_bytes(), &content];
        id::allocate(self.experiments.keys().filter_map(|id| Some(id::parse(id)?.number)), title, &parts)
    }

    /// The experiments that a text names: an id, its beginning, or a number.
    pub fn named(&self, text: &str) -> Vec<&Experiment> {
        let ids = id::named(text, self.experiments.keys().map(String::as_str));
        ids.into_iter().filter_map(|id| self.experiments.get(id)).collect()
    }

    /// The patches of the tip, in order.
    pub fn accepted(&self) -> Vec<AcceptedPatch> {
        let patch = |id: &String| {
            let experiment = self.experiments.get(id)?;
            let patch = &experiment.attached.as_ref()?.patch;
            Some(AcceptedPatch {
                experiment: id.clone(),
                path: format!("{id}/{}", patch.path),
                sha256: patch.sha256.clone(),
                forced: experiment.forced().is_some(),
            })
        };
        self.series.iter().filter_map(patch).collect()
    }

    /// Test patches that were accepted with the patches of a tip, today's or an earlier one: experiment and file, in the order
    /// in which they apply.
    pub fn tests_of(&self, patches: &[String]) -> Vec<(String, FileRef)> {
        let accepted = |sha256: &String| {
            let has_it = |one: &&Experiment| one.attached.as_ref().is_some_and(|a| a.patch.sha256 == *sha256);
            let mut those = self.experiments.values().filter(|one| one.acceptance.is_some()).filter(has_it);
            // A patch may have been accepted again as another experiment's; the one that is in the tip counts.
            let first = those.next()?;
            let now = std::iter::once(first).chain(those).find(|one| self.series.contains(&one.id)).unwrap_or(first);
            Some((now.id.clone(), now.attached.as_ref()?.test_patch.clone()?))
        };
        patches.iter().filter_map(accepted).collect()
    }

    /// SHA-256 of the patches of the tip without that of one experiment.
    pub(super) fn accepted_without(&self, id: &str) -> Vec<String> {
        let left = self.accepted().into_iter().filter(|patch| patch.experiment != id);
        left.map(|patch| patch.sha256).collect()
    }

    /// Whether an experiment that is under way started from another tip than there is now, and so has to be rebased and
    /// measured anew; with a sentence that says so. `None`: what was measured still holds.
    pub fn needs_rebase(&self, experiment: &Experiment) -> Option<String> {
        if experiment.state.is_final() {
            return None;
        }
        let now: Vec<String> = self.accepted().into_iter().map(|patch| patch.sha256).collect();
        (experiment.base.patches != now).then(|| {
            format!(
                "it started from a tip of {}, and the tip has {} now: rebase it and measure it anew",
                patches(experiment.base.patches.len()),
                if now.len() == experiment.base.patches.len() { "others".to_owned() } else { patches(now.len()) }
            )
        })
    }

    /// Patches are accepted, and nobody has gated what they come to together: two branches were merged that both had
    /// accepted some, or a patch was taken out from under later ones. Nothing starts from such a tip.
    pub fn is_unsettled(&self) -> bool {
        self.tip.is_none() && !self.series.is_empty()
    }

    /// Whether a tip that a rejection leaves, with these patches, is one that nobody has gated. Pristine needs no gate; what is
    /// left of a tip that nobody has gated is not gated either.
    pub fn leaves_ungated(&self, patches: &[String]) -> bool {
        !patches.is_empty() && (self.is_unsettled() || !self.settled.contains(patches))
    }

    /// How often the code of an experiment was begun on its tip, in all experiments: who opens another one for it does not
    /// begin to count anew.
    pub fn attempts(&self, experiment: &Experiment) -> Attempts {
        let Some(now) = &experiment.attached else { return Attempts::default() };
        let same = |tried: &&Tried| tried.is_same_code(&experiment.base, &now.patch.sha256, now.tree.as_deref());
        let of = |experiment: &Experiment| experiment.tried.iter().filter(same).count() as u32;
        let others = self.experiments.values().filter(|other| other.id != experiment.id);
        let after_first = experiment.tried.iter().filter(same).skip(1);
        Attempts {
            here: of(experiment),
            with_reason: after_first.filter(|tried| tried.reason.is_some()).count() as u32,
            elsewhere: others.map(|other| (other.id.clone(), of(other))).filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// How many experiments are in a state.
    pub fn count(&self, state: State) -> usize {
        self.experiments.values().filter(|experiment| experiment.state == state).count()
    }

    /// The history with one more line, which is not a merge.
    ///
    /// # Errors
    /// If the entry cannot follow what is known; then nothing changes that matters.
    pub fn append(&mut self, line: &Line) -> Result<(), Illegal> {
        self.apply(line)
    }

    fn apply(&mut self, line: &Line) -> Result<(), Illegal> {
        let entry = &line.entry;
        let kind = entry.event.kind();
        let id = match (&entry.experiment, entry.event.is_of_experiment()) {
            (Some(id), true) => id,
            (None, true) => return Err(Illegal::Owner { kind, named: false }),
            // A technique that does not work may be known from an experiment, or from elsewhere.
            (Some(_), false) if !matches!(entry.event, Event::NonStarter(_)) => {
                return Err(Illegal::Owner { kind, named: true });
            }
            (_, false) => return self.apply_at_large(entry),
        };
        if id::parse(id).is_none() {
            return Err(Illegal::Id(id.clone()));
        }
        let state = self.experiments.get(id).map(|experiment| experiment.state);
        let next = after(state, &entry.event)
            .map_err(|refused| Illegal::Transition { experiment: id.clone(), refused })?
            .unwrap_or(State::Open);
        self.check(id, entry)?;
        if let Event::Opened(opened) = &entry.event {
            self.experiments.insert(id.clone(), Experiment::opened(id, opened, entry));
        }
        let experiment = self.experiments.get_mut(id).expect("it was opened");
        experiment.apply(line, next);
        match &entry.event {
            Event::Accepted(acceptance) => {
                self.series.push(id.clone());
                self.settled.insert(acceptance.tip().patches.clone());
                self.tip = Some(acceptance.tip().clone());
            }
            Event::Rejected(rejected) => {
                if rejected.non_starter {
                    let technique = experiment.technique.clone();
                    let what = NonStarter { technique, reason: rejected.reason.clone() };
                    self.non_starters.push(KnownNonStarter {
                        what,
                        experiment: Some(id.clone()),
                        time: entry.time.clone(),
                    });
                }
                if self.series.contains(id) {
                    let left = self.accepted_without(id);
                    // Whatever tip the entry names: a tip is one only when somebody has gated it.
                    self.tip = rejected.tip.clone().filter(|_| !self.leaves_ungated(&left));
                    self.series.retain(|accepted| accepted != id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_at_large(&mut self, entry: &Entry) -> Result<(), Illegal> {
        match &entry.event {
            Event::NonStarter(what) => {
                let (what, experiment) = (what.clone(), entry.experiment.clone());
                self.non_starters.push(KnownNonStarter { what, experiment, time: entry.time.clone() });
            }
            Event::TipDerived(TipDerived { tip, gate }) => {
                if gate.tier != Tier::Full || gate.verdict != Verdict::Pass {
                    let why = "it is recorded only after a full gate that it passed".to_owned();
                    return Err(Illegal::Mismatch { experiment: "the tip".to_owned(), why });
                }
                let accepted: Vec<String> = self.accepted().into_iter().map(|patch| patch.sha256).collect();
                self.check_tip("the tip", tip, &accepted)?;
                self.settled.insert(tip.patches.clone());
                self.tip = Some(tip.clone());
            }
            _ => {}
        }
        Ok(())
    }
}

fn patches(count: usize) -> String {
    match count {
        0 => "no patch".to_owned(),
        1 => "one patch".to_owned(),
        n => format!("{n} patches"),
    }
}
