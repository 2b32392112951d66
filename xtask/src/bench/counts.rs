//! Figures that are counted, not timed: taken after the timed launches, so that they disturb none.

use super::subject::Subject;
use super::{instructions, syscalls};
use crate::context::Context;
use crate::exit::{Exit, exit_of};
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::Result;
use model::summary::Counts;
use model::variant::Build;
use model::workload::WorkloadSpec;

/// What is counted in this run, and with what.
pub(crate) struct Counting<'a> {
    /// How system calls are counted, if they are.
    pub(crate) syscalls: Option<syscalls::Source>,
    /// The build for callgrind, if instructions are counted.
    pub(crate) instructions: Option<&'a Build>,
}

/// What was counted of one workload on one side.
pub(crate) struct Counted {
    /// The figures.
    pub(crate) counts: Counts,
    /// What could not be counted, and stays unknown.
    pub(crate) notes: Vec<String>,
    /// Wrong work, done only while instructions were counted: an error of the workload, like any wrong work.
    pub(crate) wrong: Option<anyhow::Error>,
}

/// Counts one workload. An interrupt is an error.
pub(crate) fn count(
    context: &Context,
    counting: &Counting<'_>,
    subject: &Subject,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<Counted> {
    let mut notes = Vec::new();
    let mut known = |what: &str, error: anyhow::Error| -> Result<()> {
        if exit_of(&error) == Exit::Interrupted {
            return Err(error);
        }
        notes.push(format!("{}: {what} not counted: {error:#}", spec.name));
        Ok(())
    };
    let (mut counts, mut wrong) = (Counts::default(), None);
    if let Some(source) = counting.syscalls {
        match syscalls::count(source, worker, spec, surroundings) {
            Ok(per_event) => counts.syscalls = Some(per_event),
            Err(error) => known("system calls", error)?,
        }
    }
    if let Some(build) = counting.instructions.filter(|_| spec.exact_counts) {
        match instructions::count(context, build, &subject.code, spec, surroundings) {
            Ok(count) => counts.instructions = Some(count),
            Err(error) if exit_of(&error) == Exit::Failed => wrong = Some(error),
            Err(error) => known("instructions", error)?,
        }
    }
    Ok(Counted { counts, notes, wrong })
}
