//! `cargo xtask bench`: measures workloads on libevent, built here.

use super::measuring::Measuring;
use crate::bench::prepare::{self, Prepared};
use crate::bench::run::{self, Options};
use crate::bench::{assemble, plan, select};
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::records::{self, Pages, RunFolder};
use crate::report::table;
use crate::report::{self, format, readme};
use crate::setup::{self, Verb};
use crate::{git, interrupt, lock, progress};
use anyhow::{Context as _, Result};
use model::record::BenchRecord;
use model::workload::{Manifest, WorkloadSpec};

/// Measures workloads on libevent: time, system calls, latency, each with where it comes from.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask bench                                    every workload on the pristine libevent
  cargo xtask bench --quick --workload 'evbuffer.*'    a first look
  cargo xtask bench --variant my.patch                 the patch against the pristine libevent
  cargo xtask bench --variant clang+O3                 the same code, built in another way
  cargo xtask bench --source ../libevent@master        another libevent
  cargo xtask bench --workload-file my_workload.c --workload 'my.*'

A table of one run is no verdict between two variants; docs/METHODOLOGY.md says why.")]
pub(crate) struct Args {
    /// Workloads to measure, by name; repeatable [default: all]
    #[arg(long = "workload", value_name = "GLOB")]
    pub(crate) workloads: Vec<String>,
    /// Candidate: `tip`, `pristine`, a patch file, or others (docs/METHODOLOGY.md); `+WORD`s behind it choose how it
    /// is built: gcc, clang, O1, O2, O3, Os, lto, pgo [default: the tip, where patches were accepted]
    #[arg(long, value_name = "VARIANT", allow_hyphen_values = true)]
    pub(crate) variant: Option<String>,
    /// Three short launches of each workload: a first look within a minute
    #[arg(long)]
    pub(crate) quick: bool,
    /// Fresh processes of each side [default: 10, or 3 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) launches: Option<u32>,
    /// Make this record the one that README shows
    #[arg(long)]
    pub(crate) publish: bool,
    /// List the workloads and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) measuring: Measuring,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    refuse_to_publish_less(args, context)?;
    let manifest = Manifest::parse(&context.config("workloads.toml")?).context("config/workloads.toml")?.workloads;
    let user_files = args.measuring.user_files()?;
    if user_files.is_empty() {
        let selected = select::select(&manifest, &args.workloads)?;
        if args.list {
            return list(context, &selected);
        }
    }
    setup::ensure(Verb::Bench, context)?;
    if args.measuring.instructions {
        setup::ensure(Verb::Instructions, context)?;
    }
    let _lock = lock::take(context, "bench")?;
    interrupt::install()?;
    let parent = args.measuring.parent(context);
    let prepared = prepare::prepare(context, args, &user_files)?;
    let selected = select::select(&prepared.workloads, &args.workloads)?;
    if args.list {
        return list(context, &selected);
    }
    // Before hours are spent: a folder that cannot be written is said now.
    let folder = RunFolder::create(&parent, "bench")?;
    let started_at = records::now();
    let options = Options::new(args, &prepared);
    let measured = run::run(context, &prepared, &selected, &options, &folder);
    // Figures of something else than what was built are no results; the journal stays.
    prepared.check_unchanged()?;
    let record = assemble::record(context, &prepared, &selected, &options, &measured, &folder.id, &started_at);
    deliver(context, args, &record, folder, measured.stopped)
}

/// Prints the result, keeps the record, and tells by the exit code how it went.
fn deliver(
    context: &Context,
    args: &Args,
    record: &BenchRecord,
    folder: RunFolder,
    stopped: Option<anyhow::Error>,
) -> Result<Exit> {
    let page = |style, place: Option<&str>| table::full(record, style, place);
    let pages = Pages { markdown: args.measuring.markdown, page: &page, below: "", journal: None };
    folder.deliver(context, record, &pages)?;
    if let Some(error) = stopped {
        return if exit_of(&error) == Exit::Interrupted { Ok(Exit::Interrupted) } else { Err(error) };
    }
    let failed = record.workloads.iter().filter(|result| result.error.is_some()).count();
    let originals_failed = record.parity.iter().filter(|row| row.error.is_some()).count();
    if failed + originals_failed > 0 {
        if args.publish {
            progress::note("not published: the record holds errors");
        }
        return Ok(Exit::Failed);
    }
    if args.publish {
        let files = readme::publish(context, record)?;
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        progress::note(&format!("published; commit {}", names.join(" ")));
    }
    Ok(Exit::Ok)
}

/// README shows every workload on the pinned libevent, as anybody can measure it again.
fn refuse_to_publish_less(args: &Args, context: &Context) -> Result<()> {
    let less = [
        (args.quick, "--quick"),
        (args.launches.is_some_and(|launches| launches < plan::LAUNCHES), "--launches below the default"),
        (!args.workloads.is_empty(), "--workload"),
        (!args.measuring.workload_files.is_empty(), "--workload-file"),
        (args.measuring.source.is_some(), "--source"),
        (args.variant.is_some(), "--variant"),
        (args.list, "--list"),
    ];
    if let Some((_, option)) = less.iter().find(|(given, _)| args.publish && *given) {
        let message = format!("--publish is for whole runs on the pinned libevent; leave {option} out");
        return Err(failure(Exit::Usage, message));
    }
    let dirty = || git::describe_checkout(&context.root).is_none_or(|(_, dirty)| dirty);
    if args.publish && dirty() {
        let message = "--publish needs a checkout without changes, so that its commit says what measured; commit first";
        return Err(failure(Exit::Usage, message));
    }
    Ok(())
}

/// The answer of `--list --json`.
#[derive(serde::Serialize)]
struct Listing<'a> {
    schema: &'static str,
    host: model::host::HostFingerprint,
    partial: bool,
    workloads: &'a [WorkloadSpec],
}

fn list(context: &Context, workloads: &[WorkloadSpec]) -> Result<Exit> {
    if context.json {
        let host = crate::host::fingerprint();
        let listing = Listing { schema: "bench-list/1", host, partial: false, workloads };
        report::print(&(serde_json::to_string(&listing)? + "\n"))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for spec in workloads {
        let metric = match spec.metric {
            model::workload::Metric::CpuTime => "CPU time",
            model::workload::Metric::WallTime => "elapsed time",
        };
        let needs = spec.needs.as_ref().map_or(String::new(), |what| format!("; needs {what}"));
        text.push_str(&format!("{:44} {metric} of {}{needs}\n", spec.name, spec.event));
    }
    report::print(&text)?;
    eprintln!("{} workloads; batches of up to {} events", workloads.len(), largest_batch(workloads));
    Ok(Exit::Ok)
}

fn largest_batch(workloads: &[WorkloadSpec]) -> String {
    format::figure(workloads.iter().map(|spec| spec.batch_events as f64).reduce(f64::max))
}

impl Options {
    fn new(args: &Args, prepared: &Prepared) -> Options {
        Options {
            quick: args.quick,
            launches: args.launches,
            instructions: prepared.instruction_builds.is_some(),
            limit: args.measuring.limit(),
            seed: args.measuring.seed(),
        }
    }
}
