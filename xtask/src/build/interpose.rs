//! A library may not define functions that belong to the system: linked into the worker, its `clock_gettime` or
//! `write` would be used by whoever measures it. Nor may it define those of a sanitizer, which is told by them what to
//! overlook. Code may be there in one build only, so every build's libraries are looked at.

use super::compiler::without_compiler_settings;
use crate::exit::{Exit, failure};
use crate::process;
use anyhow::{Context as _, Result};
use model::variant::Variant;
use object::read::archive::ArchiveFile;
use object::{Object as _, ObjectSymbol as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What every program here is linked with; those that a host does not have cannot be replaced on it.
const SYSTEM: &[&str] = &[
    "libc.so.6",
    "libcrypto.so",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libssl.so",
    "libutil.so.1",
];

/// How the names begin that sanitizers call, and define.
const SANITIZERS: &[&str] = &["__asan_", "__hwasan_", "__lsan_", "__msan_", "__sanitizer_", "__tsan_", "__ubsan_"];

/// Refuses libraries with such definitions. `cc` is the compiler that programs are linked by.
pub(crate) fn check(cc: &str, variant: &Variant, libraries: &[PathBuf]) -> Result<()> {
    let mut defined = BTreeSet::new();
    for path in libraries {
        defined.extend(archive_definitions(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let of_sanitizers = |name: &&String| SANITIZERS.iter().any(|start| name.starts_with(start));
    let mut taken: BTreeSet<String> = defined.iter().filter(of_sanitizers).cloned().collect();
    for name in SYSTEM {
        let Some(path) = located(cc, name)? else { continue };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A text file that names other libraries stands in some places of one: the libraries are looked at anyway.
        let Ok(file) = object::File::parse(&*bytes) else { continue };
        let symbols = file.dynamic_symbols().filter(is_defined);
        taken.extend(
            symbols.filter_map(|symbol| symbol.name().ok()).filter(|name| defined.contains(*name)).map(str::to_owned),
        );
    }
    if taken.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = taken.into_iter().collect();
    let message = format!(
        "variant {} ({}) is refused: it defines {}, which belong to the system's libraries or to a sanitizer; every program that \
         is linked with it would use these, and so would what measures or watches it. Give them names of libevent's own, or make them static",
        variant.id,
        variant.name,
        names.join(", ")
    );
    Err(failure(Exit::Failed, message))
}

/// Names that other object files can use.
fn archive_definitions(path: &Path) -> Result<BTreeSet<String>> {
    let bytes = std::fs::read(path)?;
    let mut names = BTreeSet::new();
    for member in ArchiveFile::parse(&*bytes)?.members() {
        let member = member?;
        let Ok(file) = object::File::parse(member.data(&*bytes)?) else { continue };
        let global = file.symbols().filter(is_defined);
        names.extend(global.filter_map(|symbol| symbol.name().ok()).map(str::to_owned));
    }
    Ok(names)
}

/// Whether others can use it from here. `is_definition` says no to functions that are chosen when the program is loaded,
/// as libc's `memcpy` and `time` are, and to common and absolute symbols.
fn is_defined<'data>(symbol: &impl object::ObjectSymbol<'data>) -> bool {
    !symbol.is_undefined() && !symbol.is_local()
}

/// The file that the compiler links for a name, if there is one.
fn located(cc: &str, name: &str) -> Result<Option<PathBuf>> {
    let mut command = Command::new(cc);
    without_compiler_settings(&mut command);
    let got = process::capture(command.arg(format!("-print-file-name={name}")), Duration::from_secs(20))?;
    Ok(Some(PathBuf::from(got.stdout.trim())).filter(|path| path.is_absolute() && path.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compiler::compiler;
    use crate::exit::exit_of;
    use std::process::Command;

    /// Functions of the system, defined in every way there is, and one that only looks so.
    #[test]
    fn a_definition_is_seen_however_it_is_made() {
        let code = "
            static void *chosen(void) { return (void *)0; }
            void *memcpy(void *, const void *, unsigned long) __attribute__((ifunc(\"chosen\")));
            __asm__(\".globl clock_gettime\\n.type clock_gettime, @notype\\nclock_gettime:\\n\");
            __asm__(\".globl gettimeofday\\n.set gettimeofday, 4096\\n\");
            __attribute__((weak, visibility(\"hidden\"))) long time(long *t) { return t != 0; }
            __attribute__((common)) int environ;
            const char *__asan_default_options(void) { return \"\"; }
            static int read(void) { return 1; }
            int evutil_other_(void) { return read(); }\n";
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path();
        std::fs::write(lib.join("a.c"), code).unwrap();
        for (program, arguments) in [
            (compiler(), &["-w", "-fno-builtin", "-c", "a.c"][..]),
            ("ar".to_owned(), &["rc", "libevent_core.a", "a.o"]),
        ] {
            let got = Command::new(program).args(arguments).current_dir(lib).output().unwrap();
            assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
        }
        let library = lib.join("libevent_core.a");
        let error = check(&compiler(), &crate::build::tests::variant(), &[library]).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Failed);
        let text = error.to_string();
        for name in ["__asan_default_options", "clock_gettime", "environ", "gettimeofday", "memcpy", "time"] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
        assert!(!text.contains("read") && !text.contains("evutil_other_"), "{text}");
    }
}
