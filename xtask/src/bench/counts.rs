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

/// Counts one workload; also says what could not be counted, which stays unknown. An interrupt is an
/// error.
pub(crate) fn count(
    context: &Context,
    counting: &Counting<'_>,
    subject: &Subject,
    worker: &Worker,
    spec: &WorkloadSpec,
    surroundings: &Surroundings<'_>,
) -> Result<(Counts, Vec<String>)> {
    let mut notes = Vec::new();
    let mut known = |what: &str, error: anyhow::Error| -> Result<()> {
        if exit_of(&error) == Exit::Interrupted {
            return Err(error);
        }
        notes.push(format!("{}: {what} not counted: {error:#}", spec.name));
        Ok(())
    };
    let mut counts = Counts::default();
    if let Some(source) = counting.syscalls {
        match syscalls::count(source, worker, spec, surroundings) {
            Ok(per_event) => counts.syscalls = Some(per_event),
            Err(error) => known("system calls", error)?,
        }
    }
    if let Some(build) = counting.instructions.filter(|_| spec.exact_counts) {
        match instructions::count(context, build, subject, spec, surroundings) {
            Ok(per_event) => counts.instructions = Some(per_event),
            Err(error) => known("instructions", error)?,
        }
    }
    Ok((counts, notes))
}
