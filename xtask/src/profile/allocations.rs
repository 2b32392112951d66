//! Allocations by call site, of exactly the timed part of warm batches: counted by a preloaded library.

use crate::context::Context;
use crate::session::Surroundings;
use crate::worker::Worker;
use anyhow::{Result, bail};
use model::allocations::Allocations;
use model::variant::Build;
use model::workload::WorkloadSpec;

/// Allocations of one workload. `worker` is linked against `build`, which is one to be timed (`Purpose::Measure`).
pub(crate) fn count(
    _context: &Context,
    _build: &Build,
    _worker: &Worker,
    _spec: &WorkloadSpec,
    _surroundings: &Surroundings<'_>,
) -> Result<Allocations> {
    bail!("allocations: not counted in this version")
}
