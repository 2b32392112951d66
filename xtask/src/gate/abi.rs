//! What programs see of a build: symbols from its archives, declarations and macros from its public headers, layouts
//! from the debug information of a probe that includes them all. Nothing of the build is run.

mod layouts;
mod symbols;

use super::build::GateBuild;
use crate::build::outside::Outside;
use crate::build::without_compiler_settings;
use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::process::{self, Captured};
use crate::sandbox;
use anyhow::{Context as _, Result};
use model::abi::{self, AbiReport, Headers, Interface, Layouts};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
/// Made by libevent's build for itself.
const PRIVATE: &str = "evconfig-private.h";

/// What programs would see of the candidate that they do not see of pristine.
pub(crate) fn differences(context: &Context, pristine: &GateBuild, candidate: &GateBuild) -> Result<AbiReport> {
    // A header that only one side has is a difference in what it declares: both are asked for all of their own.
    Ok(abi::differences(&interface(context, pristine)?, &interface(context, candidate)?))
}

fn interface(context: &Context, build: &GateBuild) -> Result<Interface> {
    let scratch = context.scratch("abi-")?;
    let probe = scratch.path().join("probe.c");
    let names = public_headers(&build.include)?;
    let text: String = names.iter().map(|name| format!("#include <{name}>\n")).collect();
    std::fs::write(&probe, text).with_context(|| format!("cannot write {}", probe.display()))?;
    Ok(Interface {
        symbols: symbols::of(&build.libraries)?,
        headers: headers(build, &probe)?,
        layouts: layouts(build, &probe)?,
    })
}

/// Names of all public headers, as programs include them.
fn public_headers(include: &[PathBuf]) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in include {
        let mut left = vec![folder.clone()];
        while let Some(path) = left.pop() {
            for entry in std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))? {
                let path = entry?.path();
                let name = path.strip_prefix(folder)?.to_str().context("names of headers are UTF-8")?.to_owned();
                if path.is_dir() {
                    left.push(path);
                } else if name.ends_with(".h") && name != PRIVATE {
                    names.insert(name);
                }
            }
        }
    }
    Ok(names)
}

fn headers(build: &GateBuild, probe: &Path) -> Result<Headers> {
    let got = compile(build, probe, &["-E", "-dD", "-o", "-"])?;
    let public: Vec<&str> = build.include.iter().filter_map(|path| path.to_str()).collect();
    let headers = abi::parse(&got.stdout, &public);
    if headers.names.is_empty() {
        let message = format!("the public headers of variant {} declare nothing", build.variant.id);
        return Err(failure(Exit::Failed, message));
    }
    Ok(headers)
}

fn layouts(build: &GateBuild, probe: &Path) -> Result<Layouts> {
    let folder = made_in(probe);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let object = folder.join("probe.so");
    // Linked, so that the debug information has no relocations left; types are kept that nothing uses.
    let path = object.to_str().context("paths are UTF-8")?;
    compile(build, probe, &["-g", "-gdwarf-4", "-fno-eliminate-unused-debug-types", "-shared", "-fPIC", "-o", path])?;
    let bytes = std::fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    layouts::of(&bytes).with_context(|| format!("debug information of {}", object.display()))
}

/// Where compilers put what they make of the probe.
fn made_in(probe: &Path) -> PathBuf {
    probe.with_extension("made")
}

fn compile(build: &GateBuild, probe: &Path, arguments: &[&str]) -> Result<Captured> {
    // Headers are the variant's, and could ask the compiler to read anything.
    let readable: Vec<&Path> = build.include.iter().map(PathBuf::as_path).chain([probe]).collect();
    let mut command = sandbox::build_tool(&build.cc, &readable, &made_in(probe))?;
    without_compiler_settings(&mut command);
    command.args(build.include.iter().map(|path| format!("-I{}", path.display()))).args(arguments).arg(probe);
    let outside = Outside::begin(probe);
    let got = process::within_bounds("compiling what programs see of it", process::capture(&mut command, LIMIT))?;
    if got.status.success() {
        return Ok(got);
    }
    let message = format!(
        "variant {} ({}): its public headers do not compile:\n{}",
        build.variant.id,
        build.variant.name,
        got.stderr.lines().take(20).collect::<Vec<_>>().join("\n")
    );
    Err(outside.error(got.status, &got.stderr, message))
}
