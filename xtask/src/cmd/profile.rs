//! `cargo xtask profile`: where the time goes, and what to try next.

use super::measuring::user_files;
use crate::bench::select;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::profile::{self, Options, PhaseName, Profiled};
use crate::records::{Pages, RunFolder};
use crate::report::profile as report;
use crate::setup::{self, Verb};
use crate::side::{self, Side};
use crate::{interrupt, lock, progress, source};
use anyhow::{Context as _, Result};
use model::workload::Manifest;
use std::path::PathBuf;
use std::time::Duration;

/// Profiles workloads in four phases: cycle budget, attribution, off-CPU, system calls; then instructions and allocations.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask profile                                              the guarded workloads, on the tip or the pristine libevent
  cargo xtask profile --workload 'http.keepalive.small.c1'         one workload, within a minute
  cargo xtask profile my.patch --against pristine --workload 'evbuffer.*'
  cargo xtask profile my.patch --against tip --predict epoll_ctl=-2 --predict evbuffer_chain_new=-30%
  cargo xtask profile pristine --update-manifest                   shares into config/hot-methods.toml
  cargo xtask profile pristine --only samples,syscalls --seconds 2

Exit code 0: every workload was profiled, with whatever this host lets be seen; 2: a workload failed.
docs/PROFILE.md says how each phase is done, what it needs and what it costs.")]
pub(crate) struct Args {
    /// What is profiled: a variant, a patch file, a revision, or CODE+PROFILE [default: the tip, where patches were
    /// accepted, or the pristine libevent]
    #[arg(value_name = "VARIANT", allow_hyphen_values = true)]
    pub(crate) variant: Option<String>,
    /// Workloads to profile, by name; repeatable [default: the guarded ones of config/thresholds.toml]
    #[arg(long = "workload", value_name = "GLOB")]
    pub(crate) workloads: Vec<String>,
    /// Another variant, profiled beside it: what moved from that one to VARIANT
    #[arg(long, value_name = "VARIANT", allow_hyphen_values = true)]
    pub(crate) against: Option<String>,
    /// What is expected to move: NAME=-30% (of what it was) or NAME=-2 (ns of an event in a function, calls of an event);
    /// NAME is a function or a system call, or symbol:, syscall: or charged:NAME; repeatable
    #[arg(long = "predict", value_name = "NAME=CHANGE", requires = "against", allow_hyphen_values = true)]
    pub(crate) predictions: Vec<String>,
    /// Time of each phase of one workload [default: config/profile.toml]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Do these parts alone
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    pub(crate) only: Vec<PhaseName>,
    /// Write the measured shares to config/hot-methods.toml, and list what is hot and not in it, and what is cold
    #[arg(long)]
    pub(crate) update_manifest: bool,
    /// Keep folded stacks, draw no flame graphs
    #[arg(long)]
    pub(crate) no_pictures: bool,
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    pub(crate) source: Option<String>,
    /// A file with workloads of your own, C or Rust; repeatable (docs/WORKLOADS.md)
    #[arg(long = "workload-file", value_name = "PATH")]
    pub(crate) workload_files: Vec<PathBuf>,
    /// Most time for one answer of a worker, in seconds; longer is a hang
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Folder in which the record's folder is made [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print Markdown for a pull request
    #[arg(long)]
    pub(crate) markdown: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse::<f64>() {
        Ok(seconds) if (0.05..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a phase takes from 0.05 to 600 seconds".to_owned()),
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let predictions = profile::predictions(&args.predictions)?;
    if args.update_manifest && !(args.only.is_empty() || args.only.contains(&PhaseName::Samples)) {
        return Err(failure(
            Exit::Usage,
            "--update-manifest takes the shares of samples; do not leave them out of --only",
        ));
    }
    let user_files = user_files(&args.workload_files)?;
    if user_files.is_empty() {
        // Before anything is built: a name that does not exist.
        let manifest = Manifest::parse(&context.config("workloads.toml")?).context("config/workloads.toml")?.workloads;
        select::select(&manifest, &args.workloads)?;
    }
    // One that cannot be read is said before an hour is spent.
    profile::manifest::load(context)?;
    setup::ensure(Verb::Bench, context)?;
    let _lock = lock::take(context, "profile")?;
    interrupt::install()?;
    let sides = sides(args, context)?;
    let parent = args.out.clone().unwrap_or_else(|| context.runs.clone());
    let folder = RunFolder::create(&parent, "profile")?;
    let options = Options {
        globs: args.workloads.clone(),
        seconds: args.seconds,
        only: args.only.clone(),
        pictures: !args.no_pictures,
        limit: Duration::from_secs(args.timeout),
        predictions,
        user_files,
    };
    let profiled = profile::run_for(context, &sides, &options, &folder)?;
    deliver(args, context, profiled, folder)
}

/// The baseline of a comparison first.
fn sides(args: &Args, context: &Context) -> Result<Vec<Side>> {
    let source = source::resolve(context, args.source.as_deref())?;
    // Accepted patches belong to the pinned source; another one is profiled as it is.
    let default = if source.pinned { "tip" } else { "pristine" };
    let variant = side::resolve(context, &source, args.variant.as_deref().unwrap_or(default))?;
    let against = args.against.as_ref().map(|text| side::resolve(context, &source, text)).transpose()?;
    Ok(against.into_iter().chain([variant]).collect())
}

fn deliver(args: &Args, context: &Context, profiled: Profiled, folder: RunFolder) -> Result<Exit> {
    let Profiled { record, measured, unmeasured, stopped } = profiled;
    let page = |style, place: Option<&str>| report::full(&record, style, place);
    folder.deliver(context, &record, &Pages { markdown: args.markdown, page: &page, below: "", journal: None })?;
    if let Some(error) = stopped {
        return if exit_of(&error) == Exit::Interrupted { Ok(Exit::Interrupted) } else { Err(error) };
    }
    let failed = record.workloads.iter().any(|workload| workload.error.is_some());
    if args.update_manifest {
        if failed {
            progress::note("config/hot-methods.toml was not written: a workload failed");
        } else {
            profile::update_manifest(context, &measured, &unmeasured)?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_phase_are_bounded() {
        assert!((seconds("2").unwrap() - 2.0).abs() < 1e-9 && (seconds("0.5s").unwrap() - 0.5).abs() < 1e-9);
        for bad in ["", "0", "-1", "601", "x", "nan"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
