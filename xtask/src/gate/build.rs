//! Until the real one: libevent's own CMake with tests, once for each variant and sanitizer.

use crate::build::{compiler, without_compiler_settings};
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{process, variant};
use anyhow::Result;
use model::gate::Sanitizer;
use model::variant::Variant;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A finished build for the gate.
#[derive(Clone, Debug)]
pub(crate) struct GateBuild {
    pub(crate) id: String,
    pub(crate) sanitizer: Sanitizer,
    pub(crate) cc: String,
    pub(crate) flags: Vec<String>,
    pub(crate) source: PathBuf,
    pub(crate) regress: PathBuf,
    pub(crate) programs: Vec<(String, PathBuf)>,
    pub(crate) libraries: Vec<PathBuf>,
    pub(crate) system_libraries: Vec<String>,
}

pub(crate) fn build(context: &Context, variant: &Variant, sanitizer: Sanitizer) -> Result<GateBuild> {
    let source = variant::checkout(context, variant, Some("gate"))?;
    let id = format!("{}-{}", variant.id, sanitizer.name());
    let folder = context.work.join("gate/min").join(&id);
    let flags = match sanitizer {
        Sanitizer::None => vec![],
        other => vec![format!("-fsanitize={}", other.name())],
    };
    let log = folder.join("log");
    std::fs::create_dir_all(&folder)?;
    if !folder.join("done").exists() {
        let copy = folder.join("src");
        crate::files::copy_tree(&source, &copy)?;
        let mut configure = Command::new("cmake");
        configure.args(["-G", "Ninja", "-Wno-dev", "-S"]).arg(&copy).arg("-B").arg(folder.join("b"));
        configure.args(["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DEVENT__LIBRARY_TYPE=STATIC"]);
        configure.args(["-DEVENT__DISABLE_SAMPLES=ON", "-DEVENT__DISABLE_OPENSSL=ON", "-DEVENT__DISABLE_BENCHMARK=ON"]);
        configure.args(["-DCMAKE_POLICY_VERSION_MINIMUM=3.5", "-DEVENT__DISABLE_MBEDTLS=ON"]);
        configure.arg(format!("-DCMAKE_C_FLAGS=-fno-omit-frame-pointer {}", flags.join(" ")));
        let mut make = Command::new("cmake");
        make.arg("--build").arg(folder.join("b"));
        for mut command in [configure, make] {
            without_compiler_settings(&mut command);
            if !process::logged(&mut command, Duration::from_secs(900), &log)?.success() {
                let errors: Vec<String> =
                    process::tail(&log, 400).lines().filter(|l| l.contains("error")).map(str::to_owned).collect();
                return Err(failure(Exit::Failed, format!("variant {} does not compile:\n{}", variant.id, errors.join("\n"))));
            }
        }
        std::fs::write(folder.join("done"), "")?;
    }
    let bin = folder.join("b/bin");
    let names = ["regress", "test-changelist", "test-closed", "test-dumpevents", "test-eof", "test-fdleak", "test-init"];
    let more = ["test-ratelim", "test-time", "test-weof"];
    let programs = names.into_iter().chain(more).map(|name| (name.to_owned(), bin.join(name))).collect();
    let lib = folder.join("b/lib");
    let libraries = ["libevent_pthreads.a", "libevent_extra.a", "libevent_core.a"].map(|name| lib.join(name)).to_vec();
    let regress = bin.join("regress");
    Ok(GateBuild {
        id,
        sanitizer,
        cc: compiler(),
        flags,
        source,
        regress,
        programs,
        libraries,
        system_libraries: vec!["-lpthread".into()],
    })
}
