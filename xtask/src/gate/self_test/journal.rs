//! What a self-test has done, line by line, so that it can be ended at any instant and resumed.

use crate::context::Context;
use crate::journal::Lines;
use crate::{files, host, records, worker};
use anyhow::{Context as _, Result};
use model::gate::{Tier, Verdict};
use model::mutants::{PristineRun, Run};
use model::variant::Variant;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Entry {
    /// Of a gate on a seeded defect.
    Mutant(Run),
    /// Of some stages of the full gate on a seeded defect.
    Stages(Run),
    /// Of a gate on the unmodified library.
    Pristine(PristineRun),
}

/// One line.
#[derive(Serialize, Deserialize)]
struct Line {
    /// When it ended: RFC 3339, UTC.
    at: String,
    /// SHA-256 of the patch; none for the unmodified library.
    patch_sha256: Option<String>,
    entry: Entry,
}

/// Everything that was run with one gate on one host.
pub(super) struct Journal {
    lines: Lines,
    entries: Vec<(Option<String>, Entry)>,
}

/// What decides the gate's answers, besides the source of libevent and this package's folder of gates.
const GATE: &[&str] = &[
    "config/build.toml",
    "config/gate.toml",
    "config/models.toml",
    "libevent-sys/src",
    "model-tests/csrc",
    "model-tests/src",
    "model/src/abi",
    "model/src/abi.rs",
    "model/src/cases.rs",
    "model/src/gate",
    "model/src/gate.rs",
    "xtask/src/build",
    "xtask/src/build.rs",
    "xtask/src/process",
    "xtask/src/process.rs",
    "xtask/src/rust_object.rs",
    "xtask/src/sandbox",
    "xtask/src/sandbox.rs",
];
/// The gates themselves, but for the self-test, whose words and tables decide nothing.
const GATES: &str = "xtask/src/gate";

/// The folder of the journal: its name stands for the gate itself, and for the library that it compares with. What
/// another gate found says nothing of this one.
pub(super) fn folder(context: &Context, pristine: &Variant) -> Result<PathBuf> {
    let gates = context.root.join(GATES);
    let mut names: Vec<String> = GATE.iter().map(|name| (*name).to_owned()).collect();
    for entry in std::fs::read_dir(&gates).with_context(|| format!("cannot read {}", gates.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("self_test") {
            names.push(format!("{GATES}/{name}"));
        }
    }
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let gate = worker::hash_of(context, &names, &[])?;
    let host = host::fingerprint().id;
    let parts = [&gate, &pristine.id, &host].map(String::as_bytes);
    Ok(context.work.join("self-test").join(&files::sha256_hex(&parts)[..12]))
}

impl Journal {
    /// Opens the journal in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Journal> {
        let (lines, earlier) = Lines::open::<Line>(folder, "runs.jsonl")?;
        Ok(Journal { lines, entries: earlier.into_iter().map(|line| (line.patch_sha256, line.entry)).collect() })
    }

    /// Adds a run, whole or not at all.
    pub(super) fn add(&mut self, patch_sha256: Option<String>, entry: Entry) -> Result<()> {
        let line = Line { at: records::now(), patch_sha256, entry };
        self.lines.add(&line)?;
        self.entries.push((line.patch_sha256, line.entry));
        Ok(())
    }

    /// The gate's answer on a defect with this patch, if it came to one.
    pub(super) fn gate(&self, name: &str, tier: Tier, patch_sha256: &str) -> Option<&Run> {
        self.entries.iter().rev().find_map(|(sha256, entry)| match entry {
            Entry::Mutant(run) if run.name == name && run.tier == tier => {
                (sha256.as_deref() == Some(patch_sha256) && run.verdict != Verdict::NotRun).then_some(run)
            }
            _ => None,
        })
    }

    /// Whether these stages were run on a defect with this patch.
    pub(super) fn has_stages(&self, name: &str, patch_sha256: &str) -> bool {
        self.entries.iter().any(|(sha256, entry)| {
            matches!(entry, Entry::Stages(run) if run.name == name && run.verdict != Verdict::NotRun)
                && sha256.as_deref() == Some(patch_sha256)
        })
    }

    /// Whether that run on the unmodified library was made.
    pub(super) fn has_pristine(&self, tier: Tier, loaded: bool, number: u32) -> bool {
        self.pristine_runs().any(|run| (run.tier, run.loaded, run.number) == (tier, loaded, number))
    }

    /// Stages that found a defect, in whichever run; each once.
    pub(super) fn stages_that_failed(&self, name: &str) -> Vec<String> {
        let of = self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Mutant(run) | Entry::Stages(run) if run.name == name => Some(&run.failed_stages),
            _ => None,
        });
        let mut stages: Vec<String> = of.flatten().cloned().collect();
        stages.sort();
        stages.dedup();
        stages
    }

    /// Gates on defects; with `of_sample`, the runs of a part of the stages, as if they were light gates.
    pub(super) fn runs(&self, of_sample: bool) -> Vec<Run> {
        let pick = |entry: &Entry| match entry {
            Entry::Mutant(run) if !of_sample => Some(run.clone()),
            Entry::Stages(run) if of_sample => Some(Run { tier: Tier::Light, ..run.clone() }),
            _ => None,
        };
        self.entries.iter().filter_map(|(_, entry)| pick(entry)).collect()
    }

    fn pristine_runs(&self) -> impl Iterator<Item = &PristineRun> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            Entry::Pristine(run) => Some(run),
            _ => None,
        })
    }

    /// Gates on the unmodified library.
    pub(super) fn pristine(&self) -> Vec<PristineRun> {
        self.pristine_runs().cloned().collect()
    }

    /// How many runs are in it.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.lines.path()
    }
}
