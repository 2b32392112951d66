//! Link-time optimisation that ends at libevent's own border.
//!
//! All libraries are optimised together, as a program gets them that links libevent statically: calls from
//! http.c into buffer.c are worth inlining. The result is one relocatable object of machine code with a section
//! for each function. So the order of functions can still be drawn anew for each launch, and the worker's own
//! code has no part in it: it is the same beside every build.

use super::compiler::without_compiler_settings;
use super::outside::Outside;
use super::{Plan, pgo};
use crate::exit::{Exit, failure};
use crate::process;
use crate::setup::{self, Verb};
use crate::{context::Context, files, sandbox};
use anyhow::{Context as _, Result};
use model::build_config::{LIBRARIES, OptLevel};
use model::variant::Variant;
use object::{Object as _, ObjectSection as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Linking takes some ten seconds.
const LIMIT: Duration = Duration::from_secs(600);
/// The one object file, as a member of `libevent_core.a`.
const OBJECT: &str = "libevent.o";
/// How an archive begins, and all of one without members.
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// Flags of the compiler that make libraries of what is optimised later.
pub(super) const COMPILE_FLAGS: &[&str] = &["-flto"];

/// Flags of the link, behind those of compilation; paths come last.
pub(super) fn link_flags(clang: bool, level: Option<OptLevel>, pie: bool) -> Vec<String> {
    let level = format!("-{}", level.unwrap_or(OptLevel::O2).name());
    // A relocatable link would otherwise make code for a shared library, in which a function that another one
    // could take the place of is not inlined.
    let own: &[&str] = if clang {
        &["-fuse-ld=lld"]
    } else {
        // One partition: the same code whatever the number of processors.
        &["-flto=1", "-flto-partition=one", "-flinker-output=nolto-rel"]
    };
    let all = ["-r", "-nostdlib", "-g", &level, super::pie_flag(pie)].into_iter().chain(own.iter().copied());
    all.map(str::to_owned).collect()
}

/// What the link needs besides the compiler.
pub(super) fn ensure_tools(context: &Context, clang: bool) -> Result<()> {
    if clang { setup::ensure(Verb::ClangLto, context).map(drop) } else { Ok(()) }
}

/// Puts machine code, optimised as a whole, in the place of the libraries' intermediate code, which was compiled
/// with `flags` behind the plan's. Returns the command, without paths of this machine.
pub(super) fn optimise(plan: &Plan, variant: &Variant, flags: &[String]) -> Result<String> {
    let lib = plan.cmake().join("lib");
    let names = LIBRARIES.iter().map(|name| format!("lib{name}.a")).filter(|name| lib.join(name).is_file());
    let names: Vec<String> = names.collect();
    let object = lib.join(OBJECT);
    // The objects are in the build's folder, which it may write.
    let profile = Some(pgo::folder(plan)).filter(|folder| folder.is_dir());
    let readable: Vec<&Path> = profile.iter().map(std::path::PathBuf::as_path).collect();
    let tool = |name: &str| sandbox::build_tool(name, &readable, &plan.cmake());
    let own = link_flags(plan.clang, plan.recipe.profile.level, plan.pie);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let (output, end) = (words(&["-o", OBJECT, "-Wl,--whole-archive"]), words(&["-Wl,--no-whole-archive"]));
    let arguments = [&plan.c_flags, flags, &own, &output, &names, &end].map(|part| part.iter()).into_iter().flatten();
    let arguments: Vec<&String> = arguments.collect();
    run(plan, variant, tool(&plan.cc)?.args(&arguments).current_dir(&lib))?;
    check_native(&object)?;
    for name in &names {
        let path = lib.join(name);
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        if name != CORE {
            files::write_atomic(&path, EMPTY_ARCHIVE)?;
        }
    }
    let mut archive = tool("ar")?;
    // Deterministic: neither time stamps nor users in it.
    run(plan, variant, archive.args(["rcsD", CORE, OBJECT]).current_dir(&lib))?;
    std::fs::remove_file(&object).with_context(|| format!("cannot remove {}", object.display()))?;
    // What the compiler was told, not how it was confined.
    Ok(pgo::without_folder(plan, &process::shown(Command::new(&plan.cc).args(&arguments))))
}

/// The archive that holds everything; the others stay, empty, for those who ask which there are.
const CORE: &str = "libevent_core.a";

fn run(plan: &Plan, variant: &Variant, command: &mut Command) -> Result<()> {
    without_compiler_settings(command);
    let log = plan.log();
    let outside = Outside::begin(&log);
    let status = process::logged(command, LIMIT, &log)?;
    if status.success() {
        return Ok(());
    }
    let message = format!(
        "variant {} ({}) cannot be optimised at link time; the end of {}:\n{}",
        variant.id,
        variant.name,
        log.display(),
        process::tail(&log, 20)
    );
    Err(outside.error(status, &process::tail(&log, 20), message))
}

/// Fails unless the object is machine code alone: what is left over would be optimised once more, together with
/// the worker.
fn check_native(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let object = object::File::parse(&*bytes)
        .map_err(|_| failure(Exit::Infrastructure, format!("{} is no machine code", path.display())))?;
    for section in object.sections() {
        let name = section.name()?;
        if name.starts_with(".gnu.lto_") || name.starts_with(".llvm.lto") {
            let message = format!("{} still has {name}: the linker did not finish its optimisation", path.display());
            return Err(failure(Exit::Infrastructure, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::compiler::{compiler, compiler_version, is_clang};
    use super::*;
    use std::path::PathBuf;

    /// Two files, one calling the other: compiled, optimised, and looked at.
    #[test]
    fn calls_between_files_are_inlined_and_functions_keep_their_sections() {
        let folder = tempfile::tempdir().unwrap();
        let cc = compiler();
        if is_clang(&compiler_version(&cc).unwrap()) {
            return;
        }
        let lib = folder.path().join("cmake/lib");
        std::fs::create_dir_all(&lib).unwrap();
        let shell = |command: &mut Command| {
            let got = process::capture(command.current_dir(&lib), Duration::from_secs(60)).unwrap();
            assert!(got.status.success(), "{}", got.stderr);
        };
        std::fs::write(lib.join("a.c"), "int f(int x) { return x + 1; }\n").unwrap();
        std::fs::write(lib.join("b.c"), "int f(int); int g(int x) { return 2 * f(x); }\n").unwrap();
        let c_flags: Vec<String> = ["-O2", "-ffunction-sections", "-falign-functions=64"].map(str::to_owned).into();
        for (file, library) in [("a", CORE), ("b", "libevent_extra.a")] {
            shell(Command::new(&cc).args(&c_flags).args(["-flto", "-c", &format!("{file}.c")]));
            shell(Command::new("ar").args(["rc", library, &format!("{file}.o")]));
        }
        let plan = Plan::of_test(folder.path(), &cc, c_flags);
        let command = optimise(&plan, &crate::build::tests::variant(), &["-flto".to_owned()]).unwrap();
        assert!(command.contains("nolto-rel") && !command.contains(folder.path().to_str().unwrap()), "{command}");
        assert!(command.starts_with(&format!("{cc} -O2 ")), "the compiler's command alone: {command}");
        assert_eq!(std::fs::read(lib.join("libevent_extra.a")).unwrap(), EMPTY_ARCHIVE);

        let libraries: Vec<PathBuf> = [CORE, "libevent_extra.a"].iter().map(|name| lib.join(name)).collect();
        assert_eq!(crate::layout::functions(&libraries).unwrap().len(), 2);
        let bytes = std::fs::read(lib.join(CORE)).unwrap();
        let archive = object::read::archive::ArchiveFile::parse(&*bytes).unwrap();
        let member = archive.members().next().unwrap().unwrap();
        let object = object::File::parse(member.data(&*bytes).unwrap()).unwrap();
        let g = object.section_by_name(".text.g").expect("a section of its own");
        assert_eq!(g.align(), 64);
        assert_eq!(g.relocations().count(), 0, "f was inlined");
    }
}
