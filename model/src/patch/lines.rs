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
        let literally =
            [(".incbin", "it reads a file that is no source"), ("no-sanitize", "it switches a sanitizer off")];
        for (text, why) in literally {
            if let Some(line) = self.text.match_indices(text).find_map(|(at, _)| self.added(&(at..at + text.len()))) {
                return Some((line, text.to_owned(), why));
            }
        }
        // Of words that were there, only what is added to them counts.
        let word =
            |(place, word): (Range<usize>, &str)| Some((self.added(&place)?, word.to_owned(), words::forbidden(word)?));
        if let Some(found) = identifiers(&self.text).find_map(word) {
            return Some(found);
        }
        let code = without_comments(&self.text);
        identifiers(&code).find_map(|(place, word)| {
            let (what, why) = directive(&code, &place, word)?;
            Some((self.added(&place).unwrap_or(any), what, why))
        })
    }

    /// The first added line that a place overlaps.
    fn added(&self, place: &Range<usize>) -> Option<Line<'a>> {
        let first = self.parts.partition_point(|(part, _)| part.end <= place.start);
        let overlapping = self.parts[first..].iter().take_while(|(part, _)| part.start < place.end);
        overlapping.map(|(_, line)| *line).find(|line| line.added)
    }
}

/// What is wrong with a directive of the preprocessor whose name is `word`.
fn directive(code: &str, place: &Range<usize>, word: &str) -> Option<(String, &'static str)> {
    let (before, after) = (code[..place.start].trim_end(), code[place.end..].trim_start());
    let is_directive = ["#", "%:", "??="].iter().any(|hash| before.ends_with(hash));
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
    let operand = after.strip_prefix('(').unwrap_or(after).trim_start();
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

/// The text with a blank for each byte of a comment. Where a comment goes on from another line, too little is taken away.
fn without_comments(text: &str) -> String {
    let (mut code, mut rest, mut quote) = (String::with_capacity(text.len()), text, None);
    while let Some(c) = rest.chars().next() {
        let taken = match (quote, c) {
            (None, '/') if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |at| at + 4),
            (Some(_), '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => c.len_utf8(),
        };
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            _ => {}
        }
        let (part, behind) = rest.split_at(taken);
        match part.starts_with("/*") {
            true => code.extend(std::iter::repeat_n(' ', taken)),
            false => code.push_str(part),
        }
        rest = behind;
    }
    code
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
            ("+it's \" */ #include \"/x\"", "/x"),
            ("+char c = '\"', *s = \"/*\"; int x; /* y */ #include /* \" */ \"/x\"", "/x"),
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
            &["+/* what to include: everything; the sanitizer finds it; # include \"/x\" */"],
            &["+#define EVBUFFER_SHORT(x) (memcmp((x), \"\", 1) == 0)"],
            &["+\tint default_options = 1, att_ = 2; embed(x); define = 3;"],
            &[" #include \"/dev/stdin\"", " int tt_x;", "-__attribute__((no_sanitize(\"thread\")))", "+int x;"],
            &[" #define OLD tt_old \\", "+\tand_new"],
            &["+int a; \\", "+b;"],
        ] {
            assert_eq!(checked(lines), Ok(()), "{lines:?}");
        }
    }

    /// As large as a patch may be, and made to be looked at again and again.
    #[test]
    fn a_patch_that_is_hard_to_read_is_read_at_once() {
        let most = usize::try_from(crate::patch::PATCH_LIMIT_BYTES).unwrap();
        for text in ["+include /* */\\\n", "+a*/\\\n", "+/**/ include", "+ include \"\\"] {
            let text = text.repeat(most / text.len());
            let begin = std::time::Instant::now();
            assert_eq!(checked(&text.lines().collect::<Vec<_>>()), Ok(()));
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
        }
    }
}
