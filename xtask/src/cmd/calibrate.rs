//! `cargo xtask calibrate`: how often does this harness err on this host, and what can it see?

use crate::calibrate::journal::Journal;
use crate::calibrate::rivals::{self, Method};
use crate::calibrate::schedule::{self, Item, Kind};
use crate::calibrate::soak::Soak;
use crate::calibrate::store;
use crate::context::Context;
use crate::exit::{Exit, exit_of, failure};
use crate::report::table::Style;
use crate::report::{self};
use crate::setup::{self, Verb};
use crate::variant::pristine;
use crate::{bench, build, files, git, host, interrupt, lock, progress, records, source, worker};
use anyhow::{Context as _, Result};
use model::calibration::{CALIBRATE_SCHEMA, Calibration, Form, Trial, detection, forms, workloads};
use model::thresholds::Thresholds;
use model::variant::{Build, Purpose};
use model::workload::Manifest;
use std::time::{Duration, Instant};

/// Compares equal things, and known slowdowns, to learn how often verdicts on this host are wrong.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask calibrate --time 1h          what fits into an hour; the same command goes on later
  cargo xtask calibrate                    everything; some hours, may be interrupted and resumed at any time
  cargo xtask calibrate --status           what is known until now
  cargo xtask calibrate --rivals           the usual methods beside this one, at equal time

The result is kept in docs/calibration/, one file for each host, method, build, set of workloads and seed: commit it. Every
comparison shows the one that fits it best; its noise floors widen guards' margins only of comparisons with at most the
same --budget. Exit code 2: equal things are called different more often than the error probability allows, or, with
--rivals, a method failed.")]
pub(crate) struct Args {
    /// Workloads to calibrate, by name; repeatable [default: config/thresholds.toml]
    #[arg(long = "workload", value_name = "GLOB")]
    pub(crate) workloads: Vec<String>,
    /// Answers about equal things in each form, over all workloads
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub(crate) comparisons: u64,
    /// Time for each workload of a comparison of equal things
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::compare::budget)]
    pub(crate) budget: Duration,
    /// A slowdown in per cent and the time for finding it; repeatable
    #[arg(
        long = "inject",
        value_name = "PCT@TIME",
        default_values = ["0.5@120s", "1@30s", "2@30s", "4@30s"],
        value_parser = injection
    )]
    pub(crate) injections: Vec<(f64, Duration)>,
    /// Comparisons with each slowdown
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) detections: u64,
    /// Forms of equality; repeatable [default: all]
    #[arg(long = "form", value_name = "FORM", value_parser = form)]
    pub(crate) forms: Vec<Form>,
    /// End after this time; the same command goes on later
    #[arg(long, value_name = "TIME", value_parser = super::compare::budget)]
    pub(crate) time: Option<Duration>,
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    pub(crate) source: Option<String>,
    /// Draws everything; another seed is another calibration
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Instead, compare this method with four others at equal time: false positives and detection
    #[arg(long, conflicts_with_all = ["forms", "injections", "comparisons", "detections"])]
    pub(crate) rivals: bool,
    /// Comparisons of each method, workload and kind of pair
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        requires = "rivals",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) rival_runs: u32,
    /// Methods to compare; repeatable [default: all]
    #[arg(long = "method", value_enum, requires = "rivals")]
    pub(crate) methods: Vec<Method>,
    /// Compare nothing; print what the comparisons until now say, and keep it
    #[arg(long)]
    pub(crate) status: bool,
    /// Print Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
}

fn injection(text: &str) -> Result<(f64, Duration), String> {
    let (size, time) = text.split_once('@').ok_or("write PCT@TIME, such as 1@30s")?;
    match size.trim_end_matches('%').parse::<f64>() {
        Ok(size) if size > 0.0 && size <= 100.0 => Ok((size, super::compare::budget(time)?)),
        _ => Err(format!("`{size}` is no slowdown: above 0, up to 100 per cent")),
    }
}

fn form(text: &str) -> Result<Form, String> {
    let names: Vec<&str> = Form::ALL.iter().map(|form| form.name()).collect();
    let found = Form::ALL.into_iter().find(|form| form.name() == text);
    found.ok_or_else(|| format!("no form `{text}`; forms are {}", names.join(", ")))
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let thresholds = Thresholds::parse(&context.config("thresholds.toml")?).context("config/thresholds.toml")?;
    let globs = if args.workloads.is_empty() { &thresholds.calibrated } else { &args.workloads };
    let manifest = Manifest::parse(&context.config("workloads.toml")?).context("config/workloads.toml")?.workloads;
    let names: Vec<String> = bench::select::select(&manifest, globs)?.into_iter().map(|spec| spec.name).collect();
    setup::ensure(Verb::Bench, context)?;
    let _lock = lock::take(context, "calibrate")?;
    interrupt::install()?;
    if args.rivals {
        return compare_methods(args, context, names);
    }
    // One that cannot be read is an error before the hours, not after them.
    store::load(context)?;
    let source = source::resolve(context, args.source.as_deref())?;
    let baseline = build::build(context, &pristine(context, &source)?, Purpose::Measure)?;
    let key = key(context, args, &baseline, &names)?;
    let mut journal = Journal::open(&context.work.join("calibration").join(&key))?;
    progress::note(&format!("journal: {} ({} answers in it)", journal.path().display(), journal.trials().len()));
    let one_cpu = host::pinning()?.shared;
    if one_cpu {
        progress::note(
            "this host lends one CPU: the forms `load` and `neighbour`, which keep another one busy, are left out",
        );
    }
    let items = items(args, names.len() as u64, one_cpu);
    let mut stopped = None;
    if !args.status {
        let until = args.time.map(|time| Instant::now() + time);
        let soak =
            Soak { context, source: &source, thresholds: &thresholds, workloads: &names, seed: args.seed, until };
        stopped = soak.run(&items, &mut journal).err();
    }
    if journal.trials().is_empty() {
        return Err(stopped.unwrap_or_else(|| failure(Exit::Usage, "nothing has been compared yet")));
    }
    let done = items.iter().filter(|item| journal.has(item)).count();
    let calibration =
        calibration(context, args, &baseline, journal.trials(), done < items.len(), journal.started_at())?;
    // Kept before it is printed: hours are in it.
    let kept = match store::save(context, &calibration, &key)? {
        Ok(path) => format!("kept as {}; commit it", path.display()),
        Err(why) => why,
    };
    if context.json {
        report::print(&(serde_json::to_string(&calibration)? + "\n"))?;
    } else {
        let style = if args.markdown { Style::Markdown } else { Style::Terminal };
        report::print(&report::calibrate::full(&calibration, style))?;
    }
    progress::note(&format!("{done} of {} comparisons done; {kept}", items.len()));
    let wrong: Vec<&str> =
        calibration.forms.iter().filter(|f| f.errs_more_than(thresholds.alpha)).map(|f| f.form.name()).collect();
    if !wrong.is_empty() && stopped.is_none() {
        let message = format!(
            "on this host, verdicts about equal things are wrong more often than {} in 100 ({}); do not trust them \
             before the cause is known",
            100.0 * thresholds.alpha,
            wrong.join(", ")
        );
        return Err(failure(Exit::Failed, message));
    }
    match stopped {
        Some(error) if exit_of(&error) == Exit::Interrupted => Ok(Exit::Interrupted),
        Some(error) => Err(error),
        None => Ok(Exit::Ok),
    }
}

/// This method and its rivals, on the same pair of builds in one run.
fn compare_methods(args: &Args, context: &Context, workloads: Vec<String>) -> Result<Exit> {
    let options = rivals::Options {
        workloads,
        methods: args.methods.clone(),
        budget: args.budget,
        runs: args.rival_runs,
        seed: args.seed,
        limit: Duration::from_secs(20),
        source: args.source.clone(),
        until: args.time.map(|time| Instant::now() + time),
        status: args.status,
    };
    let table = rivals::run(context, &options)?;
    if context.json {
        report::print(&(serde_json::to_string(&table)? + "\n"))?;
    } else {
        let style = if args.markdown { Style::Markdown } else { Style::Terminal };
        report::print(&report::rivals::full(&table, style))?;
    }
    Ok(match table.errors.is_empty() {
        _ if interrupt::asked() => Exit::Interrupted,
        true => Exit::Ok,
        false => Exit::Failed,
    })
}

/// The comparisons that were asked for.
fn items(args: &Args, workloads: u64, one_cpu: bool) -> Vec<Item> {
    let mut chosen = if args.forms.is_empty() { Form::ALL.to_vec() } else { args.forms.clone() };
    if one_cpu {
        chosen.retain(|form| !matches!(form, Form::Load | Form::Neighbour));
    }
    let equal = chosen.iter().map(|form| {
        let kind = Kind { form: *form, injected_pct: 0.0, budget: args.budget };
        (kind, args.comparisons.div_ceil(workloads.max(1)))
    });
    let slowed = chosen.iter().filter(|form| matches!(form, Form::Relink | Form::Neighbour)).flat_map(|form| {
        let kind = |(injected_pct, budget): &(f64, Duration)| {
            (Kind { form: *form, injected_pct: *injected_pct, budget: *budget }, args.detections)
        };
        args.injections.iter().map(kind)
    });
    let kinds: Vec<(Kind, u64)> = equal.chain(slowed).collect();
    schedule::schedule(&kinds)
}

/// What tells calibrations apart, in the name of the journal's folder and of the file that is kept: another host, method
/// of measuring or of calibrating, build, set of workloads or seed is another one.
fn key(context: &Context, args: &Args, baseline: &Build, names: &[String]) -> Result<String> {
    let (host, method) = (host::fingerprint().id, worker::method_sha256(context)?);
    let (soak, seed) = (worker::soak_sha256(context)?, args.seed.to_string());
    let mut parts = vec![&host, &method, &soak, &baseline.id, &seed];
    parts.extend(names);
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| [part.as_bytes(), b"\n"].concat()).collect();
    let sum = files::sha256_hex(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok(sum[..12].to_owned())
}

fn calibration(
    context: &Context,
    args: &Args,
    baseline: &Build,
    trials: &[Trial],
    partial: bool,
    started_at: String,
) -> Result<Calibration> {
    let checkout = git::describe_checkout(&context.root);
    Ok(Calibration {
        schema: CALIBRATE_SCHEMA.to_owned(),
        host: host::fingerprint(),
        partial,
        started_at,
        finished_at: records::now(),
        hours: trials.iter().map(|trial| trial.seconds).sum::<f64>() / 3600.0,
        method_sha256: worker::method_sha256(context)?,
        commit: checkout.as_ref().map(|(commit, _)| commit.clone()),
        dirty: checkout.map(|(_, dirty)| dirty),
        build: baseline.id.clone(),
        compiler: baseline.compiler.clone(),
        seed: args.seed,
        forms: forms(trials),
        detection: detection(trials),
        workloads: workloads(trials),
    })
}
