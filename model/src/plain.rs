//! Texts of others as a terminal or a page may have them: what a patch, a test or a compiler says may hold characters that a
//! terminal obeys, or that show a line in another order than it is in.

/// Whether a character does something to what is shown instead of being shown: control characters but for tabs and line ends,
/// separators of lines that only some programs know, and marks that change the direction of writing.
pub fn is_obeyed(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\t' | '\n')) || is_direction || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// The text with a replacement character for each that is obeyed.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A document in JSON, which says the same without any of these characters: in its strings, they are written as escapes.
pub fn plain_json(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        // All of them have four digits.
        if is_obeyed(c) { text.push_str(&format!("\\u{:04x}", u32::from(c))) } else { text.push(c) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARMFUL: &str = "a\u{1b}[2Kb\rc\u{9b}1md\u{7f}\u{202e}e\u{2066}f\u{2028}g\0";

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(plain("a\tb\nÄ λ \u{200d}"), "a\tb\nÄ λ \u{200d}", "letters of every language stay");
        let shown = plain(HARMFUL);
        assert_eq!(shown.chars().count(), HARMFUL.chars().count());
        assert!(!shown.contains(is_obeyed), "{shown:?}");
        assert!(shown.starts_with("a\u{fffd}[2Kb\u{fffd}c"), "{shown:?}");
    }

    #[test]
    fn a_document_says_the_same() {
        let document = serde_json::json!({ "text": HARMFUL, "more": ["Ä", 1.5] });
        let text = plain_json(&(document.to_string() + "\n"));
        assert!(!text.contains(is_obeyed), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), document);
    }
}
