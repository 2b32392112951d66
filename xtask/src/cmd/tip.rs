//! `cargo xtask tip`.

use crate::context::Context;
use crate::exit::Exit;
use anyhow::Result;

/// Being written.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {}

/// Runs the verb.
pub(crate) fn run(_args: &Args, _context: &Context) -> Result<Exit> {
    anyhow::bail!("not yet")
}
