//! What a self-test has done, line by line, so that it can be ended at any instant and resumed.

use super::soak::Stages;
use crate::build::{compiler, compiler_version};
use crate::context::Context;
use crate::gate::models;
use crate::journal::Lines;
use crate::{files, host, records, sandbox, worker};
use anyhow::Result;
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
    /// Of some stages of the full gate on a seeded defect, and of each only some tests.
    Stages {
        /// What was asked for.
        stages: Stages,
        /// What came of it.
        run: Run,
    },
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

/// What decides the gate's answers, besides the model tests' program and the source of libevent.
const GATE: &[&str] = &[
    "config",
    "model/src",
    "xtask/src/build",
    "xtask/src/build.rs",
    "xtask/src/calibrate/load.rs",
    "xtask/src/files.rs",
    "xtask/src/gate",
    "xtask/src/git.rs",
    "xtask/src/process",
    "xtask/src/process.rs",
    "xtask/src/rust_object.rs",
    "xtask/src/sandbox",
    "xtask/src/sandbox.rs",
    "xtask/src/variant.rs",
    "xtask/src/worker.rs",
];

/// The folder of the journal: its name stands for the gate itself, for the host, its compiler and sandbox, and for the
/// library that it compares with. What another gate found says nothing of this one.
pub(super) fn folder(context: &Context, pristine: &Variant) -> Result<PathBuf> {
    let names = [GATE, models::INGREDIENTS].concat();
    let gate = worker::hash_of(context, &names, &[])?;
    let compiler = compiler_version(&compiler())?;
    let tls = std::env::var("LIBEVENT_TLS").unwrap_or_default();
    let parts = [&gate, &pristine.id, &host::fingerprint().id, &compiler, &tls, &sandbox::described()];
    let parts = parts.map(|part| part.as_bytes());
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

    /// What came of these stages on a defect with this patch, if that is an answer.
    pub(super) fn stages(&self, name: &str, patch_sha256: &str, asked: &Stages) -> Option<&Run> {
        self.entries.iter().rev().find_map(|(sha256, entry)| match entry {
            Entry::Stages { stages, run } if run.name == name && stages == asked => {
                (sha256.as_deref() == Some(patch_sha256) && run.verdict != Verdict::NotRun).then_some(run)
            }
            _ => None,
        })
    }

    /// Whether that run on the unmodified library was made.
    pub(super) fn has_pristine(&self, tier: Tier, loaded: bool, number: u32) -> bool {
        self.pristine_runs().any(|run| (run.tier, run.loaded, run.number) == (tier, loaded, number))
    }

    /// Gates on a defect with this patch that came to an answer.
    pub(super) fn gates(&self, name: &str, patch_sha256: &str) -> Vec<&Run> {
        let of = |tier| self.gate(name, tier, patch_sha256);
        [Tier::Light, Tier::Full].into_iter().filter_map(of).collect()
    }

    /// Gates on defects; with `of_sample`, the runs of a part of the stages, as if they were light gates.
    pub(super) fn runs(&self, of_sample: bool) -> Vec<Run> {
        let pick = |entry: &Entry| match entry {
            Entry::Mutant(run) if !of_sample => Some(run.clone()),
            Entry::Stages { run, .. } if of_sample => Some(Run { tier: Tier::Light, ..run.clone() }),
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
