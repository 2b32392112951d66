//! Every test program says which build it is of: in its file, where nothing of the variant can change it unnoticed,
//! and when it is asked.

use super::build::GateBuild;
use crate::exit::{Exit, failure};
use crate::files;
use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _};
use std::path::Path;

/// The section that holds the text.
const SECTION: &str = ".libevent_gate";
/// A program that starts with this in its environment prints the text and ends.
pub(crate) const VARIABLE: &str = "LIBEVENT_GATE_IDENTITY";

/// What every program of a build must say.
pub(super) fn text(build: &GateBuild) -> String {
    format!("libevent-gate variant={} build={} sanitizer={}", build.variant.id, build.id, build.sanitizer.name())
}

/// C code of the object file that says it.
pub(super) fn code(text: &str) -> String {
    format!(
        "#include <stdlib.h>\n#include <unistd.h>\n\
         __attribute__((used, section(\"{SECTION}\"))) static const char identity[] = \"{text}\";\n\
         __attribute__((constructor(101))) static void tell(void)\n{{\n\
         \tif (getenv(\"{VARIABLE}\") != NULL)\n\
         \t\t_exit(write(STDOUT_FILENO, identity, sizeof identity - 1) == sizeof identity - 1 ? 0 : 1);\n}}\n"
    )
}

/// Fails unless `program` is byte for byte what was linked for `build`, and says so itself.
pub(crate) fn verify_identity(program: &Path, build: &GateBuild) -> Result<()> {
    let expected = text(build);
    let found = read(program)?;
    if found.as_deref() != Some(expected.as_str()) {
        let found = found.unwrap_or_else(|| "nothing".to_owned());
        let message =
            format!("{} says it is `{found}`, not `{expected}`; no result is taken from it", program.display());
        return Err(failure(Exit::Tampering, message));
    }
    // Programs that others link with the identity object, such as model tests, are hashed by those.
    if let Some(sha256) = build.sha256_of(program)
        && files::sha256_file(program)? != sha256
    {
        let message = format!("{} is not what was linked; no result is taken from it", program.display());
        return Err(failure(Exit::Tampering, message));
    }
    Ok(())
}

/// Fails unless what a program printed when it was started with [`VARIABLE`] is what it must say.
pub(crate) fn verify_told(program: &Path, told: &str, build: &GateBuild) -> Result<()> {
    let expected = text(build);
    if told.trim_end() == expected {
        return Ok(());
    }
    let message =
        format!("{} tells `{}`, not `{expected}`; no result is taken from it", program.display(), told.trim());
    Err(failure(Exit::Tampering, message))
}

/// What a program's file says.
fn read(program: &Path) -> Result<Option<String>> {
    let bytes = std::fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let Ok(object) = object::File::parse(&*bytes) else { return Ok(None) };
    let Some(section) = object.section_by_name(SECTION) else { return Ok(None) };
    let data = section.data().with_context(|| format!("{} is damaged", program.display()))?;
    Ok(Some(String::from_utf8_lossy(data).trim_matches('\0').to_owned()))
}
