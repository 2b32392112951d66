//! Flame graphs, by a program of this workspace that is compiled when the first one is asked for.

use crate::context::Context;
use crate::{files, process, progress, rust_object, worker};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Compiling it takes some seconds, on a busy host a minute.
const COMPILE_LIMIT: Duration = Duration::from_secs(600);
/// A picture takes well under a second.
const DRAW_LIMIT: Duration = Duration::from_secs(60);
/// What it is made of.
const INGREDIENTS: &[&str] = &["flames", "Cargo.lock"];

/// The program that draws.
pub(crate) struct Painter {
    program: PathBuf,
}

impl Painter {
    /// Compiles it, unless that was done before.
    pub(crate) fn prepare(context: &Context) -> Result<Painter> {
        let key = worker::hash_of(context, INGREDIENTS, &[])?;
        let folder = context.work.join("flames").join(&key[..16]);
        let program = folder.join("flames");
        if program.is_file() {
            return Ok(Painter { program });
        }
        progress::note("compiling the program that draws flame graphs (once)");
        let target = context.work.join("target");
        let mut command = rust_object::plain_cargo(context);
        command.args(["build", "--locked", "--release", "--package", "flames"]).env("CARGO_TARGET_DIR", &target);
        let log = context.work.join("logs").join("flames.log");
        let status = process::logged(&mut command, COMPILE_LIMIT, &log)?;
        if !status.success() {
            bail!("flames does not compile; the end of {}:\n{}", log.display(), process::tail(&log, 20));
        }
        let made = target.join("release/flames");
        let bytes = std::fs::read(&made).with_context(|| format!("cargo left no {}", made.display()))?;
        files::write_atomic(&program, &bytes)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).with_context(|| program.display().to_string())?;
        Ok(Painter { program })
    }

    /// Draws folded stacks, or, with those of before, what changed.
    pub(crate) fn draw(&self, title: &str, unit: &str, out: &Path, folded: &Path, before: Option<&Path>) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args([title, unit]).arg(out).arg(folded).args(before);
        let got = process::capture(&mut command, DRAW_LIMIT)?;
        if !got.status.success() {
            bail!("no flame graph: {}", got.stderr.trim());
        }
        Ok(())
    }
}
