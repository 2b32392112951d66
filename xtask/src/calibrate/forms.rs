//! Two sides that are equal, in the ways that sides of real comparisons differ without meaning to.

use crate::bench::prepare::{self, Prepared, Request};
use crate::context::Context;
use crate::side::Side;
use crate::{files, variant};
use anyhow::{Context as _, Result};
use model::build_config::Profile;
use model::calibration::Form;
use model::variant::{Source, Variant};
use std::path::PathBuf;

/// The file that gets the function which nobody calls: every buffer operation is in it.
const HOT_FILE: &str = "buffer.c";
/// Where a variant is compiled again: a path of another length.
const PLACE: &str = "another-place-whose-name-is-longer";

/// Builds both sides of a form.
pub(crate) fn prepare(context: &Context, source: &Source, form: Form) -> Result<Prepared> {
    let plain = |variant: Variant| Side { variant, profile: Profile::default() };
    let baseline = variant::pristine(context, source)?;
    let candidate = match form {
        Form::NullPatch => variant::patched(context, source, &null_patch(context, &baseline)?)?,
        _ => baseline.clone(),
    };
    let request = Request {
        sides: &[plain(baseline), plain(candidate)],
        candidate_place: (form == Form::Rebuild).then(|| PLACE.to_owned()),
        instructions: false,
        user_files: &[],
    };
    prepare::prepare_sides(context, &request)
}

/// A patch that adds a function which nobody calls.
fn null_patch(context: &Context, baseline: &Variant) -> Result<PathBuf> {
    let worktree = variant::checkout(context, baseline, None)?;
    let path = worktree.join(HOT_FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let patch = context.work.join("calibration").join("null.patch");
    files::write_atomic(&patch, appended(HOT_FILE, &text)?.as_bytes())?;
    Ok(patch)
}

/// The patch that adds the function at the end of a file.
fn appended(name: &str, text: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let context = lines.len().min(3);
    anyhow::ensure!(context > 0 && text.ends_with('\n'), "{name} is empty or does not end with a new line");
    let first = lines.len() - context + 1;
    let added = [
        "",
        "unsigned bench_null_patch_(unsigned value);",
        "unsigned",
        "bench_null_patch_(unsigned value)",
        "{",
        "\tunsigned sum = 0;",
        "\twhile (value > 1)",
        "\t\tsum += value % 7, value = value % 2 ? 3 * value + 1 : value / 2;",
        "\treturn sum;",
        "}",
    ];
    let kept: String = lines[lines.len() - context..].iter().map(|line| format!(" {line}\n")).collect();
    let added_lines: String = added.iter().map(|line| format!("+{line}\n")).collect();
    Ok(format!(
        "--- a/{name}\n+++ b/{name}\n@@ -{first},{context} +{first},{} @@\n{kept}{added_lines}",
        context + added.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_added_behind_the_last_line() {
        let patch = appended("buffer.c", "a\nb\nc\nd\n").unwrap();
        assert!(
            patch.starts_with("--- a/buffer.c\n+++ b/buffer.c\n@@ -2,3 +2,13 @@\n b\n c\n d\n+\n+unsigned "),
            "{patch}"
        );
        assert_eq!(patch.matches("\n+").count(), 11, "ten lines and the name of the file");
        assert!(appended("buffer.c", "a").is_err());
    }
}
