//! config/hot-methods.toml: read, and written whole.

use crate::context::Context;
use crate::exit::{Exit, failure};
use crate::files;
use anyhow::{Context as _, Result};
use model::hot_methods::{HotMethods, Limits, Measured, Merged};

/// Below config/.
const NAME: &str = "hot-methods.toml";

/// Reads the manifest. One that makes no sense is an error of usage: people write it.
pub(crate) fn load(context: &Context) -> Result<HotMethods> {
    HotMethods::parse(&context.config(NAME)?)
        .map_err(|error| failure(Exit::Usage, format!("config/{NAME}: {error}; correct the entry and run again")))
}

/// Puts what was measured into the manifest and writes it whole. Comments above entries stay. What was measured is merged
/// into what the file is now, not into what it was when the profile began.
pub(crate) fn update(context: &Context, measured: &[Measured], limits: &Limits) -> Result<Merged> {
    let merged = load(context)?.merge(measured, limits);
    let text = merged.manifest.to_toml();
    HotMethods::parse(&text).context("the manifest that would be written cannot be read; nothing was written")?;
    files::write_atomic(&context.root.join("config").join(NAME), text.as_bytes())?;
    Ok(merged)
}
