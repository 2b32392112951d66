//! What a line that a patch adds may not say. Lines that were there before are nobody's to answer for.

use super::{Refusal, words};
use crate::added::{Line, new_side};
use std::ops::Range;

/// Checks every line that a diff adds.
pub(super) fn check(diff: &str) -> Result<(), Refusal> {
    for joined in joined(new_side(diff)) {
        if let Some((line, word, why)) = joined.finding() {
            return Err(Refusal::Line {
                file: line.file.to_owned(),
                line: line.number,
                text: line.excerpt(),
                word,
                why,
            });
        }
    }
    Ok(())
}

/// A line as the compiler sees it: with the next one, where it ends in a backslash.
#[derive(Default)]
struct Joined<'a> {
    text: String,
    /// The lines that it is made of, and where they are in it.
    parts: Vec<(Range<usize>, Line<'a>)>,
}

/// Behind these words a compiler looks for a file: in directives, and in their conditions.
const INCLUDES: &[&str] = &["include", "include_next", "import", "__has_include", "__has_include_next", "__has_embed"];

fn joined(lines: Vec<Line<'_>>) -> Vec<Joined<'_>> {
    let mut all: Vec<Joined<'_>> = Vec::new();
    let mut goes_on = false;
    for line in lines {
        let last = all.last().and_then(|joined| joined.parts.last()).map(|(_, line)| *line);
        let next = last.is_some_and(|last| last.file == line.file && last.number + 1 == line.number);
        if !(goes_on && next) {
            all.push(Joined::default());
        }
        let end = line.text.trim_end();
        let before = end.strip_suffix('\\').or_else(|| end.strip_suffix("??/"));
        goes_on = before.is_some();
        if let Some(joined) = all.last_mut() {
            let start = joined.text.len();
            joined.text.push_str(before.unwrap_or(line.text));
            joined.parts.push((start..joined.text.len(), line));
        }
    }
    all
}

impl<'a> Joined<'a> {
    /// The first reason to refuse it: the line, what is in it, and why not.
    fn finding(&self) -> Option<(Line<'a>, String, &'static str)> {
        let any = self.parts.iter().find(|(_, line)| line.added)?.1;
        for (place, word) in identifiers(&self.text) {
            // Of words that were there, only what is added to them counts.
            if let Some(line) = self.added(&place)
                && let Some(why) = words::forbidden(word)
            {
                return Some((line, word.to_owned(), why));
            }
            if let Some((what, why)) = self.directive(&place, word) {
                return Some((self.added(&place).unwrap_or(any), what, why));
            }
        }
        let literally =
            [(".incbin", "it reads a file that is no source"), ("no-sanitize", "it switches a sanitizer off")];
        literally.iter().find_map(|(text, why)| {
            let at = self.text.find(text)?;
            Some((self.added(&(at..at + text.len()))?, (*text).to_owned(), *why))
        })
    }

    /// The first added line that a place overlaps.
    fn added(&self, place: &Range<usize>) -> Option<Line<'a>> {
        let overlaps = |part: &Range<usize>| part.start < place.end && place.start < part.end;
        self.parts.iter().find(|(part, line)| line.added && overlaps(part)).map(|(_, line)| *line)
    }

    /// What is wrong with a directive of the preprocessor whose name is `word`.
    fn directive(&self, place: &Range<usize>, word: &str) -> Option<(String, &'static str)> {
        let after = without_comment(&self.text[place.end..]);
        let is_directive = ends_with_hash(&self.text[..place.start]);
        if matches!(word, "define" | "undef") && is_directive {
            let (_, name) = identifiers(after).next()?;
            return words::not_to_be_defined(name).map(|why| (name.to_owned(), why));
        }
        if word == "embed" && is_directive {
            return Some((word.to_owned(), "it reads a file that is no source"));
        }
        if !INCLUDES.contains(&word) {
            return None;
        }
        let operand = without_comment(after.strip_prefix('(').unwrap_or(after));
        let end = match operand.chars().next() {
            Some('"') => '"',
            Some('<') => '>',
            _ if is_directive => {
                return Some((word.to_owned(), "what it includes is not said, but made up by the preprocessor"));
            }
            _ => return None,
        };
        let path = operand[1..].split(end).next().unwrap_or_default();
        let outside = path.trim_start().starts_with('/') || path.split('/').any(|part| part.trim() == "..");
        outside.then(|| (path.to_owned(), "a path that is absolute or leads upwards is none of the library's headers"))
    }
}

/// Identifiers with their places. Numbers are none of them.
fn identifiers(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let start = rest + text[rest..].find(part)?;
        let end = text[start..].find(|c| !part(c)).map_or(text.len(), |length| start + length);
        rest = end;
        Some((start..end, &text[start..end]))
    })
}

/// What is behind blanks and comments.
fn without_comment(text: &str) -> &str {
    let text = text.trim_start();
    match text.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
        Some((_, rest)) => without_comment(rest),
        None => text,
    }
}

/// Whether `#`, however it is written, is the last thing before blanks and comments.
fn ends_with_hash(text: &str) -> bool {
    let text = text.trim_end();
    match text.strip_suffix("*/").and_then(|rest| rest.rsplit_once("/*")) {
        Some((rest, _)) => ends_with_hash(rest),
        None => ["#", "%:", "??="].iter().any(|hash| text.ends_with(hash)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A patch to event.c: lines that begin with `+` are added behind one that was there.
    fn checked(lines: &[&str]) -> Result<(), Refusal> {
        let hunk: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let head = "diff --git a/event.c b/event.c\n--- a/event.c\n+++ b/event.c\n@@ -10,2 +10,9 @@ f()\n";
        check(&format!("{head} kept\n{hunk}"))
    }

    /// The word for which a line is refused, and the line's number.
    fn refused(lines: &[&str]) -> (String, u64) {
        match checked(lines) {
            Err(Refusal::Line { line, word, .. }) => (word, line),
            other => panic!("{lines:?}: {other:?}"),
        }
    }

    #[test]
    fn sanitizers_are_not_a_patchs_to_switch_off() {
        for (line, word) in [
            ("+__attribute__((no_sanitize(\"address\")))", "no_sanitize"),
            ("+__attribute__((__no_sanitize_thread__)) int f(void);", "__no_sanitize_thread__"),
            ("+[[gnu::no_sanitize_undefined]] int f(void);", "no_sanitize_undefined"),
            ("+#ifdef __SANITIZE_ADDRESS__", "__SANITIZE_ADDRESS__"),
            ("+#if __has_feature(thread_sanitizer)", "thread_sanitizer"),
            ("+const char *__asan_default_options(void) { return \"\"; }", "__asan_default_options"),
            ("+#include <sanitizer/lsan_interface.h>", "lsan_interface"),
            ("+__attribute__((optimize(\"no-sanitize=address\")))", "no-sanitize"),
        ] {
            assert_eq!(refused(&[line]), (word.to_owned(), 11), "{line}");
        }
    }

    #[test]
    fn a_word_is_seen_across_lines_that_are_joined() {
        assert_eq!(refused(&["+__attribute__((no_sani\\", "+tize_address))"]), ("no_sanitize_address".into(), 11));
        assert_eq!(refused(&[" #define KEEP no_sani\\", "+tize_thread"]), ("no_sanitize_thread".into(), 12));
        assert_eq!(refused(&["+#inc\\", "+lude \"/dev/stdin\""]).0, "/dev/stdin");
    }

    #[test]
    fn tests_are_not_a_patchs_to_change_through_internal_headers() {
        for (line, word) in [
            ("+#define tinytest_set_test_failed_(x) ((void)0)", "tinytest_set_test_failed_"),
            ("+#define TT_DECLARE(prefix, args) ((void)0)", "TT_DECLARE"),
            ("+#undef tt_assert", "tt_assert"),
            ("+#pragma push_macro(\"tt_want_\")", "tt_want_"),
            ("+# /* x */ define memcmp(a, b, n) 0", "memcmp"),
            ("+%: undef assert", "assert"),
            ("+#define REGRESS_H_INCLUDED_", "REGRESS_H_INCLUDED_"),
        ] {
            assert_eq!(refused(&[line]).0, word, "{line}");
        }
    }

    #[test]
    fn only_headers_of_the_library_and_the_system_are_included() {
        for (line, word) in [
            ("+#include \"/dev/stdin\"", "/dev/stdin"),
            ("+  #  include </proc/self/environ>", "/proc/self/environ"),
            ("+%:include \"../../secret.h\"", "../../secret.h"),
            ("+#include <sys/../../x.h>", "sys/../../x.h"),
            ("+#/**/include/**/\"/x\"", "/x"),
            ("+*/ #import \"/x\"", "/x"),
            ("+#include_next \"/x\"", "/x"),
            ("+#if __has_include(\"/etc/hostname\")", "/etc/hostname"),
            ("+#include WHAT", "include"),
            ("+#embed \"data.h\"", "embed"),
            ("+__asm__(\".incbin \\\"x.h\\\"\");", ".incbin"),
        ] {
            assert_eq!(refused(&[line]).0, word, "{line}");
        }
    }

    #[test]
    fn ordinary_code_and_what_was_there_is_free() {
        for lines in [
            &["+#include \"util-internal.h\"", "+#include <sys/epoll.h>"][..],
            &["+/* what to include: everything; the sanitizer finds it */"],
            &["+#define EVBUFFER_SHORT(x) (memcmp((x), \"\", 1) == 0)"],
            &["+\tint default_options = 1, att_ = 2; embed(x); define = 3;"],
            &[" #include \"/dev/stdin\"", " int tt_x;", "-__attribute__((no_sanitize(\"thread\")))", "+int x;"],
            &[" #define OLD tt_old \\", "+\tand_new"],
            &["+int a; \\", "+b;"],
        ] {
            assert_eq!(checked(lines), Ok(()), "{lines:?}");
        }
    }
}
