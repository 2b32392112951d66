//! Compiles a variant's libevent with its own CMake, once per (variant, flags, compiler, host).

mod answers;
mod cmake;
mod compiler;
pub(crate) mod interpose;
mod lto;
pub(crate) mod outside;
mod pgo;

pub(crate) use answers::script as answers_script;
pub(crate) use compiler::{
    compiler, compiler_version, has_openssl, named as named_compiler, without_compiler_settings,
};

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::sandbox::Sandbox;
use crate::variant;
use crate::{files, progress, worker};
use anyhow::{Context as _, Result};
use model::build_config::{BuildConfig, LIBRARIES, OptLevel, Profile, Training};
use model::variant::{Build, Library, Purpose, Variant};
use std::path::{Path, PathBuf};

/// How a variant is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// What for.
    pub(crate) purpose: Purpose,
    /// How it differs from config/build.toml.
    pub(crate) profile: Profile,
    /// For calibration: built once more, in a worktree and a build folder with this in their names.
    pub(crate) place: Option<String>,
}

/// Paths of the static libraries in link order.
pub(crate) fn library_paths(build: &Build) -> Vec<PathBuf> {
    build.libraries.iter().map(|library| build.folder.join("cmake/lib").join(&library.name)).collect()
}

/// The public headers, all in one folder, shared by builds with equal headers.
pub(crate) fn headers(context: &Context, build: &Build) -> PathBuf {
    context.work.join("headers").join(&build.headers_sha256[..16])
}

/// A program that libevent's own CMake built, such as `bench`.
pub(crate) fn program(build: &Build, name: &str) -> PathBuf {
    build.folder.join("cmake/bin").join(name)
}

/// The variant's build as config/build.toml says.
pub(crate) fn build(context: &Context, variant: &Variant, purpose: Purpose) -> Result<Build> {
    build_recipe(context, variant, &Recipe { purpose, profile: Profile::default(), place: None })
}

/// The variant's build by a recipe: an earlier one if its files are what they were, else a new one.
pub(crate) fn build_recipe(context: &Context, variant: &Variant, recipe: &Recipe) -> Result<Build> {
    refuse_separators(context)?;
    Sandbox::open()?.suffices(context, variant)?;
    let plan = Plan::new(context, variant, recipe)?;
    variant::remember(context, variant)?;
    if let Some(build) = finished(&plan.folder, &plan.id)? {
        build_headers(context, &build)?;
        // The same build under another name, such as a patch file that was renamed, or `O2` for the default.
        return Ok(Build { variant: variant.clone(), profile: recipe.profile, ..build });
    }
    let source = variant::checkout(context, variant, recipe.place.as_deref())?;
    if plan.folder.exists() {
        std::fs::remove_dir_all(&plan.folder).with_context(|| format!("cannot clear {}", plan.folder.display()))?;
    }
    let how = if recipe.profile.is_default() { String::new() } else { format!(", profile {}", recipe.profile) };
    progress::note(&format!("building libevent, variant {} ({}){how}, {}", variant.id, variant.name, plan.version));
    let build = compile(context, &plan, variant, &source)?;
    files::write_atomic(&build.folder.join("build.json"), &serde_json::to_vec_pretty(&build)?)?;
    Ok(build)
}

/// Configures the variant's source in `folder` as it is for measurement, but with libevent's tests. Nothing is compiled.
/// `seed` is a script of CMake with answers that an earlier configuration found.
pub(crate) fn configure_tests(
    context: &Context,
    variant: &Variant,
    profile: Profile,
    folder: &Path,
    seed: Option<&Path>,
) -> Result<PathBuf> {
    let mut plan = Plan::new(context, variant, &Recipe { purpose: Purpose::Measure, profile, place: None })?;
    folder.clone_into(&mut plan.folder);
    let on_or_off =
        [("EVENT__DISABLE_TESTS", "OFF"), ("EVENT__DISABLE_REGRESS", "OFF"), ("EVENT__DISABLE_BENCHMARK", "ON")];
    for (name, value) in on_or_off {
        plan.options.retain(|(option, _)| option != name);
        plan.options.push((name.to_owned(), value.to_owned()));
    }
    let source = variant::checkout(context, variant, None)?;
    cmake::configure(&plan, variant, &source, &[], seed)?;
    Ok(plan.cmake())
}

/// Compiles: once, or, with profile feedback, twice.
fn compile(context: &Context, plan: &Plan, variant: &Variant, source: &Path) -> Result<Build> {
    let (mut flags, mut pgo_profile_sha256) = (Vec::new(), None);
    if let Some(training) = &plan.training {
        let profile = pgo::folder(plan);
        let profile = profile.to_str().context("paths are UTF-8")?;
        // Counters are put in before anything is optimised: what is counted is the same with and without `lto`.
        cmake::compile(plan, variant, source, &pgo::counting_flags(profile))?;
        let counting = assemble(context, plan, variant, source)?;
        pgo_profile_sha256 = Some(pgo::train(context, plan, &counting, training)?);
        // The profile is found by the paths of object files: those of the build to come must be the same.
        std::fs::rename(plan.log(), plan.folder.join("counting.log"))?;
        std::fs::remove_dir_all(plan.cmake()).with_context(|| format!("cannot clear {}", plan.cmake().display()))?;
        flags = pgo::using_flags(plan.clang, profile);
    }
    let lto: &[&str] = if plan.recipe.profile.lto { lto::COMPILE_FLAGS } else { &[] };
    flags.extend(lto.iter().map(|flag| (*flag).to_owned()));
    cmake::compile(plan, variant, source, &flags)?;
    if plan.training.is_some() {
        pgo::check_used(plan)?;
    }
    let lto_command = plan.recipe.profile.lto.then(|| lto::optimise(plan, variant, &flags)).transpose()?;
    let mut build = assemble(context, plan, variant, source)?;
    build.c_flags.extend(flags.iter().map(|flag| pgo::without_folder(plan, flag)));
    build.event_c_command = pgo::without_folder(plan, &build.event_c_command);
    Ok(Build { lto_command, pgo_profile_sha256, ..build })
}

/// Everything that is decided before anything is compiled.
struct Plan {
    recipe: Recipe,
    id: String,
    folder: PathBuf,
    /// Where answers of the system are kept, for all builds.
    answers: PathBuf,
    cc: String,
    version: String,
    build_type: String,
    c_flags: Vec<String>,
    options: Vec<(String, String)>,
    clang: bool,
    /// How workers are linked: as position-independent programs.
    pie: bool,
    /// With `pgo` only.
    training: Option<Training>,
}

impl Plan {
    fn new(context: &Context, variant: &Variant, recipe: &Recipe) -> Result<Plan> {
        let config = BuildConfig::parse(&context.config("build.toml")?).context("config/build.toml")?;
        let Recipe { purpose, profile, place } = recipe;
        let (cc, version) = compiler::named(context, profile)?;
        let (clang, pie) = (compiler::is_clang(&version), compiler::default_pie(&compiler()));
        let cpu = match purpose {
            Purpose::Measure => &config.cpu.measure,
            Purpose::Instructions => &config.cpu.instructions,
        };
        let mut c_flags: Vec<String> = std::iter::once(cpu).chain(&config.c_flags).cloned().collect();
        let mut options: Vec<(String, String)> = config.options.clone().into_iter().collect();
        let openssl = if has_openssl(&cc) { "OFF" } else { "ON" };
        options.push(("EVENT__DISABLE_OPENSSL".to_owned(), openssl.to_owned()));
        if let Some(level) = level(profile, &config.build_type) {
            // CMake puts a build type's flags behind all others: the level there is taken away.
            c_flags.push(format!("-{}", level.name()));
            let name = format!("CMAKE_C_FLAGS_{}", config.build_type.to_uppercase());
            options.push((name, "-g -DNDEBUG".to_owned()));
        }
        if profile.compiler.is_some() && compiler::default_pie(&cc) != pie {
            // As the compiler that links does: its programs could not hold other code, or not equally good code.
            c_flags.push(pie_flag(pie).to_owned());
        }

        let instruction_set = compiler::instruction_set();
        let hashed = format!("{:?}", (&cc, &version, &config.build_type, &c_flags, &options, instruction_set));
        let mut identity = vec![variant.id.clone(), hashed];
        // Nothing where nothing differs: builds made before there were profiles stay what they are.
        if let Some(place) = place {
            identity.push(format!("place {}", checked_place(place)?));
        }
        if profile.lto {
            lto::ensure_tools(context, clang)?;
            identity.push(format!("lto {:?}", (lto::COMPILE_FLAGS, lto::link_flags(clang, profile.level, pie))));
        }
        if profile.pgo {
            pgo::ensure_tools(context, clang)?;
            // Trained by other code, it would be another build.
            let trainer = worker::ingredients(context, &[])?;
            let flags = (pgo::counting_flags(""), pgo::using_flags(clang, ""));
            identity.push(format!("pgo {:?}", (flags, &config.pgo, trainer)));
        }
        let identity: Vec<&[u8]> = identity.iter().map(String::as_bytes).collect();
        let id = files::sha256_hex(&identity)[..12].to_owned();
        let name = place.as_ref().map_or_else(|| id.clone(), |place| format!("{id}-{place}"));
        Ok(Plan {
            recipe: recipe.clone(),
            folder: context.work.join("builds").join(name),
            answers: context.work.join("answers"),
            id,
            cc,
            version,
            build_type: config.build_type,
            c_flags,
            options,
            clang,
            pie,
            training: profile.pgo.then_some(config.pgo),
        })
    }

    fn cmake(&self) -> PathBuf {
        self.folder.join("cmake")
    }

    /// Programs beside the libraries would be optimised together with them, or count as they do.
    fn libraries_only(&self) -> bool {
        self.recipe.profile.lto || self.recipe.profile.pgo
    }

    fn log(&self) -> PathBuf {
        self.folder.join("build.log")
    }
}

/// The level that is not the build type's own: `O2` is what CMake's RelWithDebInfo means anyway.
fn level(profile: &Profile, build_type: &str) -> Option<OptLevel> {
    profile.level.filter(|level| *level != OptLevel::O2 || build_type != "RelWithDebInfo")
}

/// Code for a position-independent program, or for one that is not.
fn pie_flag(pie: bool) -> &'static str {
    if pie { "-fPIE" } else { "-fno-pie" }
}

/// A place goes into names of folders.
fn checked_place(place: &str) -> Result<&str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=100).contains(&place.len()) && place.chars().all(plain) {
        return Ok(place);
    }
    Err(failure(Exit::Usage, format!("`{place}` is no name for a place: 1 to 100 of a-z, A-Z, 0-9, `-` and `_`")))
}

/// What was compiled, as a value, with its libraries hashed and its headers where workers find them.
fn assemble(context: &Context, plan: &Plan, variant: &Variant, source: &Path) -> Result<Build> {
    let cmake = plan.cmake();
    let lib = cmake.join("lib");
    let present = LIBRARIES.iter().map(|name| format!("lib{name}.a")).filter(|name| lib.join(name).is_file());
    let libraries = present
        .map(|name| Ok(Library { sha256: files::sha256_file(&lib.join(&name))?, name }))
        .collect::<Result<Vec<_>>>()?;
    if !libraries.iter().any(|library| library.name == "libevent_core.a") {
        let message = format!(
            "variant {} ({}) compiled, but left no libevent_core.a in {}; its CMakeLists does not know EVENT__LIBRARY_TYPE",
            variant.id,
            variant.name,
            lib.display()
        );
        return Err(failure(Exit::Failed, message));
    }
    let archives: Vec<PathBuf> = libraries.iter().map(|library| lib.join(&library.name)).collect();
    interpose::check(&plan.cc, variant, &archives)?;
    let mut build = Build {
        id: plan.id.clone(),
        variant: variant.clone(),
        purpose: plan.recipe.purpose,
        profile: plan.recipe.profile,
        place: plan.recipe.place.clone(),
        compiler: plan.version.clone(),
        build_type: plan.build_type.clone(),
        c_flags: plan.c_flags.clone(),
        options: plan.options.clone(),
        event_c_command: cmake::recorded_command(&cmake)?,
        lto_command: None,
        pgo_profile_sha256: None,
        tls: libraries.iter().any(|library| library.name == "libevent_openssl.a"),
        headers_sha256: String::new(),
        libraries,
        folder: plan.folder.clone(),
    };
    let staged = stage_headers(context, source, &cmake)?;
    build.headers_sha256 = files::sha256_tree(staged.path())?;
    let home = headers(context, &build);
    if !home.exists() {
        std::fs::create_dir_all(home.parent().context("below work/")?)?;
        std::fs::rename(staged.keep(), &home).with_context(|| format!("cannot create {}", home.display()))?;
    }
    build_headers(context, &build)?;
    Ok(build)
}

/// Cargo and compilers take lists of folders with `:` between them: a folder that has one in its name
/// cannot be handed to them.
fn refuse_separators(context: &Context) -> Result<()> {
    let has_separator = |path: &&PathBuf| path.as_os_str().as_encoded_bytes().contains(&b':');
    let Some(folder) = [&context.root, &context.work].into_iter().find(has_separator) else { return Ok(()) };
    let message = format!(
        "{}: cargo and compilers cannot work in a folder with a `:`; move the checkout, or set LIBEVENT_PERF_WORK",
        folder.display()
    );
    Err(failure(Exit::Usage, message))
}

/// A build that was finished and whose libraries are byte for byte what they were then.
fn finished(folder: &Path, id: &str) -> Result<Option<Build>> {
    let Ok(text) = std::fs::read(folder.join("build.json")) else { return Ok(None) };
    let Ok(mut build) = serde_json::from_slice::<Build>(&text) else { return Ok(None) };
    folder.clone_into(&mut build.folder);
    for (library, path) in build.libraries.iter().zip(library_paths(&build)) {
        if files::sha256_file(&path).ok().as_ref() != Some(&library.sha256) {
            progress::note(&format!("build {id}: {} is not what was built; building again", path.display()));
            return Ok(None);
        }
    }
    Ok((build.id == id).then_some(build))
}

/// Fails if a library of the build is not what was compiled.
pub(crate) fn check_unchanged(build: &Build) -> Result<()> {
    for (library, path) in build.libraries.iter().zip(library_paths(build)) {
        if files::sha256_file(&path)? != library.sha256 {
            let message = format!("{} changed while it was measured; the figures are void", path.display());
            return Err(failure(Exit::Tampering, message));
        }
    }
    Ok(())
}

/// Fails if the shared headers folder is not what the build recorded.
fn build_headers(context: &Context, build: &Build) -> Result<()> {
    let home = headers(context, build);
    if files::sha256_tree(&home)? == build.headers_sha256 {
        return Ok(());
    }
    let message = format!("{} was changed after it was made; remove {}", home.display(), context.work.display());
    Err(failure(Exit::Tampering, message))
}

/// Public headers of the source and those that CMake generated, in one folder.
fn stage_headers(context: &Context, source: &Path, cmake: &Path) -> Result<tempfile::TempDir> {
    let staged = context.scratch("headers-")?;
    files::copy_tree(&source.join("include"), staged.path())?;
    files::copy_tree(&cmake.join("include"), staged.path())?;
    Ok(staged)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use model::variant::Source;

    /// A variant for builds that no source is needed for.
    pub(super) fn variant() -> Variant {
        let text = String::new;
        let source = Source { label: text(), tree: text(), root_commit: text(), upstream_commit: None, pinned: false };
        Variant { id: text(), name: text(), source, patches: vec![], tree: text(), commit: text() }
    }

    impl Plan {
        /// A plan with `cc` in a folder.
        pub(super) fn of_test(folder: &Path, cc: &str, c_flags: Vec<String>) -> Plan {
            Plan {
                recipe: Recipe { purpose: Purpose::Measure, profile: Profile::default(), place: None },
                id: String::new(),
                folder: folder.to_owned(),
                answers: folder.join("answers"),
                cc: cc.to_owned(),
                version: String::new(),
                build_type: String::new(),
                c_flags,
                options: vec![],
                clang: false,
                pie: compiler::default_pie(cc),
                training: None,
            }
        }
    }

    #[test]
    fn a_level_that_is_the_default_changes_nothing() {
        let level_of = |words: &str, build_type| level(&Profile::parse_words(words).unwrap(), build_type);
        assert_eq!(level_of("O2", "RelWithDebInfo"), None);
        assert_eq!(level_of("O2", "Release"), Some(OptLevel::O2));
        assert_eq!(level_of("O3", "RelWithDebInfo"), Some(OptLevel::O3));
        assert_eq!(level_of("gcc", "Release"), None);
    }

    #[test]
    fn whatever_makes_a_build_another_one_is_in_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let context = Context {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            work: folder.path().to_owned(),
            runs: folder.path().to_owned(),
            calibrations: folder.path().to_owned(),
            install: false,
            json: false,
            sandbox_without: vec![],
        };
        let plan = |words: &str, place: Option<&str>| {
            let profile = Profile::parse_words(words).unwrap();
            let recipe = Recipe { purpose: Purpose::Measure, profile, place: place.map(str::to_owned) };
            Plan::new(&context, &variant(), &recipe).unwrap()
        };
        let default = plan("", None);
        assert_eq!(plan("O2", None).id, default.id, "what is done anyway");
        assert_eq!(default.folder, folder.path().join("builds").join(&default.id));
        let mut others = vec![plan("", Some("longer-path")), plan("", Some("b"))];
        // Without `lto` and `pgo` of clang, whose tools need not be here.
        let words = ["O1", "O3", "Os", "lto", "pgo", "lto+pgo", "O3+lto"];
        others.extend(words.map(|words| plan(words, None)));
        let ids: std::collections::BTreeSet<&String> = others.iter().chain([&default]).map(|plan| &plan.id).collect();
        assert_eq!(ids.len(), others.len() + 1, "{ids:?}");
        assert!(others[0].folder.to_str().unwrap().ends_with("-longer-path"));
        assert!(others.iter().all(|plan| plan.id.len() == default.id.len()), "names of workers have one length");
    }

    #[test]
    fn places_are_names_of_folders() {
        assert_eq!(checked_place("long-path_2").unwrap(), "long-path_2");
        for bad in ["", "..", "a/b", "a b", "a:b", &"x".repeat(101)] {
            assert_eq!(crate::exit::exit_of(&checked_place(bad).unwrap_err()), Exit::Usage, "{bad}");
        }
    }
}
