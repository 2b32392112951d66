//! What a patch may change, judged by the trees before and after it.

pub mod functions;
mod headers;
mod lines;
mod words;

/// Most bytes that a patch file may have.
pub const PATCH_LIMIT_BYTES: u64 = 1 << 20;

/// One line of `git diff-tree -r --raw`: what really differs, whatever the patch's text claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// File mode before, `000000` for a new file.
    pub old_mode: String,
    /// File mode after, `000000` for a removed file.
    pub new_mode: String,
    /// Path from the top of the source.
    pub path: String,
}

/// Why a patch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing differs.
    #[error("it changes nothing")]
    Empty,
    /// A file that decides how libevent is built, tested or measured, or is no source of the library.
    #[error("it touches {0}; a patch may touch libevent's own *.c and *.h only, nothing in test/, cmake/ or sample/")]
    Path(String),
    /// A file that is not a test patch's to change.
    #[error("it touches {0}; a test patch may change libevent's test/regress_*.c that are there, and nothing else")]
    TestPath(String),
    /// A file that is no text: nobody can review it.
    #[error("it makes {0} a binary file")]
    Binary(String),
    /// A link, an executable bit or another special file.
    #[error(
        "it changes the mode of {path} from {old_mode} to {new_mode}; only regular files may be added, changed or removed"
    )]
    Mode {
        /// Path of the file.
        path: String,
        /// Mode before.
        old_mode: String,
        /// Mode after.
        new_mode: String,
    },
    /// A new header that would be found in the place of another one.
    #[error(
        "it adds {0}: a header of the system, of libevent's tests or of its build has that name or that folder, and programs \
         would read this one in its place"
    )]
    Header(String),
    /// A line that no library needs and that gets around a check.
    #[error("it adds `{word}` in {file}:{line}: {why}. The line: `{text}`")]
    Line {
        /// The file.
        file: String,
        /// Line in the file as the patch leaves it, from 1.
        line: u64,
        /// The line, shortened.
        text: String,
        /// What of it is refused.
        word: String,
        /// Why.
        why: &'static str,
    },
}

/// Parses the output of `git diff-tree -r --raw -z --no-renames`; `None` if it is not that.
pub fn parse_raw_diff(text: &str) -> Option<Vec<Change>> {
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    let mut changes = Vec::new();
    while let Some(head) = fields.next() {
        let mut words = head.strip_prefix(':')?.split(' ');
        let (old_mode, new_mode) = (words.next()?.to_owned(), words.next()?.to_owned());
        changes.push(Change { old_mode, new_mode, path: fields.next()?.to_owned() });
    }
    Some(changes)
}

/// Checks that every change is one of text, by what `git diff-tree -p` shows of it, and that no line is added that
/// switches sanitizers off, changes libevent's tests, or reads other files than headers.
pub fn check_text(diff: &str) -> Result<(), Refusal> {
    check_is_text(diff)?;
    lines::check(diff)
}

fn check_is_text(diff: &str) -> Result<(), Refusal> {
    let shown = diff.lines().find_map(|line| line.strip_prefix("Binary files ")?.strip_suffix(" differ"));
    let Some(files) = shown else { return Ok(()) };
    let name = files.rsplit(" and ").find(|name| *name != "/dev/null").unwrap_or(files);
    Err(Refusal::Binary(name.trim_start_matches("b/").to_owned()))
}

/// Checks that a test patch changes files of libevent's unit tests and nothing else; `diff` is what
/// `git diff-tree -p` shows of it.
pub fn check_test_patch(changes: &[Change], diff: &str) -> Result<(), Refusal> {
    if changes.is_empty() {
        return Err(Refusal::Empty);
    }
    for Change { old_mode, new_mode, path } in changes {
        let name = path.strip_prefix("test/regress_").and_then(|rest| rest.strip_suffix(".c"));
        let is_test = name.is_some_and(|name| !name.is_empty() && !name.contains('/'));
        // What is new or gone is another list of files, which the build rules have.
        if !is_test || [old_mode, new_mode].iter().any(|mode| *mode == "000000") {
            return Err(Refusal::TestPath(path.clone()));
        }
        if old_mode != new_mode || !matches!(old_mode.as_str(), "100644" | "100755") {
            return Err(Refusal::Mode { path: path.clone(), old_mode: old_mode.clone(), new_mode: new_mode.clone() });
        }
    }
    check_is_text(diff)
}

/// Folders that hold tests, programs and build rules, never the library's own code.
const FOREIGN: &[&str] = &["test", "sample", "cmake", "m4", "extra", "WIN32-Code"];

/// Checks that a patch touches the library's own code and nothing else.
pub fn check_changes(changes: &[Change]) -> Result<(), Refusal> {
    if changes.is_empty() {
        return Err(Refusal::Empty);
    }
    for change in changes {
        let path = change.path.as_str();
        let top = path.split('/').next().unwrap_or_default();
        let source = path.ends_with(".c") || path.ends_with(".h");
        let inside = path.split('/').all(|part| !part.is_empty() && part != ".." && !part.starts_with('.'));
        if !source || !inside || FOREIGN.contains(&top) {
            return Err(Refusal::Path(path.to_owned()));
        }
        let regular = |mode: &str| matches!(mode, "100644" | "100755" | "000000");
        let same = change.old_mode == change.new_mode;
        let comes_or_goes = change.old_mode == "000000" && change.new_mode == "100644" || change.new_mode == "000000";
        if !regular(&change.old_mode) || !(same || comes_or_goes) {
            return Err(Refusal::Mode {
                path: path.to_owned(),
                old_mode: change.old_mode.clone(),
                new_mode: change.new_mode.clone(),
            });
        }
        if change.old_mode == "000000" && headers::hides_another(path) {
            return Err(Refusal::Header(path.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old_mode: &str, new_mode: &str, path: &str) -> Change {
        Change { old_mode: old_mode.into(), new_mode: new_mode.into(), path: path.into() }
    }

    #[test]
    fn the_library_may_change() {
        let changes = [
            change("100644", "100644", "buffer.c"),
            change("000000", "100644", "fast-internal.h"),
            change("100644", "000000", "include/event2/old.h"),
        ];
        assert_eq!(check_changes(&changes), Ok(()));
    }

    #[test]
    fn what_decides_the_measurement_may_not() {
        for path in [
            "test/bench.c",
            "CMakeLists.txt",
            "cmake/x.c",
            "sample/a.c",
            ".git/x.c",
            "event-config.h.cmake",
            "a/../b.c",
        ] {
            let got = check_changes(&[change("100644", "100644", path)]);
            assert_eq!(got, Err(Refusal::Path(path.into())));
        }
        assert_eq!(check_changes(&[]), Err(Refusal::Empty));
        let link = check_changes(&[change("000000", "120000", "event.c")]);
        assert!(matches!(link, Err(Refusal::Mode { .. })));
        let executable = check_changes(&[change("100644", "100755", "event.c")]);
        assert!(matches!(executable, Err(Refusal::Mode { .. })));
    }

    #[test]
    fn a_new_header_hides_none() {
        let added = check_changes(&[change("000000", "100644", "include/string.h")]);
        assert_eq!(added, Err(Refusal::Header("include/string.h".into())));
        assert_eq!(check_changes(&[change("100644", "100644", "compat/sys/queue.h")]), Ok(()), "it was there");
    }

    #[test]
    fn a_line_that_is_refused_is_named() {
        let diff = "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1,2 @@\n a\n+\tint tt_x;\n";
        let why = check_text(diff).unwrap_err().to_string();
        assert!(why.contains("`tt_x` in x.c:2") && why.contains("`int tt_x;`"), "{why}");
    }

    #[test]
    fn a_test_patch_may_change_unit_tests_alone() {
        let of = |change: Change| check_test_patch(&[change], "+int x;\n");
        assert_eq!(of(change("100644", "100644", "test/regress_minheap.c")), Ok(()));
        for path in [
            "test/regress.c",
            "test/regress.h",
            "test/sub/regress_x.c",
            "test/tinytest.c",
            "buffer.c",
            "test/regress_.c",
        ] {
            assert_eq!(of(change("100644", "100644", path)), Err(Refusal::TestPath(path.into())));
        }
        let path = "test/regress_new.c";
        assert_eq!(of(change("000000", "100644", path)), Err(Refusal::TestPath(path.into())), "nothing would build it");
        assert_eq!(of(change("100644", "000000", path)), Err(Refusal::TestPath(path.into())));
        assert!(matches!(of(change("100644", "100755", path)), Err(Refusal::Mode { .. })));
        assert!(matches!(of(change("120000", "120000", path)), Err(Refusal::Mode { .. })));
        assert_eq!(check_test_patch(&[], ""), Err(Refusal::Empty));
        let binary = check_test_patch(&[change("100644", "100644", path)], "Binary files a/x.c and b/x.c differ\n");
        assert!(matches!(binary, Err(Refusal::Binary(_))));
    }

    #[test]
    fn what_nobody_can_read_is_refused() {
        assert_eq!(check_text("diff --git a/x.c b/x.c\n+int x;\n"), Ok(()));
        assert_eq!(check_text("+Binary files a/x.c and b/x.c differ\n"), Ok(()), "a line of the file");
        let diff = "diff --git a/x.c b/x.c\nBinary files /dev/null and b/x.c differ\n";
        assert_eq!(check_text(diff), Err(Refusal::Binary("x.c".into())));
    }

    #[test]
    fn reads_what_git_prints() {
        let text = ":100644 100644 aaa bbb M\0buffer.c\0:000000 100644 000 ccc A\0new file.h\0";
        let changes = parse_raw_diff(text).unwrap();
        assert_eq!(changes, [change("100644", "100644", "buffer.c"), change("000000", "100644", "new file.h")]);
        assert_eq!(parse_raw_diff("nonsense"), None);
        assert_eq!(parse_raw_diff(""), Some(vec![]));
    }
}
