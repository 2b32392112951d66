//! `cargo xtask models`: model tests alone, for as long as one likes, and cases again.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::gate::build;
use crate::gate::models::{self, Compared, Pair};
use crate::records::RunFolder;
use crate::setup::{self, Verb};
use crate::{interrupt, lock, progress, side, source, variant};
use anyhow::Result;
use model::gate::Sanitizer;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Runs model tests of a variant beside the pristine libevent, as long as wanted; replays cases.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask models my.patch                          the cases of the light gate
  cargo xtask models my.patch --seconds 3600           a soak: the same with seed after seed
  cargo xtask models my.patch --family evbuffer --sanitizer address
  cargo xtask models my.patch --replay runs/.../evbuffer-1-4711.json

Exit code 0: no case fails; 2: some do. docs/gate/models.md says what a case is.")]
pub(crate) struct Args {
    /// What is tested: a variant, a patch file or a revision [default: pristine]
    #[arg(value_name = "VARIANT|PATCH", allow_hyphen_values = true, default_value = "pristine")]
    pub(crate) variant: String,
    /// One family alone
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,
    /// What cases are drawn from [default: the gate's]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Take one seed after the other for so long
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u64>,
    /// none, address, undefined or thread
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = sanitizer)]
    pub(crate) sanitizer: Sanitizer,
    /// Run one case that was kept
    #[arg(long, value_name = "FILE", conflicts_with_all = ["family", "seed", "seconds"])]
    pub(crate) replay: Option<PathBuf>,
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    pub(crate) source: Option<String>,
}

fn sanitizer(text: &str) -> Result<Sanitizer, String> {
    let all = [Sanitizer::None, Sanitizer::Address, Sanitizer::Undefined, Sanitizer::Thread];
    all.into_iter().find(|sanitizer| sanitizer.name() == text).ok_or_else(|| format!("no sanitizer `{text}`"))
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let config = models::config(context)?;
    setup::ensure_all(&[Verb::Bench, Verb::Verify], false, context)?;
    let _lock = lock::take(context, "models")?;
    interrupt::install()?;
    let source = source::resolve(context, args.source.as_deref())?;
    let candidate = side::resolve(context, &source, &args.variant)?.variant;
    let pristine = variant::pristine(context, &candidate.source)?;
    let builds = [&pristine, &candidate].map(|variant| build::build(context, variant, args.sanitizer));
    let [pristine, candidate] = builds;
    let (pristine, candidate) = (pristine?, candidate?);
    let pair = Pair::new(context, &pristine, &candidate)?;
    if let Some(file) = &args.replay {
        return replay(&pair, file);
    }
    let folder = RunFolder::create(&context.runs, "models")?;
    let logs = folder.path.clone();
    let amount = match args.sanitizer {
        Sanitizer::None => &config.light,
        Sanitizer::Address | Sanitizer::Thread => &config.address,
        Sanitizer::Undefined => &config.undefined,
    };
    let deadline = Instant::now() + Duration::from_secs(args.seconds.unwrap_or(0));
    let mut seed = args.seed.unwrap_or(config.seed);
    let mut failed = false;
    loop {
        let compared = pair.compare(&pair.ranges(&config, amount, seed, args.family.as_deref())?, &logs)?;
        failed |= compared.fails();
        say(seed, &compared);
        if Instant::now() >= deadline {
            return Ok(if failed { Exit::Failed } else { Exit::Ok });
        }
        seed += 1;
    }
}

fn replay(pair: &Pair<'_>, file: &Path) -> Result<Exit> {
    if !file.is_file() {
        return Err(failure(Exit::Usage, format!("--replay {}: no such file", file.display())));
    }
    let file = std::path::absolute(file)?;
    let (why, difference) = models::replay(pair, &file)?;
    if let Some(difference) = difference {
        println!("{difference}");
    }
    println!("{}", why.as_deref().unwrap_or("does not fail"));
    Ok(if why.is_some() { Exit::Failed } else { Exit::Ok })
}

fn say(seed: u64, compared: &Compared) {
    let failures = compared.kept.len() + compared.more.len();
    progress::note(&format!(
        "seed {seed}: {} cases in {:.1} s, {failures} fail, {} did not fail again, {} unjudged",
        compared.cases_run,
        compared.seconds,
        compared.unconfirmed.len(),
        compared.unjudged.len()
    ));
    for kept in &compared.kept {
        println!("{}", kept.shown());
    }
    if let Some(why) = &compared.stopped {
        println!("ended early: {why}");
    }
    if let Some(family) = &compared.given_up {
        println!("given up after too many hung cases of family {family}");
    }
    for text in &compared.no_chance {
        println!("{text}");
    }
    for text in &compared.unconfirmed {
        println!("did not fail again: {text}");
    }
    for (kind, cases) in &compared.changed {
        println!("visible change, to be decided on: {kind} ({cases} cases)");
    }
}
