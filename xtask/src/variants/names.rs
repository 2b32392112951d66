//! Names of variants: `work/names/NAME.json`, with the patch beside it. A name works wherever CODE is asked for.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::{files, records, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::variant::Variant;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Longest name.
const MOST_CHARACTERS: usize = 64;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// The name.
    pub(crate) name: String,
    /// RFC 3339, UTC.
    pub(crate) created_at: String,
    /// What it was made from, as typed.
    pub(crate) made_from: String,
    /// What is built and measured; of one that is edited, what was saved last.
    pub(crate) variant: Variant,
    /// What saved edits are a patch on; null where there is no worktree for editing.
    pub(crate) edits_on: Option<Variant>,
}

/// Fails if a text cannot be a name: it would mean something else where CODE is asked for, or be no name of a file.
pub(crate) fn check(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let why = if !begins_well || !name.chars().all(plain) || name.len() > MOST_CHARACTERS {
        "a name begins with a to z, and has up to 64 of a-z, 0-9, `-`, `_` and `.`"
    } else if ["pristine", "tip"].contains(&name) || Profile::is_word(name) {
        "that word means something else"
    } else if name.len() <= 12 && name.chars().all(|c| c.is_ascii_hexdigit()) {
        "it looks like the beginning of an id"
    } else if name.ends_with(".patch") || name.ends_with(".diff") {
        "it looks like a patch file"
    } else {
        return Ok(());
    };
    Err(failure(Exit::Usage, format!("`{name}` cannot be the name of a variant: {why}")))
}

fn folder(context: &Context) -> PathBuf {
    context.work.join("names")
}

fn record(context: &Context, name: &str) -> PathBuf {
    folder(context).join(format!("{name}.json"))
}

/// The patch of a named variant, where it has one of its own.
pub(crate) fn patch_file(context: &Context, name: &str) -> PathBuf {
    folder(context).join(format!("{name}.patch"))
}

/// What a name stands for; `None` if it is none. What hashes do not bear out is an error.
pub(crate) fn find(context: &Context, name: &str) -> Result<Option<Named>> {
    if check(name).is_err() {
        return Ok(None);
    }
    let path = record(context, name);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let again = || format!("remove {} and make the variant again with `cargo xtask variant new`", path.display());
    let named: Named = serde_json::from_slice(&text)
        .with_context(|| format!("{} does not say what variant {name} is; {}", path.display(), again()))?;
    let known = |variant: &Variant| variant::is_borne_out(context, variant);
    if named.name != name || !known(&named.variant)? || !named.edits_on.as_ref().map_or(Ok(true), known)? {
        let message = format!(
            "{} does not describe what the store of this work folder holds: it was edited, or the store was removed; {}",
            path.display(),
            again()
        );
        return Err(failure(Exit::Tampering, message));
    }
    Ok(Some(named))
}

/// The same, where there has to be one.
pub(crate) fn get(context: &Context, name: &str) -> Result<Named> {
    find(context, name)?.ok_or_else(|| {
        let known = all(context).map(|all| all.into_iter().flatten().map(|named| named.name).collect::<Vec<_>>());
        let known = known.ok().filter(|names| !names.is_empty()).map_or("none".to_owned(), |names| names.join(", "));
        failure(Exit::Usage, format!("no variant is called `{name}` in this work folder; names are: {known}"))
    })
}

/// Every name, in alphabetical order; of one that is damaged, what is wrong with it.
pub(crate) fn all(context: &Context) -> Result<Vec<Result<Named>>> {
    let folder = folder(context);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
    };
    let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = files.filter_map(|file| Some(file.strip_suffix(".json")?.to_owned())).collect();
    names.sort();
    Ok(names.iter().filter_map(|name| find(context, name).transpose()).collect())
}

/// Writes down what a name stands for.
pub(crate) fn keep(context: &Context, named: &Named) -> Result<()> {
    files::write_atomic(&record(context, &named.name), &serde_json::to_vec_pretty(named)?)
}

/// A name that nothing stands for yet.
pub(crate) fn new(name: &str, made_from: &str, variant: Variant, edits_on: Option<Variant>) -> Named {
    let variant = Variant { name: name.to_owned(), ..variant };
    Named { name: name.to_owned(), created_at: records::now(), made_from: made_from.to_owned(), variant, edits_on }
}

/// Forgets a name and its patch; what was built of it stays.
pub(crate) fn forget(context: &Context, name: &str) -> Result<()> {
    // The record first: a patch without a record is nobody's.
    for path in [record(context, name), patch_file(context, name)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_nothing_else() {
        for name in ["fast-drain", "v2", "heap.4ary", "my_idea", "feedface-but-longer"] {
            check(name).unwrap();
        }
        for name in
            ["", "pristine", "tip", "lto", "O2", "0abc", "abcdef", "cafe", "My", "a/b", "..", "a+b", "x.patch", "a:b"]
        {
            assert_eq!(crate::exit::exit_of(&check(name).unwrap_err()), Exit::Usage, "{name}");
        }
        check(&"x".repeat(64)).unwrap();
        check(&"x".repeat(65)).unwrap_err();
    }
}
