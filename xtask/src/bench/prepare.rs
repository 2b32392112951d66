//! Everything before the first launch: source, variants, builds, the worker.

use super::subject::Subject;
use crate::build::Recipe;
use crate::cmd::bench::Args;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::host::{self, Pinning};
use crate::sandbox::Sandbox;
use crate::session::Surroundings;
use crate::side::{self, Side};
use crate::{build, git, progress, source, variant, worker};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::record::Role;
use model::variant::{Build, Purpose, Variant};
use model::workload::{self, WorkloadSpec};
use std::path::PathBuf;
use std::time::Duration;

/// Ready to be measured.
pub(crate) struct Prepared {
    /// The baseline, and the candidate if there is one.
    pub(crate) subjects: Vec<Subject>,
    /// For callgrind, in the order of the subjects; `None` if instructions are not counted.
    pub(crate) instruction_builds: Option<Vec<Build>>,
    /// Workloads that every subject's worker offers.
    pub(crate) workloads: Vec<WorkloadSpec>,
    /// Where processes run.
    pub(crate) pinning: Pinning,
    /// SHA-256 of the harness's own sources.
    pub(crate) xtask_sha256: String,
    /// What a reader must know.
    pub(crate) notes: Vec<String>,
    /// Linked workers; goes with this value.
    _scratch: tempfile::TempDir,
}

/// What is to be built: the baseline and, if there is one, the candidate.
pub(crate) struct Request<'a> {
    /// One or two sides.
    pub(crate) sides: &'a [Side],
    /// Where the candidate is compiled, if that is to differ: see [`Recipe`].
    pub(crate) candidate_place: Option<String>,
    /// Build for callgrind, too.
    pub(crate) instructions: bool,
    /// Files with workloads of the user.
    pub(crate) user_files: &'a [PathBuf],
}

/// Builds what `bench` was asked for.
pub(crate) fn prepare(context: &Context, args: &Args, user_files: &[PathBuf]) -> Result<Prepared> {
    let source = source::resolve(context, args.measuring.source.as_deref())?;
    let plain = |variant: Variant| Side { variant, profile: Profile::default() };
    let baseline = plain(variant::pristine(context, &source)?);
    let candidate = match &args.variant {
        Some(text) => Some(side::resolve(context, &source, text)?),
        // Accepted patches belong to the pinned source; another one is measured as it is.
        None if source.pinned => variant::tip(context, &source)?.map(plain),
        None => None,
    };
    let mut unmeasured = None;
    // Nobody asked for the tip: where it may not run, pristine is measured all the same.
    let candidate = match candidate {
        Some(tip) if args.variant.is_none() => match Sandbox::open()?.suffices(context, &tip.variant) {
            Ok(()) => Some(tip),
            Err(error) => {
                unmeasured = Some(format!("the tip was not measured, pristine alone was: {error:#}"));
                None
            }
        },
        candidate => candidate,
    };
    let sides: Vec<Side> = std::iter::once(baseline).chain(candidate).collect();
    let request =
        Request { sides: &sides, candidate_place: None, instructions: args.measuring.instructions, user_files };
    let mut prepared = prepare_sides(context, &request)?;
    prepared.notes.extend(unmeasured);
    if prepared.is_identical() {
        prepared.notes.push("baseline and candidate are identical: every change shown is noise".to_owned());
    }
    Ok(prepared)
}

/// Builds the sides and their workers.
pub(crate) fn prepare_sides(context: &Context, request: &Request<'_>) -> Result<Prepared> {
    // For the record, now: at its end a run may have been interrupted.
    drop(git::describe_checkout(&context.root));
    let mut notes = Vec::new();
    let foreign = |side: &Side| !side.variant.patches.is_empty() || !side.variant.source.pinned;
    let sandbox = Sandbox::open()?;
    if request.sides.iter().any(foreign) && !sandbox.missing().is_empty() {
        notes.push(format!("code that nobody vouches for ran in a sandbox {}", sandbox.described()));
    }
    for side in request.sides {
        notes.extend(variant::screening_note(context, &side.variant)?);
    }
    let scratch = context.scratch("links-")?;
    let pinning = host::pinning()?;
    if pinning.shared {
        notes.push("this host lends one CPU: clients and servers share it, and latencies say little".to_owned());
    }
    let roles = [Role::Baseline, Role::Candidate];
    let sides = || roles.into_iter().zip(request.sides);
    let build_side = |role, side: &Side, purpose| {
        let place = if role == Role::Candidate { request.candidate_place.clone() } else { None };
        build::build_recipe(context, &side.variant, &Recipe { purpose, profile: side.profile, place })
    };
    let mut subjects = Vec::new();
    for (role, side) in sides() {
        let build = build_side(role, side, Purpose::Measure)?;
        let code = worker::compile(context, &build, request.user_files)?;
        subjects.push(Subject::new(role, build, code, scratch.path()));
    }
    if subjects.iter().any(|subject| subject.code.sha256 != subjects[0].code.sha256) {
        notes.push("the sides have different public headers, so each has a worker compiled for its own".to_owned());
    }
    let instruction_builds = if request.instructions {
        let builds = sides().map(|(role, side)| build_side(role, side, Purpose::Instructions));
        Some(builds.collect::<Result<Vec<_>>>()?)
    } else {
        None
    };
    let workloads = offered(&subjects, &pinning, &mut notes)?;
    let xtask_sha256 = worker::harness_sha256(context)?;
    Ok(Prepared { subjects, instruction_builds, workloads, pinning, xtask_sha256, notes, _scratch: scratch })
}

/// The workloads that every side can run; one that a side lacks is noted.
fn offered(subjects: &[Subject], pinning: &Pinning, notes: &mut Vec<String>) -> Result<Vec<WorkloadSpec>> {
    let surroundings = Surroundings { pinning, environment_bytes: 0, limit: Duration::from_secs(20) };
    let mut lists = Vec::new();
    for subject in subjects {
        progress::note(&format!("linking variant {} ({})", subject.build.variant.id, subject.build.variant.name));
        let worker = subject.link(0)?;
        let list = subject.list(&worker, &surroundings)?;
        workload::check(&list.workloads).map_err(|error| failure(Exit::Usage, error.to_string()))?;
        lists.push(list.workloads);
    }
    let (first, others) = lists.split_first().context("there is a baseline")?;
    let everywhere = |spec: &&WorkloadSpec| others.iter().all(|list| list.contains(spec));
    let common: Vec<WorkloadSpec> = first.iter().filter(everywhere).cloned().collect();
    let missing = first.iter().filter(|spec| !common.contains(spec));
    notes.extend(missing.map(|spec| format!("{}: only one side offers it; not measured", spec.name)));
    Ok(common)
}

impl Prepared {
    /// There are two sides, and they are one build.
    pub(crate) fn is_identical(&self) -> bool {
        // By what was compiled: a patch that changes a comment makes the same libraries.
        let first = &self.subjects[0].build;
        let same = |build: &Build| build.id == first.id || build.libraries == first.libraries;
        self.subjects.len() > 1 && self.subjects.iter().all(|side| same(&side.build))
    }

    /// Fails if what was measured is no longer what was built: something wrote into the builds.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.subjects.iter().try_for_each(|subject| build::check_unchanged(&subject.build))
    }
}
