//! The real gates, on seeded defects and on the unmodified library.

use super::clean;
use super::list;
use super::soak::{Gate, Gated, Stages};
use crate::calibrate::load::Load;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::gate::build::Linked;
use crate::gate::flow::{self, Request};
use crate::git::Store;
use crate::{files, host, variant};
use anyhow::Result;
use model::build_config::Profile;
use model::gate::{StageRecord, Tier, Verdict, verdict};
use model::variant::{Source, Variant};
use std::path::PathBuf;
use std::time::Instant;

/// Runs the gates of `verify`.
pub(super) struct Real<'a> {
    pub(super) context: &'a Context,
    pub(super) source: &'a Source,
    pub(super) pristine: &'a Variant,
    /// Logs of every run, in a folder of its own each.
    pub(super) logs: PathBuf,
    pub(super) jobs: Option<u16>,
}

impl Real<'_> {
    fn verify(&self, candidate: &Variant, tier: Tier, stages: Option<&Stages>, log: &str) -> Result<Gated> {
        let started = Instant::now();
        let touched = Store::open(&self.context.work)?.differing_files(&self.pristine.tree, &candidate.tree)?;
        let request = Request {
            candidate,
            pristine: self.pristine,
            tests: None,
            profile: Profile::default(),
            linked: Linked::Compiled,
            tier,
            without: &[],
            touched: &touched,
            only: stages,
            keep_going: false,
            jobs: self.jobs.map(usize::from),
            quiet: true,
        };
        let verified = flow::verify(self.context, &request, &self.logs.join(log))?;
        // What pristine takes is no part of a candidate's time.
        let seconds = started.elapsed().saturating_sub(verified.pristine_time).as_secs_f64();
        if let Some(error) = verified.stopped {
            return Err(error);
        }
        let answer = match verdict(&verified.stages) {
            // Something did not run, and nothing failed: that is no defect that was found.
            Verdict::Fail if verified.stages.iter().all(|stage| stage.verdict != Verdict::Fail) => Verdict::NotRun,
            answer => answer,
        };
        Ok(Gated { verdict: answer, stages: verified.stages, seconds })
    }
}

impl Gate for Real<'_> {
    fn patch_sha256(&self, name: &str) -> Result<String> {
        files::sha256_file(&list::patch(self.context, name))
    }

    fn mutant(&self, name: &str, tier: Tier, stages: Option<&Stages>) -> Result<Gated> {
        let candidate = variant::patched(self.context, self.source, &list::patch(self.context, name))
            .map_err(|error| failure(Exit::Infrastructure, format!("{name} is no patch of this source: {error:#}")))?;
        let started = Instant::now();
        let gated = self.verify(&candidate, tier, stages, &format!("{name}-{}", label(tier)));
        // A hundred of them would fill a disk. What the next gate needs again is compiled in seconds.
        clean::forget(self.context, &candidate)?;
        match gated {
            Err(error) if !matches!(exit_of(&error), Exit::Interrupted | Exit::Tampering) => {
                // One defect without an answer must not keep the others from theirs: it is counted as unknown, and
                // asked again next time.
                let stages = vec![StageRecord::not_run("gate", format!("{error:#}"))];
                Ok(Gated { verdict: Verdict::NotRun, stages, seconds: started.elapsed().as_secs_f64() })
            }
            gated => gated,
        }
    }

    fn pristine(&self, tier: Tier, loaded: bool, number: u32) -> Result<Gated> {
        let _load = if loaded { Some(Load::changing(&host::pinning()?, u64::from(number))?) } else { None };
        let kind = if loaded { "busy" } else { "quiet" };
        self.verify(self.pristine, tier, None, &format!("pristine-{kind}-{number}-{}", label(tier)))
    }
}

fn label(tier: Tier) -> &'static str {
    match tier {
        Tier::Light => "light",
        Tier::Full => "full",
    }
}
