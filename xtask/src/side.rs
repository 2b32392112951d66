//! What one side of a comparison is: the code, and the profile that it is built with, in one text.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::variants::names;
use crate::{source, variant};
use anyhow::Result;
use model::build_config::{Profile, WORDS};
use model::variant::{Source, Variant};
use std::path::Path;

/// Fewest digits with which an id is named.
const LEAST_DIGITS: usize = 6;

/// One side: what is compiled, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) variant: Variant,
    pub(crate) profile: Profile,
}

/// Understands `CODE`, `CODE+WORD...` or `WORD...`: a variant, and the words of a build profile. Patches apply to
/// `source`. Docs/METHODOLOGY.md describes the forms; errors list them.
pub(crate) fn resolve(context: &Context, source: &Source, text: &str) -> Result<Side> {
    let (code, words) = split(text, |path| Path::new(path).is_file());
    let profile = Profile::parse_words(words).map_err(|error| failure(Exit::Usage, format!("`{text}`: {error}")))?;
    let variant = code_named(context, source, code, text)?;
    Ok(Side { variant, profile })
}

/// Divides a text into code and the words at its end; either may be empty. A path may itself contain `+`, and a
/// file may be called `lto`: what is there wins.
fn split(text: &str, is_file: impl Fn(&str) -> bool) -> (&str, &str) {
    let mut code_ends = text.len();
    while code_ends > 0 && !is_file(&text[..code_ends]) {
        let begins = text[..code_ends].rfind('+').map_or(0, |plus| plus + 1);
        if !Profile::is_word(&text[begins..code_ends]) {
            break;
        }
        code_ends = begins.saturating_sub(1);
    }
    (&text[..code_ends], text[code_ends..].trim_start_matches('+'))
}

fn code_named(context: &Context, source: &Source, code: &str, text: &str) -> Result<Variant> {
    if let Some(named) = names::find(context, code)? {
        if Path::new(code).is_file() {
            let message = format!("`{code}` is both a file and the name of a variant; write ./{code} for the file");
            return Err(failure(Exit::Usage, message));
        }
        return Ok(named.variant);
    }
    match code {
        "" | "pristine" => return variant::pristine(context, source),
        "tip" => return variant::tip(context, source)?.map_or_else(|| variant::pristine(context, source), Ok),
        _ if Path::new(code).is_file() => return variant::patched(context, source, Path::new(code)),
        _ => {}
    }
    if let Some(revision) = code.strip_prefix("rev:") {
        let Some(location) = location(&source.label).filter(|_| !revision.is_empty()) else {
            let message = format!(
                "`{text}`: `rev:REVISION` is a revision of the repository that --source names, and {} is none; give \
                 --source PATH|GIT-URL, or write PATH@REVISION or GIT-URL@REVISION",
                source.label
            );
            return Err(failure(Exit::Usage, message));
        };
        let other = source::resolve(context, Some(&format!("{location}@{revision}")))?;
        return variant::unpatched(context, &other, code);
    }
    if is_id(code)
        && let Some(variant) = variant::remembered(context, code)?
    {
        return Ok(variant);
    }
    if code.contains('@') || code.contains("://") || Path::new(code).is_dir() {
        let other = source::resolve(context, Some(code))?;
        return variant::unpatched(context, &other, code);
    }
    Err(failure(Exit::Usage, unknown(text, code)))
}

/// What is accepted, for somebody who wrote something else.
fn unknown(text: &str, code: &str) -> String {
    let id = if is_id(code) { " (no variant of this work folder has an id that begins so)" } else { "" };
    format!(
        "no variant `{text}`{id}: give CODE, CODE+WORD... or WORD.... CODE is `pristine`, `tip`, a patch file, a name that \
         `variant new` gave, the id of a variant built here (at least {LEAST_DIGITS} digits), rev:REVISION of the repository that --source names, or \
         a source: a folder, PATH@REVISION, GIT-URL or GIT-URL@REVISION. WORDs are {}",
        WORDS.join(", ")
    )
}

fn is_id(code: &str) -> bool {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    (LEAST_DIGITS..=12).contains(&code.len()) && code.bytes().all(digit)
}

/// The repository that `--source` named, without its revision; `None` for the pin and for plain folders.
fn location(label: &str) -> Option<&str> {
    let is_repository = |path: &str| Path::new(path).is_dir() || is_url(path);
    match label.rsplit_once('@') {
        // What is left of the last `@` names a repository, unless the `@` belongs to the address.
        Some((left, _)) if !Path::new(label).exists() && is_repository(left) => Some(left),
        _ => is_repository(label).then_some(label),
    }
}

/// `scheme://host/path` or `user@host:path`, each with a path.
fn is_url(text: &str) -> bool {
    match text.split_once("://") {
        Some((_, rest)) => rest.contains('/'),
        None => text.split_once('@').is_some_and(|(user, rest)| !user.contains('/') && rest.contains(':')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_at_the_end_are_the_profile() {
        for (text, code, words) in [
            ("pristine", "pristine", ""),
            ("lto", "", "lto"),
            ("gcc+O3", "", "gcc+O3"),
            ("my.patch+lto+pgo", "my.patch", "lto+pgo"),
            ("a+b.patch+O3", "a+b.patch", "O3"),
            ("lto+x.patch", "lto+x.patch", ""),
            ("pristine+O9", "pristine+O9", ""),
            ("tip+-O3", "tip", "-O3"),
            ("https://host/a.git@v1+clang", "https://host/a.git@v1", "clang"),
            ("", "", ""),
            ("my+O3", "my+O3", ""),
            ("my+O3+O3", "my+O3", "O3"),
            ("pgo+lto", "pgo", "lto"),
        ] {
            assert_eq!(split(text, |path| path == "my+O3" || path == "pgo"), (code, words), "{text}");
        }
    }

    #[test]
    fn ids_are_hexadecimal_and_not_too_short() {
        assert!(is_id("0123ab") && is_id("0123456789ab"));
        assert!(!is_id("0123a") && !is_id("0123456789abc") && !is_id("01234G") && !is_id("0123AB"));
    }

    #[test]
    fn the_repository_of_a_source_is_found_behind_its_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(location(path), Some(path));
        assert_eq!(location(&format!("{path}@v1")), Some(path));
        assert_eq!(location("https://host/a.git"), Some("https://host/a.git"));
        assert_eq!(location("https://host/a.git@v2"), Some("https://host/a.git"));
        assert_eq!(location("https://me@host/a.git"), Some("https://me@host/a.git"));
        assert_eq!(location("git@host:a.git"), Some("git@host:a.git"));
        assert_eq!(location("git@host:a.git@v2"), Some("git@host:a.git"));
        assert_eq!(location("release-2.1.12-stable"), None);
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_known() {
        let message = unknown("pristine+O9", "pristine+O9");
        for word in ["pristine+O9", "`tip`", "patch file", "rev:REVISION", "PATH@REVISION", "gcc, clang, O1", "pgo"] {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(unknown("0123ab", "0123ab").contains("begins so"));
    }
}
