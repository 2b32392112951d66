//! Evidence of an attempt, read from the experiment's folder and believed only as far as the ledger vouches for it.

use super::sides;
use crate::context::Context;
use crate::exp::steps::read_json;
use anyhow::{Context as _, Result};
use model::compare::CompareRecord;
use model::decision::{AcceptableDecision, Decision, DecisionRule, Evidence, ProfileEvidence, acceptable};
use model::gate::VerifyRecord;
use model::ledger::event::{Explained, FileRef};
use model::ledger::history::{Attempts, Experiment, History};
use model::thresholds::Thresholds;
use model::variant::Variant;

/// What decides, as it is today.
pub(crate) struct Rules {
    pub(crate) thresholds: Thresholds,
    pub(crate) rule: DecisionRule,
}

impl Rules {
    pub(crate) fn read(context: &Context) -> Result<Rules> {
        Ok(Rules {
            thresholds: Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?,
            rule: DecisionRule::parse(&context.config("decision.toml")?).context("config/decision.toml")?,
        })
    }
}

/// Records of an attempt; what was not done is `None`.
#[derive(Default)]
pub(crate) struct Records {
    /// Lines of the patch that a reviewer should look at.
    pub(crate) screened: Vec<String>,
    /// Steps whose entries a harness with uncommitted changes has written.
    pub(crate) unclean: Vec<String>,
    /// SHA-256 of the test patch that came with the patch.
    pub(crate) test_patch: Option<String>,
    /// How often this patch was tried on its tip; `None` beside the ledger.
    pub(crate) attempts: Option<Attempts>,
    pub(crate) gate: Option<VerifyRecord>,
    pub(crate) profile: Option<ProfileEvidence>,
    pub(crate) compare: Option<CompareRecord>,
    pub(crate) explained: Vec<Explained>,
    /// Why the host ended a step, if it did.
    pub(crate) ended: Option<String>,
}

impl Records {
    /// Of the newest attempt of an experiment.
    pub(crate) fn of(context: &Context, history: &History, experiment: &Experiment) -> Result<Records> {
        let folder = sides::folder(context, &experiment.id);
        let file = |of: &FileRef| sides::checked(folder.join(&of.path), &of.sha256);
        let gate = experiment.gated.as_ref().map(|gated| read_json(&file(&gated.record)?));
        let compare = experiment.measured.as_ref().map(|measured| read_json(&file(&measured.record)?));
        let profile = experiment
            .profiled
            .as_ref()
            .map(|profiled| ProfileEvidence { sides: profiled.sides.clone(), shifts: profiled.shifts.clone() });
        Ok(Records {
            screened: experiment.attached.as_ref().map_or(vec![], |attached| attached.screened.clone()),
            unclean: experiment.unclean.clone(),
            test_patch: test_patch(experiment),
            attempts: Some(history.attempts(experiment)),
            gate: gate.transpose()?,
            profile,
            compare: compare.transpose()?,
            explained: experiment.explained.clone(),
            ended: None,
        })
    }

    /// What they come to: what an acceptance needs, or the decision that is none.
    pub(crate) fn decide(
        &self,
        baseline: &Variant,
        candidate: &Variant,
        rules: &Rules,
    ) -> Result<AcceptableDecision, Box<Decision>> {
        let evidence = Evidence {
            baseline: &baseline.id,
            candidate: &candidate.id,
            infrastructure: self.ended.as_deref(),
            gate: self.gate.as_ref(),
            compare: self.compare.as_ref(),
            screened: &self.screened,
            unclean: &self.unclean,
            test_patch: self.test_patch.as_deref(),
            attempts: self.attempts.as_ref(),
            profile: self.profile.as_ref(),
            explained: &self.explained,
        };
        acceptable(&evidence, &rules.thresholds, &rules.rule).map_err(Box::new)
    }
}

/// SHA-256 of the test patch that an experiment has.
pub(crate) fn test_patch(experiment: &Experiment) -> Option<String> {
    experiment.attached.as_ref()?.test_patch.as_ref().map(|patch| patch.sha256.clone())
}

/// The decision, whichever it is.
pub(crate) fn decision(outcome: &Result<AcceptableDecision, Box<Decision>>) -> &Decision {
    match outcome {
        Ok(acceptable) => acceptable.decision(),
        Err(decision) => decision,
    }
}
