//! What a reviewer should look at in a patch: lines that an optimisation of an event library rarely needs and
//! that a cheat does. A finding refuses nothing; it is shown with every figure and every verdict.

use crate::added;
use serde::{Deserialize, Serialize};

/// One line of a patch that asks for a reviewer's eye.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// File that the patch changes.
    pub file: String,
    /// Line in the file as the patch leaves it, from 1.
    pub line: u64,
    /// Why it is shown.
    pub reason: String,
    /// The line itself, without leading blanks, cut after 120 characters.
    pub text: String,
}

/// Words by reason. A word is found as a whole identifier, or, where it has other characters in it, anywhere.
const SIGNS: &[(&str, &[&str])] = &[
    (
        "looks at the environment",
        &["getenv", "secure_getenv", "evutil_getenv_", "environ", "program_invocation_name", "__progname"],
    ),
    (
        "starts programs or processes",
        &[
            "execl",
            "execle",
            "execlp",
            "execv",
            "execve",
            "execvp",
            "fexecve",
            "popen",
            "posix_spawn",
            "system",
            "fork",
            "vfork",
        ],
    ),
    ("looks at the system's files", &["/proc", "/sys/", "/etc/", "/dev/"]),
    (
        "changes or replaces clocks and timers",
        &[
            "clock_gettime",
            "clock_settime",
            "gettimeofday",
            "settimeofday",
            "CLOCK_PROCESS_CPUTIME_ID",
            "rdtsc",
            "__rdtsc",
            "setitimer",
            "timer_create",
            "vdso",
        ],
    ),
    (
        "replaces functions of other libraries",
        &["dlopen", "dlsym", "RTLD_NEXT", "alias", "ifunc", "weak", "mprotect", "LD_PRELOAD"],
    ),
    ("runs before main or after it", &["constructor", "destructor", "init_array", ".init_array", "atexit", "on_exit"]),
    ("changes how it is optimised", &["optimize", "GCC", "clang", "target_clones", "target", "_Pragma"]),
    ("leaves the language", &["asm", "__asm__", "__asm", "syscall"]),
    ("writes where the harness listens", &["printf", "puts", "stdout", "stderr"]),
    ("ends or stops the process", &["exit", "_exit", "abort", "raise", "kill", "longjmp"]),
    ("names the measurement", &["bench", "worker", "callgrind", "valgrind", "RUNNING_ON_VALGRIND", "regress", "perf"]),
    // What is joined there is no word that a rule or this list could know.
    ("joins words in the preprocessor", &["##", "%:%:", "__CONCAT"]),
];

/// Signs that only count on lines of the preprocessor, where they mean what they say.
const PRAGMA: &[&str] = &["GCC", "alias", "clang", "constructor", "destructor", "target", "weak"];

/// Findings in a unified diff, in its order.
pub fn screen(diff: &str) -> Vec<Finding> {
    let added = added::new_side(diff).into_iter().filter(|line| line.added);
    added.flat_map(|line| reasons(line.text).into_iter().map(move |reason| finding(&line, reason))).collect()
}

fn finding(line: &added::Line<'_>, reason: &str) -> Finding {
    Finding { file: line.file.to_owned(), line: line.number, reason: reason.to_owned(), text: line.excerpt() }
}

fn reasons(line: &str) -> Vec<&'static str> {
    let pragma = line.trim_start().starts_with('#') && line.contains("pragma") || line.contains("__attribute__");
    let found = |sign: &&&str| {
        let sign = **sign;
        (pragma || !PRAGMA.contains(&sign)) && contains_word(line, sign)
    };
    SIGNS.iter().filter(|(_, signs)| signs.iter().any(|sign| found(&sign))).map(|(reason, _)| *reason).collect()
}

/// Whether a word occurs that is not a part of a longer identifier, but for `__word__`.
fn contains_word(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let plain = word.chars().all(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].trim_end_matches("__").chars().next_back();
        let after = line[at + word.len()..].trim_start_matches("__").chars().next();
        !plain || !part(before) && !part(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(added: &[&str]) -> String {
        let lines: String = added.iter().map(|line| format!("+{line}\n")).collect();
        format!(
            "diff --git a/event.c b/event.c\n--- a/event.c\n+++ b/event.c\n@@ -10,2 +10,9 @@ f()\n kept getenv\n{lines} kept\n"
        )
    }

    fn found(line: &str) -> Vec<String> {
        screen(&patch(&[line])).into_iter().map(|finding| finding.reason).collect()
    }

    #[test]
    fn what_cheats_need_is_shown_with_its_place() {
        let findings = screen(&patch(&["\tint a;", "\tif (getenv(\"X\")) return;"]));
        assert_eq!(
            findings,
            [Finding {
                file: "event.c".into(),
                line: 12,
                reason: "looks at the environment".into(),
                text: "if (getenv(\"X\")) return;".into()
            }]
        );
        for (line, reason) in [
            ("execve(path, argv, envp);", "starts programs"),
            ("fd = open(\"/proc/self/cmdline\", O_RDONLY);", "system's files"),
            ("int clock_gettime(clockid_t c, struct timespec *t)", "clocks"),
            ("__attribute__((constructor)) static void f(void)", "before main"),
            ("#pragma GCC optimize(\"O3\")", "optimised"),
            ("__attribute__((optimize(\"Ofast\"))) int f(void)", "optimised"),
            ("if (strstr(name, \"bench\"))", "names the measurement"),
            ("#define JOIN(a, b) a##b", "joins words"),
            ("__asm__ volatile(\"rdtsc\");", "leaves the language"),
            ("printf(\"{}\");", "harness listens"),
        ] {
            let reasons = found(line);
            assert!(reasons.iter().any(|r| r.contains(reason)), "{line}: {reasons:?}");
        }
    }

    #[test]
    fn ordinary_code_is_not_shown() {
        for line in [
            "evutil_gettimeofday_cached(x);",
            "base->target_fd = 3; /* GCC is fine */",
            "evbuffer_write_atmost(b, fd, n);",
        ] {
            assert_eq!(found(line), Vec::<String>::new(), "{line}");
        }
        assert_eq!(screen("diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,1 @@\n-getenv\n a\n"), []);
    }
}
