//! What an entry says has to fit what the entries before it say.

use super::{Experiment, History, Illegal, Tried};
use crate::decision::Verdict;
use crate::experiment::{State, layout};
use crate::ledger::Entry;
use crate::ledger::event::{About, Event, Explained, TipRef};

/// What stands against starting from a tip that a merge has left.
const UNSETTLED: &str = "two branches that had both accepted patches were merged, and nobody has gated the tip that they \
                         come to: `cargo xtask tip --record` does, and records it";

impl History {
    /// What an entry says has to fit what is known before it.
    pub(super) fn check(&self, id: &str, entry: &Entry) -> Result<(), Illegal> {
        let experiment = id.to_owned();
        for (path, sha256) in &entry.files {
            if !layout::is_own(path) {
                return Err(Illegal::Path { experiment, path: path.clone() });
            }
            let before = self.experiments.get(id).and_then(|known| known.files.get(path));
            if before.is_some_and(|before| before != sha256) {
                return Err(Illegal::Overwritten { experiment, path: path.clone() });
            }
        }
        if let Some(file) =
            entry.event.files().into_iter().find(|file| entry.files.get(&file.path) != Some(&file.sha256))
        {
            return Err(Illegal::Unhashed { experiment, path: file.path.clone() });
        }
        let mismatch = |why: String| Err(Illegal::Mismatch { experiment: id.to_owned(), why });
        if self.is_unsettled() && matches!(entry.event, Event::Opened(_) | Event::Rebased(_) | Event::Accepted(_)) {
            return mismatch(UNSETTLED.to_owned());
        }
        let Some(known) = self.experiments.get(id) else { return Ok(()) };
        let variant = known.attached.as_ref().map(|attached| attached.variant.as_str());
        let of_candidate = |said: &str| variant == Some(said);
        let accepted = || self.accepted().into_iter().map(|patch| patch.sha256);
        match &entry.event {
            Event::Attached(attached) => self.attachable(
                known,
                &attached.patch.sha256,
                attached.test_patch.as_ref().map(|patch| patch.sha256.as_str()),
            ),
            Event::Explained(explained) => self.explainable(known, explained),
            Event::Gated(gated) if !of_candidate(&gated.variant) => {
                mismatch(format!("the gate is of variant {}, not of its patch's", gated.variant))
            }
            Event::Profiled(profiled) if !of_candidate(&profiled.sides[1]) => {
                mismatch(format!("the profile is of variant {}, not of its patch's", profiled.sides[1]))
            }
            Event::Measured(measured) if !of_candidate(&measured.sides[1]) => {
                mismatch(format!("the comparison is of variant {}, not of its patch's", measured.sides[1]))
            }
            Event::Reopened(reopened) if reopened.has_patch != known.attached.is_some() => {
                mismatch("it has a patch, or has none, against what the entry says".to_owned())
            }
            Event::Accepted(acceptance) => {
                if !acceptance.is_forced() {
                    self.acceptable(known)?;
                }
                let patch = known.attached.as_ref().map(|attached| attached.patch.sha256.clone());
                let Some(patch) = patch else {
                    return Err(Illegal::NotAcceptable { experiment, why: "it has no patch".to_owned() });
                };
                self.check_tip(id, acceptance.tip(), &accepted().chain([patch]).collect::<Vec<_>>())
            }
            Event::Rejected(rejected) => match (&rejected.tip, known.state == State::Accepted) {
                (Some(tip), true) => {
                    let without = self.accepted().into_iter().filter(|patch| patch.experiment != id);
                    self.check_tip(id, tip, &without.map(|patch| patch.sha256).collect::<Vec<_>>())
                }
                (None, false) => Ok(()),
                (None, true) => {
                    mismatch("its patch is part of the tip, and the entry names no tip without it".to_owned())
                }
                (Some(_), false) => {
                    mismatch("its patch is not part of the tip, and the entry names a new one".to_owned())
                }
            },
            _ => Ok(()),
        }
    }

    /// Whether nothing stands against accepting: the newest decision of this attempt says so, and was made against the tip
    /// that there is.
    ///
    /// # Errors
    /// What stands against it.
    pub fn acceptable(&self, experiment: &Experiment) -> Result<(), Illegal> {
        let not = |why: String| Err(Illegal::NotAcceptable { experiment: experiment.id.clone(), why });
        if let Some(why) = self.needs_rebase(experiment) {
            return not(why);
        }
        if !experiment.unclean.is_empty() {
            let steps = experiment.unclean.join(", ");
            return not(format!("{steps} by a harness with changes that no commit has"));
        }
        match &experiment.decision {
            Some(decision) if decision.verdict == Verdict::Accept => Ok(()),
            Some(decision) => not(format!("the decision is {}: {}", decision.verdict.name(), decision.headline())),
            None => not("nothing has decided on this attempt".to_owned()),
        }
    }

    /// Whether a patch may be given to an experiment: not one that it has had on this tip. Attached again, it would be measured
    /// with other seeds, and nobody would have said why.
    ///
    /// # Errors
    /// What to do instead.
    pub fn attachable(&self, experiment: &Experiment, patch: &str, test_patch: Option<&str>) -> Result<(), Illegal> {
        let same = |tried: &&Tried| {
            tried.patch == patch
                && tried.test_patch.as_deref() == test_patch
                && tried.base.is_same_code(&experiment.base)
        };
        if !experiment.tried.iter().any(|tried| same(&tried)) {
            return Ok(());
        }
        let instead = if experiment.tried.last().is_some_and(|tried| same(&tried)) {
            format!("`cargo xtask exp resume {} --reason \"...\"`", experiment.id)
        } else {
            "open another experiment with --follows".to_owned()
        };
        let why = format!("it has had this patch on this tip before; to gate and measure it anew, say why: {instead}");
        Err(Illegal::Mismatch { experiment: experiment.id.clone(), why })
    }

    /// Whether there is something to explain, and for this one: a decision of this attempt that names it, on a record of this
    /// attempt. Whoever proposed the patch does not explain it.
    ///
    /// # Errors
    /// Why not.
    pub fn explainable(&self, experiment: &Experiment, explained: &Explained) -> Result<(), Illegal> {
        let about = explained.about;
        let mismatch = |why: String| Err(Illegal::Mismatch { experiment: experiment.id.clone(), why });
        let has_record = match about {
            About::Profile => experiment.profiled.is_some(),
            About::Suspicion => experiment.measured.is_some(),
            About::Screened => experiment.attached.as_ref().is_some_and(|attached| !attached.screened.is_empty()),
        };
        let reasons = experiment.decision.iter().flat_map(|decision| &decision.reasons);
        let is_asked = reasons.into_iter().any(|r| r.topic == about.topic() && r.allows != Verdict::Accept);
        // Said once, it may be said better.
        let was_said = experiment.explained.iter().any(|before| before.about == about);
        if !has_record || !(is_asked || was_said) {
            let name = about.name();
            return mismatch(format!(
                "no decision of this attempt asks for an explanation of its {name}; run it first"
            ));
        }
        let name = |text: &str| text.trim().to_lowercase();
        if experiment.author.as_ref().is_some_and(|author| name(author) == name(&explained.by)) {
            return mismatch(format!("{} proposed it; somebody else has to explain it", explained.by.trim()));
        }
        Ok(())
    }

    pub(super) fn check_tip(&self, who: &str, tip: &TipRef, patches: &[String]) -> Result<(), Illegal> {
        if tip.patches == patches {
            return Ok(());
        }
        let why = match (tip.patches.len(), patches.len()) {
            (said, known) if said == known => "the entry's tip has other patches than those accepted".to_owned(),
            (said, known) => format!("the entry's tip has {said} patches, and those accepted are {known}"),
        };
        Err(Illegal::Mismatch { experiment: who.to_owned(), why })
    }
}
