//! What an entry says has to fit what the entries before it say.

use super::{Experiment, History, Illegal, Tried};
use crate::decision::Verdict;
use crate::experiment::{State, layout};
use crate::ledger::Entry;
use crate::ledger::event::{About, Event, Explained, TipRef};

/// What stands against starting from a tip that a merge, or a rejection under later patches, has left.
pub const UNSETTLED: &str = "nobody has gated the tip that the accepted patches come to (two branches that had both accepted \
                             some were merged, or one was taken out from under later ones): `cargo xtask tip --record` does, \
                             and records it";

/// A patch that is to be given to an experiment.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// SHA-256 of its file.
    pub patch: &'a str,
    /// Tree hash of the experiment's tip with it; `None` before it is applied.
    pub tree: Option<&'a str>,
    /// SHA-256 of the test patch.
    pub test_patch: Option<&'a str>,
    /// Why the same code is given once more.
    pub reason: Option<&'a str>,
}

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
        if let Some((what, attempt)) = of_attempt(&entry.event)
            && attempt != known.attempt
        {
            return mismatch(format!(
                "{what} is of attempt {attempt}, and it is at attempt {} now; run the same command again",
                known.attempt
            ));
        }
        let variant = known.attached.as_ref().map(|attached| attached.variant.as_str());
        let of_candidate = |said: &str| variant == Some(said);
        let accepted = || self.accepted().into_iter().map(|patch| patch.sha256);
        match &entry.event {
            Event::Attached(attached) => self.attachable(
                known,
                &Offered {
                    patch: &attached.patch.sha256,
                    tree: attached.tree.as_deref(),
                    test_patch: attached.test_patch.as_ref().map(|patch| patch.sha256.as_str()),
                    reason: attached.reason.as_deref(),
                },
            ),
            Event::Begun(_) if known.begun.is_some() => {
                mismatch("this attempt was begun already, and its options cannot change on the way".to_owned())
            }
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
                    if entry.origin.as_ref().and_then(|origin| origin.harness_dirty) == Some(true) {
                        let why = "it would be accepted by a harness with changes that no commit has".to_owned();
                        return Err(Illegal::NotAcceptable { experiment, why });
                    }
                }
                let patch = known.attached.as_ref().map(|attached| attached.patch.sha256.clone());
                let Some(patch) = patch else {
                    return Err(Illegal::NotAcceptable { experiment, why: "it has no patch".to_owned() });
                };
                self.check_tip(id, acceptance.tip(), &accepted().chain([patch]).collect::<Vec<_>>())
            }
            Event::Rejected(rejected) => match (&rejected.tip, known.state == State::Accepted) {
                (Some(tip), true) => self.check_tip(id, tip, &self.accepted_without(id)),
                (None, false) => Ok(()),
                (None, true) if self.leaves_ungated(&self.accepted_without(id)) => Ok(()),
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
        if experiment.decided_unclean {
            return not(
                "decided by a harness with changes that no commit has, and its rules may be among them".to_owned()
            );
        }
        match &experiment.decision {
            Some(decision) if decision.verdict == Verdict::Accept => Ok(()),
            Some(decision) => not(format!("the decision is {}: {}", decision.verdict.name(), decision.headline())),
            None => not("nothing has decided on this attempt".to_owned()),
        }
    }

    /// Whether a patch may be given to an experiment: not one whose code it has had on this tip. Attached again, it would be
    /// gated and measured with other seeds, and nobody would have said why. With other tests, it is another thing to gate; but
    /// where a gate or a comparison has answered already, somebody says why.
    ///
    /// # Errors
    /// What to do instead.
    pub fn attachable(&self, experiment: &Experiment, offered: &Offered<'_>) -> Result<(), Illegal> {
        let refused = |why: String| Err(Illegal::Mismatch { experiment: experiment.id.clone(), why });
        let same_code = |tried: &&Tried| tried.is_same_code(&experiment.base, offered.patch, offered.tree);
        let same = |tried: &&Tried| same_code(tried) && tried.test_patch.as_deref() == offered.test_patch;
        if experiment.tried.iter().any(|tried| same(&tried)) {
            let instead = if experiment.tried.last().is_some_and(|tried| same(&tried)) {
                format!("`cargo xtask exp resume {} --reason \"...\"`", experiment.id)
            } else {
                "open another experiment with --follows".to_owned()
            };
            return refused(format!(
                "it has had this patch on this tip before; to gate and measure it anew, say why: {instead}"
            ));
        }
        let is_said = offered.reason.is_some_and(|reason| !reason.trim().is_empty());
        if !is_said && experiment.tried.iter().filter(same_code).any(|tried| tried.is_answered) {
            return refused(
                "it has had this patch on this tip before, with other tests, and an answer; to gate and measure it anew, \
                 say why with --reason"
                    .to_owned(),
            );
        }
        Ok(())
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
        // Who types another name is the same person all the same.
        let name = |text: &String| text.trim().to_lowercase();
        let proposed: Vec<String> = experiment.author.iter().chain(&experiment.user).map(name).collect();
        let mut explains = std::iter::once(&explained.by).chain(&explained.user);
        if let Some(same) = explains.find(|who| proposed.contains(&name(who))) {
            return mismatch(format!("{} proposed it; somebody else has to explain it", same.trim()));
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

/// What an entry found out and of which attempt, where it says so.
fn of_attempt(event: &Event) -> Option<(&'static str, u32)> {
    let (what, attempt) = match event {
        Event::Begun(begun) => ("the run", Some(begun.attempt)),
        Event::Gated(gated) => ("the gate", gated.attempt),
        Event::Profiled(profiled) => ("the profile", profiled.attempt),
        Event::Measured(measured) => ("the comparison", measured.attempt),
        Event::Decided(decided) => ("the decision", decided.attempt),
        _ => return None,
    };
    Some((what, attempt?))
}
