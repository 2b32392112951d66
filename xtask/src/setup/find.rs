//! Looks for tools: in PATH, among files, and for libclang where bindgen looks. Only folders are
//! read, and llvm-config is asked at most; a look at everything takes a few milliseconds.

use super::tools::{Find, Tool};
use crate::host::Facts;
use crate::process;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// llvm-config answers in milliseconds.
const LLVM_CONFIG_LIMIT: Duration = Duration::from_secs(5);

/// Folders of libclang by distribution, the usual ones first; clang-sys searches the same trees.
const LIBCLANG_FOLDERS: &[&str] = &[
    "/usr/lib/llvm*/lib*",
    "/usr/lib64/llvm*/lib*",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/*-linux-*",
    "/usr/local/llvm*/lib*",
    "/usr/local/lib*",
    "/opt/rh/*/root/usr/lib64",
];

/// Names that clang-sys loads at run time.
const LIBCLANG_FILES: &[&str] = &["libclang.so", "libclang-*.so", "libclang.so.*", "libclang-*.so.*"];

/// Where tools are looked for: this process's environment, or an invented one in tests.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Folders of PATH.
    pub(crate) path: Vec<PathBuf>,
    /// The file system.
    pub(crate) facts: Facts,
    /// Environment variables that bindgen and clang-sys heed.
    pub(crate) env: BTreeMap<&'static str, OsString>,
}

impl Places {
    /// Those of this process.
    pub(crate) fn here() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let heeded = ["LIBCLANG_PATH", "LLVM_CONFIG_PATH", "BINDGEN_EXTRA_CLANG_ARGS"];
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        Places {
            path: std::env::split_paths(&path).collect(),
            facts: Facts::here(),
            env: heeded.into_iter().filter_map(set).collect(),
        }
    }

    /// Where a tool is, if it is here.
    pub(crate) fn find(&self, tool: &Tool) -> Option<PathBuf> {
        match tool.find {
            Find::Program(names) => names.iter().find_map(|name| self.program(name)),
            Find::File(patterns) => patterns.iter().find_map(|pattern| self.glob(pattern).into_iter().next()),
            Find::Libclang => self.libclang(),
        }
    }

    /// An executable file of that name in PATH.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let executable =
            |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        self.path.iter().map(|folder| folder.join(name)).find(executable)
    }

    /// The library, if it and its compiler headers are there.
    fn libclang(&self) -> Option<PathBuf> {
        let library = self.libclang_library()?;
        // Arguments of the user's own may name other headers; they know better.
        (self.env.contains_key("BINDGEN_EXTRA_CLANG_ARGS") || self.has_compiler_headers(&library)).then_some(library)
    }

    /// In clang-sys's order of authority: the variable, the usual folders, llvm-config.
    fn libclang_library(&self) -> Option<PathBuf> {
        if let Some(given) = self.env.get("LIBCLANG_PATH").map(PathBuf::from) {
            return if given.is_file() { Some(given) } else { library_in(&given) };
        }
        let usual = LIBCLANG_FOLDERS.iter().flat_map(|pattern| self.glob(pattern));
        usual.into_iter().find_map(|folder| library_in(&folder)).or_else(|| library_in(&self.llvm_libdir()?))
    }

    fn llvm_libdir(&self) -> Option<PathBuf> {
        let named = self.env.get("LLVM_CONFIG_PATH").map(PathBuf::from);
        let program = named.or_else(|| self.program("llvm-config"))?;
        let got = process::capture(Command::new(program).arg("--libdir"), LLVM_CONFIG_LIMIT).ok()?;
        got.status.success().then(|| PathBuf::from(got.stdout.trim()))
    }

    /// libclang brings stddef.h and the like in a folder of its own; without it nothing can be parsed.
    fn has_compiler_headers(&self, library: &Path) -> bool {
        let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
        let beside = [library, &real]
            .into_iter()
            .filter_map(Path::parent)
            .any(|folder| matches(&folder.join("clang/*/include/stddef.h")).into_iter().next().is_some());
        let elsewhere = [
            "/usr/lib*/clang/*/include/stddef.h",
            "/usr/lib*/llvm*/lib*/clang/*/include/stddef.h",
            "/usr/local/lib*/clang/*/include/stddef.h",
        ];
        beside
            || (!self.env.contains_key("LIBCLANG_PATH")
                && elsewhere.iter().any(|pattern| !self.glob(pattern).is_empty()))
    }

    /// Paths of the file system that match a pattern, in the order of their names.
    fn glob(&self, pattern: &str) -> Vec<PathBuf> {
        matches(&self.facts.path(pattern))
    }
}

fn library_in(folder: &Path) -> Option<PathBuf> {
    LIBCLANG_FILES.iter().find_map(|name| {
        // libclang-cpp.so is the C++ interface, which matches the pattern and does not serve.
        let serves = |path: &PathBuf| !path.to_string_lossy().contains("libclang-cpp");
        matches(&folder.join(name)).into_iter().find(serves)
    })
}

/// Paths that match `pattern`, in which `*` stands for any part of one component.
fn matches(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        if !text.contains('*') {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        found = found.iter().flat_map(|folder| names_in(folder, &text)).collect();
    }
    found.retain(|path| path.exists());
    found
}

fn names_in(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| fits(name, pattern)))
        .map(|entry| entry.path())
        .collect();
    names.sort();
    names
}

/// Whether a name consists of the pattern's pieces, with anything where the stars are.
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or("");
    for piece in pieces {
        let Some(at) = name.find(piece) else { return false };
        name = &name[at + piece.len()..];
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::tools::TOOLS;

    fn tool(name: &str) -> &'static Tool {
        TOOLS.iter().find(|tool| tool.name == name).unwrap()
    }

    fn touch(path: &Path, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn places(root: &Path) -> Places {
        Places { path: vec![root.join("bin")], facts: Facts::below(root), env: BTreeMap::new() }
    }

    #[test]
    fn patterns() {
        for (name, pattern, expected) in [
            ("llvm-14", "llvm*", true),
            ("x86_64-linux-gnu", "*-linux-*", true),
            ("libclang-14.so.1", "libclang-*.so.*", true),
            ("libclang.so", "libclang-*.so", false),
            ("lib64", "lib*", true),
            ("include", "lib*", false),
            ("aa", "a*a*a", false),
        ] {
            assert_eq!(fits(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn programs_must_be_executable_files() {
        let root = tempfile::tempdir().unwrap();
        touch(&root.path().join("bin/cmake"), 0o644);
        std::fs::create_dir_all(root.path().join("bin/git")).unwrap();
        touch(&root.path().join("bin/ninja-build"), 0o755);
        let places = places(root.path());
        assert_eq!(places.find(tool("cmake")), None, "not executable");
        assert_eq!(places.find(tool("git")), None, "a folder");
        assert_eq!(places.find(tool("ninja")), Some(root.path().join("bin/ninja-build")));
    }

    #[test]
    fn libclang_needs_its_headers() {
        let root = tempfile::tempdir().unwrap();
        let mut places = places(root.path());
        assert_eq!(places.find(tool("libclang")), None);
        let folder = root.path().join("usr/lib/llvm-14/lib");
        touch(&folder.join("libclang-cpp.so.14"), 0o644);
        assert_eq!(places.find(tool("libclang")), None, "the C++ interface does not serve");
        touch(&folder.join("libclang.so.1"), 0o644);
        assert_eq!(places.find(tool("libclang")), None, "no stddef.h");
        touch(&folder.join("clang/14/include/stddef.h"), 0o644);
        assert_eq!(places.find(tool("libclang")), Some(folder.join("libclang.so.1")));
        places.env.insert("LIBCLANG_PATH", root.path().join("elsewhere").into());
        assert_eq!(places.find(tool("libclang")), None, "the variable has the last word");
    }

    #[test]
    fn llvm_config_is_asked_when_nothing_else_helps() {
        let root = tempfile::tempdir().unwrap();
        let lib = root.path().join("odd/place");
        touch(&lib.join("libclang.so"), 0o644);
        touch(&lib.join("clang/17/include/stddef.h"), 0o644);
        let script = root.path().join("bin/llvm-config");
        // Written by another process: a file that this one has open for writing may be inherited by a
        // child of another thread, and cannot be executed meanwhile.
        std::fs::create_dir_all(script.parent().unwrap()).unwrap();
        let write = format!("printf '#!/bin/sh\necho {}\n' > \"$0\" && chmod 755 \"$0\"", lib.display());
        assert!(Command::new("sh").args(["-c", &write]).arg(&script).status().unwrap().success());
        assert_eq!(places(root.path()).find(tool("libclang")), Some(lib.join("libclang.so")));
    }

    #[test]
    fn headers_of_a_foreign_architecture_folder() {
        let root = tempfile::tempdir().unwrap();
        let header = root.path().join("usr/include/x86_64-linux-gnu/openssl/ssl.h");
        touch(&header, 0o644);
        assert_eq!(places(root.path()).find(tool("openssl_headers")), Some(header));
    }
}
