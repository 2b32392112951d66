//! gate/mutants.toml and gate/sample.toml: what there is, and what is chosen of it.

use super::journal::Journal;
use super::soak::Stages;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use anyhow::{Context as _, Result};
use globset::Glob;
use model::mutants::{Kind, Mutants, Score};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One entry of gate/sample.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sampled {
    /// The defect.
    pub(super) name: String,
    /// Stages that have to find it, each with tests that do; none: the whole stage.
    pub(super) stages: Stages,
}

/// The whole of gate/sample.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SampleFile {
    /// In the order of gate/mutants.toml.
    pub(super) sample: Vec<Sampled>,
}

pub(super) fn path_of(context: &Context, name: &str) -> PathBuf {
    context.root.join("gate").join(name)
}

/// The patch of a defect.
pub(super) fn patch(context: &Context, name: &str) -> PathBuf {
    context.root.join("gate/mutants").join(format!("{name}.patch"))
}

/// All seeded defects.
pub(super) fn read(context: &Context) -> Result<Mutants> {
    let path = path_of(context, "mutants.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Mutants::parse(&text).with_context(|| path.display().to_string())
}

/// Those whose name matches one of `globs`, with the controls among them only if they match, too. A glob that matches
/// nothing is an error.
pub(super) fn select(list: &Mutants, globs: &[String]) -> Result<Mutants> {
    let mut keep = vec![false; list.mutant.len()];
    for glob in globs {
        let matcher = Glob::new(glob).map_err(|error| failure(Exit::Usage, format!("--mutant: {error}")))?;
        let matcher = matcher.compile_matcher();
        let found: Vec<usize> =
            (0..list.mutant.len()).filter(|&number| matcher.is_match(&list.mutant[number].name)).collect();
        if found.is_empty() {
            let message = format!("--mutant {glob}: matches none of the {} in gate/mutants.toml", list.mutant.len());
            return Err(failure(Exit::Usage, message));
        }
        found.into_iter().for_each(|number| keep[number] = true);
    }
    let chosen = list.mutant.iter().zip(keep).filter(|(_, keep)| *keep).map(|(mutant, _)| mutant.clone());
    Ok(Mutants { mutant: chosen.collect() })
}

/// The sample; every name in it is one of the list's defects.
pub(super) fn sample(context: &Context, list: &Mutants) -> Result<Vec<Sampled>> {
    let path = path_of(context, "sample.toml");
    let make = "make it with `cargo xtask verify --self-test --all-stages --publish`";
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}; {make}", path.display()))?;
    let file: SampleFile = toml::from_str(&text).with_context(|| path.display().to_string())?;
    for of in &file.sample {
        let known = list.mutant.iter().any(|mutant| mutant.name == of.name && mutant.kind != Kind::Control);
        if !known || of.stages.is_empty() {
            let message =
                format!("{}: `{}` is no defect of the list, or has no stages; {make}", path.display(), of.name);
            return Err(failure(Exit::Usage, message));
        }
    }
    if file.sample.is_empty() {
        return Err(failure(Exit::Usage, format!("{} is empty; {make}", path.display())));
    }
    Ok(file.sample)
}

/// Takes a defect that only a part of its stages found out of those that were found.
pub(super) fn demand_stages(context: &Context, journal: &Journal, scored: &mut Score) -> Result<()> {
    let wanted = sample(context, &read(context)?)?;
    for record in &mut scored.mutants {
        let Some(of) = wanted.iter().find(|of| of.name == record.name) else { continue };
        let sha256 = files::sha256_file(&patch(context, &of.name))?;
        let found = journal.stages(&of.name, &sha256, &of.stages).map_or(&[][..], |run| &run.failed_stages);
        if !of.stages.keys().all(|stage| found.contains(stage)) {
            (record.killed, record.stage, record.seconds) = (false, None, None);
        }
    }
    Ok(())
}
