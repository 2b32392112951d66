//! Words that no line of a library needs: those that switch a sanitizer off or tell its build from the measured one,
//! and those that libevent's tests are made of.

/// Why a word refuses the line that has it; `None` for all others.
pub(super) fn forbidden(word: &str) -> Option<&'static str> {
    // `__address_sanitizer__` is `address_sanitizer` to compilers.
    let bare = word.trim_matches('_');
    let begins = |starts: &[&str]| starts.iter().any(|start| bare.starts_with(start));
    let ends = |ends: &[&str]| ends.iter().any(|end| bare.ends_with(end));
    if begins(SANITIZERS_BEGIN) || ends(SANITIZERS_END) || SANITIZERS.contains(&bare) {
        return Some("it switches a sanitizer off, or tells its build from the measured one");
    }
    let tests = TESTS.contains(&word) || TESTS_BEGIN.iter().any(|start| word.starts_with(start));
    if tests || word.to_lowercase().contains("tinytest") {
        return Some("it is of libevent's tests, which read the library's internal headers");
    }
    None
}

/// Why nobody may define a macro of this name.
pub(super) fn not_to_be_defined(name: &str) -> Option<&'static str> {
    JUDGING.contains(&name).then_some("a macro of that name changes what libevent's tests find")
}

/// Attributes, macros of compilers, and names of the sanitizers' own functions, without `_` around them.
const SANITIZERS_BEGIN: &[&str] = &[
    "no_sanitize",
    "SANITIZE_",
    "sanitizer_",
    "asan_",
    "hwasan_",
    "lsan_",
    "msan_",
    "tsan_",
    "ubsan_",
    "ASAN_",
    "HWASAN_",
    "LSAN_",
    "MSAN_",
    "TSAN_",
    "UBSAN_",
];
const SANITIZERS_END: &[&str] = &["_sanitizer", "_default_suppressions", "_default_options"];
const SANITIZERS: &[&str] = &["no_address_safety_analysis", "disable_sanitizer_instrumentation"];

const TESTS_BEGIN: &[&str] = &["tt_", "TT_", "regress_", "REGRESS_"];
const TESTS: &[&str] = &["END_OF_TESTCASES", "END_OF_GROUPS", "test_ok"];

/// What tests, and the programs beside them, judge, report and end with.
const JUDGING: &[&str] = &[
    "abort",
    "assert",
    "exit",
    "_exit",
    "fprintf",
    "fputs",
    "main",
    "memcmp",
    "perror",
    "printf",
    "puts",
    "strcasecmp",
    "strcmp",
    "strncasecmp",
    "strncmp",
    "strstr",
    "vprintf",
    "waitpid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sanitizers_and_tests_are_called_is_known() {
        for word in [
            "no_sanitize",
            "no_sanitize_address",
            "__no_sanitize_thread__",
            "__SANITIZE_ADDRESS__",
            "__SANITIZE_THREAD__",
            "address_sanitizer",
            "undefined_behavior_sanitizer",
            "no_address_safety_analysis",
            "disable_sanitizer_instrumentation",
            "__asan_poison_memory_region",
            "ASAN_POISON_MEMORY_REGION",
            "__tsan_acquire",
            "__lsan_disable",
            "__ubsan_handle_add_overflow",
            "__sanitizer_print_stack_trace",
            "__tsan_default_suppressions",
            "__asan_default_options",
        ] {
            assert!(forbidden(word).is_some_and(|why| why.contains("sanitizer")), "{word}");
        }
        for word in ["tinytest_set_test_failed_", "TINYTEST_H_INCLUDED_", "tt_assert", "TT_DECLARE", "test_ok"] {
            assert!(forbidden(word).is_some_and(|why| why.contains("tests")), "{word}");
        }
        assert!(not_to_be_defined("memcmp").is_some());
    }

    #[test]
    fn words_of_a_library_are_free() {
        for word in ["sanitizer", "evutil_sanitize", "base", "attt_x", "default_options", "putt_", "attempt_", "san_"] {
            assert_eq!(forbidden(word), None, "{word}");
        }
        assert_eq!(not_to_be_defined("evutil_memcmp"), None);
    }
}
