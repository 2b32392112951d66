//! The second step: the profile of both sides, which says whether the predicted shift happened.

use super::sides::Sides;
use super::steps::{Kept, Step};
use crate::context::Context;
use anyhow::Result;
use model::decision::ProfileEvidence;
use model::ledger::event::Prediction;

/// Name of the record among a step's files.
#[allow(dead_code, reason = "until a profiler is there")]
pub(crate) const RECORD: &str = "profile.json";

/// What came of it.
pub(crate) enum Profile {
    /// It did not run, and that is no pass: nothing can be accepted without one.
    NotRun(String),
    /// It ran.
    #[allow(dead_code, reason = "until a profiler is there")]
    Done(Step, Kept, ProfileEvidence),
}

/// Profiles both sides.
pub(crate) fn profile(_context: &Context, _sides: &Sides, _predictions: &[Prediction]) -> Result<Profile> {
    Ok(Profile::NotRun("this version of the workspace has no `profile`".to_owned()))
}
