//! Which code runs which `kind` of workload, and the list of all workloads.

use crate::params::Params;
use crate::{Workload, workloads};
use anyhow::{Context, Result};
use model::workload::{Manifest, WorkloadSpec};

/// Makes a workload from its parameters: allocates, opens, connects. Not timed.
pub type Constructor = fn(&Params<'_>) -> Result<Box<dyn Workload>>;

/// The manifest that the worker was compiled with.
const MANIFEST: &str = include_str!("../../config/workloads.toml");

/// Every workload of the manifest that this build can run.
pub fn all() -> Result<Vec<WorkloadSpec>> {
    Ok(Manifest::parse(MANIFEST)?.workloads)
}

/// Makes the workload that `spec` describes; unknown parameters are refused.
pub fn build(spec: &WorkloadSpec) -> Result<Box<dyn Workload>> {
    let constructor = workloads::KINDS
        .iter()
        .flat_map(|kinds| kinds.iter())
        .find(|(kind, _)| *kind == spec.kind)
        .map(|(_, constructor)| constructor)
        .with_context(|| format!("workload `{}` asks for kind `{}`, which no code provides", spec.name, spec.kind))?;
    let params = Params::new(spec);
    let workload = constructor(&params).with_context(|| format!("setting up workload `{}`", spec.name))?;
    params.finish()?;
    Ok(workload)
}
