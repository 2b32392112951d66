//! Where compilers and build tools are, when they are not where the system keeps its own.

use super::mounts::SYSTEM;
use crate::exit::{Exit, failure};
use crate::setup::Places;
use anyhow::Result;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a build of libevent may start.
const STARTED: &[&str] = &[
    "ar",
    "as",
    "cc",
    "clang",
    "cmake",
    "gcc",
    "gcc-ar",
    "ld",
    "ld.lld",
    "llvm-ar",
    "llvm-profdata",
    "llvm-ranlib",
    "make",
    "ninja",
    "objcopy",
    "pkg-config",
    "python3",
    "ranlib",
];

/// The file that a name means: itself if it is a path, else by PATH.
pub(super) fn located(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(std::path::absolute(name)?);
    }
    let missing =
        || failure(Exit::Infrastructure, format!("there is no `{name}` in PATH; `cargo xtask setup` installs it"));
    Places::here().program(name).ok_or_else(missing)
}

/// Folders that `program` and whatever it may start need besides the system's: the whole installation of a tool
/// that is elsewhere, such as a Python below somebody's home.
pub(super) fn folders(program: &Path) -> Vec<PathBuf> {
    let places = Places::here();
    let named = std::env::var_os("CC").map(|cc: OsString| PathBuf::from(cc)).filter(|cc| cc.is_absolute());
    let started = STARTED.iter().filter_map(|name| places.program(name));
    let mut folders: Vec<PathBuf> = started
        .chain([program.to_owned()])
        .chain(named)
        // Both where a link is and where it leads to.
        .flat_map(|path| [path.canonicalize().unwrap_or_else(|_| path.clone()), path])
        .filter(|path| !SYSTEM.iter().any(|system| path.starts_with(system)))
        .filter_map(|path| installation(&path))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

/// `/a/b` of `/a/b/bin/tool`, unless that is a home or as wide as one.
fn installation(tool: &Path) -> Option<PathBuf> {
    let folder = tool.parent()?;
    let prefix = folder.parent()?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let wide = prefix.components().count() < 3 || home.is_some_and(|home| home.starts_with(prefix));
    let of_programs = folder.ends_with("bin") || folder.ends_with("shims");
    Some(if of_programs && !wide { prefix } else { folder }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_shown_whole_and_a_home_is_not() {
        let of = |path: &str| installation(Path::new(path)).unwrap();
        assert_eq!(of("/srv/tools/llvm/bin/clang"), Path::new("/srv/tools/llvm"));
        assert_eq!(of("/srv/python/shims/python3"), Path::new("/srv/python"));
        assert_eq!(of("/bin2/cc"), Path::new("/bin2"));
        let home = Path::new("/home").join("bin");
        assert_eq!(installation(&home.join("cc")).unwrap(), home, "not everybody's home");
    }
}
