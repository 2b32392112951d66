//! Which parts of the sandbox this host has, found out by putting them up, and what they cost.

use super::enter::{REFUSAL, REFUSED};
use super::{Policy, Sandbox};
use crate::process;
use anyhow::{Result, bail};
use model::sandbox::{Missing, Part};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);
/// Launches for the cost of one.
const LAUNCHES: u32 = 20;
/// Bytes copied one by one for the cost of a system call: two calls each.
const COPIES: u32 = 200_000;

/// Puts the sandbox up around a program that does nothing, without the part that failed, until it holds.
pub(super) fn missing() -> Result<Vec<Missing>> {
    let mut missing: Vec<Missing> = Vec::new();
    if cfg!(test) {
        return Ok(missing);
    }
    let nothing = tool("true")?;
    // Each round takes one part away.
    for _ in 0..=Part::ALL.len() {
        let without = missing.iter().map(|missing| missing.part).collect();
        let policy = serde_json::to_string(&Policy { without, ..Policy::measure() })?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(super::VERB).arg(policy).arg(&nothing).env_clear().current_dir("/");
        let got = process::capture(&mut command, LIMIT)?;
        if got.status.success() {
            missing.sort_by_key(|missing| missing.part);
            return Ok(missing);
        }
        let line = got.stderr.lines().find_map(|line| line.strip_prefix(REFUSAL)).unwrap_or_default();
        let (part, cause) = line.split_once(": ").unwrap_or_default();
        match part.parse() {
            Ok(part) if got.status.code() == Some(i32::from(REFUSED)) && !missing.iter().any(|m| m.part == part) => {
                missing.push(Missing { part, cause: cause.to_owned() });
            }
            _ => bail!("the sandbox cannot start {}: {} {}", nothing.display(), got.status, got.stderr.trim()),
        }
    }
    bail!("the sandbox cannot start {}, whatever is left out", nothing.display())
}

/// Seconds that the sandbox adds to a launch, and to a system call.
pub(crate) fn cost_seconds(sandbox: &Sandbox) -> Result<(f64, f64)> {
    let policy = Policy::measure();
    let (nothing, copier) = (tool("true")?, tool("dd")?);
    let count = format!("count={COPIES}");
    let copy = ["if=/dev/zero", "of=/dev/null", "bs=1", &count];
    let least = |confined: bool, program: &Path, arguments: &[&str], times: u32| -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..times {
            let mut command = if confined { sandbox.command(&policy, program)? } else { Command::new(program) };
            let begin = Instant::now();
            let got = process::capture(command.args(arguments), LIMIT)?;
            if !got.status.success() {
                bail!("{} in the sandbox: {} {}", program.display(), got.status, got.stderr.trim());
            }
            least = least.min(begin.elapsed().as_secs_f64());
        }
        Ok(least)
    };
    let launch = least(true, &nothing, &[], LAUNCHES)? - least(false, &nothing, &[], LAUNCHES)?;
    let calls = least(true, &copier, &copy, 5)? - least(false, &copier, &copy, 5)? - launch;
    Ok((launch.max(0.0), (calls / f64::from(2 * COPIES)).max(0.0)))
}

fn tool(name: &str) -> Result<PathBuf> {
    let places = ["/usr/bin", "/bin", "/run/current-system/sw/bin"].map(|folder| Path::new(folder).join(name));
    match places.into_iter().find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => bail!("there is no program `{name}` in /usr/bin or /bin"),
    }
}
