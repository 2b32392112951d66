//! Ids of experiments: `EXP-0007-larger-reads-3fa9c1`.
//!
//! The number is for people: one more than the largest in the ledger. Two branches allocate the same one without knowing of
//! each other, so it alone names nothing: the six digits at the end are a hash of the opening entry's content, of the
//! entry that it follows, of the time and of the host. Neither folder nor id ever changes, merged or not.

use sha2::{Digest as _, Sha256};

/// Most letters of the part that says what it is about.
const SLUG_LETTERS: usize = 40;
/// Digits of the suffix.
const SUFFIX_DIGITS: usize = 6;

/// An id in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// From 1.
    pub number: u32,
    /// What it is about.
    pub slug: &'a str,
    /// Hexadecimal digits over its content.
    pub suffix: &'a str,
}

/// The id of a new experiment. `numbers` are those in the ledger; `content` is hashed into the suffix.
pub fn allocate(numbers: impl IntoIterator<Item = u32>, title: &str, content: &[&[u8]]) -> String {
    let number = numbers.into_iter().max().unwrap_or(0) + 1;
    let mut hash = Sha256::new();
    for part in content {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("EXP-{number:04}-{}-{}", slug(title), &digits[..SUFFIX_DIGITS])
}

/// Parses an id; `None` if it is none. Nothing that this accepts leads out of a folder.
pub fn parse(id: &str) -> Option<Parts<'_>> {
    let (number, rest) = id.strip_prefix("EXP-")?.split_once('-')?;
    let (slug, suffix) = rest.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let sound = digits(number)
        && number.len() >= 4
        && !slug.is_empty()
        && slug.bytes().all(letter)
        && suffix.len() == SUFFIX_DIGITS
        && suffix.bytes().all(hexadecimal);
    sound.then(|| number.parse().ok()).flatten().map(|number| Parts { number, slug, suffix })
}

/// The ids that a text names: an id, its beginning from `EXP-NNNN` on, or its number alone.
pub fn named<'a>(text: &str, ids: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let text = text.trim_end_matches('/');
    let number: Option<u32> = text.strip_prefix("EXP-").unwrap_or(text).parse().ok();
    let matches = |id: &&str| match number {
        Some(number) => parse(id).is_some_and(|parts| parts.number == number),
        None => text.len() > "EXP-0000".len() && id.starts_with(text),
    };
    let all: Vec<&str> = ids.into_iter().filter(matches).collect();
    match all.iter().find(|id| **id == text) {
        Some(exact) => vec![exact],
        None => all,
    }
}

/// Lower-case letters, digits and single hyphens; cut at a word.
fn slug(title: &str) -> String {
    let mapped: String =
        title.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let mut slug = String::new();
    for word in mapped.split('-').filter(|word| !word.is_empty()) {
        if !slug.is_empty() && slug.len() + 1 + word.len() > SLUG_LETTERS {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word[..word.len().min(SLUG_LETTERS)]);
    }
    if slug.is_empty() { "untitled".to_owned() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_branches_never_give_one_id_to_two_things() {
        let one = allocate([1, 6, 2], "Larger reads: 64 KiB!", &[b"head", b"one"]);
        let two = allocate([1, 6, 2], "Larger reads: 64 KiB!", &[b"head", b"two"]);
        assert!(one.starts_with("EXP-0007-larger-reads-64-kib-"), "{one}");
        assert_ne!(one, two);
        assert_eq!(one, allocate([6], "larger reads 64 KIB", &[b"head", b"one"]));
        assert_ne!(allocate([], "x", &[b"ab", b"c"]), allocate([], "x", &[b"a", b"bc"]), "parts have their lengths");
        let parts = parse(&one).unwrap();
        assert_eq!((parts.number, parts.slug), (7, "larger-reads-64-kib"));
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one() {
        for text in
            ["EXP-1-a-000000", "EXP-0001-a-00000G", "EXP-0001-../x-000000", "EXP-0001--000000", "EXP-0001-000000", "x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert!(parse("EXP-12345-a-b-c-0a0b0c").is_some());
        assert!(parse(&allocate([], "", &[])).is_some(), "a title without letters");
        assert!(parse(&allocate([], &"x".repeat(500), &[])).unwrap().slug.len() <= SLUG_LETTERS);
    }

    #[test]
    fn a_number_or_a_beginning_names_an_experiment() {
        let ids = ["EXP-0001-reads-000001", "EXP-0001-reads-000002", "EXP-0012-timers-000003"];
        let names = |text: &str| named(text, ids);
        assert_eq!(names("12"), [ids[2]]);
        assert_eq!(names("EXP-0012"), [ids[2]]);
        assert_eq!(names("EXP-12"), [ids[2]]);
        assert_eq!(names("EXP-0012-tim"), [ids[2]]);
        assert_eq!(names("EXP-0001-reads-000002/"), [ids[1]]);
        assert_eq!(names("1"), ids[..2], "two branches: to be told apart");
        assert!(names("EXP-00").is_empty() && names("2").is_empty() && names("").is_empty());
    }
}
