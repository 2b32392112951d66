//! What the entries of a ledger come to: every experiment with its state, the accepted patches, what does not work. Pure.

mod check;
mod experiment;
mod illegal;
mod join;
#[cfg(test)]
mod tests;

pub use experiment::{Dispute, Experiment, Step, Tried};
pub use illegal::Illegal;

use super::event::{Event, NonStarter, TipDerived, TipRef};
use super::{Draft, Entry, GENESIS, Ledger, Line};
use crate::experiment::{State, after, id};
use crate::gate::{Tier, Verdict};
use std::collections::{BTreeMap, HashMap};

/// Everything that a ledger says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Every experiment, by id.
    pub experiments: BTreeMap<String, Experiment>,
    /// Ids of the accepted ones, in the order in which their patches apply.
    pub series: Vec<String>,
    /// What does not work, oldest first.
    pub non_starters: Vec<KnownNonStarter>,
    /// The newest tip that an entry tells; `None` before the first acceptance, and after a merge of two branches that had
    /// different ones, until somebody derives it.
    pub tip: Option<TipRef>,
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
    /// accepted some. Nothing starts from such a tip.
    pub fn is_unsettled(&self) -> bool {
        self.tip.is_none() && !self.series.is_empty()
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
                self.series.retain(|accepted| accepted != id);
                // What is left of a tip that nobody has gated is not gated either.
                if let Some(tip) = rejected.tip.as_ref().filter(|tip| self.tip.is_some() || tip.patches.is_empty()) {
                    self.tip = Some(tip.clone());
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
