//! What is measured: a build with a worker, every workload of it checked first.

use super::plan::Cost;
use crate::session::{self, Session, Surroundings};
use crate::worker::{self, Worker, WorkerCode};
use crate::{interrupt, process};
use anyhow::{Context as _, Result, bail};
use model::protocol::{List, Message};
use model::record::Role;
use model::variant::Build;
use model::workload::WorkloadSpec;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One side of a run.
pub(crate) struct Subject {
    pub(crate) role: Role,
    pub(crate) build: Build,
    pub(crate) code: WorkerCode,
    /// Where its workers are linked.
    folder: PathBuf,
}

/// A workload that did the right work on a subject: only such a one is timed.
pub(crate) struct Checked {
    /// What it took.
    pub(crate) cost: Cost,
}

impl Subject {
    /// A build with the worker for its headers.
    pub(crate) fn new(role: Role, build: Build, code: WorkerCode, folder: &Path) -> Self {
        // A folder for each side, with names of one length: the path is part of what a process sees.
        let folder = folder.join(match role {
            Role::Baseline => "a",
            Role::Candidate => "b",
        });
        Subject { role, build, code, folder }
    }

    /// A worker with libevent's functions in the order of `seed`.
    pub(crate) fn link(&self, seed: u64) -> Result<Worker> {
        worker::link(&self.code, &self.build, seed, &self.folder)
    }

    /// A worker of this side that is a copy of another's program, byte for byte.
    pub(crate) fn copy(&self, original: &Worker) -> Result<Worker> {
        let name = original.program.file_name().context("a program has a name")?;
        std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        let program = self.folder.join(name);
        std::fs::copy(&original.program, &program).with_context(|| format!("cannot write {}", program.display()))?;
        Ok(Worker { program, variant_id: original.variant_id.clone() })
    }

    /// Does two batches of a workload in a launch of their own. An error is the workload's: a wrong
    /// checksum, a crash, a hang.
    pub(crate) fn check(
        &self,
        worker: &Worker,
        spec: &WorkloadSpec,
        surroundings: &Surroundings<'_>,
    ) -> Result<Checked> {
        let started = Instant::now();
        let mut session = Session::start(worker, &spec.name, surroundings)?;
        if session.ready.batch_events != spec.batch_events {
            bail!(
                "the worker's batch has {} events, the manifest says {}",
                session.ready.batch_events,
                spec.batch_events
            );
        }
        // The whole turn counts, not the timed part alone: some workloads prepare longer than they work.
        let mut turn = || -> Result<Duration> {
            let asked = Instant::now();
            session.batches_of(spec, 1)?;
            Ok(asked.elapsed())
        };
        let (first, second) = (turn()?, turn()?);
        session.quit()?;
        let batch = first.min(second);
        Ok(Checked { cost: Cost { batch, overhead: started.elapsed().saturating_sub(first + second) } })
    }

    /// What the worker offers; its variant must be the one that was linked.
    pub(crate) fn list(&self, worker: &Worker, surroundings: &Surroundings<'_>) -> Result<List> {
        interrupt::check()?;
        let mut command = session::command(&worker.program, surroundings)?;
        let got = process::capture(command.arg("list"), surroundings.limit)?;
        match serde_json::from_str(&got.stdout) {
            Ok(Message::List(list)) if list.variant == worker.variant_id => Ok(list),
            Ok(other) => bail!("the worker of variant {} answers {other:?}", worker.variant_id),
            Err(error) => bail!("the worker cannot list its workloads: {error}; {}", got.stderr.trim()),
        }
    }
}
