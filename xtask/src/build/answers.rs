//! What libevent's CMake asked the system, kept for the builds to come.
//!
//! Two thirds of a build's time go into a hundred small programs that CMake compiles to learn what the system has.
//! For all variants of a source, on one system, the answers are the same: a patch cannot touch what CMake reads. They
//! are found out once, for the first build, and handed to all others, whose `event-config.h` must then be byte for
//! byte that of the first. So baseline and candidate also cannot be configured differently.

use super::Plan;
use super::compiler::without_compiler_settings;
use crate::{files, process};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What CMake makes of the answers.
const CONFIG: &str = "include/event2/event-config.h";
/// Headers whose macros tell the versions of what CMake asks about: the C library, the kernel's interface, OpenSSL.
const VERSIONS: &str = "#include <features.h>
#include <linux/version.h>
#if __has_include(<openssl/opensslv.h>)
#include <openssl/opensslv.h>
#endif
";

/// The answers to one set of questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    /// A script of CMake that sets them.
    script: String,
    /// SHA-256 of the `event-config.h` that was made of them.
    config_sha256: String,
}

impl Answers {
    /// What a finished configuration found out.
    pub(super) fn of(cmake: &Path) -> Result<Answers> {
        let path = cmake.join("CMakeCache.txt");
        let cache = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Answers { script: script(&cache), config_sha256: files::sha256_file(&cmake.join(CONFIG))? })
    }

    /// Those that an earlier build wrote down.
    pub(super) fn known(file: &Path) -> Option<Answers> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Writes them down for later builds.
    pub(super) fn keep(&self, file: &Path) -> Result<()> {
        let folder = file.parent().context("below work/")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        files::write_atomic(file, &serde_json::to_vec_pretty(self)?)
    }

    /// The script, in the build's folder, where CMake may read it.
    pub(super) fn as_script(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("answers.cmake");
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        files::write_atomic(&path, self.script.as_bytes())?;
        Ok(path)
    }

    /// Whether a configuration with them came out as the one they are from.
    pub(super) fn led_to(&self, cmake: &Path) -> bool {
        files::sha256_file(&cmake.join(CONFIG)).is_ok_and(|sha256| sha256 == self.config_sha256)
    }
}

/// Where answers are kept that hold for the plan and the source: same compiler and flags, same system headers, and
/// the same files of CMake. How code is optimised later, by profile or at link time, is asked by none of them.
pub(super) fn file(plan: &Plan, source: &Path) -> Result<PathBuf> {
    let plan_text = format!("{:?}", (&plan.cc, &plan.version, &plan.build_type, &plan.c_flags, &plan.options));
    let questions = questions(source)?;
    let parts = [plan_text.as_bytes(), versions(&plan.cc)?.as_bytes(), questions.as_bytes()].map(<[u8]>::to_vec);
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    Ok(plan.answers.join(format!("{}.json", &files::sha256_hex(&parts)[..12])))
}

/// Answers in CMake's cache, as a script for another configuration.
pub(crate) fn script(cache: &str) -> String {
    let of_check =
        |name: &str| ["EVENT__", "HAVE_", "check_c_compiler_flag_"].iter().any(|start| name.starts_with(start));
    let entries = cache.lines().filter_map(|line| line.split_once(":INTERNAL="));
    let plain = entries.filter(|(name, value)| of_check(name) && !value.contains(['"', '\\', '$', ';']));
    plain.map(|(name, value)| format!("set({name} \"{value}\" CACHE INTERNAL \"\")\n")).collect()
}

/// Names and hashes of all files that CMake may read: its own folder, its scripts, and the templates that it fills in.
fn questions(source: &Path) -> Result<String> {
    let mut found = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_asked =
                folder.ends_with("cmake") || [".cmake", ".in", "CMakeLists.txt"].iter().any(|end| name.ends_with(end));
            if kind.is_dir() && name != ".git" {
                folders.push(path);
            } else if kind.is_file() && is_asked {
                let inside = path.strip_prefix(source).context("below the source")?;
                found.push(format!("{} {}\n", inside.display(), files::sha256_file(&path)?));
            }
        }
    }
    found.sort();
    Ok(found.concat())
}

/// Macros of the compiler and of the headers in [`VERSIONS`].
fn versions(cc: &str) -> Result<String> {
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let path = folder.path().join("versions.c");
    std::fs::write(&path, VERSIONS).with_context(|| format!("cannot write {}", path.display()))?;
    let mut command = Command::new(cc);
    command.args(["-E", "-dM"]).arg(&path);
    without_compiler_settings(&mut command);
    let got = process::capture(&mut command, Duration::from_secs(20))?;
    if !got.status.success() {
        bail!("`{}` failed ({}): {}", process::shown(&command), got.status, got.stderr.trim());
    }
    let mut macros: Vec<&str> = got.stdout.lines().collect();
    macros.sort_unstable();
    Ok(macros.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::compiler::compiler;

    #[test]
    fn answers_are_taken_over_and_other_settings_are_not() {
        let cache = "CMAKE_C_COMPILER:FILEPATH=/usr/bin/cc\n\
            HAVE_FOO:INTERNAL=1\nEVENT__HAVE_EPOLL:INTERNAL=1\nEVENT__DISABLE_TESTS:BOOL=ON\n\
            EVENT__SIZEOF_LONG:INTERNAL=8\nHAVE_ODD:INTERNAL=a;b\ncheck_c_compiler_flag_x:INTERNAL=\n";
        assert_eq!(
            script(cache),
            "set(HAVE_FOO \"1\" CACHE INTERNAL \"\")\nset(EVENT__HAVE_EPOLL \"1\" CACHE INTERNAL \"\")\n\
             set(EVENT__SIZEOF_LONG \"8\" CACHE INTERNAL \"\")\nset(check_c_compiler_flag_x \"\" CACHE INTERNAL \"\")\n"
        );
    }

    #[test]
    fn answers_hold_for_the_same_questions_alone() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir_all(source.join("cmake")).unwrap();
        for name in ["CMakeLists.txt", "cmake/x.cmake", "event-config.h.cmake", "buffer.c"] {
            std::fs::write(source.join(name), name).unwrap();
        }
        let of = |flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            file(&Plan::of_test(folder.path(), &compiler(), flags), &source).unwrap()
        };
        let first = of(&["-O2"]);
        assert_ne!(of(&["-O3"]), first);
        std::fs::write(source.join("buffer.c"), "patched").unwrap();
        assert_eq!(of(&["-O2"]), first);
        std::fs::write(source.join("cmake/x.cmake"), "other").unwrap();
        assert_ne!(of(&["-O2"]), first);
    }

    #[test]
    fn a_configuration_that_came_out_otherwise_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let cmake = folder.path().join("cmake");
        std::fs::create_dir_all(cmake.join("include/event2")).unwrap();
        std::fs::write(cmake.join("CMakeCache.txt"), "HAVE_FOO:INTERNAL=1\n").unwrap();
        std::fs::write(cmake.join(CONFIG), "#define FOO 1\n").unwrap();
        let answers = Answers::of(&cmake).unwrap();
        let file = folder.path().join("answers/a.json");
        answers.keep(&file).unwrap();
        assert_eq!(Answers::known(&file), Some(answers.clone()));
        assert!(answers.led_to(&cmake));
        std::fs::write(cmake.join(CONFIG), "#define FOO 0\n").unwrap();
        assert!(!answers.led_to(&cmake));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(Answers::known(&file), None, "cut short: asked again");
    }
}
