//! The new side of a unified diff, line by line.

use crate::plain::plain;

/// A line of a file as the patch leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// The file, from the top of the source.
    pub(crate) file: &'a str,
    /// Place in it, from 1.
    pub(crate) number: u64,
    /// The patch adds it; otherwise it was there and is only shown.
    pub(crate) added: bool,
    /// The line, without what the diff puts before it.
    pub(crate) text: &'a str,
}

impl Line<'_> {
    /// For messages: without leading blanks, cut after 120 characters, and without what a terminal would obey.
    pub(crate) fn excerpt(&self) -> String {
        plain(&self.text.trim().chars().take(120).collect::<String>())
    }
}

/// Lines that a diff adds or shows, in its order.
pub(crate) fn new_side(diff: &str) -> Vec<Line<'_>> {
    let (mut file, mut number, mut in_hunk) = ("", 0, false);
    let mut lines = Vec::new();
    for text in diff.lines() {
        if let Some(path) = text.strip_prefix("+++ ").filter(|_| !in_hunk) {
            file = path.strip_prefix("b/").unwrap_or(path).trim_end_matches('\t');
        } else if let Some(hunk) = text.strip_prefix("@@ ") {
            let new = hunk.split(' ').find_map(|word| word.strip_prefix('+')).unwrap_or_default();
            number = new.split(',').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            in_hunk = true;
        } else if text.starts_with("diff --git ") {
            in_hunk = false;
        } else if in_hunk {
            let (added, shown) = (text.strip_prefix('+'), text.strip_prefix(' '));
            // Some tools take the blank away from an empty line.
            let shown = shown.or_else(|| text.is_empty().then_some(text));
            if let Some(text) = added.or(shown) {
                lines.push(Line { file, number, added: added.is_some(), text });
                number += 1;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_patch_is_shown_and_not_obeyed() {
        let line = |text| Line { file: "x.c", number: 1, added: true, text };
        assert_eq!(
            line("  \tgetenv(\"X\"); /* \u{1b}[1A\u{202e} */\r").excerpt(),
            "getenv(\"X\"); /* \u{fffd}[1A\u{fffd} */"
        );
        assert_eq!(line(&"x".repeat(200)).excerpt().len(), 120);
    }

    #[test]
    fn lines_have_their_places_and_what_is_taken_away_has_none() {
        let diff = "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1,3 +1,3 @@ f()\n a\n-b\n+c\n\n@@ -9 +9,2 @@\n+++ d\n e\n\
                    \\ No newline at end of file\ndiff --git a/y.h b/y.h\n--- /dev/null\n+++ b/y.h\n@@ -0,0 +1 @@\n+f\n";
        let line = |file, number, added, text| Line { file, number, added, text };
        let expected = [
            line("x.c", 1, false, "a"),
            line("x.c", 2, true, "c"),
            line("x.c", 3, false, ""),
            line("x.c", 9, true, "++ d"),
            line("x.c", 10, false, "e"),
            line("y.h", 1, true, "f"),
        ];
        assert_eq!(new_side(diff), expected);
    }
}
