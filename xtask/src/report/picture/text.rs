//! Texts in pictures.

/// Lines of at most `width` characters, broken at spaces where possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    text.lines().flat_map(|line| wrap_line(line, width.max(1))).collect()
}

fn wrap_line(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in line.split_whitespace() {
        // A word without end is broken anywhere.
        let pieces: Vec<char> = word.chars().collect();
        for piece in pieces.chunks(width) {
            let space = usize::from(length > 0);
            if length + space + piece.len() > width {
                lines.push(String::new());
                length = 0;
            } else if space > 0 {
                lines.last_mut().expect("there is one from the start").push(' ');
                length += 1;
            }
            lines.last_mut().expect("there is one from the start").extend(piece);
            length += piece.len();
        }
    }
    lines
}

/// Text for XML: what XML cannot hold even escaped is replaced.
pub(super) fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, char| {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(' '),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_never_too_wide() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
    }

    #[test]
    fn text_cannot_be_markup() {
        assert_eq!(escape("<a href=\"x\">'&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&apos;&amp;&apos;\u{fffd}");
    }
}
