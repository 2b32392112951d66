//! `cargo xtask variant`: variants by name, with a worktree and builds of their own.

use crate::build::{self, Recipe};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::git::Store;
use crate::report::variants as report;
use crate::setup::{self, Verb};
use crate::side::{self, Side};
use crate::variants::disk::{self, Holding};
use crate::variants::names;
use crate::variants::prune::{self, Doomed, Limits, Rule, State};
use crate::variants::{edit, shell};
use crate::{exp, files, interrupt, lock, progress, source, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::variant::{Purpose, Source};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Names variants, shows what they are and what they take of the disk.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Examples:
  cargo xtask variant new fast-drain --patch drain.patch     a patch on pristine, by a name
  cargo xtask variant new idea --edit                        a worktree to edit; then: variant save idea
  cargo xtask variant new up --source ../libevent --from v2  a revision of another libevent
  cargo xtask variant list                                   all of this work folder, with their disk use
  cargo xtask variant diff fast-drain pristine
  cargo xtask variant shell fast-drain -- make -C \"$BUILD\"   in the sandbox; without --, an interactive shell
  cargo xtask variant prune --older-than 7 --dry-run
  cargo xtask compare pristine fast-drain                    a name works wherever CODE does

docs/EXPERIMENTS.md says what a variant is and how its names, edits and folders work.")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Give a name to pristine with a patch, to a revision, or to other code
    New(New),
    /// Every variant of this work folder, with names, state and disk use
    List,
    /// What a variant is, where it is, and what has been built of it
    Show {
        /// Name, or other CODE
        #[arg(value_name = "VARIANT")]
        code: String,
        #[command(flatten)]
        of: Of,
    },
    /// How a variant differs from another one
    Diff {
        /// Name, or other CODE
        #[arg(value_name = "VARIANT")]
        code: String,
        /// What it is compared with [default: pristine, of its source]
        #[arg(value_name = "OTHER")]
        other: Option<String>,
        /// Only names of files, with lines added and removed
        #[arg(long)]
        stat: bool,
        #[command(flatten)]
        of: Of,
    },
    /// Compile a variant's libevent as it is measured
    Build {
        /// Name, or other CODE, with +WORDs of a build profile
        #[arg(value_name = "VARIANT", allow_hyphen_values = true)]
        code: String,
        #[command(flatten)]
        of: Of,
    },
    /// Open a shell in a variant's worktree, in the sandbox
    Shell {
        /// Name, or other CODE
        #[arg(value_name = "VARIANT")]
        code: String,
        /// Run this in its place
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
        #[command(flatten)]
        of: Of,
    },
    /// Turn what was edited into the variant's patch, by the rules for patches
    Save {
        /// A name that was made with --edit
        name: String,
        /// Write the patch there, too
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Remove worktrees and builds that nobody used for long; names and patches stay
    Prune(Prune),
}

/// The source that CODE is of.
#[derive(clap::Args, Clone, Debug)]
struct Of {
    /// Another libevent: a folder, a git URL, either with @REVISION
    #[arg(long, value_name = "PATH|GIT-URL[@REV]")]
    source: Option<String>,
}

#[derive(clap::Args, Clone, Debug)]
struct New {
    /// The name: it begins with a to z, then a-z, 0-9, `-`, `_`, `.`
    name: String,
    /// A patch on pristine, or on what --from says
    #[arg(long, value_name = "FILE")]
    patch: Option<PathBuf>,
    /// Other code than pristine: a revision of --source, `tip`, another name or id, PATH@REV, GIT-URL@REV
    #[arg(long, value_name = "REV|CODE")]
    from: Option<String>,
    /// Make a worktree for editing; `variant save NAME` turns the edits into the variant's patch
    #[arg(long)]
    edit: bool,
    /// Let the name stand for something else than before
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    of: Of,
}

#[derive(clap::Args, Clone, Debug)]
struct Prune {
    /// Only these, by name or id, whatever their age
    #[arg(value_name = "VARIANT")]
    only: Vec<String>,
    /// What was not used for so many days [default: config/variants.toml]
    #[arg(long, value_name = "DAYS")]
    older_than: Option<u64>,
    /// In these states only; repeatable [default: both]
    #[arg(long = "state", value_enum)]
    states: Vec<State>,
    /// Forget names and patches of what goes, and of worktrees for editing that are saved; what was edited and not saved
    /// stays
    #[arg(long)]
    forget: bool,
    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit> {
    match &args.action {
        Action::New(new) => make(new, context),
        Action::List => list(context),
        Action::Show { code, of } => show(code, of, context),
        Action::Diff { code, other, stat, of } => diff(code, other.as_deref(), *stat, of, context),
        Action::Build { code, of } => compile(code, of, context),
        Action::Shell { code, command, of } => open_shell(code, command, of, context),
        Action::Save { name, out } => save(name, out.as_deref(), context),
        Action::Prune(prune) => remove(prune, context),
    }
}

fn source_of(of: &Of, context: &Context) -> Result<Source> {
    source::resolve(context, of.source.as_deref())
}

fn make(args: &New, context: &Context) -> Result<Exit> {
    let name = &args.name;
    names::check(name)?;
    if std::path::Path::new(name).is_file() {
        let message =
            format!("there is a file called `{name}` here, which that name would mean as well; choose another");
        return Err(failure(Exit::Usage, message));
    }
    let _lock = lock::take(context, "variant new")?;
    interrupt::install()?;
    edit::clear_unfinished(context, name)?;
    // Of one that is damaged, too: --replace is the way out.
    let before = names::find(context, name);
    if !args.replace && !matches!(before, Ok(None)) {
        before?;
        let message = format!("a variant is called `{name}` already; choose another name, or give --replace");
        return Err(failure(Exit::Usage, message));
    }
    if edit::worktree(context, name).exists() {
        let worktree = edit::worktree(context, name);
        let message = format!("{} holds edits of that name; save or remove them first", worktree.display());
        return Err(failure(Exit::Usage, message));
    }
    let source = source_of(&args.of, context)?;
    let code = match (&args.from, &args.of.source) {
        (Some(revision), Some(_)) => format!("rev:{}", revision.trim_start_matches("rev:")),
        (Some(code), None) => code.clone(),
        (None, _) => "pristine".to_owned(),
    };
    let Side { variant: base, profile } = side::resolve(context, &source, &code)?;
    if profile != Profile::default() {
        let message = format!("`{code}`: a name stands for code; the words of a build profile go behind it: {name}+O3");
        return Err(failure(Exit::Usage, message));
    }
    let mut made_from = code;
    let mut made = base.clone();
    if let Some(patch) = &args.patch {
        if !patch.is_file() {
            return Err(failure(Exit::Usage, format!("--patch {}: no such file", patch.display())));
        }
        made = variant::with_more_patches(context, &base, name, std::slice::from_ref(patch))?;
        let text = std::fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        files::write_atomic(&names::patch_file(context, name), &text)?;
        made_from = format!("{made_from} + {}", patch.display());
    }
    variant::remember(context, &made)?;
    let named = names::new(name, &made_from, made, args.edit.then_some(base));
    // Before its worktree: ended in between, no worktree is left that no name leads to.
    names::keep(context, &named)?;
    if args.edit {
        edit::begin(context, name, &named.variant)?;
    } else {
        variant::checkout(context, &named.variant, None)?;
    }
    report::made(context, &named)?;
    bound(context);
    Ok(Exit::Ok)
}

fn save(name: &str, out: Option<&std::path::Path>, context: &Context) -> Result<Exit> {
    let _lock = lock::take(context, "variant save")?;
    interrupt::install()?;
    let saved = edit::save(context, &names::get(context, name)?)?;
    if let Some(out) = out {
        let patch = names::patch_file(context, name);
        files::write_atomic(out, &std::fs::read(&patch).with_context(|| format!("cannot read {}", patch.display()))?)?;
    }
    variant::checkout(context, &saved.variant, None)?;
    if let Some(note) = variant::screening_note(context, &saved.variant)? {
        progress::note(&note);
    }
    report::made(context, &saved)?;
    Ok(Exit::Ok)
}

fn list(context: &Context) -> Result<Exit> {
    let holdings = disk::holdings(context)?;
    report::list(context, &holdings, &needed(context)?, Limits::read(context)?)?;
    Ok(Exit::Ok)
}

fn show(code: &str, of: &Of, context: &Context) -> Result<Exit> {
    let side = side::resolve(context, &source_of(of, context)?, code)?;
    let holding = disk::holdings(context)?.into_iter().find(|holding| holding.id == side.variant.id);
    let named = names::find(context, code)?;
    let screened = variant::screened(context, &side.variant)?;
    let needed = needed(context)?.remove(&side.variant.id);
    let unsaved = named.as_ref().map_or(Ok(false), |named| edit::is_unsaved(context, named))?;
    let shown = report::Shown { variant: &side.variant, named, holding, screened, needed, unsaved };
    report::show(context, &shown)?;
    Ok(Exit::Ok)
}

fn diff(code: &str, other: Option<&str>, stat: bool, of: &Of, context: &Context) -> Result<Exit> {
    let source = source_of(of, context)?;
    let to = side::resolve(context, &source, code)?.variant;
    let from = match other {
        Some(other) => side::resolve(context, &source, other)?.variant,
        None => variant::pristine(context, &to.source)?,
    };
    report::diff(context, &Store::open(&context.work)?, &from, &to, stat)?;
    Ok(Exit::Ok)
}

fn compile(code: &str, of: &Of, context: &Context) -> Result<Exit> {
    setup::ensure(Verb::Bench, context)?;
    let _lock = lock::take(context, "variant build")?;
    interrupt::install()?;
    let side = side::resolve(context, &source_of(of, context)?, code)?;
    let build = built(context, &side)?;
    report::built(context, &build)?;
    bound(context);
    Ok(Exit::Ok)
}

fn built(context: &Context, side: &Side) -> Result<model::variant::Build> {
    let recipe = Recipe { purpose: Purpose::Measure, profile: side.profile, place: None };
    let build = build::build_recipe(context, &side.variant, &recipe)?;
    variant::checkout(context, &side.variant, None)?;
    Ok(build)
}

fn open_shell(code: &str, command: &[String], of: &Of, context: &Context) -> Result<Exit> {
    setup::ensure(Verb::Bench, context)?;
    let (build, named) = {
        // Let go before the shell is opened: it may stay open for hours.
        let _lock = lock::take(context, "variant shell")?;
        let side = side::resolve(context, &source_of(of, context)?, code)?;
        shell::refuse_unconfined(context, &side.variant)?;
        (built(context, &side)?, names::find(context, code)?)
    };
    let edited = named.as_ref().map(|named| edit::worktree(context, &named.name)).filter(|path| path.is_dir());
    let (source, writable) = match (&edited, &named) {
        (Some(worktree), Some(named)) => (worktree.clone(), edit::folder(context, &named.name)),
        _ => (
            variant::folder(context, &build.variant.id).join("src"),
            context.work.join("shells").join(&build.variant.id),
        ),
    };
    progress::note(&match &edited {
        Some(_) => format!(
            "{}: a worktree for editing; what is compiled by hand goes to $BUILD; `cargo xtask variant save {code}` makes \
             the edits the variant",
            source.display()
        ),
        None => format!(
            "{}: read only, as its id says what is in it; to edit: `cargo xtask variant new NAME --from {code} --edit`",
            source.display()
        ),
    });
    shell::open(context, &shell::Shell { name: code, build: &build, source: &source, writable: &writable, command })
}

fn remove(args: &Prune, context: &Context) -> Result<Exit> {
    let limits = Limits::read(context)?;
    let _lock = if args.dry_run { None } else { Some(lock::take(context, "variant prune")?) };
    let holdings = disk::holdings(context)?;
    let needed = needed(context)?;
    let only = args.only.iter().map(|text| one_of(&holdings, text)).collect::<Result<Vec<_>>>()?;
    if let Some((id, why)) = only.iter().find_map(|id| needed.get_key_value(id)) {
        return Err(failure(Exit::Usage, format!("variant {id} cannot go: it is {why}")));
    }
    let days = args.older_than.unwrap_or(if only.is_empty() { limits.unused_days } else { 0 });
    let rule = Rule {
        unused: Duration::from_secs(days * 86400),
        states: if args.states.is_empty() { vec![State::Unnamed, State::Named] } else { args.states.clone() },
        only: (!only.is_empty()).then(|| only.into_iter().collect()),
        most_bytes: limits.most_mib << 20,
    };
    let doomed = prune::plan(&holdings, &needed, &rule);
    let mut kept = Vec::new();
    if !args.dry_run {
        go(context, &holdings, &doomed)?;
    }
    let chosen = |id: &str| match &rule.only {
        Some(only) => only.contains(id),
        None => doomed.iter().any(|doomed| doomed.id == id),
    };
    let mut forgotten = Vec::new();
    for holding in holdings.iter().filter(|holding| args.forget && chosen(&holding.id)) {
        for name in &holding.names {
            let named = names::get(context, name)?;
            if edit::is_unsaved(context, &named)? {
                kept.push(format!("{name}: {} has edits that are not saved", edit::worktree(context, name).display()));
                continue;
            }
            forgotten.push(name.clone());
            if !args.dry_run {
                disk::gone(&edit::folder(context, name))?;
                names::forget(context, name)?;
            }
        }
    }
    if !args.dry_run {
        Store::open(&context.work)?.prune_worktrees()?;
    }
    let total: u64 = holdings.iter().map(Holding::bytes).sum();
    report::pruned(context, &report::Pruned { doomed, forgotten, kept, dry_run: args.dry_run, total })?;
    Ok(Exit::Ok)
}

/// The id that a name, an id or the beginning of one means.
fn one_of(holdings: &[Holding], text: &str) -> Result<String> {
    let is_meant = |holding: &&Holding| {
        holding.names.iter().any(|name| name == text) || (text.len() >= 6 && holding.id.starts_with(text))
    };
    let found: Vec<&Holding> = holdings.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one.id.clone()),
        [] => Err(failure(Exit::Usage, format!("no variant of this work folder is `{text}`; `variant list` has them"))),
        _ => Err(failure(Exit::Usage, format!("`{text}` begins the ids of {} variants", found.len()))),
    }
}

fn go(context: &Context, holdings: &[Holding], doomed: &[Doomed]) -> Result<()> {
    for holding in holdings.iter().filter(|holding| doomed.iter().any(|doomed| doomed.id == holding.id)) {
        disk::remove(context, holding)?;
    }
    Ok(())
}

/// Keeps what variants take of the disk within config/variants.toml, and says what went for it. Behind the answer, which it is no
/// part of: what goes wrong here is said, and makes nothing else fail.
pub(crate) fn bound(context: &Context) {
    if let Err(error) = kept_within_bounds(context) {
        progress::note(&format!("what variants take of the disk could not be bounded: {error:#}"));
    }
}

fn kept_within_bounds(context: &Context) -> Result<()> {
    disk::sweep(context)?;
    let limits = Limits::read(context)?;
    let holdings = disk::holdings(context)?;
    let rule = Rule { unused: Duration::MAX, states: vec![], only: None, most_bytes: limits.most_mib << 20 };
    let doomed = prune::plan(&holdings, &needed(context)?, &rule);
    if let Some(left) = prune::beyond(&holdings, &doomed, rule.most_bytes) {
        progress::note(&format!(
            "variants take {} of the disk, beyond the {} of config/variants.toml: what is left are folders for editing and what \
             experiments under way and the tip are made of; `variant list` shows which, and `exp park` or `exp reject` let go of it",
            prune::mib(left),
            prune::mib(rule.most_bytes)
        ));
    }
    if doomed.is_empty() {
        return Ok(());
    }
    go(context, &holdings, &doomed)?;
    Store::open(&context.work)?.prune_worktrees()?;
    for doomed in &doomed {
        progress::note(&format!(
            "variant {} {}: its worktree and builds went ({}): {}; they are made again when they are needed",
            doomed.id,
            doomed.names.join(" "),
            prune::mib(doomed.bytes),
            doomed.why
        ));
    }
    Ok(())
}

/// Variants that never go, by id, with what they are needed for.
fn needed(context: &Context) -> Result<BTreeMap<String, String>> {
    let mut needed = exp::needed(context)?;
    // Without filling or reading ./libevent: a list must cost nothing.
    for holding in disk::holdings(context)? {
        let Some(variant) = holding.variant else { continue };
        if variant.patches.is_empty() && variant.source.pinned {
            needed.entry(variant.id).or_insert_with(|| "pristine".to_owned());
        }
    }
    Ok(needed)
}
