//! Instructions by function and by line under callgrind, of exactly the timed part of warm batches, the same in every run.
//!
//! Counted as bench/instructions.rs counts: what pins the figure there pins the attribution here, and both agree.

use crate::context::Context;
use crate::session::Surroundings;
use crate::worker::WorkerCode;
use anyhow::{Result, bail};
use model::callgrind::Attribution;
use model::variant::Build;
use model::workload::WorkloadSpec;

/// Where the instructions of one workload are, on a build made for counting (`Purpose::Instructions`).
///
/// Refused, with the reason, where two runs differ by an instruction in any function or line. Wrong work is an error with
/// [`crate::exit::Exit::Failed`].
pub(crate) fn attribute(
    _context: &Context,
    _build: &Build,
    _code: &WorkerCode,
    _spec: &WorkloadSpec,
    _surroundings: &Surroundings<'_>,
) -> Result<Attribution> {
    bail!("callgrind: no attribution in this version")
}
