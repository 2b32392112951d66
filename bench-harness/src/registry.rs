//! Which code runs which `kind` of workload, and the list of all workloads.

use crate::params::Params;
use crate::{Workload, user, workloads};
use anyhow::{Context, Result};
use model::workload::{Manifest, WorkloadSpec};

/// Makes a workload from its parameters: allocates, opens, connects. Not timed.
pub type Constructor = fn(&Params<'_>) -> Result<Box<dyn Workload>>;

/// The manifest that the worker was compiled with.
const MANIFEST: &str = include_str!("../../config/workloads.toml");

/// Build features that workloads may ask for with `needs`.
pub fn features() -> &'static [&'static str] {
    if cfg!(libevent_tls) { &["tls"] } else { &[] }
}

/// Every workload that this build can run: those of the manifest, then those of users.
pub fn all() -> Result<Vec<WorkloadSpec>> {
    let mut workloads = Manifest::parse(MANIFEST)?.workloads;
    workloads.extend(user::all()?.into_iter().map(|workload| workload.spec));
    model::workload::check(&workloads)?;
    workloads.retain(|workload| workload.needs.as_deref().is_none_or(|need| features().contains(&need)));
    Ok(workloads)
}

/// Makes the workload that `spec` describes; unknown parameters are refused.
pub fn build(spec: &WorkloadSpec) -> Result<Box<dyn Workload>> {
    if let Some(users) = user::all()?.into_iter().find(|workload| workload.spec.name == spec.name) {
        return (users.set_up)().with_context(|| format!("setting up workload `{}`", spec.name));
    }
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
