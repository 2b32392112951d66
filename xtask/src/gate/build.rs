//! Builds for the gate: libevent's own test programs, linked against the variant's library, once for each sanitizer.
//!
//! Without a sanitizer, the programs are linked against the very archives that are measured. With one, the library is
//! compiled by the commands that compile the measured one, with the sanitizer's flags behind them. The tests' source,
//! and every file that says how to build, is the harness's (`harness.rs`).

mod keep;
mod launch;
mod link;
mod objects;
mod read;
mod template;

use super::harness;
use super::identity;
use super::sanitizer;
use crate::build::{self, Recipe, interpose};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::git::Store;
use crate::{files, progress, sandbox, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::gate::Sanitizer;
use model::variant::{Build, Purpose, Variant};
use objects::{Job, Object};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use template::{Compile, Template};

/// Raised when programs are put together otherwise.
const VERSION: &str = "gate build 1";

/// A finished build for the gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GateBuild {
    /// Twelve hexadecimal digits: variant, flags, compiler, sanitizer, harness.
    pub(crate) id: String,
    /// What was compiled.
    pub(crate) variant: Variant,
    /// How it differs from config/build.toml.
    pub(crate) profile: Profile,
    /// What watches it.
    pub(crate) sanitizer: Sanitizer,
    /// Which library the programs have in them.
    pub(crate) linked: Linked,
    /// Its tests are those of a test patch.
    #[serde(default)]
    pub(crate) changed_tests: bool,
    /// Words of the profile that the library lacks: sanitizers want object files of code.
    pub(crate) left_out: Vec<String>,
    /// The compiler that made and linked everything.
    pub(crate) cc: String,
    /// The sanitizer's flags, for compiling and linking.
    pub(crate) flags: Vec<String>,
    /// Where everything is.
    pub(crate) folder: PathBuf,
    /// The variant's source. Nothing is written to it.
    pub(crate) source: PathBuf,
    /// Folders of the public headers, those that were generated first.
    pub(crate) include: Vec<PathBuf>,
    /// The program with most of libevent's tests.
    pub(crate) regress: PathBuf,
    /// All test programs by name, `regress` among them.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// Static libraries in link order.
    pub(crate) libraries: Vec<PathBuf>,
    /// What programs must be linked with besides, such as `-lssl`.
    pub(crate) system_libraries: Vec<String>,
    /// An object file that makes a program say which build it is of; to be linked into every program.
    pub(crate) identity: PathBuf,
    /// SHA-256 over all files of the source that are no library code.
    pub(crate) harness_sha256: String,
    /// SHA-256 of programs and libraries.
    sha256: BTreeMap<PathBuf, String>,
    objects: Vec<Object>,
}

impl GateBuild {
    /// What a file of this build was when it was made.
    pub(crate) fn sha256_of(&self, path: &Path) -> Option<&str> {
        self.sha256.get(path).map(String::as_str)
    }

    /// Programs, libraries and the identity object, with what they were when they were made.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&PathBuf, &String)> {
        self.sha256.iter()
    }

    fn is_unchanged(&self) -> bool {
        self.sha256.iter().all(|(path, sha256)| files::sha256_file(path).is_ok_and(|now| now == *sha256))
    }
}

/// Where the library without a sanitizer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Linked {
    /// The archives that are measured: what is tested is what is timed.
    Measured,
    /// Compiled by the same commands, from pristine's object files where they are the same: for seeded defects, which
    /// are never measured.
    Compiled,
}

/// The variant's build for the gate, as config/build.toml says.
#[allow(dead_code, reason = "for verbs that know no profiles")]
pub(crate) fn build(context: &Context, variant: &Variant, sanitizer: Sanitizer) -> Result<GateBuild> {
    build_with(context, variant, Profile::default(), sanitizer, Linked::Measured)
}

/// The variant's build for the gate: an earlier one if its files are what they were, else a new one.
pub(crate) fn build_with(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    sanitizer: Sanitizer,
    linked: Linked,
) -> Result<GateBuild> {
    build_of(context, variant, profile, sanitizer, linked, &[])
}

/// A variant with a test patch on it, which changes these files: a build of its own, which is never measured.
pub(crate) fn build_changed_tests(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    sanitizer: Sanitizer,
    tests: &[String],
) -> Result<GateBuild> {
    build_of(context, variant, profile, sanitizer, Linked::Compiled, tests)
}

fn build_of(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    sanitizer: Sanitizer,
    linked: Linked,
    tests: &[String],
) -> Result<GateBuild> {
    // A library that is optimised as a whole has no object files that a sanitizer could be put into.
    let by_file = Profile { lto: false, pgo: false, ..profile };
    let whole = sanitizer == Sanitizer::None && linked == Linked::Measured;
    let linked = if whole { Linked::Measured } else { Linked::Compiled };
    harness::refuse_changes(context, variant, tests)?;
    let template = template::template(context, variant, by_file)?;
    let recipe = Recipe { purpose: Purpose::Measure, profile, place: None };
    let measured = whole.then(|| build::build_recipe(context, variant, &recipe)).transpose()?;
    if tests.is_empty() {
        variant::remember(context, variant)?;
    }
    let source = variant::checkout(context, variant, None)?;
    let harness_sha256 = harness::sha256(&source)?;
    let flags = sanitizer::flags(sanitizer);
    let libraries = measured.iter().flat_map(|build| build.libraries.iter().map(|library| library.sha256.as_str()));
    let mut parts =
        vec![VERSION, &variant.id, &template.id, &harness_sha256, if whole { "measured" } else { "compiled" }];
    let code_version = identity::code("");
    parts.push(&code_version);
    parts.extend(flags.iter().map(String::as_str).chain(libraries));
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let id = files::sha256_hex(&parts)[..12].to_owned();
    let folder = context.work.join("gate/builds").join(&id);
    if let Some(build) = finished(&folder, &id) {
        keep::used(&folder)?;
        return Ok(GateBuild { variant: variant.clone(), profile, ..build });
    }
    let earlier = earlier(context, variant, by_file, sanitizer, whole)?;
    let changed_tests = !tests.is_empty();
    let plan = Plan { template, measured, source, folder, id, flags, harness_sha256, linked, changed_tests };
    make(context, variant, profile, sanitizer, &plan, &earlier)
}

/// Everything that is decided before anything is compiled.
struct Plan {
    template: Template,
    measured: Option<Build>,
    source: PathBuf,
    folder: PathBuf,
    id: String,
    flags: Vec<String>,
    harness_sha256: String,
    linked: Linked,
    changed_tests: bool,
}

/// Object files of pristine, which a variant shares most of.
fn earlier(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    sanitizer: Sanitizer,
    whole: bool,
) -> Result<Vec<Object>> {
    let pristine = variant::pristine(context, &variant.source)?;
    let is_pristine = pristine.id == variant.id;
    Ok(match (is_pristine, whole) {
        (false, true) => build_with(context, &pristine, profile, sanitizer, Linked::Measured)?.objects,
        (false, false) => build_with(context, &pristine, profile, sanitizer, Linked::Compiled)?.objects,
        // The tests are the same whatever library they are linked with.
        (true, false) if sanitizer == Sanitizer::None => {
            build_with(context, &pristine, profile, sanitizer, Linked::Measured)?.objects
        }
        (true, _) => vec![],
    })
}

fn make(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    sanitizer: Sanitizer,
    plan: &Plan,
    earlier: &[Object],
) -> Result<GateBuild> {
    let Plan { template, measured, source, folder, .. } = plan;
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let foreign_names = foreign_names(context, variant)?;
    let readable = readable(context, plan);
    let job = Job {
        variant,
        source,
        folder,
        cc: &template.cc,
        flags: &plan.flags,
        readable: &readable,
        earlier,
        foreign_names: &foreign_names,
    };
    let of_library: &[Compile] = if measured.is_some() { &[] } else { &template.library };
    let compiles: Vec<&Compile> = of_library.iter().chain(&template.tests).collect();
    let what = if sanitizer == Sanitizer::None {
        "tests".to_owned()
    } else {
        format!("tests, {} sanitizer", sanitizer.name())
    };
    progress::note(&format!("building libevent's {what}, variant {} ({})", variant.id, variant.name));
    let (objects, compiled) = objects::objects(&job, &compiles)?;
    if compiled < objects.len() {
        progress::note(&format!("{compiled} of {} object files compiled, the others are pristine's", objects.len()));
    }
    let libraries = match measured {
        Some(build) => build::library_paths(build),
        None => link::archives(&job, &template.library, &objects)?,
    };
    if sanitizer != Sanitizer::None {
        // Measured libraries were looked at when they were built; code may be there in this build only.
        interpose::check(&template.cc, variant, &libraries)?;
    }
    let mut build = GateBuild {
        id: plan.id.clone(),
        variant: variant.clone(),
        profile,
        sanitizer,
        linked: plan.linked,
        changed_tests: plan.changed_tests,
        left_out: left_out(profile, measured.is_some()),
        cc: template.cc.clone(),
        flags: plan.flags.clone(),
        folder: folder.clone(),
        source: source.clone(),
        include: vec![template.generated_headers()?, source.join("include")],
        regress: folder.join("bin/regress"),
        programs: vec![],
        libraries,
        system_libraries: link::system_libraries(&template.programs),
        identity: folder.join("identity/identity.o"),
        harness_sha256: plan.harness_sha256.clone(),
        sha256: BTreeMap::new(),
        objects: vec![],
    };
    link::identity(&job, &build)?;
    build.programs = link::programs(&job, &build, &template.programs, &objects)?;
    build.objects = objects;
    if let Some(measured) = measured {
        // Between their hashing and the link nobody put other ones in their place.
        build::check_unchanged(measured)?;
    }
    let programs = build.programs.iter().map(|(_, path)| path);
    let made: Vec<&PathBuf> = programs.chain(&build.libraries).chain([&build.identity]).collect();
    for path in made.iter().filter(|path| path.starts_with(folder)) {
        sandbox::take_back(path)?;
    }
    build.sha256 = made.into_iter().map(|path| Ok((path.clone(), files::sha256_file(path)?))).collect::<Result<_>>()?;
    for (_, program) in &build.programs {
        identity::verify_identity(program, &build)?;
    }
    files::write_atomic(&folder.join(RECORD), &serde_json::to_vec(&build)?)?;
    keep::prune(&context.work.join("gate/builds"))?;
    Ok(build)
}

/// File of a finished build that says what it is.
const RECORD: &str = "gate.json";

/// A build that was finished and whose files are byte for byte what they were then.
fn finished(folder: &Path, id: &str) -> Option<GateBuild> {
    let text = std::fs::read(folder.join(RECORD)).ok()?;
    let build: GateBuild = serde_json::from_slice(&text).ok()?;
    if build.id == id && build.folder == folder && build.is_unchanged() {
        return Some(build);
    }
    progress::note(&format!("gate build {id}: its files are not what was built; building again"));
    None
}

/// Words of the profile that a library made of single object files lacks.
fn left_out(profile: Profile, measured: bool) -> Vec<String> {
    let words = [("lto", profile.lto), ("pgo", profile.pgo)];
    words.iter().filter(|(_, asked)| *asked && !measured).map(|(word, _)| (*word).to_owned()).collect()
}

/// What a compiler reads besides the system: nothing of the user's.
fn readable(context: &Context, plan: &Plan) -> Vec<PathBuf> {
    // Pristine's objects lie below gate/, measured archives and generated headers below builds/.
    let folders = ["gate", "builds"].map(|name| context.work.join(name));
    folders.into_iter().filter(|folder| folder.is_dir()).chain([plan.source.clone()]).collect()
}

/// Names of files, without their folders, that only one of pristine and the variant has.
fn foreign_names(context: &Context, variant: &Variant) -> Result<BTreeSet<String>> {
    let store = Store::open(&context.work)?;
    let of_tree = |tree: &str| -> Result<BTreeSet<String>> { Ok(store.files(tree)?.into_iter().collect()) };
    let (one, other) = (of_tree(&variant.source.tree)?, of_tree(&variant.tree)?);
    let last = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
    Ok(one.symmetric_difference(&other).map(last).collect())
}

/// Fails unless the build's sanitizer starts on this host and finds a defect.
#[allow(dead_code, reason = "for the runner")]
pub(crate) fn check_starts(context: &Context, build: &GateBuild) -> Result<()> {
    match sanitizer::starts(context, &build.cc, build.sanitizer)? {
        Ok(()) => Ok(()),
        Err(why) => Err(failure(Exit::Infrastructure, why)),
    }
}
