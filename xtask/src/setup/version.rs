//! Versions of tools, for people and for records; never a reason to fail.

use super::tools::{Find, Tool};
use crate::host;
use std::path::Path;

/// Version of a tool that was found at `path`.
pub(crate) fn version(tool: &Tool, path: &Path) -> Option<String> {
    match tool.find {
        Find::Program(_) => host::first_line(path).map(|line| number_in(&line).unwrap_or(line)),
        Find::File(_) => header_version(&std::fs::read_to_string(path.with_file_name("opensslv.h")).ok()?),
        Find::Libclang => library_version(path),
    }
}

/// The first word of a line that looks like a version: `cmake version 3.25.1` and the like.
fn number_in(line: &str) -> Option<String> {
    let looks = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    line.split([' ', '-', ',']).find(looks).map(str::to_owned)
}

/// `# define OPENSSL_VERSION_STR "3.0.15"`.
fn header_version(text: &str) -> Option<String> {
    let line =
        text.lines().find(|line| line.contains("define OPENSSL_VERSION_STR") || line.contains("_VERSION_TEXT"))?;
    Some(line.split('"').nth(1)?.to_owned())
}

/// The library's real file is called `libclang-14.so.14.0.6` or `libclang.so.17.0.6`.
fn library_version(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let name = real.file_name()?.to_str()?.to_owned();
    let digits: Vec<&str> = name.split(|c: char| !c.is_ascii_digit() && c != '.').collect();
    digits.iter().map(|part| part.trim_matches('.')).rfind(|part| !part.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_what_programs_print() {
        for (line, expected) in [
            ("cmake version 3.25.1", Some("3.25.1")),
            ("cc (Debian 12.2.0-14+deb12u1) 12.2.0", Some("12.2.0")),
            ("valgrind-3.19.0", Some("3.19.0")),
            ("strace -- version 6.1", Some("6.1")),
            ("1.11.1", Some("1.11.1")),
            ("no number", None),
        ] {
            assert_eq!(number_in(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn versions_of_files() {
        let text = "# define OPENSSL_VERSION_MAJOR  3\n# define OPENSSL_VERSION_STR \"3.0.15\"\n";
        assert_eq!(header_version(text).as_deref(), Some("3.0.15"));
        let folder = tempfile::tempdir().unwrap();
        for (name, expected) in
            [("libclang-14.so.14.0.6", Some("14.0.6")), ("libclang.so.17.0.6", Some("17.0.6")), ("libclang.so", None)]
        {
            let file = folder.path().join(name);
            std::fs::write(&file, "").unwrap();
            assert_eq!(library_version(&file).as_deref(), expected, "{name}");
        }
    }
}
