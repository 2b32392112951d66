//! The model tests' program: compiled once for a set of public headers, linked against each gate build.

use crate::build::outside::Outside;
use crate::build::{compiler, compiler_version, without_compiler_settings};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::gate::build::GateBuild;
use crate::gate::identity::verify_identity;
use crate::rust_object::{self, Program, SYSTEM_LIBRARIES};
use crate::{files, process, progress, sandbox, worker};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// With a sanitizer on a busy machine.
const LINK_LIMIT: Duration = Duration::from_secs(300);

/// What the program is made of.
pub(crate) const INGREDIENTS: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "config/build.toml",
    "libevent-sys/Cargo.toml",
    "libevent-sys/build.rs",
    "libevent-sys/src",
    "libevent-sys/wrapper.h",
    "model-tests/Cargo.toml",
    "model-tests/build.rs",
    "model-tests/csrc",
    "model-tests/src",
    "model/Cargo.toml",
    "model/src",
];

/// The program linked against one build.
#[derive(Clone, Debug)]
pub(crate) struct Linked<'a> {
    pub(crate) build: &'a GateBuild,
    pub(crate) program: PathBuf,
    pub(crate) sha256: String,
}

/// Compiles the program for the headers of the pristine build, unless that was done before. Both sides get this code: a
/// candidate whose headers are others must still do what programs of pristine's headers expect.
pub(crate) fn compile(context: &Context, pristine: &GateBuild) -> Result<PathBuf> {
    let staged = context.scratch("model-headers-")?;
    for folder in pristine.include.iter().rev() {
        files::copy_tree(folder, staged.path())?;
    }
    let headers = files::sha256_tree(staged.path())?;
    let ingredients = worker::hash_of(context, INGREDIENTS, &[])?;
    let rustc = worker::rustc_version(context)?;
    let cc = compiler_version(&compiler())?;
    let parts = [&headers, &ingredients, &rustc, &cc].map(String::as_bytes);
    let folder = context.work.join("gate/models").join(&files::sha256_hex(&parts)[..12]);
    let (object, sum) = (folder.join("models.o"), folder.join("sha256"));
    if let Ok(recorded) = std::fs::read_to_string(&sum)
        && files::sha256_file(&object).ok().as_deref() == Some(recorded.trim())
    {
        return Ok(object);
    }
    progress::note("compiling the model tests (once for these headers; about a minute from nothing)");
    // A folder that stays the same for the same headers: cargo would compile everything again.
    let home = context.work.join("headers").join(format!("models-{}", &headers[..16]));
    if !home.exists() {
        files::copy_tree(staged.path(), &home)?;
    }
    let program = Program { package: "model-tests", environment: &[] };
    let bytes = rust_object::compile(context, &program, &home, &folder.join("compile.log"))?
        .map_err(|message| failure(Exit::Infrastructure, format!("the model tests' program {message}")))?;
    files::write_atomic(&object, &bytes)?;
    files::write_atomic(&sum, files::sha256_hex(&[&bytes]).as_bytes())?;
    Ok(object)
}

/// Links it against a build, unless that was done before.
pub(crate) fn link<'a>(object: &Path, build: &'a GateBuild) -> Result<Linked<'a>> {
    let folder = build.folder.join("models");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let id = files::sha256_file(object)?;
    let program = folder.join(format!("models-{}", &id[..12]));
    let sum = folder.join(format!("models-{}.sha256", &id[..12]));
    let linked = |sha256: String| Linked { build, program: program.clone(), sha256 };
    if let Ok(recorded) = std::fs::read_to_string(&sum)
        && files::sha256_file(&program).ok().as_deref() == Some(recorded.trim())
    {
        verify_identity(&program, build)?;
        return Ok(linked(recorded.trim().to_owned()));
    }
    let place = folder.join("place");
    let made = place.join("models");
    let mut command = linker(build, object, &place)?;
    command.arg("-O1").args(&build.flags).arg("-o").arg(&made).arg(&build.identity).arg(object);
    command.args(&build.libraries).args(&build.system_libraries).args(SYSTEM_LIBRARIES);
    let outside = Outside::begin(&folder);
    let got = process::within_bounds("linking the model tests", process::capture(&mut command, LINK_LIMIT))?;
    if !got.status.success() {
        let lines: Vec<&str> = got.stderr.lines().take(20).collect();
        let message = format!(
            "variant {} ({}) does not link with the model tests:\n{}",
            build.variant.id,
            build.variant.name,
            lines.join("\n")
        );
        return Err(outside.error(got.status, &got.stderr, message));
    }
    std::fs::rename(&made, &program).with_context(|| format!("the linker left no {}", made.display()))?;
    sandbox::take_back(&program)?;
    std::fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    verify_identity(&program, build)?;
    let sha256 = files::sha256_file(&program)?;
    files::write_atomic(&sum, sha256.as_bytes())?;
    Ok(linked(sha256))
}

/// The one place where the linker is started: it reads what was compiled of a candidate, and writes below `place`.
fn linker(build: &GateBuild, object: &Path, place: &Path) -> Result<Command> {
    let mut readable: Vec<&Path> = build.libraries.iter().map(PathBuf::as_path).collect();
    readable.extend([build.identity.as_path(), object]);
    let mut command = sandbox::build_tool(&build.cc, &readable, place)?;
    without_compiler_settings(&mut command);
    command.current_dir(place);
    Ok(command)
}
